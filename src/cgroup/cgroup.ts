// One cgroup: one directory of one hierarchy, read and written file by file. What a job is in several
// hierarchies at once is a CgroupSet.

import { deadlineIn } from '../machine/deadline.js';
import { hasCode, isGone, ParseError, quote, SlurmCgroupsError, SystemCallError } from '../machine/errors.js';
import { type Directory, type Host, knownBelow, longestPath, shortened } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { directoryOf, type Hierarchy } from './hierarchies.js';
import { type CgroupPath, childPath, listedChildPath, rootPath } from './path.js';
import { type HeldProcess, withProcess } from './process.js';
import { type Visit, type WalkEnd, type Walked, walk } from './walk.js';

/** S_IWUSR | S_IWGRP | S_IWOTH */
const writeBits = 0o222n;

/** What walks through a tree of cgroups takes: users can make trees that take long. */
export interface LookOptions {
  /** For the whole walk. Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Names of children that are looked for first: where no others are, the directory need not be listed. */
  readonly likely?: readonly string[];
  /** That of a longer work of which this is a part: instead of `timeoutMs` and `signal`. */
  readonly pace?: Pace;
}

const defaultTimeoutMs = 30_000;

/** The clock of a walk. */
export function paceOf(host: Host, { pace, timeoutMs = defaultTimeoutMs, signal }: LookOptions): Pace {
  return pace ?? new Pace(host, deadlineIn(host, timeoutMs, signal));
}

/** A cgroup as a walk finds it: by its name in the one above. */
export interface CgroupBelow {
  readonly parent: Cgroup;
  readonly name: string;
}

/**
 * A cgroup by its path. Nothing is held open between calls: a caller that means one certain directory holds
 * it (`host.open`) and compares inodes.
 */
export class Cgroup {
  readonly host: Host;
  readonly hierarchy: Hierarchy;
  /** The one above, where this was found by a walk. */
  readonly #below: CgroupBelow | undefined;
  #path: CgroupPath | undefined;
  #directory: string | undefined;
  readonly #length: number;
  /** Where the walk began that found this, and how many levels above. */
  readonly #top: Cgroup;
  readonly #levels: number;

  /** @throws RangeError when the hierarchy's mount does not show that cgroup. */
  constructor(host: Host, hierarchy: Hierarchy, path: CgroupPath | CgroupBelow) {
    this.host = host;
    this.hierarchy = hierarchy;
    if (typeof path !== 'string') {
      this.#below = path;
      this.#length = path.parent.#length + 1 + path.name.length;
      this.#top = path.parent.#top;
      this.#levels = path.parent.#levels + 1;
      return;
    }
    const directory = directoryOf(hierarchy, path);
    if (directory === undefined)
      throw new RangeError(`The mount ${quote(hierarchy.mountPoint)} does not show the cgroup ${quote(path)}`);
    this.#path = path;
    this.#directory = directory;
    this.#length = directory.length;
    this.#top = this;
    this.#levels = 0;
  }

  /** Where it is in its hierarchy. Made when it is asked for, and not kept, where no path may be that long. */
  get path(): CgroupPath {
    if (this.#path !== undefined || this.#below === undefined) return this.#path ?? rootPath;
    const path = this.#fromTop((top) => top.path, listedChildPath);
    if (this.#isShort) this.#path = path;
    return path;
  }

  /** Absolute path in the file system. */
  get directory(): string {
    if (this.#directory !== undefined || this.#below === undefined) return this.#directory ?? '';
    const directory = this.#fromTop((top) => top.directory, knownBelow);
    if (this.#isShort) this.#directory = directory;
    return directory;
  }

  /** Itself, or the nearest above that is not deeper than a path may be long: what can be named, stored and reported. */
  get nameable(): Cgroup {
    let one: Cgroup = this;
    while (!one.#isShort && one.#below !== undefined) one = one.#below.parent;
    return one;
  }

  /** For reports: the directory, or where that would be too long, where the walk began, how deep it is, and its name. */
  get shown(): string {
    return this.#length <= 2 * longestPath ? this.directory : this.named;
  }

  /** Where the walk began that found it, how deep it is, and its name. */
  get named(): string {
    return this.#below === undefined ? this.directory : shortened(this.#top.directory, this.#levels, this.#below.name);
  }

  get #isShort(): boolean {
    return this.#length <= longestPath;
  }

  /** From the nearest above whose path is kept, name by name. */
  #fromTop<T>(known: (cgroup: Cgroup) => T, join: (above: T, name: string) => T): T {
    const names: string[] = [];
    let one: Cgroup = this;
    for (let below = one.#below; below !== undefined; below = one.#below) {
      names.push(below.name);
      one = below.parent;
    }
    return names.reduceRight(join, known(one));
  }

  /** Pids in this very cgroup, each once, ascending. A process of another pid namespace (0) is left out. */
  procs(): readonly number[] {
    return this.#ask('read', () => readProcs(this.hierarchy, this.#files()));
  }

  /** Thread ids in this very cgroup (v1 `tasks`, v2 `cgroup.threads`). */
  threads(): readonly number[] {
    return this.#ask('read', () => readThreads(this.hierarchy, this.#files()));
  }

  /** The cgroups directly below. One that vanishes meanwhile is not there. */
  children(): readonly Cgroup[] {
    return this.#ask('list', () => {
      // kernfs counts children in nlink, and one lstat costs a quarter of listing the forty control files beside them.
      if (this.host.stat(this.directory)?.nlink === 2n) return [];
      return this.host
        .entries(this.directory)
        .flatMap(({ name, kind }) => (kind === 'directory' ? [this.listed(name)] : []));
    });
  }

  /** A child of that name, as a list has it. */
  listed(name: string): Cgroup {
    return new Cgroup(this.host, this.hierarchy, { parent: this, name });
  }

  /**
   * All cgroups below, parents before children. One that vanishes meanwhile is left out.
   *
   * @throws SlurmCgroupsError ERR_CGROUP_GONE; ERR_INCOMPLETE where not all could be seen: there are too many, too deep,
   * they change too fast, or the time was over.
   */
  async descendants(options: LookOptions = {}): Promise<readonly Cgroup[]> {
    const found: Cgroup[] = [];
    const { unknown } = await walkCgroups(this, {
      ...options,
      enter: (at) => {
        if (at.depth > 0) found.push(at.value);
        return undefined;
      },
    });
    if (unknown !== undefined) throw incomplete(this, unknown);
    return found;
  }

  /**
   * Whether a process is in it or below (zombies count on v2, not on v1).
   *
   * @throws SlurmCgroupsError ERR_CGROUP_GONE; ERR_INCOMPLETE where none was found but not all could be seen.
   */
  async populated(options: LookOptions = {}): Promise<boolean> {
    const events = this.hierarchy.version === 2 ? this.#events() : undefined;
    if (events !== undefined) return /^populated 1$/m.test(events);
    let found = false;
    const { unknown } = await walkCgroups(this, {
      ...options,
      enter: (at) => {
        found = procsAt(at).length > 0;
        return found ? 'stop' : undefined;
      },
    });
    if (!found && unknown !== undefined) throw incomplete(this, unknown);
    return found;
  }

  /** Modification time of the directory, in ns since 1970; `undefined` when it is gone. See ExternCgroup for its worth. */
  mtimeNs(): bigint | undefined {
    return this.host.stat(this.directory)?.mtimeNs;
  }

  /**
   * Moves a whole process into this cgroup.
   *
   * @throws SlurmCgroupsError ERR_CGROUP_GONE, ERR_CGROUP_BUSY (v2: it has controllers for its children),
   * ERR_CGROUP_REFUSED (cpuset without cpus or mems), ERR_NO_SUCH_PROCESS, ERR_NOT_SUPPORTED (threaded),
   * ERR_NOT_PERMITTED, ERR_READ_ONLY.
   */
  async add(pid: number): Promise<void> {
    await withProcess(this.host, pid, async (held) => {
      const target = this.#ask('open', () => this.host.open(this.directory));
      try {
        await writeProcess(this.host, target, held);
      } finally {
        target.close();
      }
    });
  }

  /**
   * Creates a cgroup below this one. A cpuset gets its parent's cpus and mems first: without them it takes
   * no process (ENOSPC).
   */
  create(name: string): Cgroup {
    if (name === '..' || name.includes('/')) throw new RangeError(`${quote(name)} cannot be the name of a cgroup`);
    const child = new Cgroup(this.host, this.hierarchy, childPath(this.path, name));
    this.#ask('create a cgroup in', () => this.host.mkdir(child.directory));
    if (!this.hierarchy.controllers.includes('cpuset')) return child;
    try {
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        this.host.write(`${child.directory}/${file}`, this.host.read(`${this.directory}/${file}`).trim());
      }
      return child;
    } catch (error) {
      this.host.rmdir(child.directory); // a cpuset that accepts no process is not left behind
      throw error;
    }
  }

  /**
   * Removes this cgroup, which must have no process and no child.
   *
   * @throws SlurmCgroupsError ERR_CGROUP_BUSY while it has (also while processes in it are still dying).
   */
  remove(): void {
    this.#ask('remove', () => this.host.rmdir(this.directory));
  }

  /** The root of all has no cgroup.events; nor has a cgroup that is gone, which the caller finds out next. */
  #events(): string | undefined {
    try {
      return this.host.read(`${this.directory}/cgroup.events`);
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }

  #files(): Files {
    return { read: (file) => this.host.read(`${this.directory}/${file}`) };
  }

  /** Here ENOENT means that the cgroup is gone: what is asked for are files every cgroup has. */
  #ask<T>(attempt: string, act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw goneAs(error, this, attempt);
    }
  }
}

/** What the files of a cgroup are read from. */
interface Files {
  read(file: string): string;
}

/** RHEL 6 had hierarchies without cgroup.procs; there its `tasks` stands in (thread ids, the leader among them). */
function readProcs({ version }: Hierarchy, files: Files): readonly number[] {
  let text: string;
  try {
    text = files.read('cgroup.procs');
  } catch (error) {
    if (version === 2 || !isGone(error)) throw error;
    text = files.read('tasks'); // gone too if the cgroup is
  }
  return readPids(text);
}

function readThreads({ version }: Hierarchy, files: Files): readonly number[] {
  return readPids(files.read(version === 1 ? 'tasks' : 'cgroup.threads'));
}

/** A cgroup in a walk: `value` is to keep, its files are read while it is visited. */
export type WalkedCgroup = Walked<Cgroup>;

/**
 * Pids in a cgroup that is visited. A threaded cgroup of v2 below the top lists no processes (EOPNOTSUPP): the domain
 * above it, which is in the walk, has them all.
 */
export function procsAt(at: WalkedCgroup): readonly number[] {
  return listedAt(at, readProcs);
}

/** Thread ids in a cgroup that is visited. */
export function threadsAt(at: WalkedCgroup): readonly number[] {
  return listedAt(at, readThreads);
}

function listedAt(at: WalkedCgroup, list: (of: Hierarchy, files: Files) => readonly number[]): readonly number[] {
  try {
    return list(at.top.value.hierarchy, at);
  } catch (error) {
    if (at.depth > 0 && hasCode(error, 'ERR_NOT_SUPPORTED')) return [];
    throw error;
  }
}

export interface WalkCgroupsOptions extends LookOptions {
  readonly enter: Visit<Cgroup>;
  readonly leave?: Visit<Cgroup>;
  readonly held?: Directory;
}

/**
 * Walks through a cgroup and all below. See walk.
 *
 * @throws SlurmCgroupsError ERR_CGROUP_GONE of the top.
 */
export function walkCgroups(top: Cgroup, options: WalkCgroupsOptions): WalkEnd | Promise<WalkEnd> {
  const { enter, leave, held, likely, pace } = options;
  const failed = (error: unknown): never => {
    throw goneAs(error, top, 'look into');
  };
  try {
    const end = walk<Cgroup>(top.host, top.directory, {
      pace: pace ?? paceOf(top.host, options),
      make: (at) => (at.parent === undefined ? top : at.parent.value.listed(at.name)),
      enter,
      leave,
      held,
      likely,
    });
    return end instanceof Promise ? end.catch(failed) : end;
  } catch (error) {
    return failed(error);
  }
}

/** Not everything below a cgroup could be seen. */
export function incomplete(cgroup: Cgroup, why: string): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_INCOMPLETE', `Cannot tell all that is in ${quote(cgroup.shown)}: ${why}`, {
    path: cgroup.shown,
  });
}

/** Of files that every cgroup has ENOENT means that the cgroup is gone. */
function goneAs(error: unknown, cgroup: Cgroup, attempt: string): unknown {
  if (!isGone(error) || error.code === 'ERR_CGROUP_GONE') return error;
  const path = cgroup.shown;
  return new SlurmCgroupsError(
    'ERR_CGROUP_GONE',
    `Cannot ${attempt} ${quote(path)}: the cgroup is gone`,
    { path },
    error,
  );
}

/** Holds the directory of a cgroup open. The caller closes it. */
export function holdCgroup(host: Host, cgroup: Cgroup): Directory {
  try {
    return host.open(cgroup.directory);
  } catch (error) {
    throw goneAs(error, cgroup, 'open');
  }
}

/**
 * Parses cgroup.procs or tasks: each pid once, ascending. v1 gives them unsorted and may repeat one.
 *
 * @throws ParseError
 */
export function readPids(text: string): readonly number[] {
  if (text === '') return [];
  const pids = text.split('\n');
  if (pids.pop() !== '')
    throw new ParseError('Cannot read a list of processes: its last line is cut off', { line: pids.length + 1 });
  const numbers = pids.map((pid, at) => {
    if (!/^\d{1,10}$/.test(pid))
      throw new ParseError(`Cannot read a list of processes: line ${at + 1} is ${quote(pid.slice(0, 40))}`, {
        line: at + 1,
      });
    return Number(pid);
  });
  return [...new Set(numbers)].filter((pid) => pid > 0).sort((a, b) => a - b);
}

/** How often and how long a refusal that passes is waited for. */
const retries = { count: 10, pauseMs: 2 };

/** Refusals that pass: EINVAL of a task that is just being created, EAGAIN. */
const passing: ReadonlySet<string> = new Set(['EINVAL', 'EAGAIN']);

/** Where a process goes: `cgroup.procs`, or `tasks` thread by thread where the kernel has no writable cgroup.procs. */
export type WayIn = 'cgroup.procs' | 'tasks';

/** Which file of a held cgroup takes a process (looked at before any write: a write must not be an experiment). */
export function wayInto(target: Directory): WayIn {
  const procs = target.stat('cgroup.procs');
  if (procs !== undefined && (procs.mode & writeBits) !== 0n) return 'cgroup.procs';
  if (target.stat('tasks') !== undefined) return 'tasks';
  return 'cgroup.procs'; // neither is there: the write says whether the cgroup is gone
}

/** For all threads of a process together: one that makes them without pause would keep this going for ever. */
const threadsMs = 2000;

/**
 * Moves a whole process into a held cgroup, with every thread.
 *
 * @throws SlurmCgroupsError ERR_TIMEOUT where it goes thread by thread, and new ones kept appearing elsewhere.
 */
export async function writeProcess(
  host: Host,
  target: Directory,
  held: HeldProcess,
  way: WayIn = wayInto(target),
): Promise<void> {
  // Time passes between two tries, and a pid may be another's by then: the held one says so.
  const isAlive = () => void held.stat();
  if (way === 'cgroup.procs') {
    await writePid(host, target, way, held.pid, isAlive);
    return;
  }
  // One write a thread; a thread made meanwhile begins where its maker is, so look again until all are done.
  const deadline = deadlineIn(host, threadsMs);
  const done = new Set<number>();
  for (let fresh = held.threads(); fresh.length > 0; fresh = held.threads().filter((tid) => !done.has(tid))) {
    if (done.size > 0) await host.sleep(0); // a round of many is a while for all else that this process does
    for (const tid of fresh) {
      if (deadline.isOver()) throw stillMakingThreads(target.path, held.pid);
      done.add(tid);
      try {
        await writePid(host, target, way, tid, isAlive);
      } catch (error) {
        if (tid === held.pid || !isEndedThread(error)) throw error; // another thread may end between listing and writing
      }
    }
  }
}

function stillMakingThreads(path: string, pid: number): SlurmCgroupsError {
  const why = `its threads could not all be moved within ${threadsMs} ms`;
  return new SlurmCgroupsError('ERR_TIMEOUT', `Cannot add process ${pid} to ${quote(path)}: ${why}`, { path, pid });
}

function isEndedThread(error: unknown): boolean {
  return error instanceof SlurmCgroupsError && error.code === 'ERR_NO_SUCH_PROCESS';
}

/** Writes one pid or thread id, in one write(2); tries again where the refusal passes, if `check` does not throw. */
export async function writePid(
  host: Host,
  target: Directory,
  file: WayIn | 'cgroup.threads',
  pid: number,
  check: () => void = () => {},
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      target.write(file, String(pid));
      return;
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (!passing.has(error.errno) || attempt === retries.count) throw additionError(error, target.path, pid);
    }
    await host.sleep(retries.pauseMs);
    check();
  }
}

/** What the kernel means when a cgroup does not take a process (kernel/cgroup/cgroup.c; measured, see docs). */
function additionError(error: SystemCallError, path: string, pid: number): SlurmCgroupsError {
  const [code, why]: readonly [SlurmCgroupsError['code'], string] = (() => {
    switch (error.errno) {
      case 'ENOENT':
      case 'ENODEV':
        return ['ERR_CGROUP_GONE', 'the cgroup is gone'];
      case 'EBUSY':
        return ['ERR_CGROUP_BUSY', 'it hands controllers to its children, so it takes no process itself'];
      case 'ENOSPC':
        return ['ERR_CGROUP_REFUSED', 'it is a cpuset without cpus or mems'];
      case 'EINVAL':
        return ['ERR_CGROUP_REFUSED', 'the kernel does not let that process move'];
      case 'EOPNOTSUPP':
        return ['ERR_NOT_SUPPORTED', 'it is in a threaded domain'];
      default:
        return [error.code, error.message.slice(error.message.lastIndexOf(': ') + 2)];
    }
  })();
  return new SlurmCgroupsError(code, `Cannot add process ${pid} to ${quote(path)}: ${why}`, { path, pid }, error);
}
