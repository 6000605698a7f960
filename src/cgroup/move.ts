// One process into one cgroup in each of several hierarchies: all of them or none. It remembers where every
// thread was, holds those cgroups open, and puts the process back there. Whether it may be moved at all,
// and what a half success is worth, others decide.

import { defined } from '../machine/defined.js';
import { ifThere, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';
import { Cgroup, type WayIn, wayInto, writePid, writeProcess } from './cgroup.js';
import { directoryOf, type Hierarchy } from './hierarchies.js';
import { hierarchyKey, type Membership } from './membership.js';
import { type CgroupPath, cgroupPath, pathBelow } from './path.js';
import { putBackStranger } from './pid-reuse.js';
import { type HeldProcess, placesOfOtherThreads } from './process.js';
import { exitOf, isExiting } from './process-end.js';

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

/** A cgroup to move into, held open by the caller. */
export interface MoveTarget {
  readonly cgroup: Cgroup;
  readonly directory: Directory;
}

interface Source {
  readonly path: CgroupPath;
  /** `undefined`: the mount does not show it, or it was removed already; then there is no way back. */
  readonly directory: Directory | undefined;
}

/** A move in one hierarchy. */
interface Leg {
  /** Where it goes; of a move that another makes, the cgroup at or below which it is to arrive, then where it did. */
  cgroup: Cgroup;
  readonly from: Source;
  /** Threads that were in another cgroup than the process. */
  readonly strayThreads: readonly { readonly tid: number; readonly from: Source }[];
  outcome: MoveOutcome;
  error?: SlurmCgroupsError;
}

/** Where a process and its threads were before a move, and the cgroups that are held for the way back. */
interface Before {
  readonly legs: readonly Leg[];
  readonly held: Directory[];
}

/**
 * The move of one process that another makes (`follow`, `observe`), or this program: see OwnMove. It remembers where
 * the process was, sees in /proc where it is, and puts it back. `close` lets go of what is held for that.
 */
export class Move {
  readonly process: HeldProcess;
  protected readonly host: Host;
  /** Another moves it to where it likes at or below each cgroup. */
  protected readonly arrivesBelow: boolean = true;
  protected legs: readonly Leg[];
  readonly #held: Directory[];

  protected constructor(host: Host, process: HeldProcess, { legs, held }: Before) {
    this.host = host;
    this.process = process;
    this.legs = legs;
    this.#held = held;
  }

  /** Of a move that another will make, to somewhere at or below each of `cgroups`, which need not be there yet. */
  static follow(host: Host, process: HeldProcess, cgroups: readonly Cgroup[]): Move {
    return new Move(host, process, lookBefore(host, process, cgroups));
  }

  /** Where the process was in the hierarchy of each target. */
  get sources(): readonly { readonly controllers: readonly string[]; readonly path: CgroupPath }[] {
    return this.legs.map((leg) => ({ controllers: leg.cgroup.hierarchy.controllers, path: leg.from.path }));
  }

  get report(): readonly HierarchyMove[] {
    return this.legs.map((leg) => ({
      controllers: leg.cgroup.hierarchy.controllers,
      path: leg.cgroup.directory,
      outcome: leg.outcome,
      ...defined({ error: leg.error }),
    }));
  }

  /** Where it goes, or of a move that another made, where it arrived. */
  get cgroups(): readonly Cgroup[] {
    return this.legs.map(({ cgroup }) => cgroup);
  }

  /** Whether it is in every cgroup it was to be in, as far as the writes say. */
  get complete(): boolean {
    return this.legs.every((leg) => leg.outcome === 'moved' || leg.outcome === 'already');
  }

  /**
   * Takes from /proc what another did, whatever it said of that: `moved` where every thread is at or below the cgroup
   * it was to arrive at, `failed` where it is as before, else `remains`. Hierarchies in which it did not arrive and
   * `isWanted` is false are no part of the move.
   *
   * @param goals where it is to be, at or below, in the place of the cgroups that it was to be moved into: another may
   * have moved it on from there.
   * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS where it has ended meanwhile; others where that cannot be read: then
   * it can be anywhere, and each hierarchy `remains`.
   */
  observe(isWanted: (hierarchy: Hierarchy) => boolean, goals: readonly Cgroup[] = []): void {
    try {
      this.#observe(isWanted, goals);
    } catch (error) {
      if (!isExiting(this.process)) {
        for (const leg of this.legs) {
          leg.outcome = 'remains';
          leg.error = asOurs(error);
        }
      }
      throw error;
    }
  }

  #observe(isWanted: (hierarchy: Hierarchy) => boolean, goals: readonly Cgroup[]): void {
    this.checkAlive(); // v1 shows one that is exiting at the root of every hierarchy
    const places = this.places();
    this.legs = this.legs.filter((leg) => {
      const { hierarchy } = leg.cgroup;
      const goal = (goals.find((one) => one.hierarchy.key === hierarchy.key) ?? leg.cgroup).path;
      const here = places.filter((one) => hierarchyKey(one.controllers) === hierarchy.key).map(livingPath);
      const [first] = here;
      const arrived = first !== undefined && here.every((path) => pathBelow(path, goal) !== undefined);
      const stayed = here.every((path) => path === leg.from.path) && leg.strayThreads.length === 0;
      if (arrived && first !== undefined) {
        const one = here.every((path) => path === first) ? first : goal;
        leg.cgroup = new Cgroup(this.host, hierarchy, one);
        leg.outcome = stayed ? 'already' : 'moved';
        delete leg.error;
        return true;
      }
      if (stayed && !isWanted(hierarchy)) return false;
      leg.outcome = stayed ? 'failed' : 'remains';
      leg.error = exitOf(this.process) ?? this.unproven(leg, [...new Set(here)].map((path) => quote(path)).join(', '));
      return true;
    });
  }

  /** Where /proc shows it, with each of its threads. */
  protected places(): readonly Membership[] {
    const others = placesOfOtherThreads(this.process).flatMap(({ memberships }) => memberships);
    return [...this.process.memberships(), ...others];
  }

  protected unproven(leg: Leg, said: string): SlurmCgroupsError {
    return new SlurmCgroupsError(
      'ERR_CGROUP_REFUSED',
      `Cannot prove that process ${this.process.pid} is in ${quote(leg.cgroup.directory)}: /proc says ${said}`,
      { pid: this.process.pid, path: leg.cgroup.directory },
    );
  }

  /** A pid is written as a number: once its process is reaped it can be a stranger's. Read through what is held. */
  protected checkAlive(): void {
    const ended = exitOf(this.process);
    if (ended !== undefined) throw ended;
  }

  /**
   * Once the process has ended: whether its number was given away while it was written, or told to another that moves by
   * number, and a stranger was moved (`stranger`).
   */
  async lookForStranger(legs: readonly Leg[] = this.legs): Promise<void> {
    if (!isExiting(this.process)) return;
    const written = legs.map(({ cgroup }) => cgroup);
    this.#noteStranger(await putBackStranger(this.host, this.process, { written, below: this.arrivesBelow }));
  }

  /**
   * The same of the way back. It lived before each write, so the last one alone can have moved another; and what others
   * have put where it came from stays there.
   */
  async #lookForStrangerAtSource({ cgroup: { hierarchy }, from: { path } }: Leg): Promise<void> {
    if (!isExiting(this.process)) return;
    const written = [new Cgroup(this.host, hierarchy, path)];
    this.#noteStranger(await putBackStranger(this.host, this.process, { written, shared: true }));
  }

  #noteStranger(said: readonly string[]): void {
    if (said.length === 0) return;
    const { pid } = this.process;
    this.#stranger ??= new SlurmCgroupsError(
      'ERR_NO_SUCH_PROCESS',
      `Process ${pid} has ended, and ${said.join('; ')}`,
      { pid },
    );
  }

  #stranger: SlurmCgroupsError | undefined;

  /** What a number that was given away has done, for the report. */
  get stranger(): SlurmCgroupsError | undefined {
    return this.#stranger;
  }

  /**
   * Puts the process back to exactly where it was, the freezer first, every thread that stood apart too, and
   * looks in /proc whether it is there. What cannot be put back is `remains`, with the reason.
   */
  async undo(): Promise<void> {
    const causes = new Map(this.legs.map((leg) => [leg, leg.error]));
    let last: Leg | undefined;
    // Twice: a session that is half in a job is worse than a second try, and a refusal may have passed.
    for (const leg of [...this.legs, ...this.legs].reverse()) {
      if (leg.outcome !== 'moved' && leg.outcome !== 'remains') continue;
      try {
        this.checkAlive();
        this.#checkOurs(leg);
        last = leg;
        await this.#putBack(leg);
        const back = pathInHierarchyOf(this.process.memberships(), leg.cgroup);
        if (back !== leg.from.path) throw exitOf(this.process) ?? this.#notBack(leg, back);
        const cause = causes.get(leg);
        leg.outcome = cause === undefined ? 'undone' : 'failed';
        if (cause === undefined) delete leg.error;
        else leg.error = cause;
      } catch (error) {
        leg.error = asOurs(error);
        // Where it has ended nothing of it remains anywhere; one answer alone is not believed.
        leg.outcome = leg.error.code === 'ERR_NO_SUCH_PROCESS' && isExiting(this.process) ? 'undone' : 'remains';
      }
    }
    await this.lookForStranger(this.legs);
    if (last !== undefined) await this.#lookForStrangerAtSource(last);
  }

  /** What another has moved on meanwhile is that one's: it stays, and is reported. */
  #checkOurs({ cgroup, from, outcome }: Leg): void {
    const here = pathInHierarchyOf(this.process.memberships(), cgroup);
    if (outcome !== 'moved' || here === from.path || pathBelow(here, cgroup.path) !== undefined) return;
    throw new SlurmCgroupsError(
      'ERR_CGROUP_REFUSED',
      `Process ${this.process.pid} is in ${quote(here)} now, where another program has moved it: it is left there`,
      { pid: this.process.pid, path: here },
    );
  }

  #notBack(leg: Leg, place: CgroupPath): SlurmCgroupsError {
    return new SlurmCgroupsError(
      'ERR_CGROUP_REFUSED',
      `Cannot put process ${this.process.pid} back into ${quote(leg.from.path)}: /proc says ${quote(place)}`,
      { pid: this.process.pid, path: leg.from.path },
    );
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
    await writeProcess(this.host, back(leg.from), this.process);
    const file = leg.cgroup.hierarchy.version === 1 ? 'tasks' : 'cgroup.threads';
    for (const { tid, from } of leg.strayThreads) {
      try {
        await writePid(this.host, back(from), file, tid, () => this.checkAlive());
      } catch (error) {
        if (!(error instanceof SlurmCgroupsError && error.code === 'ERR_NO_SUCH_PROCESS')) throw error; // that thread has ended
      }
    }
  }

  close(): void {
    for (const directory of this.#held.splice(0)) directory.close();
  }
}

/** A move into one cgroup, with the file of it that takes a process. */
interface Write {
  readonly leg: Leg;
  readonly directory: Directory;
  readonly way: WayIn;
}

/** The move of one process by writes of this program. Nothing is written before `run`; the targets are the caller's to close. */
export class OwnMove extends Move {
  protected override readonly arrivesBelow: boolean = false;
  readonly #writes: readonly Write[];

  private constructor(host: Host, process: HeldProcess, { writes, ...before }: Before & { writes: readonly Write[] }) {
    super(host, process, before);
    this.#writes = writes;
  }

  /** Looks where the process and its threads are, and which file of each target takes it. */
  static plan(host: Host, process: HeldProcess, targets: readonly MoveTarget[]): OwnMove {
    const before = lookBefore(
      host,
      process,
      targets.map(({ cgroup }) => cgroup),
    );
    const directories = new Map(targets.map(({ cgroup, directory }) => [cgroup, directory]));
    try {
      const writes = before.legs.flatMap((leg): Write[] => {
        const directory = directories.get(leg.cgroup);
        if (leg.from.path === leg.cgroup.path && leg.strayThreads.length === 0) leg.outcome = 'already';
        return directory === undefined ? [] : [{ leg, directory, way: wayInto(directory) }];
      });
      return new OwnMove(host, process, { ...before, writes });
    } catch (error) {
      for (const directory of before.held) directory.close();
      throw error;
    }
  }

  /**
   * Writes, one hierarchy right after the other: the first write waits for an RCU grace period (8 ms and
   * more), those that follow at once do not (3–8 µs; measured).
   *
   * @param keepGoing go on after a refusal instead of stopping at the first.
   * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS where it has ended before the first write.
   */
  async run(keepGoing: boolean): Promise<void> {
    this.checkAlive();
    await this.#writeAll(keepGoing);
    await this.lookForStranger(this.#writes.map(({ leg }) => leg));
  }

  async #writeAll(keepGoing: boolean): Promise<void> {
    for (const { leg, directory, way } of this.#writes) {
      if (leg.outcome !== 'untouched') continue;
      try {
        this.checkAlive();
        await writeProcess(this.host, directory, this.process, way);
        leg.outcome = 'moved';
      } catch (error) {
        // Thread by thread, some may have gone over before one was refused: then there is something to undo.
        leg.outcome = way === 'tasks' ? 'remains' : 'failed';
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
    const places = this.places();
    for (const leg of this.legs) {
      if (leg.outcome !== 'moved' && leg.outcome !== 'already') continue;
      const { key } = leg.cgroup.hierarchy;
      const here = places.filter((one) => hierarchyKey(one.controllers) === key);
      const wrong = here.find((one) => livingPath(one) !== leg.cgroup.path);
      if (here.length > 0 && wrong === undefined) continue;
      leg.outcome = 'remains';
      leg.error =
        exitOf(this.process) ??
        this.unproven(leg, wrong === undefined ? `nothing of the hierarchy ${key}` : quote(livingPath(wrong)));
    }
  }
}

/**
 * Where the process and its threads are in the hierarchy of each cgroup. The freezer comes last: once a process is in a
 * job's freezer it can be suspended with the job, and then nothing else of it could be moved (and on undo it is thawed
 * first).
 */
function lookBefore(host: Host, process: HeldProcess, cgroups: readonly Cgroup[]): Before {
  const held: Directory[] = [];
  try {
    const memberships = process.memberships();
    const others = placesOfOtherThreads(process);
    const opened = new Map<string, Source>();
    const source = ({ hierarchy }: Cgroup, path: CgroupPath): Source => {
      const key = `${hierarchy.key} ${path}`;
      const known = opened.get(key);
      if (known !== undefined) return known;
      const directory = holdIfThere(host, directoryOf(hierarchy, path));
      if (directory !== undefined) held.push(directory);
      const made: Source = { path, directory };
      opened.set(key, made);
      return made;
    };
    const legs = [...cgroups].sort(freezerLast).map((cgroup): Leg => {
      const from = pathInHierarchyOf(memberships, cgroup);
      const strayThreads = others.flatMap(({ tid, memberships: places }) => {
        const path = pathInHierarchyOf(places, cgroup);
        return path === from ? [] : [{ tid, from: source(cgroup, path) }];
      });
      return { cgroup, from: source(cgroup, from), strayThreads, outcome: 'untouched' };
    });
    return { legs, held };
  } catch (error) {
    for (const directory of held) directory.close();
    throw error;
  }
}

function freezerLast(a: Cgroup, b: Cgroup): number {
  const isFreezer = ({ hierarchy }: Cgroup) => Number(hierarchy.controllers.includes('freezer'));
  return isFreezer(a) - isFreezer(b);
}

function pathInHierarchyOf(memberships: readonly Membership[], { hierarchy: { key } }: Cgroup): CgroupPath {
  const found = memberships.find((one) => hierarchyKey(one.controllers) === key);
  if (found === undefined) {
    throw new SlurmCgroupsError(
      'ERR_NO_CGROUPS',
      `Cannot tell where the process is in the hierarchy of ${key}: /proc does not name it`,
    );
  }
  return livingPath(found);
}

/** Nothing lives in a removed cgroup: of a living process ` (deleted)` is part of the name of one that is there. */
function livingPath(membership: Membership): CgroupPath {
  return membership.deleted ? cgroupPath(`${membership.path} (deleted)`) : membership.path;
}

/** It can be removed while the process is still in it (` (deleted)`): v1 allows that for zombies. */
function holdIfThere(host: Host, directory: string | undefined): Directory | undefined {
  return directory === undefined ? undefined : ifThere(() => host.open(directory));
}

function asOurs(error: unknown): SlurmCgroupsError {
  if (error instanceof SlurmCgroupsError) return error;
  throw error;
}
