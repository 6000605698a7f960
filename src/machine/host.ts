// The one door to the machine: every read, write, signal, start and wait of the product goes through a
// Host, which is given once at the top and carried by what is made from it. It knows no cgroup and no job.
// Names are the kernel's bytes, decoded so that every byte can be written back (`decodeKernelText`).

import type { WaitOptions } from './deadline.js';
import type { Connection } from './socket.js';

/** What lstat(2) tells; all bigint, as Node's BigIntStats gives it without a conversion. */
export interface FileStat {
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly dev: bigint;
  readonly ino: bigint;
  /** On cgroup file systems 2 + the number of child cgroups. */
  readonly nlink: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** S_IFMT, S_IFDIR, S_IFREG and S_IFSOCK */
const [typeBits, directoryType, fileType, socketType] = [0o170000n, 0o040000n, 0o100000n, 0o140000n];

export function isDirectory({ mode }: Pick<FileStat, 'mode'>): boolean {
  return (mode & typeBits) === directoryType;
}

export function isRegularFile({ mode }: Pick<FileStat, 'mode'>): boolean {
  return (mode & typeBits) === fileType;
}

export function isSocket({ mode }: Pick<FileStat, 'mode'>): boolean {
  return (mode & typeBits) === socketType;
}

export type EntryKind = 'directory' | 'file' | 'symlink' | 'socket' | 'other';

export interface Entry {
  readonly name: string;
  readonly kind: EntryKind;
}

/**
 * A directory held open: names are looked up in this very directory, wherever its path leads meanwhile. A
 * /proc/PID so held answers ESRCH once the process is dead, a cgroup ENOENT or ENODEV once it is removed,
 * also when another of the same name has come (measured).
 */
export interface Directory {
  readonly path: string;
  read(name: string): string;
  names(name?: string): readonly string[];
  /** What is in it, unsorted; with `most` no more than that many. */
  entries(name?: string, most?: number): readonly Entry[];
  readlink(name: string): string;
  /** lstat of `name`, or of the directory itself. `undefined`: there is nothing of that name. */
  stat(name?: string): FileStat | undefined;
  /** One write(2) to an existing file. */
  write(name: string, text: string): void;
  /**
   * Holds a directory in this one open, or with `..` the one above, never through a symbolic link. The caller closes
   * it. `knownAs` is what errors call it.
   */
  open(name: string, knownAs?: string): Directory;
  rmdir(name: string): void;
  /**
   * Connects to the unix stream socket of that name, however long the path of this directory is. A server whose
   * queue is full is asked again until the time is over (ERR_IO, ETIMEDOUT). The caller closes the connection.
   */
  connect(name: string, options: WaitOptions): Promise<Connection>;
  close(): void;
}

export type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGCONT' | 'SIGSTOP' | 'SIGINT';

export interface RunResult {
  /** `undefined` when a signal or the deadline ended it. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
}

export interface RunOptions {
  readonly timeoutMs: number;
  readonly maxBytes?: number;
}

export interface StartOptions {
  readonly uid: number;
  readonly gid: number;
  /** Its standard input. A `pipe` is closed when this process ends, however it ends. Default: `none`, which is /dev/null. */
  readonly input?: 'none' | 'pipe';
}

/** A process that this one started. */
export interface Started {
  readonly pid: number;
  /** Fulfilled when it was reaped. */
  readonly exited: Promise<void>;
  /** Writes to its pipe. If it has ended, nothing happens: `exited` tells. */
  tell(text: string): void;
  /** Closes its pipe: it reads the end of its input. */
  endInput(): void;
}

/** A process held by a pidfd: a signal reaches this very process or answers ESRCH. */
export interface HeldForSignal {
  send(signal: Signal): void;
  close(): void;
}

/** What only libc gives (koffi, an optional package). */
export interface Libc {
  /** pidfd_open(2), Linux 5.3. */
  holdForSignal(pid: number): HeldForSignal;
  /** flock(2), exclusive, without waiting; `undefined`: another holds it. Gives what unlocks. */
  tryLock(directory: string): (() => void) | undefined;
}

export interface Self {
  readonly pid: number;
  readonly uid: number;
}

/**
 * The machine. Reads are synchronous (4–5 µs a file against 170–200 µs for fs/promises, measured), what
 * waits is not. Every refusal of the kernel is a SystemCallError; the errno is translated there, once.
 */
export interface Host {
  /** A recording answers reads from memory and refuses everything else. */
  readonly source: 'live' | 'recording';
  /** The whole file as text. */
  read(path: string): string;
  /** Names in a directory, unsorted. */
  names(path: string): readonly string[];
  entries(path: string): readonly Entry[];
  /** lstat(2). `undefined`: there is nothing at that path. */
  stat(path: string): FileStat | undefined;
  readlink(path: string): string;
  /** Holds a directory open, never through a final symbolic link. The caller closes it. */
  open(path: string): Directory;
  mkdir(path: string): void;
  rmdir(path: string): void;
  /** One write(2) to an existing file, never through a final symbolic link. */
  write(path: string, text: string): void;
  /** A new file with mode 0600; ERR_IO (EEXIST) if there is one. */
  create(path: string, text: string): void;
  /**
   * One write(2) at the end of a regular file, which is made with mode 0600 where there is none; never through a final
   * symbolic link. ERR_IO (EINVAL): it is no regular file. ERR_CGROUP_REFUSED (ENOSPC): not all of it was written.
   */
  append(path: string, text: string): void;
  /** A second name for a file; ERR_IO (EEXIST) if that name is taken. */
  link(path: string, name: string): void;
  /** Puts a file in the place of another, or of none, in one step. */
  rename(from: string, to: string): void;
  unlink(path: string): void;
  /** `undefined` where koffi is not installed, or does not load here. */
  libc(): Promise<Libc | undefined>;
  /** Only pids above 1: 0 and negative numbers mean groups, and a pid of another namespace reads as 0. */
  signal(pid: number, signal: Signal): void;
  /** Runs a program by absolute path, without a shell and with an empty environment, and waits for its end. */
  run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** Starts a program as another user, without output, in a session of its own. */
  start(file: string, args: readonly string[], options: StartOptions): Promise<Started>;
  self(): Self;
  /** Milliseconds of a clock that never steps back. */
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Lets whatever else is due in this process run, and comes back at once. */
  turn(): Promise<void>;
}

/** PATH_MAX of the kernel, without its NUL. */
export const longestPath = 4095;

/** What errors call a name in a directory. */
export function knownBelow(path: string, name: string): string {
  if (name === '' || name === '.') return path;
  return path === '/' ? `/${name}` : `${path}/${name}`;
}

/** The same where directories are nested deeper than a path may be long: the middle is left out. */
export function shortened(top: string, levels: number, name: string): string {
  return `${top}/… (${levels} levels) …/${name}`;
}

/** What most functions of this product take last: the machine they work on. */
export interface HostOption {
  readonly host?: Host;
}
