// The machine this process runs on, as a Host: the one file that calls node:fs, node:process and
// node:child_process. Each refusal of the kernel becomes a SystemCallError here, once.

import fs from 'node:fs';
import process from 'node:process';
import { SlurmCgroupsError, SystemCallError } from './errors.js';
import {
  type Directory,
  type Entry,
  type EntryKind,
  type FileStat,
  type Host,
  knownBelow,
  type Libc,
  type RunOptions,
  type RunResult,
  type Started,
  type StartOptions,
} from './host.js';
import { decodeKernelText, encodeKernelText } from './kernel-text.js';

/** The machine this process runs on. */
export function liveHost(): Host {
  // Once a host: each koffi.load and each declared function stays in memory (measured: 7 KiB a call).
  let libc: Promise<Libc | undefined> | undefined;
  return {
    source: 'live',
    read: readText,
    names: readNames,
    entries: readEntries,
    stat: statOf,
    readlink: readLink,
    open: (path) => openDirectory(path),
    mkdir: (path) => attempt('create', path, (at) => fs.mkdirSync(encodeKernelText(at), 0o755)),
    rmdir: (path) => attempt('remove', path, (at) => fs.rmdirSync(encodeKernelText(at))),
    write: writeText,
    create: (path, text) =>
      attempt('create', path, (at) => fs.writeFileSync(encodeKernelText(at), text, { flag: 'wx', mode: 0o600 })),
    append: appendText,
    link: (path, name) => attempt('create', name, (at) => fs.linkSync(encodeKernelText(path), encodeKernelText(at))),
    rename: (from, to) => attempt('rename', from, (at) => fs.renameSync(encodeKernelText(at), encodeKernelText(to))),
    unlink: (path) => attempt('remove', path, (at) => fs.unlinkSync(encodeKernelText(at))),
    libc: () => {
      libc ??= openLibc();
      return libc;
    },
    signal: (pid, signal) => {
      if (!Number.isSafeInteger(pid) || pid <= 1) throw new RangeError(`signal() takes a pid above 1, not ${pid}`);
      attempt(`send ${signal} to`, `/proc/${pid}`, () => process.kill(pid, signal));
    },
    run,
    start,
    self: () => ({ pid: process.pid, uid: process.geteuid?.() ?? -1 }),
    now,
    sleep,
    turn,
  };
}

/** As objects: where the encoding is given as a word, Node makes an object of it at each call, a sixth of a read's cost (measured). */
const asText = { encoding: 'utf8', flag: 'r' } as const;
const asNumbers = { bigint: true } as const;
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

/** Not all at once where there may be millions. */
function readSomeEntries(path: string, most: number): readonly Entry[] {
  return attempt('list', path, (at) => {
    const entries: Entry[] = [];
    // Latin 1: a character for each byte.
    const reading = fs.opendirSync(at, { encoding: 'latin1', bufferSize: 1024 });
    try {
      for (let entry = reading.readSync(); entry !== null; entry = reading.readSync()) {
        entries.push({ name: decodeKernelText(Buffer.from(entry.name, 'latin1')), kind: kindOf(entry) });
        if (entries.length >= most) break;
      }
      return entries;
    } finally {
      reading.closeSync();
    }
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

function appendText(path: string, text: string): void {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  const bytes = Buffer.from(text);
  // A FIFO that nobody reads would keep open(2) waiting.
  const flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
  const written = attempt('append to', path, (at) => {
    const fd = fs.openSync(encodeKernelText(at), flags, 0o600);
    try {
      return fs.fstatSync(fd).isFile() ? fs.writeSync(fd, bytes) : undefined;
    } finally {
      fs.closeSync(fd);
    }
  });
  if (written === undefined) throw new SystemCallError('append to', path, 'EINVAL');
  if (written < bytes.length) throw new SystemCallError('append to', path, 'ENOSPC');
}

/** openat(2) by way of /proc/self/fd: the kernel looks the name up in the directory that is held. */
function openDirectory(path: string, way: string = path): Directory {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = fs.constants;
  const fd = attempt('open', way, (at) => fs.openSync(encodeKernelText(at), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const inside = (name: string) => `/proc/self/fd/${fd}/${name}`;
  const known = (name: string) => knownBelow(path, name);
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
    entries: (name = '', most) =>
      within(name, () => {
        const at = inside(name === '' ? '.' : name);
        return most === undefined ? readEntries(at) : readSomeEntries(at, most);
      }),
    readlink: (name) => within(name, () => readLink(inside(name))),
    stat: (name = '') =>
      within(name, () =>
        name === '' ? attempt('look at', path, () => fs.fstatSync(fd, asNumbers)) : statOf(inside(name)),
      ),
    write: (name, text) => within(name, () => writeText(inside(name), text)),
    open: (name, knownAs = known(name)) => within(name, () => openDirectory(knownAs, inside(name))),
    rmdir: (name) => within(name, () => attempt('remove', inside(name), (at) => fs.rmdirSync(encodeKernelText(at)))),
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
        // A pid that is a thread's by now, or free again, is no process's (pidfd_open(2); measured on 6.1: EINVAL).
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
  const { uid, gid, input = 'none' } = options;
  const child = attempt('start', file, () =>
    spawn(file, [...args], {
      cwd: '/',
      env: { LC_ALL: 'C' },
      stdio: [input === 'pipe' ? 'pipe' : 'ignore', 'ignore', 'ignore'],
      detached: true,
      uid,
      gid,
    }),
  );
  child.stdin?.on('error', () => {}); // EPIPE: it has ended, as `exited` tells
  const exited = new Promise<void>((fulfil) => child.once('exit', () => fulfil()));
  return new Promise((fulfil, reject) => {
    child.once('spawn', () => {
      if (child.pid === undefined) reject(new SystemCallError('start', file, 'ESRCH'));
      else
        fulfil({
          pid: child.pid,
          exited,
          tell: (text) => {
            child.stdin?.write(text);
          },
          endInput: () => {
            child.stdin?.end();
          },
        });
    });
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(new SystemCallError('start', file, error.code ?? 'EIO')),
    );
  });
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6; // the first performance.now() loads twelve modules of Node
}

/** Not a timer of 0 ms, which Node makes one of 1 ms: that would be a fifth of the time of what looks up every 5 ms. */
async function turn(): Promise<void> {
  await new Promise<void>((fulfil) => {
    setImmediate(fulfil);
  });
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
  return isTerminal(1);
}

/** Whether a person would have to write standard input. */
export function inputIsTerminal(): boolean {
  return isTerminal(0);
}

function isTerminal(fd: number): boolean {
  try {
    return /^\/dev\/(?:pts\/|tty|console)/.test(fs.readlinkSync(`/proc/self/fd/${fd}`));
  } catch {
    return false; // closed
  }
}

/**
 * Writes all of a text to standard output. process.stdout would do the same, but its first use loads nineteen
 * modules of streams, a twentieth of a start (measured).
 */
export function writeOutput(text: string): void {
  writeAll(1, 'standard output', text);
}

/**
 * Reads standard input until its text ends with `end`, until it is over, or until it has more than `mostBytes`. Waits for
 * whoever writes there: only for input that is written at once.
 */
export function readInput(mostBytes: number, end: string): string {
  const bytes = Buffer.alloc(mostBytes + 1);
  let length = 0;
  while (length < bytes.length && !bytes.subarray(0, length).toString('latin1').endsWith(end)) {
    const more = attempt('read', 'standard input', () => fs.readSync(0, bytes, length, bytes.length - length, null));
    if (more === 0) break;
    length += more;
  }
  return decodeKernelText(bytes.subarray(0, length));
}

/** The same to standard error. Where it is not read nothing can be said, and the answer is the exit code's. */
export function writeError(text: string): void {
  try {
    writeAll(2, 'standard error', text);
  } catch (error) {
    if (!(error instanceof SystemCallError) || error.errno !== 'EPIPE') throw error;
  }
}

function writeAll(fd: number, name: string, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += attempt('write to', name, () => writeSome(fd, bytes, at));
}

function writeSome(fd: number, bytes: Buffer, at: number): number {
  try {
    return fs.writeSync(fd, bytes, at);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    // A pipe that was made non-blocking, and full: its reader is waited for.
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
 * current directory), by a user too who owns the step's (v1, Slurm up to 23.02): they must be seen, and end.
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
