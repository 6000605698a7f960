// The words between the PAM module and what answers it (native/pam/PROTOCOL.md): text in, values out, and back. Nothing
// here reads or writes; both sides are root's, and still nothing is believed that is not well-formed.

import { defined } from '../machine/defined.js';
import { ParseError, quote } from '../machine/errors.js';
import { encodeKernelText } from '../machine/kernel-text.js';

/** native/pam/protocol.h has the same. */
export const loginProtocol = {
  version: 1,
  request: 'slurm-cgroups-login',
  answer: 'slurm-cgroups-answer',
  longestLine: 4096,
  longestMessage: 65_536,
} as const;

/** Stands behind a whole message. */
export const endOfMessage = '\nend\n';

export interface LoginRequest {
  readonly phase: 'account' | 'session';
  /** After this moment nothing may be done any more: ms since the boot (CLOCK_BOOTTIME). */
  readonly deadlineMs: number;
  readonly user: string;
  readonly uid: number;
  /** The process that PAM runs in. */
  readonly pid: number;
  /** Field 22 of its /proc/PID/stat. */
  readonly startTime: bigint;
  readonly threads: number;
  /** PAM service. */
  readonly service: string;
  readonly rhost?: string;
  /** SSH_CONNECTION. */
  readonly connection?: string;
  /** Words of the PAM line, in its order. */
  readonly options: readonly string[];
  /** In the session phase: the job that the account phase chose. */
  readonly jobId?: number;
  /** In the session phase: slurmstepd counts the session already. */
  readonly isCounted: boolean;
}

/** A line for syslog: its severity is a number of syslog(3), 0 to 7. */
export interface LogLine {
  readonly severity: number;
  readonly line: string;
}

export interface LoginReply {
  readonly action: 'allow' | 'ignore' | 'deny';
  readonly reason: string;
  readonly log: readonly LogLine[];
  /** For the user: after `deny` at once, else in the session phase. */
  readonly messages: readonly string[];
  /** The process that was to be adopted. */
  readonly process?: { readonly pid: number; readonly startTime: bigint };
  /** The job that the session is in: SLURM_JOB_ID. */
  readonly jobId?: number;
  readonly isCounted: boolean;
  /** What becomes of the session where it is found outside its job later: action_adopt_failure. */
  readonly failure?: 'allow' | 'deny';
  /** Where /proc showed the process: the path of /proc/PID/cgroup; of cgroup v2 there are no controllers. */
  readonly cgroups: readonly { readonly controllers: readonly string[]; readonly path: string }[];
  /** Directories of the cgroups that the process was in before. */
  readonly from: readonly string[];
  /** DISPLAY and XAUTHORITY of the job. */
  readonly display?: string;
  readonly xauthority?: string;
  /** The slurmstepd that is asked for the job's namespaces. */
  readonly stepd?: { readonly version: number; readonly path: string };
  /** unknown: the job has some, and nobody can be asked; account: that of mounts is joined at once, and no other. */
  readonly namespaces: readonly ('unknown' | 'account')[];
  /** For the note of the login's audit session: that of sshd itself, which proves nothing, and the folder of the record. */
  readonly audit?: { readonly sshdSession: number; readonly folder: string };
}

/** What a login is told before the first move: the process, and where it was. */
export type BegunLogin = Required<Pick<LoginReply, 'process' | 'from'>>;

/** What a reply has beside its action and its reason where the session is in no job. */
export const bareReply: Omit<LoginReply, 'action' | 'reason'> = {
  log: [],
  messages: [],
  isCounted: false,
  cgroups: [],
  from: [],
  namespaces: [],
};

/**
 * Reads a request.
 *
 * @throws ParseError which says which line is not as it should be.
 */
export function parseLoginRequest(text: string): LoginRequest {
  const message = new Message(text, loginProtocol.request);
  const phase = message.one('phase');
  if (phase !== 'account' && phase !== 'session')
    throw new ParseError(`Cannot read the request: ${quote(phase)} is no phase of a login`);
  const [rhost, connection] = [message.optional('rhost'), message.optional('connection')];
  const job = message.optional('job');
  return {
    phase,
    deadlineMs: message.number('deadline'),
    user: message.one('user'),
    uid: message.number('uid'),
    pid: message.number('pid'),
    startTime: BigInt(message.digits('start')),
    threads: message.number('threads'),
    service: message.one('service'),
    ...(rhost === undefined ? {} : { rhost }),
    ...(connection === undefined ? {} : { connection }),
    options: message.all('option'),
    ...(job === undefined ? {} : { jobId: message.number('job') }),
    isCounted: message.optional('counted') === '1',
  };
}

/** Longer texts of people and programs are cut. */
const longestText = 1000;
/** More lines for syslog are left out: what is said there is for people, and the record has all of it. */
const mostLog = 40;

/**
 * A reply as the module reads it. What is too long is cut or left out, so that the message is never refused for it:
 * texts for people are cut, a path that does not fit is left out.
 *
 * @param begun what was sent of it already (formatBegunReply): the rest, and the end.
 */
export function formatLoginReply(reply: LoginReply, begun = ''): string {
  const { process, jobId } = reply;
  const lines: Lines = [
    ['action', reply.action],
    ['reason', reply.reason.slice(0, longestText)],
    ...reply.messages.slice(0, mostMessages).map((line) => ['message', line.slice(0, longestText)] as const),
    ...(process === undefined ? [] : processLine(process)),
    ...(jobId === undefined ? [] : ([['job', String(jobId)]] as const)),
    ...(reply.isCounted ? ([['counted', '1']] as const) : []),
    ...(reply.failure === undefined ? [] : ([['failure', reply.failure]] as const)),
    ...reply.cgroups
      .filter(({ path }) => isPlainPath(path))
      .map(
        ({ controllers, path }) =>
          ['cgroup', `${controllers.length === 0 ? '-' : controllers.join(',')} ${path}`] as const,
      ),
    ...fromLines(reply.from),
    ...(reply.display === undefined ? [] : ([['display', reply.display]] as const)),
    ...[reply.xauthority ?? []]
      .flat()
      .filter(isPlainPath)
      .map((path) => ['xauthority', path] as const),
    ...[reply.stepd ?? []]
      .flat()
      .filter(({ path }) => isPlainPath(path))
      .map(({ version, path }) => ['stepd', `${version} ${path}`] as const),
    ...reply.namespaces.map((word) => ['namespaces', word] as const),
    ...(reply.audit === undefined ? [] : ([['audit', `${reply.audit.sshdSession} ${reply.audit.folder}`]] as const)),
    ...reply.log
      .slice(0, mostLog)
      .map(({ severity, line }) => ['log', `${severity} ${line.slice(0, longestText)}`] as const),
  ];
  if (begun === '') return formatMessage(loginProtocol.answer, lines);
  const sent = new Set(begun.split('\n'));
  const rest = lines.filter(([key, value]) => !sent.has(`${key} ${escaped(value)}`));
  return restOfMessage(begun, writtenOf(rest));
}

/** The begin of a reply, which is sent before the first move: a module whose helper dies then puts the process back. */
export function formatBegunReply({ process, from }: BegunLogin): string {
  const most = loginProtocol.longestMessage / 2;
  const lines = writtenOf([...processLine(process), ...fromLines(from)]);
  const head = `${loginProtocol.answer} ${loginProtocol.version}\n`;
  return lines.reduce((text, line) => (sizeOf(text) + sizeOf(line) < most ? `${text}${line}` : text), head);
}

type Lines = readonly (readonly [key: string, value: string])[];

const processLine = ({ pid, startTime }: BegunLogin['process']): Lines => [['process', `${pid} ${startTime}`]];

const fromLines = (from: readonly string[]): Lines =>
  from.filter(isPlainPath).map((directory) => ['from', directory] as const);

const mostMessages = 10;

/** The module takes no path with a control character: none that root has made has one. */
function isPlainPath(path: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are meant
  return !/[\u0000-\u001f\u007f]/.test(path);
}

/** The reply of an account phase, as it was kept for the session phase. @throws ParseError */
export function parseLoginReply(text: string): LoginReply {
  const message = new Message(text, loginProtocol.answer);
  const action = message.one('action');
  if (action !== 'allow' && action !== 'ignore' && action !== 'deny')
    throw new ParseError(`Cannot read the reply: ${quote(action)} is no answer to a login`);
  const failure = message.optional('failure');
  if (failure !== undefined && failure !== 'allow' && failure !== 'deny')
    throw new ParseError(`Cannot read the reply: ${quote(failure)} is no answer to a failure`);
  const process = message.optional('process');
  const [, pid, startTime] = /^(\d{1,10}) (\d{1,20})$/.exec(process ?? '') ?? [];
  return {
    action,
    reason: message.one('reason'),
    log: message.all('log').map((value) => {
      const [, severity, line] = /^([0-7]) (.*)$/s.exec(value) ?? [];
      if (severity === undefined || line === undefined)
        throw new ParseError(`Cannot read the reply: ${quote(value)} is no line for syslog`);
      return { severity: Number(severity), line };
    }),
    messages: message.all('message'),
    ...(pid === undefined || startTime === undefined
      ? {}
      : { process: { pid: Number(pid), startTime: BigInt(startTime) } }),
    ...(message.optional('job') === undefined ? {} : { jobId: message.number('job') }),
    isCounted: message.optional('counted') === '1',
    ...(failure === undefined ? {} : { failure }),
    cgroups: message.all('cgroup').map((value) => {
      const at = value.indexOf(' ');
      if (at < 1) throw new ParseError(`Cannot read the reply: ${quote(value)} is no place in a hierarchy`);
      const controllers = value.slice(0, at);
      return { controllers: controllers === '-' ? [] : controllers.split(','), path: value.slice(at + 1) };
    }),
    from: message.all('from'),
    ...defined({ display: message.optional('display'), xauthority: message.optional('xauthority') }),
    ...stepdIn(message.optional('stepd')),
    namespaces: message.all('namespaces').map((word) => {
      if (word === 'unknown' || word === 'account') return word;
      throw new ParseError(`Cannot read the reply: ${quote(word)} says nothing of namespaces`);
    }),
    ...auditIn(message.optional('audit')),
  };
}

function auditIn(value: string | undefined): Pick<LoginReply, 'audit'> {
  if (value === undefined) return {};
  const [, session, folder] = /^(\d{1,10}) ([0-9a-zA-Z]{1,32})$/.exec(value) ?? [];
  if (session === undefined || folder === undefined)
    throw new ParseError(`Cannot read the reply: ${quote(value)} says nothing of an audit session`);
  return { audit: { sshdSession: Number(session), folder } };
}

function stepdIn(value: string | undefined): Pick<LoginReply, 'stepd'> {
  if (value === undefined) return {};
  const [, version, path] = /^(\d{1,5}) (\/.*)$/s.exec(value) ?? [];
  if (version === undefined || path === undefined)
    throw new ParseError(`Cannot read the reply: ${quote(value)} is no slurmstepd`);
  return { stepd: { version: Number(version), path } };
}

/** A message of these lines; for tests and tools that play the module. */
export function formatMessage(header: string, lines: Lines, version: number = loginProtocol.version): string {
  const head = `${header} ${version}\n`;
  return `${head}${restOfMessage(head, writtenOf(lines))}`;
}

function writtenOf(lines: Lines): string[] {
  return lines
    .map(([key, value]) => `${key} ${escaped(value)}\n`)
    .filter((line) => sizeOf(line) <= loginProtocol.longestLine);
}

/** What follows `begun`, with its end. What comes last matters least: lines for syslog, which the record has too. */
function restOfMessage(begun: string, lines: string[]): string {
  for (;;) {
    const text = `${lines.join('')}end\n`;
    if (sizeOf(begun) + sizeOf(text) <= loginProtocol.longestMessage || lines.pop() === undefined) return text;
  }
}

function sizeOf(text: string): number {
  return Buffer.byteLength(encodeKernelText(text));
}

/** The bytes that would end a line or steer a terminal, and the one that escapes. */
function escaped(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are meant
  return value.replace(/[\u0000-\u001f\u007f%]/g, (one) => {
    return `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  });
}

function unescaped(value: string): string {
  const text = value.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const bare = value.replace(/%[0-9A-F]{2}/g, '');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are meant
  if (/[\u0000-\u001f\u007f%]/.test(bare) || text.includes('\0'))
    throw new ParseError(`Cannot read the message: ${quote(value.slice(0, 200))} is not escaped as it should be`);
  return text;
}

/** The lines of a message by their keys. */
class Message {
  readonly #values = new Map<string, string[]>();

  constructor(text: string, header: string) {
    if (sizeOf(text) > loginProtocol.longestMessage)
      throw new ParseError(`Cannot read the message: it is longer than ${loginProtocol.longestMessage} bytes`);
    const lines = text.split('\n');
    const [first = ''] = lines;
    const [, version] = new RegExp(`^${header} (\\d{1,5})$`).exec(first) ?? [];
    if (version === undefined)
      throw new ParseError(`Cannot read the message: it begins with ${quote(first.slice(0, 100))}, not with ${header}`);
    if (Number(version) !== loginProtocol.version)
      throw new ParseError(`Cannot read the message: it is of version ${version}, this is ${loginProtocol.version}`);
    if (lines.at(-1) !== '' || lines.at(-2) !== 'end') throw new ParseError('Cannot read the message: it has no end');
    for (const [at, line] of lines.slice(1, -2).entries()) {
      const [, key, value] = /^([a-z-]+) (.*)$/s.exec(line) ?? [];
      if (key === undefined || value === undefined || sizeOf(line) >= loginProtocol.longestLine)
        throw new ParseError(`Cannot read the message: line ${at + 2} is ${quote(line.slice(0, 200))}`);
      const known = this.#values.get(key);
      if (known === undefined) this.#values.set(key, [unescaped(value)]);
      else known.push(unescaped(value));
    }
  }

  all(key: string): readonly string[] {
    return this.#values.get(key) ?? [];
  }

  optional(key: string): string | undefined {
    const [first, ...more] = this.all(key);
    if (more.length > 0) throw new ParseError(`Cannot read the message: it has ${key} more than once`);
    return first;
  }

  one(key: string): string {
    const value = this.optional(key);
    if (value === undefined) throw new ParseError(`Cannot read the message: it has no ${key}`);
    return value;
  }

  digits(key: string): string {
    const value = this.one(key);
    if (!/^\d{1,20}$/.test(value)) throw new ParseError(`Cannot read the message: ${key} is ${quote(value)}`);
    return value;
  }

  number(key: string): number {
    const number = Number(this.digits(key));
    if (!Number.isSafeInteger(number)) throw new ParseError(`Cannot read the message: ${key} is ${number}`);
    return number;
  }
}
