// The options that steer a login, with the names, values and defaults of pam_slurm_adopt and our own beside them.
// One table says them all: it parses the PAM line and the configuration file, and gives the command line its flags.

import { ConfigError, quote } from '../machine/errors.js';
import type { RankName } from './newest.js';
import { rankNames } from './newest.js';

/** Slurm's log levels by number, 0 first. */
export const logLevels = [
  'quiet',
  'fatal',
  'error',
  'info',
  'verbose',
  'debug',
  'debug2',
  'debug3',
  'debug4',
  'debug5',
] as const;
export type LogLevel = (typeof logLevels)[number];

const actionsNoJobs = ['deny', 'ignore'] as const;
const actionsUnknown = ['newest', 'allow', 'deny', 'user'] as const;
const actionsAdoptFailure = ['allow', 'deny'] as const;
const actionsGenericFailure = ['ignore', 'allow', 'deny'] as const;
const actionsSuspended = ['deny', 'allow', 'next'] as const;
const modes = ['enforce', 'observe'] as const;

/** Every option, resolved. What each means, and its default: `optionTable`. */
export interface AdoptionOptions {
  readonly actionNoJobs: (typeof actionsNoJobs)[number];
  readonly actionUnknown: (typeof actionsUnknown)[number];
  readonly actionAdoptFailure: (typeof actionsAdoptFailure)[number];
  readonly actionGenericFailure: (typeof actionsGenericFailure)[number];
  readonly actionSuspended: (typeof actionsSuspended)[number];
  readonly ignoreRoot: boolean;
  readonly singleJobSkipRpc: boolean;
  readonly prefer: boolean;
  readonly rank: RankName;
  readonly mode: (typeof modes)[number];
  /** PAM service, or `*` for every one. */
  readonly service: string;
  /** NodeName of slurm.conf. Absent: SLURMD_NODENAME, else the short host name. */
  readonly nodename?: string;
  readonly disableX11: boolean;
  readonly joinContainer: boolean;
  readonly logLevel: LogLevel;
  /** How long caller ID may take, in ms; 0: it is not asked. */
  readonly callerIdTimeoutMs: number;
  /** How long the whole login may wait, in ms, above 0. */
  readonly budgetMs: number;
  /** How long a login waits for a job that is not there yet, in ms; 0: not at all. */
  readonly waitForJobMs: number;
}

export const defaultOptions: AdoptionOptions = {
  actionNoJobs: 'deny',
  actionUnknown: 'newest',
  actionAdoptFailure: 'allow',
  actionGenericFailure: 'ignore',
  actionSuspended: 'deny',
  ignoreRoot: true,
  singleJobSkipRpc: true,
  prefer: false,
  rank: 'newest',
  mode: 'enforce',
  service: 'sshd',
  disableX11: false,
  joinContainer: true,
  logLevel: 'info',
  callerIdTimeoutMs: 2000,
  budgetMs: 5000,
  waitForJobMs: 3000,
};

/** One option: how it is named, what it takes, and how it is read and written. */
export interface OptionSpec {
  /** As on the PAM line and in the configuration file: `action_unknown`. */
  readonly name: string;
  /** As on the command line, without the two dashes: `action-unknown`. */
  readonly flag: string;
  /** What it takes, for a person: `newest, allow, deny, user`. */
  readonly allowed: string;
  /** The words it takes; empty where it takes a name or a time. */
  readonly values: readonly string[];
  /** Its default as text; for `nodename` where the name then comes from. */
  readonly default: string;
  readonly description: string;
  /** `base` with this option set from `text`; undefined where the text is not allowed. */
  readonly read: (text: string, base: AdoptionOptions) => AdoptionOptions | undefined;
  /** The option as text; undefined where it is not set. */
  readonly write: (options: AdoptionOptions) => string | undefined;
}

interface Field<T> {
  readonly name: string;
  readonly description: string;
  readonly get: (options: AdoptionOptions) => T;
  readonly set: (base: AdoptionOptions, value: T) => AdoptionOptions;
}

function spec<T>(
  field: Field<T>,
  takes: { allowed: string; values?: readonly string[] },
  parse: (text: string) => T | undefined,
  format: (value: T) => string | undefined,
): OptionSpec {
  return {
    name: field.name,
    flag: field.name.replaceAll('_', '-'),
    allowed: takes.allowed,
    values: takes.values ?? [],
    default: format(field.get(defaultOptions)) ?? 'SLURMD_NODENAME, else the short host name',
    description: field.description,
    read: (text, base) => {
      const value = parse(text);
      return value === undefined ? undefined : field.set(base, value);
    },
    write: (options) => format(field.get(options)),
  };
}

/** pam_slurm_adopt compares without regard to case (strncasecmp), but takes `denyall` for `deny`: here the whole word. */
function word<T extends string>(values: readonly T[], field: Field<T>): OptionSpec {
  const find = (text: string): T | undefined => values.find((value) => value === text.toLowerCase());
  return spec(field, { allowed: values.join(', '), values }, find, (value) => value);
}

function flag(yes: '1' | 'true', no: '0' | 'false', field: Field<boolean>): OptionSpec {
  const read = (text: string): boolean | undefined => {
    const lower = text.toLowerCase();
    return lower === yes ? true : lower === no ? false : undefined;
  };
  return spec(field, { allowed: `${yes}, ${no}`, values: [yes, no] }, read, (value) => (value ? yes : no));
}

function level(field: Field<LogLevel>): OptionSpec {
  const read = (text: string): LogLevel | undefined =>
    /^\d$/.test(text) ? logLevels[Number(text)] : logLevels.find((name) => name === text.toLowerCase());
  return spec(field, { allowed: `${logLevels.join(', ')}, or 0 to 9`, values: logLevels }, read, (value) => value);
}

/** Nobody waits longer for a login: sshd's LoginGraceTime is 2 minutes. */
const longestMs = 120_000;

function time(least: number, field: Field<number>): OptionSpec {
  const allowed = `${least === 0 ? 'a time from 0' : 'a time above 0'} to 120 s, such as 2, 2s or 500ms`;
  const read = (text: string): number | undefined => {
    const [, digits, unit] = /^(\d{1,6})(s|ms)?$/i.exec(text) ?? [];
    if (digits === undefined) return undefined;
    const ms = Number(digits) * (unit?.toLowerCase() === 'ms' ? 1 : 1000);
    return ms >= least && ms <= longestMs ? ms : undefined;
  };
  return spec(field, { allowed }, read, (ms) => (ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`));
}

/** Names become parts of paths: no slash, no blank, and no leading dot or dash. */
function name<T extends string | undefined>(allowed: string, pattern: RegExp, field: Field<T | string>): OptionSpec {
  return spec<T | string>(
    field,
    { allowed },
    (text) => (pattern.test(text) ? text : undefined),
    (value) => value,
  );
}

/** All options, those of pam_slurm_adopt first. */
export const optionTable: readonly OptionSpec[] = [
  word(actionsNoJobs, {
    name: 'action_no_jobs',
    description: 'the user has no job on this node',
    get: (options) => options.actionNoJobs,
    set: (base, actionNoJobs) => ({ ...base, actionNoJobs }),
  }),
  word(actionsUnknown, {
    name: 'action_unknown',
    description: 'the user has several jobs here, and nothing names one (user: into no job, cgroup v1 only)',
    get: (options) => options.actionUnknown,
    set: (base, actionUnknown) => ({ ...base, actionUnknown }),
  }),
  word(actionsAdoptFailure, {
    name: 'action_adopt_failure',
    description: 'the session could not be adopted (allow: let in unadopted)',
    get: (options) => options.actionAdoptFailure,
    set: (base, actionAdoptFailure) => ({ ...base, actionAdoptFailure }),
  }),
  word(actionsGenericFailure, {
    name: 'action_generic_failure',
    description: 'the node or its jobs cannot be told',
    get: (options) => options.actionGenericFailure,
    set: (base, actionGenericFailure) => ({ ...base, actionGenericFailure }),
  }),
  flag('1', '0', {
    name: 'ignore_root',
    description: 'let root through before anything else',
    get: (options) => options.ignoreRoot,
    set: (base, ignoreRoot) => ({ ...base, ignoreRoot }),
  }),
  flag('1', '0', {
    name: 'single_job_skip_rpc',
    description: 'do not ask caller ID where the user has one job only',
    get: (options) => options.singleJobSkipRpc,
    set: (base, singleJobSkipRpc) => ({ ...base, singleJobSkipRpc }),
  }),
  level({
    name: 'log_level',
    description: 'how much is logged',
    get: (options) => options.logLevel,
    set: (base, logLevel) => ({ ...base, logLevel }),
  }),
  name('a NodeName of slurm.conf (letters, digits, dots, dashes, underscores)', /^[a-z0-9][\w.-]{0,254}$/i, {
    name: 'nodename',
    description: 'the NodeName of this node',
    get: (options) => options.nodename,
    set: (base, nodename) => (nodename === undefined ? base : { ...base, nodename }),
  }),
  flag('1', '0', {
    name: 'disable_x11',
    description: "do not give the session the job's X11 display",
    get: (options) => options.disableX11,
    set: (base, disableX11) => ({ ...base, disableX11 }),
  }),
  name('the name of a PAM service, or *', /^(?:\*|[a-z0-9_][\w.@+-]{0,254})$/i, {
    name: 'service',
    description: 'the PAM service whose sessions are adopted, * for all',
    get: (options) => options.service,
    set: (base, service) => ({ ...base, service }),
  }),
  flag('true', 'false', {
    name: 'join_container',
    description: "join the job's namespaces",
    get: (options) => options.joinContainer,
    set: (base, joinContainer) => ({ ...base, joinContainer }),
  }),
  word(actionsSuspended, {
    name: 'action_suspended',
    description: 'the chosen job is suspended (allow: let in unadopted; next: try another, deny where there is none)',
    get: (options) => options.actionSuspended,
    set: (base, actionSuspended) => ({ ...base, actionSuspended }),
  }),
  time(0, {
    name: 'callerid_timeout',
    description: 'how long caller ID may take, 0: it is not asked',
    get: (options) => options.callerIdTimeoutMs,
    set: (base, callerIdTimeoutMs) => ({ ...base, callerIdTimeoutMs }),
  }),
  time(1, {
    name: 'budget',
    description: 'how long the whole login may wait',
    get: (options) => options.budgetMs,
    set: (base, budgetMs) => ({ ...base, budgetMs }),
  }),
  time(0, {
    name: 'wait_for_job',
    description: 'how long a login waits for a job that is just starting, 0: not at all',
    get: (options) => options.waitForJobMs,
    set: (base, waitForJobMs) => ({ ...base, waitForJobMs }),
  }),
  word(rankNames, {
    name: 'rank',
    description: 'which job is the newest',
    get: (options) => options.rank,
    set: (base, rank) => ({ ...base, rank }),
  }),
  flag('1', '0', {
    name: 'prefer',
    description: "the user's own choice of a job counts",
    get: (options) => options.prefer,
    set: (base, prefer) => ({ ...base, prefer }),
  }),
  word(modes, {
    name: 'mode',
    description: 'observe: decide and record, move nothing, answer ignore',
    get: (options) => options.mode,
    set: (base, mode) => ({ ...base, mode }),
  }),
];

/** The option of that name in any case, as pam_slurm_adopt takes it: `action_unknown`. */
export function optionByName(name: string): OptionSpec | undefined {
  const wanted = name.toLowerCase();
  return optionTable.find((option) => option.name === wanted);
}

/**
 * `base` with one option set.
 *
 * @param called how the option is called in the message: its name unless told.
 * @throws ConfigError (ERR_CONFIG) when `text` is not allowed; the message lists what is.
 */
export function readOption(option: OptionSpec, text: string, base: AdoptionOptions, called?: string): AdoptionOptions {
  const read = option.read(text, base);
  if (read !== undefined) return read;
  throw new ConfigError(`Cannot take ${quote(text)} for ${called ?? option.name}: allowed are ${option.allowed}`);
}

/**
 * Reads the words of a PAM line or of the configuration file, each `name=value`. Names and values are taken in any
 * case, of a name that stands twice the later counts.
 *
 * @param base what the words change, the defaults unless told.
 * @throws ConfigError (ERR_CONFIG) for an unknown option or value; the message, one line, lists those allowed.
 * @example
 * parseOptions(['action_unknown=deny', 'callerid_timeout=500ms']).callerIdTimeoutMs; // 500
 */
export function parseOptions(words: readonly string[], base: AdoptionOptions = defaultOptions): AdoptionOptions {
  return words.reduce((options, text) => {
    const equals = text.indexOf('=');
    if (equals < 0) throw new ConfigError(`Cannot read the option ${quote(text)}: it is not of the form name=value`);
    const option = optionByName(text.slice(0, equals));
    if (option === undefined) {
      const known = optionTable.map(({ name }) => name).join(', ');
      throw new ConfigError(`Cannot read the option ${quote(text)}: there is none of that name, but ${known}`);
    }
    return readOption(option, text.slice(equals + 1), options);
  }, base);
}

/** All options as `name=value`, in the order of the table: what `parseOptions` reads back. */
export function formatOptions(options: AdoptionOptions): readonly string[] {
  return optionTable.flatMap((option) => {
    const text = option.write(options);
    return text === undefined ? [] : [`${option.name}=${text}`];
  });
}

/**
 * Checks what can only be told on the node.
 *
 * @throws ConfigError (ERR_CONFIG) for `action_unknown=user` on cgroup v2, where a user has no cgroup of his own.
 */
export function checkOptions(options: AdoptionOptions, node: { readonly cgroupVersion: 1 | 2 }): void {
  if (options.actionUnknown !== 'user' || node.cgroupVersion === 1) return;
  const allowed = actionsUnknown.filter((action) => action !== 'user').join(', ');
  throw new ConfigError(
    `Cannot take "user" for action_unknown: Slurm has no cgroup of a user on cgroup v2, allowed are ${allowed}`,
  );
}
