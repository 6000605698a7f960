// The options that steer a login: those of pam_slurm_adopt with its names, values and defaults, and our own. One table
// holds them all: the PAM line and the configuration file are read by it, and the command line takes its flags from it.

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

/** Every option with its value. What each means, and its default: `optionTable`. */
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
  /** oom_score_adj of an adopted session, -1000 to 1000. Absent: it is left as it is. */
  readonly sessionOomAdj?: number;
  readonly disableX11: boolean;
  /** `account`: in the account phase, of a stack without our session line; then the namespace of mounts alone. */
  readonly joinContainer: boolean | 'account';
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

/** One option: its names, what it takes, and how it is read and written. */
export interface OptionSpec {
  /** As on the PAM line and in the configuration file: `action_unknown`. */
  readonly name: string;
  /** As on the command line, without the two dashes: `action-unknown`. */
  readonly flag: string;
  /** What it takes, for people: `newest, allow, deny, user`. */
  readonly allowed: string;
  /** The words it takes; empty where it takes a name or a time. */
  readonly values: readonly string[];
  /** Its default as text; of one that is not set by default what then counts. */
  readonly default: string;
  readonly description: string;
  /** `base` with this option set from `text`; undefined where the text is not allowed. */
  readonly read: (text: string, base: AdoptionOptions) => AdoptionOptions | undefined;
  /** The option as text; undefined where it is not set. */
  readonly write: (options: AdoptionOptions) => string | undefined;
}

/** What an option takes, and how that is read and written. */
interface Kind<T> {
  readonly allowed: string;
  readonly values?: readonly string[];
  readonly parse: (text: string) => T | undefined;
  readonly format: (value: T) => string;
}

/** pam_slurm_adopt compares without regard to case (strncasecmp), but takes `denyall` for `deny`: here the whole word. */
function word<T extends string>(values: readonly T[]): Kind<T> {
  const parse = (text: string) => values.find((value) => value === text.toLowerCase());
  return { allowed: values.join(', '), values, parse, format: (value) => value };
}

function flag(yes: '1' | 'true', no: '0' | 'false'): Kind<boolean> {
  const { allowed, values, parse } = word([yes, no]);
  return {
    ...{ allowed, ...(values && { values }) },
    parse: (text) => {
      const value = parse(text);
      return value === undefined ? undefined : value === yes;
    },
    format: (value) => (value ? yes : no),
  };
}

function level(): Kind<LogLevel> {
  const { parse, format } = word(logLevels);
  return {
    allowed: `${logLevels.join(', ')}, or 0 to 9`,
    values: logLevels,
    parse: (text) => (/^\d$/.test(text) ? logLevels[Number(text)] : parse(text)),
    format,
  };
}

/** No login is waited for longer than this: sshd's LoginGraceTime is 2 minutes. */
const longestMs = 120_000;

function time(leastMs: number): Kind<number> {
  return {
    allowed: `${leastMs === 0 ? 'a time from 0' : 'a time above 0'} to 120 s, such as 2, 2s or 500ms`,
    parse: (text) => {
      const [, digits, unit] = /^(\d{1,6})(s|ms)?$/i.exec(text) ?? [];
      if (digits === undefined) return undefined;
      const ms = Number(digits) * (unit?.toLowerCase() === 'ms' ? 1 : 1000);
      return ms >= leastMs && ms <= longestMs ? ms : undefined;
    },
    format: (ms) => (ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`),
  };
}

/** Names become parts of paths: no slash, no blank, and no leading dot or dash. */
function name(allowed: string, pattern: RegExp): Kind<string> {
  return { allowed, parse: (text) => (pattern.test(text) ? text : undefined), format: (value) => value };
}

const nodeName = name(
  'a NodeName of slurm.conf (letters, digits, dots, dashes, underscores)',
  /^[a-z0-9][\w.-]{0,254}$/i,
);
const serviceName = name('the name of a PAM service, or *', /^(?:\*|[a-z0-9_][\w.@+-]{0,254})$/i);

/** One row of the table: the option of that key, by its name on the PAM line. */
function row<K extends keyof AdoptionOptions>(
  key: K,
  optionName: string,
  kind: Kind<Required<AdoptionOptions>[K]>,
  description: string,
): OptionSpec {
  const write = ({ [key]: value }: Partial<Required<AdoptionOptions>>) =>
    value === undefined ? undefined : kind.format(value);
  return {
    name: optionName,
    flag: optionName.replaceAll('_', '-'),
    allowed: kind.allowed,
    values: kind.values ?? [],
    default: write(defaultOptions) ?? unset[key] ?? '',
    description,
    read: (text, base) => {
      const value = kind.parse(text);
      return value === undefined ? undefined : { ...base, [key]: value };
    },
    write,
  };
}

/** What counts where an option is not set, and is not by default. */
const unset: Readonly<Partial<Record<keyof AdoptionOptions, string>>> = {
  nodename: 'SLURMD_NODENAME, else the short host name',
  sessionOomAdj: 'it is left as it is',
};

/** oom_score_adj, proc_pid_oom_score_adj(5). */
const oomScoreAdj: Kind<number> = {
  allowed: 'a whole number from -1000 to 1000',
  parse: (text) => (/^-?\d{1,4}$/.test(text) && Math.abs(Number(text)) <= 1000 ? Number(text) + 0 : undefined),
  format: String,
};

const oneOrZero = flag('1', '0');

const joinWhen: Kind<boolean | 'account'> = {
  ...word(['true', 'false', 'account']),
  parse: (text) => {
    const value = text.toLowerCase();
    return value === 'account' ? value : flag('true', 'false').parse(value);
  },
  format: String,
};

/** All options, those of pam_slurm_adopt first. */
// biome-ignore format: one line an option reads as the table that it is
export const optionTable: readonly OptionSpec[] = [
  row('actionNoJobs', 'action_no_jobs', word(actionsNoJobs), 'the user has no job on this node'),
  row('actionUnknown', 'action_unknown', word(actionsUnknown), 'the user has several jobs here and none is named (user: into no job, cgroup v1 only)'),
  row('actionAdoptFailure', 'action_adopt_failure', word(actionsAdoptFailure), 'the session could not be adopted (allow: let in unadopted)'),
  row('actionGenericFailure', 'action_generic_failure', word(actionsGenericFailure), 'the node or its jobs are not known'),
  row('ignoreRoot', 'ignore_root', oneOrZero, 'let root through before anything else'),
  row('singleJobSkipRpc', 'single_job_skip_rpc', oneOrZero, 'do not ask caller ID where the user has only one job'),
  row('logLevel', 'log_level', level(), 'how much is logged'),
  row('nodename', 'nodename', nodeName, 'the NodeName of this node'),
  row('disableX11', 'disable_x11', oneOrZero, "do not give the session the job's X11 display"),
  row('service', 'service', serviceName, 'the PAM service whose sessions are adopted, * for all'),
  row('sessionOomAdj', 'session_oom_adj', oomScoreAdj, 'oom_score_adj of an adopted session: above 0 it is ended before the computation where memory runs out'),
  row('joinContainer', 'join_container', joinWhen, "join the job's namespaces (account: where PAM has no session line of ours)"),
  row('actionSuspended', 'action_suspended', word(actionsSuspended), 'the chosen job is suspended (allow: let in unadopted; next: try another, deny where there is none)'),
  row('callerIdTimeoutMs', 'callerid_timeout', time(0), 'how long caller ID may take, 0: it is not asked'),
  row('budgetMs', 'budget', time(1), 'how long the whole login may wait'),
  row('waitForJobMs', 'wait_for_job', time(0), 'how long a login waits for a job that is just starting, 0: not at all'),
  row('rank', 'rank', word(rankNames), 'which job is the newest'),
  row('prefer', 'prefer', oneOrZero, "the user's own choice of a job counts"),
  row('mode', 'mode', word(modes), 'observe: decide and record, move nothing, answer ignore'),
];

/** The option of that name in any case, as pam_slurm_adopt takes it: `action_unknown`. */
export function optionByName(name: string): OptionSpec | undefined {
  const wanted = name.toLowerCase();
  return optionTable.find((option) => option.name === wanted);
}

/**
 * `base` with one option set.
 *
 * @param called the option's name in the message, if it is not `option.name`.
 * @throws ConfigError (ERR_CONFIG) when `text` is not allowed; the message lists what is.
 */
export function readOption(option: OptionSpec, text: string, base: AdoptionOptions, called?: string): AdoptionOptions {
  const read = option.read(text, base);
  if (read !== undefined) return read;
  throw new ConfigError(`Cannot take ${quote(text)} for ${called ?? option.name}: allowed are ${option.allowed}`);
}

/**
 * Reads the words of a PAM line or of the configuration file, each `name=value`. Upper and lower case are the same; of
 * an option that is given twice the later one counts.
 *
 * @param base the options that the words change. Default: `defaultOptions`.
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
      throw new ConfigError(`Cannot read the option ${quote(text)}: there is no such option; the options are ${known}`);
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
 * Checks what depends on the node.
 *
 * @throws ConfigError (ERR_CONFIG) for `action_unknown=user` on cgroup v2, where users have no cgroup of their own.
 */
export function checkOptions(options: AdoptionOptions, node: { readonly cgroupVersion: 1 | 2 }): void {
  if (options.actionUnknown !== 'user' || node.cgroupVersion === 1) return;
  const allowed = actionsUnknown.filter((action) => action !== 'user').join(', ');
  throw new ConfigError(
    `Cannot take "user" for action_unknown: on cgroup v2 users have no cgroup of their own, allowed are ${allowed}`,
  );
}
