// What a command takes, as a value. This file parses the words for the login path, without a package; program.ts gives
// the same value to commander. So both know the same flags.

import { quote } from '../machine/errors.js';
import { usageError } from './exit.js';

export interface FlagSpec {
  /** Without dashes: `dry-run`. */
  readonly name: string;
  /** The name of its value in the help: `N`. Absent: it takes no value. */
  readonly takes?: string;
  readonly description: string;
}

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** What the command does, in a few lines of help. */
  readonly about: string;
  /** `<pid>` is required, `[pid]` is optional, `[word...]` is any number of them. */
  readonly operands: readonly string[];
  readonly flags: readonly FlagSpec[];
  readonly examples: readonly (readonly [command: string, meaning: string])[];
}

/** What was written after the command's name. */
export interface Words {
  readonly operands: readonly string[];
  readonly flags: ReadonlyMap<string, string | true>;
}

export type RunCommand = (words: Words) => Promise<number>;

export const withinFlag: FlagSpec = {
  name: 'within',
  takes: 'CGROUP',
  description: "look for Slurm's cgroups below this one only, and read no configuration",
};

export const commonFlags: readonly FlagSpec[] = [
  { name: 'json', description: 'print one JSON object' },
  { name: 'node', takes: 'NAME', description: 'the NodeName, if several nodes share this machine' },
  withinFlag,
  {
    name: 'log-level',
    takes: 'LEVEL',
    description: 'log: quiet, fatal, error, info, verbose, debug … debug5, or 0–9',
  },
  { name: 'log-to', takes: 'WHERE', description: 'where the log goes: stderr (default), journal or syslog' },
];

/** For commands that can read a recording instead of this machine. */
export const fromFlag: FlagSpec = {
  name: 'from',
  takes: 'FILE',
  description: 'read a recorded node instead of this machine',
};

/**
 * As util.parseArgs reads them, which would cost the login path a fiftieth of its start (measured).
 *
 * @throws SlurmCgroupsError ERR_USAGE, one line that says what is allowed.
 */
export function parseWords(spec: CommandSpec, words: readonly string[]): Words {
  const operands: string[] = [];
  const flags = new Map<string, string | true>();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') operands.push(...rest.splice(0));
    else if (/^(?:[^-]|-\d|-?$)/.test(word)) operands.push(word);
    else {
      const [, name, value] = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? [];
      const flag = spec.flags.find((one) => one.name === name);
      if (name === undefined || flag === undefined)
        throw usageError(unknownFlag(spec, name === undefined ? word.slice(0, 2) : `--${name}`));
      if (flag.takes === undefined) {
        if (value !== undefined) throw usageError(`Option --${name} takes no value`);
        flags.set(name, true);
      } else {
        // What follows is its value whatever it looks like: `--uid -5` names a number, not a flag.
        const taken = value ?? rest.shift();
        if (taken === undefined) throw usageError(`Option --${name} needs a value`);
        flags.set(name, taken);
      }
    }
  }
  return checkWords(spec, { operands, flags });
}

function unknownFlag(spec: CommandSpec, flag: string): string {
  return `Unknown option ${quote(flag)}; there are ${spec.flags.map((one) => `--${one.name}`).join(' ')}`;
}

/** Checks the number of operands, for both parsers. */
export function checkWords(spec: CommandSpec, words: Words): Words {
  const { operands } = words;
  const needed = spec.operands.filter((operand) => operand.startsWith('<')).length;
  const missing = operands.length < needed ? spec.operands[operands.length] : undefined;
  if (missing !== undefined) throw usageError(`Missing required argument ${quote(missing.slice(1, -1))}`);
  const isEndless = spec.operands.at(-1)?.endsWith('...]') === true;
  if (operands.length > spec.operands.length && !isEndless)
    throw usageError(`Unexpected argument ${quote(operands[spec.operands.length] ?? '')}`);
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

/** Any whole number above 0: the kernel knows whether there is such a process. */
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
 * The user of --uid or --user: a uid, or a name to look up.
 *
 * @throws SlurmCgroupsError ERR_USAGE when both are given.
 */
export function whose(words: Words): { readonly uid: number } | { readonly user: string } | undefined {
  const [uid, user] = [flagValue(words, 'uid'), flagValue(words, 'user')];
  if (uid !== undefined && user !== undefined) throw usageError('Give --uid or --user, not both');
  if (uid !== undefined) return { uid: uidOf(uid) };
  if (user !== undefined && /^\d+$/.test(user)) return { uid: uidOf(user) }; // as ps and id take it
  return user === undefined ? undefined : { user };
}
