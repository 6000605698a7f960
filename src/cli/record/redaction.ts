// What of a file a recording holds. It is handed to others, so of each file only that is kept which our own readers take
// from it (allow-lists by key); a password stands in none of it, however it is written. Lines keep their numbers.

import { type ConfigLine, type ConfigPair, configLines } from '../../jobs/config/syntax.js';
import { readKeys } from '../../jobs/config/values.js';
import { ParseError } from '../../machine/errors.js';
import { escapeHidden } from '../../machine/kernel-text.js';

/** In place of what is left out, where something must stand. */
const leftOut = 'left-out';

/** A line of a recording without what must not be in it; `undefined`: nothing of it may. */
export function redactedLine(line: string): string | undefined {
  const answer: unknown = JSON.parse(line);
  if (typeof answer !== 'object' || answer === null) return undefined;
  const [file, text]: readonly unknown[] = [Reflect.get(answer, 'read'), Reflect.get(answer, 'text')];
  if (typeof file !== 'string' || typeof text !== 'string') return escapeHidden(line);
  const kept = redactedText(file, text);
  return kept === undefined ? undefined : escapeHidden(JSON.stringify({ ...answer, text: kept }));
}

/** The text of a file as a recording may hold it; `undefined`: not at all. */
export function redactedText(file: string, text: string): string | undefined {
  if (!file.startsWith('/')) return text; // our own answers: they are made of what is redacted
  const rule = rules.find(([shape]) => shape.test(file));
  return rule === undefined ? slurmText(file, text) : rule[1](text, file);
}

type Rule = (text: string, file: string) => string | undefined;

/** slurmstepd.c, setproctitle (measured, 24.11 and 26.05). A recording holds no other command line. */
export const stepdTitle: RegExp = /^slurmstepd: \[\d+\.[a-z0-9+]+\]\0*$/;

const whole: Rule = (text) => text;

const rules: readonly (readonly [RegExp, Rule])[] = [
  [/^\/proc\/(?:.*\/)?(?:mountinfo|mounts)$/, (text) => mounts(text)],
  [/^\/proc\/\d+\/cmdline$/, (text) => (stepdTitle.test(text) ? text : undefined)],
  // The kernel's own, and what a user can put in the place of one (maps: names of files).
  [/^\/proc\/(?:.*\/)?(?:environ|cmdline|maps|smaps|smaps_rollup|numa_maps|auxv|mem|keys|key-users)$/, () => undefined],
  [/^\/(?:proc|sys)\//, whole],
  [/^\/run\/slurm-cgroups\//, whole],
  [/^\/etc\/passwd$/, linewise((line) => passwd(line))],
  [/^\/etc\/login\.defs$/, linewise((line) => /^\s*[A-Z_]*[UG]ID_(?:MIN|MAX)\s+\d+(?=\s|$)/.exec(line)?.[0] ?? '')],
  [/\/os-release$/, linewise((line) => (/^(?:PRETTY_NAME|NAME|ID|VERSION_ID)=/.test(line) ? line : ''))],
  [/\/pam\.(?:d\/[^/]*|conf)$/, (text) => byLine(text, joinedLines(text), pamLine)],
  [/\/sshd?(?:_config)?(?:\/|$)|\/sshd_config/, linewise((line) => sshdLine(line))],
  [/\/systemd\/(?:.*\/)?[^/]*\.conf$/, linewise((line) => (systemdLine.test(line) ? line : ''))],
];

function linewise(keep: (line: string) => string): Rule {
  return (text) => text.split('\n').map(keep).join('\n');
}

/** Each line, or what it becomes, where it begins; blank lines in place of the others. */
function byLine<T extends { readonly line: number }>(
  text: string,
  found: Iterable<T>,
  keep: (one: T) => string,
): string {
  const lines = text.split('\n').map(() => '');
  for (const one of found) lines[one.line - 1] = keep(one);
  return lines.join('\n');
}

/** Slurm's form, also of a file that is not known here: of another form nothing is left. */
function slurmText(file: string, text: string): string | undefined {
  try {
    return byLine(text, configLines(text, file), slurmLine);
  } catch (error) {
    if (error instanceof ParseError) return undefined; // no text
    throw error;
  }
}

const nodeKeys: ReadonlySet<string> = new Set(['nodename', 'nodehostname']);

function slurmLine({ pairs, include, rest }: ConfigLine): string {
  // What stands behind is said to be unread, when it is played as now.
  const end = rest === undefined ? '' : ` ${leftOut}`;
  if (include !== undefined) return `Include ${escaped(withoutUser(include))}${end}`;
  const [first, ...attributes] = pairs;
  const key = first?.key.toLowerCase() ?? '';
  if (first === undefined || !readKeys.has(key)) return end.trim();
  if (key === 'nodename')
    return [first, ...attributes.filter((one) => nodeKeys.has(one.key.toLowerCase()))].map(pairText).join(' ') + end;
  return `${pairText(first)}${attributes.length === 0 ? '' : ` left_out=${leftOut}`}${end}`;
}

function pairText({ key, value, operator = '' }: ConfigPair): string {
  const text = escaped(withoutUser(value));
  return `${key}${operator}=${/\s/.test(text) || text === '' ? `"${text}"` : text}`;
}

/** Slurm takes one backslash away before it reads the pairs. */
function escaped(text: string): string {
  return text.replace(/[\\#]/g, (character) => `\\${character}`);
}

/** `https://user:password@host` */
function withoutUser(text: string): string {
  return text.replace(/:\/\/[^/\s]*@/g, () => `://${leftOut}@`);
}

/** Of what is no cgroup the options, which may hold a password, and a user in the source. */
function mounts(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const [, head, type = '', source = '', options = ''] = /^(.* - )(\S+) (\S+) (\S+)/.exec(line) ?? [];
      if (head === undefined || /^cgroup2?$/.test(type)) return line;
      return `${head}${type} ${withoutUser(source)} ${options.split(',')[0] === 'ro' ? 'ro' : 'rw'}`;
    })
    .join('\n');
}

/** Name and uid: neither the hash of an old system nor who a person is. */
function passwd(line: string): string {
  const [name, , uid] = line.split(':');
  return uid === undefined ? '' : `${name}:x:${uid}::::`;
}

/** Modules whose arguments say who reaches the adopter; of another module they may be the password of a directory. */
const toldModules: ReadonlySet<string> = new Set([
  'pam_access',
  'pam_deny',
  'pam_elogind',
  'pam_listfile',
  'pam_localuser',
  'pam_permit',
  'pam_slurm',
  'pam_slurm_adopt',
  'pam_slurm_cgroups',
  'pam_succeed_if',
  'pam_systemd',
  'pam_unix',
]);

interface JoinedLine {
  readonly line: number;
  readonly text: string;
}

/** As Linux-PAM joins them: a comment begins a line or stands in it, and does not continue. */
function joinedLines(text: string): readonly JoinedLine[] {
  const lines: JoinedLine[] = [];
  let open: JoinedLine | undefined;
  for (const [at, raw] of text.split('\n').entries()) {
    const line = (open?.text ?? '') + raw.replace(/\\$/, ' ');
    const joined = { line: open?.line ?? at + 1, text: line };
    open = raw.endsWith('\\') ? joined : undefined;
    if (open === undefined) lines.push(joined);
  }
  return open === undefined ? lines : [...lines, open];
}

function pamLine({ text }: JoinedLine): string {
  const line = text.replace(/#.*/, '').trim();
  if (/^@include\s+[\w./-]+$/.test(line)) return line;
  const [, head = '', what = '', rest = ''] =
    /^(-?(?:account|auth|password|session)\s+(?:\[[\w\s=-]*\]|\w+)\s+)([\w./-]+)(.*)$/i.exec(line) ?? [];
  const module = what.slice(what.lastIndexOf('/') + 1).replace(/\.so$/, '');
  const runsUs = module === 'pam_exec' && rest.includes('slurm-cgroups');
  return `${head}${what}${toldModules.has(module) || runsUs ? withoutUser(rest) : ''}`;
}

/** sshd_config(5): what our checks ask for, without who or what a Match is about. */
function sshdLine(line: string): string {
  const [, key = '', value = ''] = /^\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)$/.exec(line) ?? [];
  switch (key.toLowerCase()) {
    case 'match':
      return `${key} ${/^"?all"?\s*$/i.test(value) ? 'all' : leftOut}`;
    case 'include':
      return `${key} ${withoutUser(value)}`;
    case 'usepam':
    case 'kbdinteractiveauthentication':
    case 'challengeresponseauthentication':
    case 'passwordauthentication':
    case 'pubkeyauthentication':
    case 'permitrootlogin':
      return /^"?[a-z-]+"?(?=\s|$)/i.exec(value) === null ? '' : `${key} ${/^\S+/.exec(value)?.[0]}`;
    case 'maxstartups':
    case 'maxsessions':
    case 'logingracetime':
      return `${key} ${/^"?[\d:smhdw]+/i.exec(value)?.[0] ?? ''}`;
    default:
      return '';
  }
}

/** A commented line of logind's shows what was compiled in. */
const systemdLine =
  /^\s*(?:\[\w+\]|#?(?:RemoveIPC|KillUserProcesses|UserTasksMax)\s*=\s*[\w%]*|#?Kill(?:Only|Exclude)Users\s*=[\w .-]*)\s*$/;
