// The errors of the whole product: one base class, a stable code, the subject and the cause. What the
// kernel's errno means is said here once; which words to add for a person is left to the command.

import { escapeHidden } from './kernel-text.js';

/** Stable codes to match on; a message is for people and may change. */
export type ErrorCode =
  | 'ERR_BUSY'
  | 'ERR_CGROUP_BUSY'
  | 'ERR_CGROUP_GONE'
  | 'ERR_CGROUP_REFUSED'
  | 'ERR_CONFIG'
  | 'ERR_FROZEN'
  | 'ERR_INCOMPLETE'
  | 'ERR_IO'
  | 'ERR_NO_CGROUPS'
  | 'ERR_NO_SUCH_JOB'
  | 'ERR_NO_SUCH_PROCESS'
  | 'ERR_NOT_FOUND'
  | 'ERR_NOT_PERMITTED'
  | 'ERR_NOT_RECORDED'
  | 'ERR_NOT_SLURM'
  | 'ERR_NOT_SUPPORTED'
  | 'ERR_PARSE'
  | 'ERR_PROTECTED'
  | 'ERR_READ_ONLY'
  | 'ERR_STEPD'
  | 'ERR_TIMEOUT'
  | 'ERR_USAGE';

/** What an error is about. Only what is known is present. */
export interface ErrorSubject {
  readonly path?: string;
  readonly pid?: number;
  readonly jobId?: number;
  readonly uid?: number;
  /** 1-based line of a file or text. */
  readonly line?: number;
}

/**
 * Base class of every error this product throws on purpose. A caller's mistake in calling a function is a
 * TypeError or RangeError instead.
 */
export class SlurmCgroupsError extends Error {
  readonly code: ErrorCode;
  readonly subject: ErrorSubject;

  constructor(code: ErrorCode, message: string, subject: ErrorSubject = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.subject = subject;
  }
}

/** A text that does not have the form it must have; `subject.line` is the 1-based line. */
export class ParseError extends SlurmCgroupsError {
  constructor(message: string, subject: ErrorSubject = {}) {
    super('ERR_PARSE', message, subject);
  }
}

/** A wrong option or configuration; the message lists what is allowed. */
export class ConfigError extends SlurmCgroupsError {
  constructor(message: string, subject: ErrorSubject = {}, cause?: unknown) {
    super('ERR_CONFIG', message, subject, cause);
  }
}

/** The kernel refused a call: `errno` is its symbolic name (`EBUSY`), `call` what was tried. */
export class SystemCallError extends SlurmCgroupsError {
  readonly errno: string;
  readonly call: string;

  constructor(call: string, path: string, name: string) {
    const errno = name === 'ENOTSUP' ? 'EOPNOTSUPP' : name; // one number on Linux; libuv has the other name for it
    const { code, why } = meaningOf(errno, path);
    super(code, `Cannot ${call} ${quote(path)}: ${why}`, { path, ...pidOf(path) });
    this.errno = errno;
    this.call = call;
  }
}

interface Meaning {
  readonly code: ErrorCode;
  readonly why: string;
}

const meanings: Readonly<Record<string, Meaning>> = {
  EACCES: { code: 'ERR_NOT_PERMITTED', why: 'permission denied' },
  EAGAIN: { code: 'ERR_CGROUP_BUSY', why: 'the kernel asks to try again' },
  EBUSY: { code: 'ERR_CGROUP_BUSY', why: 'it is busy' },
  EEXIST: { code: 'ERR_IO', why: 'it exists already' },
  EINVAL: { code: 'ERR_IO', why: 'the kernel rejects the value' },
  EIO: { code: 'ERR_IO', why: 'input/output error' },
  EISDIR: { code: 'ERR_IO', why: 'it is a directory' },
  ELOOP: { code: 'ERR_NOT_PERMITTED', why: 'it is a symbolic link, and none is followed here' },
  EMFILE: { code: 'ERR_IO', why: 'too many files are open in this process' },
  ENAMETOOLONG: { code: 'ERR_IO', why: 'the name is too long' },
  ENFILE: { code: 'ERR_IO', why: 'too many files are open on this machine' },
  ENODEV: { code: 'ERR_CGROUP_GONE', why: 'the cgroup is gone' },
  ENOENT: { code: 'ERR_NOT_FOUND', why: 'it does not exist' },
  ENOMEM: { code: 'ERR_IO', why: 'the kernel has no memory left for it' },
  ENOSPC: { code: 'ERR_CGROUP_REFUSED', why: 'the kernel says that there is no room' },
  ENOTDIR: { code: 'ERR_NOT_FOUND', why: 'it is not a directory' },
  ENOTEMPTY: { code: 'ERR_CGROUP_BUSY', why: 'it is not empty' },
  EOPNOTSUPP: { code: 'ERR_NOT_SUPPORTED', why: 'the kernel does not support that here' },
  EPERM: { code: 'ERR_NOT_PERMITTED', why: 'the operation is not permitted' },
  EROFS: { code: 'ERR_READ_ONLY', why: 'it is mounted read-only' },
  ESRCH: { code: 'ERR_NO_SUCH_PROCESS', why: 'the process is gone' },
};

const processPath = /^\/proc\/(?:self|thread-self|([1-9]\d*))(?:\/|$)/;

/** A pid's directory disappears with ENOENT, a directory already open answers ESRCH: both say the same. */
function meaningOf(errno: string, path: string): Meaning {
  if (errno === 'ENOENT' && processPath.test(path)) {
    return { code: 'ERR_NO_SUCH_PROCESS', why: 'there is no such process, or it has no such file' };
  }
  const known = Object.hasOwn(meanings, errno) ? meanings[errno] : undefined; // a recording may hold any word
  return known ?? { code: 'ERR_IO', why: errno };
}

function pidOf(path: string): { pid?: number } {
  const pid = processPath.exec(path)?.[1];
  return pid === undefined ? {} : { pid: Number(pid) };
}

/** The first few of a list, and how many more there are: `a, b and 3 more`. */
export function someOf(names: readonly string[], most = 4): string {
  const rest = names.length - most;
  return rest <= 0 ? names.join(', ') : `${names.slice(0, most).join(', ')} and ${rest} more`;
}

/** A name between quotes with what cannot be seen made visible, so that it cannot steer a terminal or a log. */
export function quote(name: string): string {
  return escapeHidden(JSON.stringify(name));
}

/** Whether `error` is one of ours with that code. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is SlurmCgroupsError {
  return error instanceof SlurmCgroupsError && codes.includes(error.code);
}

/** Whether `error` says that what was asked about is not there (any more): no file, no cgroup, no process. */
export function isGone(error: unknown): error is SlurmCgroupsError {
  return hasCode(error, 'ERR_NOT_FOUND', 'ERR_CGROUP_GONE', 'ERR_NO_SUCH_PROCESS');
}

/** What `act` gives; `undefined` where what it is about is not there (any more), as isGone has it. */
export function ifThere<T>(act: () => T): T | undefined {
  return unless(isGone, act);
}

/** What `act` gives; `undefined` where it cannot be read, for whatever reason: gone, hidden, refused, not recorded. */
export function ifReadable<T>(act: () => T): T | undefined {
  return unless((error) => error instanceof SlurmCgroupsError, act);
}

/** What `act` gives; `undefined` where a recording does not hold it. */
export function ifRecorded<T>(act: () => T): T | undefined {
  return unless((error) => hasCode(error, 'ERR_NOT_RECORDED'), act);
}

function unless<T>(isExpected: (error: unknown) => boolean, act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (isExpected(error)) return undefined;
    throw error;
  }
}
