// One cgroup: one directory of one hierarchy, read and written file by file. What a job is in several
// hierarchies at once is a CgroupSet.

import { deadlineIn } from '../machine/deadline.js';
import { isGone, ParseError, quote, SlurmCgroupsError, SystemCallError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';
import { directoryOf, type Hierarchy } from './hierarchies.js';
import { type CgroupPath, childPath } from './path.js';
import { type HeldProcess, withProcess } from './process.js';

/** S_IWUSR | S_IWGRP | S_IWOTH */
const writeBits = 0o222n;

/** A cgroup, and the links of its directory where they were looked at: 2 and one for each child. */
interface Linked {
  readonly cgroup: Cgroup;
  readonly links?: bigint;
}

/**
 * A cgroup by its path. Nothing is held open between calls: a caller that means one certain directory holds
 * it (`host.open`) and compares inodes.
 */
export class Cgroup {
  readonly host: Host;
  readonly hierarchy: Hierarchy;
  readonly path: CgroupPath;
  /** Absolute path in the file system. */
  readonly directory: string;

  /** @throws RangeError when the hierarchy's mount does not show that cgroup. */
  constructor(host: Host, hierarchy: Hierarchy, path: CgroupPath) {
    const directory = directoryOf(hierarchy, path);
    if (directory === undefined)
      throw new RangeError(`The mount ${quote(hierarchy.mountPoint)} does not show the cgroup ${quote(path)}`);
    this.host = host;
    this.hierarchy = hierarchy;
    this.path = path;
    this.directory = directory;
  }

  /** Pids in this very cgroup, each once, ascending. A process of another pid namespace (0) is left out. */
  procs(): readonly number[] {
    return this.#ask('read', () => readPids(this.#readProcs()));
  }

  /** Thread ids in this very cgroup (v1 `tasks`, v2 `cgroup.threads`). */
  threads(): readonly number[] {
    const file = this.hierarchy.version === 1 ? 'tasks' : 'cgroup.threads';
    return this.#ask('read', () => readPids(this.host.read(`${this.directory}/${file}`)));
  }

  /** The cgroups directly below. One that vanishes meanwhile is not there. */
  children(): readonly Cgroup[] {
    return this.#childrenOf(this.#links(), []).map((child) => child.cgroup);
  }

  /**
   * All cgroups below, parents before children. One that vanishes meanwhile is left out. Names of children that
   * are `likely` are looked for first: where no others are, the directory need not be listed.
   */
  descendants(likely: readonly string[] = []): readonly Cgroup[] {
    const found: Cgroup[] = [];
    const waiting: Linked[] = [{ cgroup: this }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { cgroup } = next;
      if (cgroup !== this) found.push(cgroup);
      try {
        waiting.push(...cgroup.#childrenOf(next.links ?? cgroup.#links(), likely));
      } catch (error) {
        if (cgroup === this || !isGone(error)) throw error;
        found.pop(); // removed between being listed and being looked into
      }
    }
    return found;
  }

  #links(): bigint | undefined {
    return this.#ask('look at', () => this.host.stat(this.directory))?.nlink;
  }

  /** kernfs counts children in nlink, and one lstat costs a quarter of listing the forty control files beside them. */
  #childrenOf(links: bigint | undefined, likely: readonly string[]): readonly Linked[] {
    if (links === 2n) return [];
    const below = (name: string) => new Cgroup(this.host, this.hierarchy, childPath(this.path, name));
    const guessed = likely.flatMap((name): readonly Linked[] => {
      const cgroup = below(name);
      const stat = this.host.stat(cgroup.directory);
      return stat === undefined ? [] : [{ cgroup, links: stat.nlink }];
    });
    if (guessed.length > 0 && links === 2n + BigInt(guessed.length)) return guessed;
    return this.#ask('list', () => this.host.entries(this.directory)).flatMap(({ name, kind }) =>
      kind === 'directory' ? [{ cgroup: below(name) }] : [],
    );
  }

  /** Whether a process is in it or below (zombies count on v2, not on v1). */
  populated(): boolean {
    const events = this.hierarchy.version === 2 ? this.#events() : undefined;
    if (events !== undefined) return /^populated 1$/m.test(events);
    return [this, ...this.descendants()].some((one) => {
      try {
        return one.procs().length > 0;
      } catch (error) {
        if (one === this || !isGone(error)) throw error;
        return false;
      }
    });
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
      this.host.rmdir(child.directory); // a cpuset that takes nobody is not left behind
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

  /** The root of all has no cgroup.events; nor has a cgroup that is gone, which whoever asks finds out next. */
  #events(): string | undefined {
    try {
      return this.host.read(`${this.directory}/cgroup.events`);
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }

  /** RHEL 6 had hierarchies without cgroup.procs; there its `tasks` stands in (thread ids, the leader among them). */
  #readProcs(): string {
    try {
      return this.host.read(`${this.directory}/cgroup.procs`);
    } catch (error) {
      if (this.hierarchy.version === 2 || !isGone(error)) throw error;
      return this.host.read(`${this.directory}/tasks`); // gone too if the cgroup is
    }
  }

  /** Here ENOENT means that the cgroup is gone: what is asked for are files every cgroup has. */
  #ask<T>(attempt: string, act: () => T): T {
    try {
      return act();
    } catch (error) {
      if (!isGone(error)) throw error;
      throw new SlurmCgroupsError(
        'ERR_CGROUP_GONE',
        `Cannot ${attempt} ${quote(this.directory)}: the cgroup is gone`,
        { path: this.directory },
        error,
      );
    }
  }
}

/** Holds the directory of a cgroup open. The caller closes it. */
export function holdCgroup(host: Host, cgroup: Cgroup): Directory {
  try {
    return host.open(cgroup.directory);
  } catch (error) {
    if (!isGone(error)) throw error;
    throw new SlurmCgroupsError(
      'ERR_CGROUP_GONE',
      `Cannot open ${quote(cgroup.directory)}: the cgroup is gone`,
      { path: cgroup.directory },
      error,
    );
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
