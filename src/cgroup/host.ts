// The one door to the machine: every read, write, signal, start and wait of the product goes through a
// Host, which is given once at the top and carried by what is made from it. It knows no cgroup and no job.
// Names are the kernel's bytes, decoded so that every byte can be written back (`decodeKernelText`).

import fs from 'node:fs';
import process from 'node:process';
import { SlurmCgroupsError, SystemCallError } from './errors.js';
import type { Connection, WaitOptions } from './socket.js';

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
  readlink(name: string): string;
  /** lstat of `name`, or of the directory itself. `undefined`: there is nothing of that name. */
  stat(name?: string): FileStat | undefined;
  /** One write(2) to an existing file. */
  write(name: string, text: string): void;
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
}

/** A process that this one started: `exited` is fulfilled when it was reaped. */
export interface Started {
  readonly pid: number;
  readonly exited: Promise<void>;
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
  /** flock(2), exclusive, without waiting; `undefined`: somebody else holds it. Gives what unlocks. */
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
  unlink(path: string): void;
  /** `undefined` where koffi is not installed, or does not load here. */
  libc(): Promise<Libc | undefined>;
  /** Only pids above 1: 0 and negative numbers mean groups, and a pid of another namespace reads as 0. */
  signal(pid: number, signal: Signal): void;
  /** Runs a program by absolute path, without a shell and with an empty environment, and waits for its end. */
  run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** Starts a program as another user, without input and output. */
  start(file: string, args: readonly string[], options: StartOptions): Promise<Started>;
  self(): Self;
  /** Milliseconds of a clock that never steps back. */
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** What most functions of this product take last: the machine they work on. */
export interface HostOption {
  readonly host?: Host;
}

/** The machine this process runs on. */
export function liveHost(): Host {
  return {
    source: 'live',
    read: readText,
    names: readNames,
    entries: readEntries,
    stat: statOf,
    readlink: readLink,
    open: openDirectory,
    mkdir: (path) => attempt('create', path, (at) => fs.mkdirSync(encodeKernelText(at), 0o755)),
    rmdir: (path) => attempt('remove', path, (at) => fs.rmdirSync(encodeKernelText(at))),
    write: writeText,
    create: (path, text) =>
      attempt('create', path, (at) => fs.writeFileSync(encodeKernelText(at), text, { flag: 'wx', mode: 0o600 })),
    unlink: (path) => attempt('remove', path, (at) => fs.unlinkSync(encodeKernelText(at))),
    libc: openLibc,
    signal: (pid, signal) => {
      if (!Number.isSafeInteger(pid) || pid <= 1) throw new RangeError(`signal() takes a pid above 1, not ${pid}`);
      attempt(`send ${signal} to`, `/proc/${pid}`, () => process.kill(pid, signal));
    },
    run,
    start,
    self: () => ({ pid: process.pid, uid: process.geteuid?.() ?? -1 }),
    now,
    sleep,
  };
}

/** As objects: where the encoding is given as a word, Node makes an object of it at each call, a sixth of a read's cost (measured). */
const asText = { encoding: 'utf8', flag: 'r' } as const;
const asNames = { encoding: 'utf8' } as const;
const asEntries = { encoding: 'utf8', withFileTypes: true } as const;

function readText(path: string): string {
  return attempt('read', path, (at) => {
    const text = fs.readFileSync(encodeKernelText(at), asText);
    // A replacement character is rare enough to read again for its bytes.
    return text.includes('\ufffd') ? decodeKernelText(fs.readFileSync(encodeKernelText(at))) : text;
  });
}

function readNames(path: string): readonly string[] {
  return attempt('list', path, (at) => {
    const names = fs.readdirSync(encodeKernelText(at), asNames);
    return names.some((name) => name.includes('\ufffd'))
      ? fs.readdirSync(encodeKernelText(at), 'buffer').map(decodeKernelText)
      : names;
  });
}

function readEntries(path: string): readonly Entry[] {
  return attempt('list', path, (at) => {
    const entries = fs.readdirSync(encodeKernelText(at), asEntries);
    if (!entries.some((entry) => entry.name.includes('\ufffd')))
      return entries.map((entry) => ({ name: entry.name, kind: kindOf(entry) }));
    return fs
      .readdirSync(encodeKernelText(at), { withFileTypes: true, encoding: 'buffer' })
      .map((entry) => ({ name: decodeKernelText(entry.name), kind: kindOf(entry) }));
  });
}

function kindOf(entry: fs.Dirent | fs.Dirent<Buffer>): EntryKind {
  if (entry.isDirectory()) return 'directory';
  if (entry.isFile()) return 'file';
  if (entry.isSymbolicLink()) return 'symlink';
  return entry.isSocket() ? 'socket' : 'other';
}

function statOf(path: string): FileStat | undefined {
  return attempt('look at', path, (at) => fs.lstatSync(encodeKernelText(at), { bigint: true, throwIfNoEntry: false }));
}

function readLink(path: string): string {
  return attempt('read the link', path, (at) => decodeKernelText(fs.readlinkSync(encodeKernelText(at), 'buffer')));
}

function writeText(path: string, text: string): void {
  attempt('write', path, (at) => {
    const fd = fs.openSync(encodeKernelText(at), fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW);
    try {
      fs.writeSync(fd, text);
    } finally {
      fs.closeSync(fd);
    }
  });
}

/** openat(2) by way of /proc/self/fd: the kernel looks the name up in the directory that is held. */
function openDirectory(path: string): Directory {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = fs.constants;
  const fd = attempt('open', path, (at) => fs.openSync(encodeKernelText(at), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const inside = (name: string) => `/proc/self/fd/${fd}/${name}`;
  const known = (name: string) => (name === '' ? path : `${path}/${name}`);
  let open = true;
  /** Errors name the path a person knows, and a closed handle is never used: its number may be another's. */
  const within = <T>(name: string, act: () => T): T => {
    if (!open) throw new TypeError(`The directory ${path} was closed`);
    try {
      return act();
    } catch (error) {
      throw error instanceof SystemCallError ? new SystemCallError(error.call, known(name), error.errno) : error;
    }
  };
  return {
    path,
    read: (name) => within(name, () => readText(inside(name))),
    names: (name = '') => within(name, () => readNames(inside(name === '' ? '.' : name))),
    readlink: (name) => within(name, () => readLink(inside(name))),
    stat: (name = '') => within(name, () => statOf(inside(name === '' ? '.' : name))),
    write: (name, text) => within(name, () => writeText(inside(name), text)),
    connect: async (name, options) => {
      const { connectUnix } = await import('./socket.js');
      return connectUnix({ path: () => within(name, () => inside(name)), known: known(name), now }, options);
    },
    close: () => {
      if (open) fs.closeSync(fd);
      open = false;
    },
  };
}

async function openLibc(): Promise<Libc | undefined> {
  const [{ loadLibc }, { constants }] = await Promise.all([import('./libc.js'), import('node:os')]);
  const raw = await loadLibc();
  if (raw === undefined) return undefined;
  const checked = (call: string, path: string, answer: number): number => {
    if (answer < 0) throw new SystemCallError(call, path, raw.errno());
    return answer;
  };
  return {
    holdForSignal: (pid) => {
      if (!Number.isSafeInteger(pid) || pid <= 1) throw new RangeError(`A signal takes a pid above 1, not ${pid}`);
      const path = `/proc/${pid}`;
      const fd = raw.pidfdOpen(pid);
      if (fd < 0) {
        const errno = raw.errno();
        // A pid that is a thread's by now, or nobody's any more, is no process's (pidfd_open(2); measured on 6.1: EINVAL).
        throw new SystemCallError('hold', path, errno === 'EINVAL' || errno === 'ENOENT' ? 'ESRCH' : errno);
      }
      return {
        send: (signal) => {
          checked(`send ${signal} to`, path, raw.pidfdSendSignal(fd, constants.signals[signal]));
        },
        close: () => fs.closeSync(fd),
      };
    },
    tryLock: (directory) => {
      const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = fs.constants;
      const fd = attempt('open', directory, (at) =>
        fs.openSync(encodeKernelText(at), O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
      );
      const answer = raw.lockNow(fd);
      if (answer === 0) return () => fs.closeSync(fd); // closing lets go of it
      const errno = raw.errno();
      fs.closeSync(fd);
      if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return undefined;
      throw new SystemCallError('lock', directory, errno);
    },
  };
}

/** child_process costs a start of this program some milliseconds: loaded when a program is really run. */
async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  if (!file.startsWith('/')) throw new TypeError(`run() takes an absolute path, not ${file}`);
  const { execFile } = await import('node:child_process');
  return new Promise((fulfil, reject) => {
    // Some refusals of the kernel are thrown here and now (E2BIG, ENOTDIR), others come with the callback (ENOENT).
    const child = attempt('run', file, () =>
      execFile(
        file,
        [...args],
        {
          cwd: '/',
          env: { LC_ALL: 'C' },
          killSignal: 'SIGKILL',
          maxBuffer: options.maxBytes ?? 1 << 20,
          encoding: 'buffer',
        },
        (error, stdout, stderr) => {
          clearTimeout(timer);
          if (error !== null && typeof error.code === 'string' && child.pid === undefined) {
            reject(new SystemCallError('run', file, error.code));
            return;
          }
          const code = error === null ? 0 : error.code;
          fulfil({
            exitCode: typeof code === 'number' ? code : undefined,
            stdout: decodeKernelText(stdout),
            stderr: decodeKernelText(stderr),
            timedOut: false,
          });
        },
      ),
    );
    // A killed child that waits in the kernel (a hung mount) does not die: it is left behind, not waited for.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
      fulfil({ exitCode: undefined, stdout: '', stderr: '', timedOut: true });
    }, options.timeoutMs);
    child.stdin?.end();
  });
}

async function start(file: string, args: readonly string[], options: StartOptions): Promise<Started> {
  if (!file.startsWith('/')) throw new TypeError(`start() takes an absolute path, not ${file}`);
  const { spawn } = await import('node:child_process');
  const child = attempt('start', file, () =>
    spawn(file, [...args], { cwd: '/', env: { LC_ALL: 'C' }, stdio: 'ignore', detached: true, ...options }),
  );
  const exited = new Promise<void>((fulfil) => child.once('exit', () => fulfil()));
  return new Promise((fulfil, reject) => {
    child.once('spawn', () => {
      if (child.pid === undefined) reject(new SystemCallError('start', file, 'ESRCH'));
      else fulfil({ pid: child.pid, exited });
    });
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(new SystemCallError('start', file, error.code ?? 'EIO')),
    );
  });
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6; // the first performance.now() loads twelve modules of Node
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((fulfil, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      fulfil();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** Whether a person reads standard output: what is there besides is no terminal, or not worth colours. */
export function outputIsTerminal(): boolean {
  try {
    return /^\/dev\/(?:pts\/|tty|console)/.test(fs.readlinkSync('/proc/self/fd/1'));
  } catch {
    return false; // closed
  }
}

/**
 * Writes all of a text to standard output. process.stdout would do the same, but its first use loads nineteen
 * modules of streams, a twentieth of a start (measured).
 */
export function writeOutput(text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += attempt('write to', 'standard output', () => writeSome(bytes, at));
}

function writeSome(bytes: Buffer, at: number): number {
  try {
    return fs.writeSync(1, bytes, at);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    // A pipe that somebody made non-blocking, and full: its reader is waited for.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    return 0;
  }
}

/**
 * Runs a call of node:fs or process.kill and translates what the kernel answers. `at` is the path, or where that is
 * longer than the kernel takes, another to the same place.
 */
function attempt<T>(call: string, path: string, act: (at: string) => T): T {
  try {
    return act(path);
  } catch (error) {
    const pieces = errnoOf(error) === 'ENAMETOOLONG' ? piecesOf(path) : [];
    if (pieces.length < 2) throw translated(error, call, path);
    try {
      return atTheEndOf(pieces, act);
    } catch (again) {
      throw translated(again, call, path);
    }
  }
}

function errnoOf(error: unknown): string | undefined {
  const errno = error instanceof SlurmCgroupsError ? undefined : (error as NodeJS.ErrnoException | null)?.code;
  // Node's own complaints (ERR_INVALID_ARG_VALUE for a NUL in a path) are a caller's mistake.
  return typeof errno === 'string' && /^E[A-Z0-9]+$/.test(errno) ? errno : undefined;
}

function translated(error: unknown, call: string, path: string): unknown {
  const errno = errnoOf(error);
  return errno === undefined ? error : new SystemCallError(call, path, errno);
}

/** PATH_MAX, without its NUL and the `/proc/self/fd/<number>/` in front of every piece but the first. */
const pieceBytes = 4095 - 32;

/** O_PATH: open(2), the same on every architecture that Slurm runs on; Node does not name it. */
const openPath = 0o10000000;

/**
 * A path that no call takes at once, as pieces. Cgroups can be nested deeper than that (mkdir relative to the
 * current directory), by a user too where he owns his step's (v1, Slurm up to 23.02): they must be seen, and end.
 * One piece: it is a name that is too long, not the path.
 */
function piecesOf(path: string): readonly string[] {
  if (!path.startsWith('/')) return [path];
  const pieces: string[] = [];
  let [piece, bytes] = ['', 0];
  for (const name of path.slice(1).split('/')) {
    const more = Buffer.byteLength(encodeKernelText(name)) + 1;
    if (bytes + more > pieceBytes && piece !== '') {
      pieces.push(piece);
      [piece, bytes] = ['', 0];
    }
    piece += `/${name}`;
    bytes += more;
  }
  return [...pieces, piece];
}

/** Opens directory after directory, and acts on what is left of the path in the last. */
function atTheEndOf<T>(pieces: readonly string[], act: (at: string) => T): T {
  let held: number | undefined;
  try {
    for (const piece of pieces.slice(0, -1)) {
      const at = held === undefined ? piece : `/proc/self/fd/${held}${piece}`;
      const next = fs.openSync(encodeKernelText(at), openPath | fs.constants.O_DIRECTORY | fs.constants.O_NOFOLLOW);
      if (held !== undefined) fs.closeSync(held);
      held = next;
    }
    return act(`/proc/self/fd/${held}${pieces.at(-1)}`);
  } finally {
    if (held !== undefined) fs.closeSync(held);
  }
}

/**
 * Bytes as text that keeps every byte: what is not UTF-8 becomes a lone surrogate U+DC80–U+DCFF, one a byte
 * (Python's surrogateescape). JSON keeps them as `\udcff`; a terminal never sees them (cli/output.ts).
 */
export function decodeKernelText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (!text.includes('\ufffd')) return text;
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    const length = utf8Length(bytes, at);
    if (length === 0) out += String.fromCharCode(0xdc00 + (bytes[at] ?? 0));
    else out += Buffer.from(bytes.subarray(at, at + length)).toString('utf8');
    at += Math.max(length, 1);
  }
  return out;
}

/** Length of the well-formed UTF-8 sequence at `at`, 0 if there is none (RFC 3629, table 3-7 of Unicode). */
function utf8Length(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] ?? 0;
  if (lead < 0x80) return 1;
  const length =
    lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const second = bytes[at + 1] ?? 0;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let i = 2; i < length; i++) {
    const next = bytes[at + i] ?? 0;
    if (next < 0x80 || next > 0xbf) return 0;
  }
  return length;
}

const lone = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** The reverse of decodeKernelText: a plain string where it can be one, else the bytes. */
export function encodeKernelText(text: string): string | Buffer {
  if (!lone.test(text)) return text;
  const parts: Buffer[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) parts.push(Buffer.from([code - 0xdc00]));
    else parts.push(Buffer.from(character, 'utf8'));
  }
  return Buffer.concat(parts);
}
