// What a command takes, as a value: read into words here for the login path (no package), into commander's
// program by program.ts, so that both know the same flags.

import { parseArgs } from 'node:util';
import { quote } from '../cgroup/errors.js';
import { usageError } from './exit.js';

export interface FlagSpec {
  /** Without dashes: `dry-run`. */
  readonly name: string;
  /** What it takes, for help: `N`. Absent: it takes nothing. */
  readonly takes?: string;
  readonly description: string;
}

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** What the command does, in a few lines of help. */
  readonly about: string;
  /** Operands: `<pid>` must be there, `[pid]` may. */
  readonly operands: readonly string[];
  readonly flags: readonly FlagSpec[];
  readonly examples: readonly (readonly [command: string, meaning: string])[];
}

/** What was written behind the command's name. */
export interface Words {
  readonly operands: readonly string[];
  readonly flags: ReadonlyMap<string, string | true>;
}

/** What a command is given. */
export type RunCommand = (words: Words) => Promise<number>;

export const commonFlags: readonly FlagSpec[] = [
  { name: 'json', description: 'print one JSON object for programs' },
  { name: 'node', takes: 'NAME', description: 'only this NodeName, where several nodes share the machine' },
  {
    name: 'within',
    takes: 'CGROUP',
    description: "look for Slurm's tree below this cgroup of each hierarchy, without configuration",
  },
  {
    name: 'log-level',
    takes: 'LEVEL',
    description: 'log to stderr: quiet, fatal, error, info, verbose, debug … debug5, or 0–9',
  },
];

/** Where a node in a file can stand in for this machine. */
export const fromFlag: FlagSpec = {
  name: 'from',
  takes: 'FILE',
  description: 'look at a recorded node instead of this machine',
};

/** @throws SlurmCgroupsError ERR_USAGE, one line that says what is allowed. */
export function parseWords(spec: CommandSpec, words: readonly string[]): Words {
  const options = Object.fromEntries(
    spec.flags.map((flag) => [
      flag.name,
      { type: flag.takes === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  const parsed = (() => {
    try {
      return parseArgs({ args: joinValues(spec, words), options, allowPositionals: true, strict: true });
    } catch (error) {
      throw usageError(explain(spec, error));
    }
  })();
  return checkWords(spec, {
    operands: parsed.positionals,
    flags: new Map(Object.entries(parsed.values).map(([name, value]) => [name, value === true ? true : String(value)])),
  });
}

/** `--uid -5` names a value, not a flag: what follows a flag that takes something is its value. */
function joinValues(spec: CommandSpec, words: readonly string[]): string[] {
  const joined: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    const flag = spec.flags.find((one) => `--${one.name}` === word);
    const next = words[at + 1];
    if (flag?.takes !== undefined && next !== undefined) {
      joined.push(`${word}=${next}`);
      at++;
    } else joined.push(/^-\d/.test(word) ? `=${word}` : word);
  }
  return joined;
}

function explain(spec: CommandSpec, error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const unknown = /^Unknown option '(.*?)'/s.exec(message)?.[1];
  const known = spec.flags.map((flag) => `--${flag.name}`).join(' ');
  if (unknown !== undefined) return `Unknown option ${quote(unknown)}; there are ${known}`;
  const needs = /^Option '--([a-z-]+)/.exec(message)?.[1];
  return needs === undefined
    ? (message.split('\n')[0] ?? message)
    : `Option --${needs} ${spec.flags.some((flag) => flag.name === needs && flag.takes) ? 'needs a value' : 'takes no value'}`;
}

/** The right number of operands, whoever split the words. */
export function checkWords(spec: CommandSpec, words: Words): Words {
  const operands = words.operands.map((operand) => operand.replace(/^=(?=-\d)/, ''));
  const needed = spec.operands.filter((operand) => operand.startsWith('<')).length;
  if (operands.length < needed) throw usageError(`Missing ${spec.operands.slice(operands.length, needed).join(' ')}`);
  if (operands.length > spec.operands.length)
    throw usageError(`Too many words: ${quote(operands[spec.operands.length] ?? '')}`);
  return { operands, flags: words.flags };
}

/** The value of a flag that takes one. */
export function flagValue(words: Words, name: string): string | undefined {
  const value = words.flags.get(name);
  return typeof value === 'string' ? value : undefined;
}

/** @throws SlurmCgroupsError ERR_USAGE unless it is a decimal number in the range. */
export function numberOf(text: string, what: string, range: { readonly from: number; readonly to: number }): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= range.from && value <= range.to))
    throw usageError(`${quote(text)} is not ${what}: a number from ${range.from} to ${range.to}`);
  return value;
}

/** Any whole number above 0 may be asked for as a pid; whether there is such a process the kernel says. */
export function pidOf(text: string): number {
  return numberOf(text, 'a process id', { from: 1, to: 999_999_999_999_999 });
}

export function jobIdOf(text: string): number {
  return numberOf(text, 'a job id', { from: 1, to: 0xffff_fffd });
}

export function uidOf(text: string): number {
  return numberOf(text, 'a user id', { from: 0, to: 0xffff_fffe });
}

/**
 * Whose jobs or session: a uid, or a name that is still to be looked up.
 *
 * @throws SlurmCgroupsError ERR_USAGE when both are given.
 */
export function whose(words: Words): { readonly uid: number } | { readonly user: string } | undefined {
  const [uid, user] = [flagValue(words, 'uid'), flagValue(words, 'user')];
  if (uid !== undefined && user !== undefined)
    throw usageError('--uid and --user say the same thing: give one of them');
  if (uid !== undefined) return { uid: uidOf(uid) };
  return user === undefined ? undefined : { user };
}
