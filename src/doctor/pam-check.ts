// The check of PAM's stack for sshd: is there a module that adopts, can it be loaded, for whom is it reached, does its
// refusal count, and does it know its options.

import { at } from '../jobs/config/place.js';
import { quote, someOf } from '../machine/errors.js';
import { parseOptions } from '../policy/options.js';
import { mistakeIn } from '../policy/pam-line.js';
import { type Finding, fail, ok, warn } from './check.js';
import type { UserKind } from './pam-answers.js';
import type { ModuleState, PamModules } from './pam-modules.js';
import { linesRun, type Reach, type ReachOptions, reachOf } from './pam-reach.js';
import type { PamLine, PamType } from './pam-stack.js';

/** The lines of a service, and what is known of the files of its modules. */
export interface PamService {
  readonly lines: readonly PamLine[];
  readonly states: ReadonlyMap<PamLine, ModuleState>;
}

export async function withModules(lines: readonly PamLine[], modules: PamModules): Promise<PamService> {
  const states = new Map<PamLine, ModuleState>();
  for (const line of lines) {
    if (line.kind !== 'module') continue;
    const state = await modules.state(line);
    // A folder with a few modules was described, not recorded: what it lacks is missing only if it is ours.
    if (state.is !== 'missing' || isAdopter(line) || modules.areComplete()) states.set(line, state);
  }
  return { lines, states };
}

/** pam_slurm_adopt, our own module, or pam_exec with our command. */
export function isAdopter({ module, args }: Pick<PamLine, 'module' | 'args'>): boolean {
  if (module === 'pam_slurm_adopt' || module === 'pam_slurm_cgroups') return true;
  return module === 'pam_exec' && args.some((word) => word.includes('slurm-cgroups'));
}

/** Whether a line stands in sshd's own file. What that includes serves other programs too: no remedy changes it. */
export function isInOwnFile({ place }: Pick<PamLine, 'place'>): boolean {
  return place.file.endsWith('/sshd');
}

/** What to do in the place of changing a line of a file that other services share. */
export const ownStack = (file: string, without: string): string =>
  `in /etc/pam.d/sshd replace the line that includes ${file} by the lines of that file, ${without}; leave ${file} to the other services`;

const kinds: readonly UserKind[] = ['local', 'directory'];
const people: Readonly<Record<UserKind, string>> = {
  local: 'local users (those of /etc/passwd)',
  directory: 'users of a directory service (LDAP, SSSD)',
};

export function adopterCheck(service: PamService | undefined): Finding {
  if (service === undefined) return ok('PAM has no service sshd here');
  const lines = service.lines.filter((line) => isAdopter(line) && (line.type === 'account' || line.type === 'session'));
  const [first] = lines;
  if (first === undefined)
    return warn(
      'no module in the sshd stack of PAM puts sessions into jobs: they run without limits and outlive the job',
      'add "account required pam_slurm_adopt.so" as the last account line of /etc/pam.d/sshd',
    );
  const reaches = kinds.map((kind) => ({ kind, ...reachFor(service, kind) }));
  const named = lines.map(nameOf).join(', ');
  return (
    unloadable(service, lines, reaches) ??
    unreached(named, first, reaches) ??
    withoutEffect(first, reaches) ??
    strangeOptions(lines) ??
    ok(`${named}: ${forWhom(reaches)}`)
  );
}

/** The lines that run for people who come by ssh. */
export function linesRunIn(service: PamService, type: PamType): ReadonlySet<PamLine> {
  const stack = service.lines.filter((line) => line.type === type);
  return new Set(kinds.flatMap((kind) => [...linesRun(stack, reachOptions(service, kind, type))]));
}

function reachOptions({ states }: PamService, kind: UserKind, type: PamType): ReachOptions {
  return { kind, isAdopter, isMissing: (line) => states.get(line)?.is === 'missing', refuses: type !== 'session' };
}

/** Adopted in either phase is adopted; only the account phase refuses. */
function reachFor(service: PamService, kind: UserKind): Reach {
  const [account, session] = (['account', 'session'] as const).map((type) =>
    reachOf(
      service.lines.filter((line) => line.type === type),
      reachOptions(service, kind, type),
    ),
  );
  if (account === undefined || session === undefined || account.adopter === 'refused') return account ?? none;
  if (session.adopter === 'all') return { ...account, adopter: 'all', past: [] };
  return account.adopter === 'never' && session.adopter === 'some' ? session : account;
}

const none: Reach = { adopter: 'never', past: [], refusalIgnored: false };

type Reaches = readonly (Reach & { readonly kind: UserKind })[];

function unloadable({ states }: PamService, lines: readonly PamLine[], reaches: Reaches): Finding | undefined {
  for (const line of lines) {
    const state = states.get(line);
    if (state?.is === 'unsafe') {
      const [why = '', remedy = 'let only root write there'] = state.why.split('; ');
      return fail(`${nameOf(line)} is not trusted: ${why}`, remedy);
    }
    if (state?.is !== 'missing') continue;
    const isRefused = reaches.every(({ adopter }) => adopter === 'refused');
    const follows = isRefused
      ? 'every login is refused'
      : reaches.every(({ adopter }) => adopter === 'never')
        ? 'PAM skips it, and sessions are let in without being put into jobs'
        : 'PAM skips it';
    return fail(
      `${nameOf(line)} cannot be loaded (${state.why}): ${follows}`,
      isInOwnFile(line)
        ? `install the module where PAM looks, or correct ${line.place.file}:${line.place.line}`
        : `install the module where PAM looks (${line.place.file} serves other programs, too)`,
    );
  }
  return undefined;
}

function unreached(named: string, first: PamLine, reaches: Reaches): Finding | undefined {
  if (reaches.every(({ adopter }) => adopter === 'refused'))
    return fail(
      `${named}: the ${first.type} stack of sshd refuses every user`,
      `see the lines of type ${first.type} in ${first.place.file} and in what it includes`,
    );
  const missed = reaches.filter(({ adopter }) => adopter === 'never');
  if (missed.length === 0) return undefined;
  const whom = missed.map(({ kind }) => people[kind]).join(' and ');
  const [by] = missed.flatMap(({ past }) => past);
  const how = by === undefined ? '' : `: ${nameOf(by)} leads past it`;
  const adopterLine = isInOwnFile(first) ? `the line (${first.place.file}:${first.place.line})` : 'the adopter';
  const remedy =
    by === undefined
      ? `in /etc/pam.d/sshd, put ${adopterLine} before the lines that end the stack`
      : isInOwnFile(by)
        ? `put the adopter before it, or take that line out (put a # before ${by.place.file}:${by.place.line})`
        : `in /etc/pam.d/sshd, put the adopter before the line that includes ${by.place.file}, or include that file with substack`;
  const detail = `${named} is never reached for ${whom}${how}; their sessions are in no job`;
  return missed.length === reaches.filter(({ adopter }) => adopter !== 'refused').length
    ? fail(detail, remedy)
    : warn(detail, remedy);
}

function withoutEffect(first: PamLine, reaches: Reaches): Finding | undefined {
  if (!reaches.some(({ refusalIgnored }) => refusalIgnored)) return undefined;
  return warn(
    `a refusal of ${nameOf(first)} has no effect: with the control ${quote(first.said)} users without a job are let in, outside every job`,
    isInOwnFile(first)
      ? `write "account required" in ${first.place.file}:${first.place.line}`
      : `put the module into /etc/pam.d/sshd with "account required" (${first.place.file} serves other programs, too)`,
  );
}

/** pam_slurm_adopt ignores what it does not know, and logs it at every login; our own module takes it for a failure. */
function strangeOptions(lines: readonly PamLine[]): Finding | undefined {
  for (const line of lines) {
    if (line.module === 'pam_exec') continue;
    const isOurs = line.module === 'pam_slurm_cgroups';
    for (const word of line.args) {
      const mistake = isOurs ? mistakeOfModule(word) : mistakeIn(word, parseOptions);
      if (mistake === undefined) continue;
      const remedy = mistake.split(': ').at(-1) ?? mistake;
      if (!isOurs)
        return warn(`${nameOf(line)} does not know ${quote(word)}: it is ignored, and the default applies`, remedy);
      const what =
        line.type === 'session'
          ? 'a session that another module has moved is not put back into its job'
          : 'each login is answered by action_generic_failure';
      return fail(`${nameOf(line)} does not know ${quote(word)}: ${what}`, remedy);
    }
  }
  return undefined;
}

/** Of a word of the line of our own module. */
function mistakeOfModule(word: string): string | undefined {
  const [, name, value = ''] = keptByModule.exec(word) ?? [];
  if (name === undefined) return mistakeIn(word);
  return /^\/./.test(value)
    ? undefined
    : `Cannot take ${quote(value)} for ${name.toLowerCase()}: allowed is an absolute path`;
}

const keptByModule = /^(helper|socket)=(.*)$/is;

/** What the module hands on. */
export function wordsForHelper(words: readonly string[]): readonly string[] {
  return words.filter((word) => !keptByModule.test(word));
}

function forWhom(reaches: Reaches): string {
  const admitted = reaches.filter(({ adopter }) => adopter !== 'refused');
  const past = [...new Set(admitted.flatMap((reach) => reach.past))];
  const refused = reaches.filter(({ adopter }) => adopter === 'refused').map(({ kind }) => people[kind]);
  const but = past.length === 0 ? '' : ` but those that ${someOf(past.map(nameOf), 3)} lets past it`;
  return `reached for all users${but}${refused.length === 0 ? '' : `; ${refused.join(', ')} are refused`}`;
}

function nameOf({ module, type, place }: PamLine): string {
  return `${module} in ${type}${at(place)}`;
}
