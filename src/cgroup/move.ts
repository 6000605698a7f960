// One process into one cgroup in each of several hierarchies: all of them or none. It remembers where every
// thread was, holds those cgroups open, and puts the process back there. Whether it may be moved at all,
// and what a half success is worth, others decide.

import { type Cgroup, type WayIn, wayInto, writePid, writeProcess } from './cgroup.js';
import { isGone, quote, SlurmCgroupsError } from './errors.js';
import type { Directory, Host } from './host.js';
import { directoryOf } from './hierarchies.js';
import { hierarchyKey, type Membership } from './membership.js';
import type { CgroupPath } from './path.js';
import type { HeldProcess } from './process.js';

/**
 * What became of the process in one hierarchy. `moved`, `already` (it was there before), `undone` (put back),
 * `untouched` (not reached), `failed` (refused, and it is where it was), `remains` (it is neither where it was
 * nor wanted: the error says why).
 */
export type MoveOutcome = 'moved' | 'already' | 'undone' | 'untouched' | 'failed' | 'remains';

export interface HierarchyMove {
  readonly controllers: readonly string[];
  /** Directory the process was to be moved into. */
  readonly path: string;
  readonly outcome: MoveOutcome;
  readonly error?: SlurmCgroupsError;
}

/** A cgroup to move into, held open by whoever made this. */
export interface MoveTarget {
  readonly cgroup: Cgroup;
  readonly directory: Directory;
}

interface Source {
  readonly path: CgroupPath;
  /** `undefined`: the mount does not show it, or it was removed already; then there is no way back. */
  readonly directory: Directory | undefined;
}

interface Leg {
  readonly target: MoveTarget;
  readonly way: WayIn;
  readonly from: Source;
  /** Threads that were in another cgroup than the process's first thread. */
  readonly strayThreads: readonly { readonly tid: number; readonly from: Source }[];
  outcome: MoveOutcome;
  error?: SlurmCgroupsError;
}

/**
 * The move of one process. Nothing is written before `run`. `close` lets go of what is held; it does not
 * close the targets.
 */
export class Move {
  readonly process: HeldProcess;
  readonly #host: Host;
  readonly #legs: readonly Leg[];
  readonly #held: Directory[];

  private constructor(host: Host, process: HeldProcess, legs: readonly Leg[], held: Directory[]) {
    this.#host = host;
    this.process = process;
    this.#legs = legs;
    this.#held = held;
  }

  /**
   * Looks where the process and its threads are. The freezer comes last: once a process is in a job's freezer
   * it can be suspended with the job, and then nothing else of it could be moved (and on undo it is thawed first).
   */
  static plan(host: Host, process: HeldProcess, targets: readonly MoveTarget[]): Move {
    const held: Directory[] = [];
    try {
      const memberships = process.memberships();
      const threads = process.threads().filter((tid) => tid !== process.pid);
      const opened = new Map<string, Source>();
      const source = (target: MoveTarget, path: CgroupPath): Source => {
        const key = `${target.cgroup.hierarchy.key} ${path}`;
        const known = opened.get(key);
        if (known !== undefined) return known;
        const directory = holdIfThere(host, directoryOf(target.cgroup.hierarchy, path));
        if (directory !== undefined) held.push(directory);
        const made: Source = { path, directory };
        opened.set(key, made);
        return made;
      };
      const strays = threads.flatMap((tid) => {
        const places = membershipsIfThere(process, tid);
        return places === undefined ? [] : [{ tid, places }];
      });
      const legs = [...targets].sort(freezerLast).map((target): Leg => {
        const from = placeIn(memberships, target);
        const away = strays.flatMap(({ tid, places }) => {
          const path = placeIn(places, target);
          return path === from ? [] : [{ tid, from: source(target, path) }];
        });
        const there = from === target.cgroup.path && away.length === 0;
        return {
          target,
          way: wayInto(target.directory),
          from: source(target, from),
          strayThreads: away,
          outcome: there ? 'already' : 'untouched',
        };
      });
      return new Move(host, process, legs, held);
    } catch (error) {
      for (const directory of held) directory.close();
      throw error;
    }
  }

  /** Where the process was in the hierarchy of each target. */
  get sources(): readonly { readonly controllers: readonly string[]; readonly path: CgroupPath }[] {
    return this.#legs.map((leg) => ({ controllers: leg.target.cgroup.hierarchy.controllers, path: leg.from.path }));
  }

  get report(): readonly HierarchyMove[] {
    return this.#legs.map((leg) => ({
      controllers: leg.target.cgroup.hierarchy.controllers,
      path: leg.target.cgroup.directory,
      outcome: leg.outcome,
      ...(leg.error === undefined ? {} : { error: leg.error }),
    }));
  }

  /** Whether it is in every cgroup it was to be in, as far as the writes say. */
  get complete(): boolean {
    return this.#legs.every((leg) => leg.outcome === 'moved' || leg.outcome === 'already');
  }

  /**
   * Writes, one hierarchy right after the other: the first write waits for an RCU grace period (8 ms and
   * more), those that follow at once do not (3–8 µs; measured).
   *
   * @param keepGoing go on after a refusal instead of stopping at the first.
   */
  async run(keepGoing: boolean): Promise<void> {
    for (const leg of this.#legs) {
      if (leg.outcome !== 'untouched') continue;
      try {
        await writeProcess(this.#host, leg.target.directory, this.process, leg.way);
        leg.outcome = 'moved';
      } catch (error) {
        // Thread by thread, some may have gone over before one was refused: then there is something to undo.
        leg.outcome = leg.way === 'tasks' ? 'remains' : 'failed';
        leg.error = asOurs(error);
        if (!keepGoing) return;
      }
    }
  }

  /**
   * Believes /proc, not the writes: a process that is not where it was moved to counts as failed.
   * Threads are looked at where there are several.
   */
  prove(): void {
    const tids = this.process.threads();
    const places = tids.length > 1 ? tids.flatMap((tid) => membershipsIfThere(this.process, tid) ?? []) : this.process.memberships();
    for (const leg of this.#legs) {
      if (leg.outcome !== 'moved' && leg.outcome !== 'already') continue;
      const key = leg.target.cgroup.hierarchy.key;
      const wrong = places.find((one) => hierarchyKey(one.controllers) === key && (one.path !== leg.target.cgroup.path || one.deleted));
      if (wrong === undefined) continue;
      leg.outcome = 'remains';
      leg.error = new SlurmCgroupsError(
        'ERR_CGROUP_REFUSED',
        `Cannot prove that process ${this.process.pid} is in ${quote(leg.target.cgroup.directory)}: /proc says ${quote(wrong.path)}`,
        { pid: this.process.pid, path: leg.target.cgroup.directory },
      );
    }
  }

  /**
   * Puts the process back to exactly where it was, the freezer first, every thread that stood apart too, and
   * looks in /proc whether it is there. What cannot be put back is `remains`, with the reason.
   */
  async undo(): Promise<void> {
    // Twice: a session that is half in a job is worse than a second try, and a refusal may have passed.
    for (const leg of [...this.#legs, ...this.#legs].reverse()) {
      if (leg.outcome !== 'moved' && leg.outcome !== 'remains') continue;
      const cause = leg.error;
      try {
        await this.#putBack(leg);
        const back = placeIn(this.process.memberships(), leg.target);
        leg.outcome = back === leg.from.path ? (cause === undefined ? 'undone' : 'failed') : 'remains';
      } catch (error) {
        const ours = asOurs(error);
        leg.outcome = 'remains';
        leg.error = ours;
        if (ours.code === 'ERR_NO_SUCH_PROCESS') leg.outcome = 'undone'; // it has ended: nothing of it remains anywhere
      }
    }
  }

  async #putBack(leg: Leg): Promise<void> {
    const back = (source: Source): Directory => {
      if (source.directory !== undefined) return source.directory;
      throw new SlurmCgroupsError(
        'ERR_CGROUP_GONE',
        `Cannot put process ${this.process.pid} back into ${quote(source.path)}: that cgroup is gone, or not visible here`,
        { pid: this.process.pid, path: source.path },
      );
    };
    await writeProcess(this.#host, back(leg.from), this.process);
    const file = leg.target.cgroup.hierarchy.version === 1 ? 'tasks' : 'cgroup.threads';
    for (const { tid, from } of leg.strayThreads) {
      try {
        await writePid(this.#host, back(from), file, tid);
      } catch (error) {
        if (!(error instanceof SlurmCgroupsError && error.code === 'ERR_NO_SUCH_PROCESS')) throw error; // that thread has ended
      }
    }
  }

  close(): void {
    for (const directory of this.#held.splice(0)) directory.close();
  }
}

function freezerLast(a: MoveTarget, b: MoveTarget): number {
  return Number(a.cgroup.hierarchy.controllers.includes('freezer')) - Number(b.cgroup.hierarchy.controllers.includes('freezer'));
}

function placeIn(memberships: readonly Membership[], target: MoveTarget): CgroupPath {
  const key = target.cgroup.hierarchy.key;
  const found = memberships.find((one) => hierarchyKey(one.controllers) === key);
  if (found === undefined) {
    throw new SlurmCgroupsError('ERR_NO_CGROUPS', `Cannot tell where the process is in the hierarchy of ${key}: /proc does not name it`);
  }
  return found.path;
}

function holdIfThere(host: Host, directory: string | undefined): Directory | undefined {
  if (directory === undefined) return undefined;
  try {
    return host.open(directory);
  } catch (error) {
    if (isGone(error)) return undefined; // removed while the process is still in it (` (deleted)`): v1 allows that for zombies
    throw error;
  }
}

function membershipsIfThere(process: HeldProcess, tid: number): readonly Membership[] | undefined {
  try {
    return process.membershipsOf(tid);
  } catch (error) {
    if (isGone(error)) return undefined; // a thread that ended meanwhile is nowhere
    throw error;
  }
}

function asOurs(error: unknown): SlurmCgroupsError {
  if (error instanceof SlurmCgroupsError) return error;
  throw error;
}
