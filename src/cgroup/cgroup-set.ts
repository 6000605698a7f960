// The same cgroup in each hierarchy: what a job, a step or a task is to the kernel. The difference between
// v1 and v2 ends here: on v1 memberships differ from hierarchy to hierarchy, so lists are unions.

import { hasCode, ifThere, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Cgroup, holdCgroup } from './cgroup.js';
import { canFreeze, type FreezeOptions, freeze, thaw } from './freezer.js';
import { writeFrozenNote } from './frozen-note.js';
import type { Hierarchies } from './hierarchies.js';
import { type KillOptions, type KillReport, killMembers, type Member, MemberReader } from './killing.js';
import { type Move, type MoveTarget, OwnMove } from './move.js';
import { type CgroupPath, childPath } from './path.js';
import { withProcess } from './process.js';
import { type Removal, type RemovalOptions, removeTrees } from './removal.js';

/** A process in a set, and where it was seen. */
export interface SetMember {
  readonly pid: number;
  readonly seenIn: readonly Cgroup[];
}

export class CgroupSet {
  readonly host: Host;
  /** One in each hierarchy. */
  readonly cgroups: readonly Cgroup[];

  constructor(host: Host, cgroups: readonly Cgroup[]) {
    this.host = host;
    this.cgroups = cgroups;
  }

  /** The set of cgroups with one path, in every hierarchy that has it now. */
  static at(host: Host, hierarchies: Hierarchies, path: CgroupPath): CgroupSet {
    const there = hierarchies.all.flatMap((hierarchy) => {
      try {
        const cgroup = new Cgroup(host, hierarchy, path);
        return host.stat(cgroup.directory) === undefined ? [] : [cgroup];
      } catch (error) {
        if (error instanceof RangeError) return []; // the mount does not show it
        throw error;
      }
    });
    return new CgroupSet(host, there);
  }

  /** Every process in it or below, in any hierarchy, ascending by pid. For `likely` see Cgroup.descendants. */
  procs(likely: readonly string[] = []): readonly SetMember[] {
    return this.#members((cgroup) => cgroup.procs(), likely);
  }

  /** Every thread in it or below, in any hierarchy. */
  threads(): readonly SetMember[] {
    return this.#members((cgroup) => cgroup.threads());
  }

  #members(list: (cgroup: Cgroup) => readonly number[], likely: readonly string[] = []): readonly SetMember[] {
    const members = new Map<number, Cgroup[]>();
    for (const top of this.cgroups) {
      for (const cgroup of ifThere(() => [top, ...top.descendants(likely)]) ?? []) {
        for (const pid of ifThere(() => this.#listed(cgroup, top, list)) ?? []) {
          const seen = members.get(pid);
          if (seen === undefined) members.set(pid, [cgroup]);
          else seen.push(cgroup);
        }
      }
    }
    return [...members].sort(([a], [b]) => a - b).map(([pid, seenIn]) => ({ pid, seenIn }));
  }

  /** A threaded cgroup of v2 lists no processes (EOPNOTSUPP): the domain above it, which is among these, has them all. */
  #listed(cgroup: Cgroup, top: Cgroup, list: (cgroup: Cgroup) => readonly number[]): readonly number[] {
    try {
      return list(cgroup);
    } catch (error) {
      if (cgroup !== top && hasCode(error, 'ERR_NOT_SUPPORTED')) return [];
      throw error;
    }
  }

  /** The sets directly below: one for each name, with the hierarchies that have it. */
  children(): ReadonlyMap<string, CgroupSet> {
    const byName = new Map<string, Cgroup[]>();
    for (const cgroup of this.cgroups) {
      for (const child of ifThere(() => cgroup.children()) ?? []) {
        const name = child.path.slice(child.path.lastIndexOf('/') + 1);
        byName.set(name, [...(byName.get(name) ?? []), child]);
      }
    }
    return new Map([...byName].map(([name, cgroups]) => [name, new CgroupSet(this.host, cgroups)]));
  }

  /** All sets below, parents before children, by path. */
  descendants(): ReadonlyMap<CgroupPath, CgroupSet> {
    const byPath = new Map<CgroupPath, Cgroup[]>();
    for (const top of this.cgroups) {
      for (const cgroup of ifThere(() => top.descendants()) ?? []) {
        byPath.set(cgroup.path, [...(byPath.get(cgroup.path) ?? []), cgroup]);
      }
    }
    return new Map([...byPath].map(([path, cgroups]) => [path, new CgroupSet(this.host, cgroups)]));
  }

  /** The same with what each process is; one that ended meanwhile is left out. */
  members(): readonly Member[] {
    const reader = new MemberReader(this.host);
    return this.procs().flatMap(({ pid, seenIn }) =>
      seenIn[0] === undefined ? [] : (reader.read(pid, seenIn[0]) ?? []),
    );
  }

  /**
   * Freezes what can be frozen, after a note that a later run finds should this one be killed. Gives what thaws
   * it again; the caller does that in `finally`. A cgroup that holds this process, its ancestors or a slurmstepd
   * must not be among them.
   */
  async freeze(options: FreezeOptions): Promise<{ readonly frozen: boolean; readonly thaw: () => void }> {
    const undo: (() => void)[] = [];
    const thawAll = () => {
      for (const one of undo.splice(0).reverse()) one();
    };
    let frozen = true;
    try {
      for (const cgroup of this.cgroups.filter((one) => canFreeze(this.host, one))) {
        const directory = holdCgroup(this.host, cgroup);
        undo.push(() => directory.close());
        const note = writeFrozenNote(this.host, cgroup, directory);
        undo.push(() => {
          thaw({ cgroup, directory });
          note.remove();
        });
        frozen = (await freeze(this.host, { cgroup, directory }, options)) && frozen;
      }
      return { frozen, thaw: thawAll };
    } catch (error) {
      thawAll();
      throw error;
    }
  }

  /** Ends every process in it and below. See killMembers. */
  async kill(options: KillOptions): Promise<KillReport> {
    return killMembers(this.host, this.cgroups, options);
  }

  populated(): boolean {
    return this.cgroups.some((cgroup) => ifThere(() => cgroup.populated()) ?? false);
  }

  /** The latest modification time of its directories; `undefined` when all are gone. */
  mtimeNs(): bigint | undefined {
    const times = this.cgroups.flatMap((cgroup) => cgroup.mtimeNs() ?? []);
    return times.reduce<bigint | undefined>(
      (latest, time) => (latest === undefined || time > latest ? time : latest),
      undefined,
    );
  }

  /**
   * Moves a process into every cgroup of the set, or leaves it where it was.
   *
   * @throws SlurmCgroupsError of the hierarchy that refused; its message also says what could not be undone.
   * ERR_CGROUP_GONE for an empty set: no hierarchy has (or had) the cgroup.
   */
  async add(pid: number): Promise<void> {
    if (this.cgroups.length === 0) {
      throw new SlurmCgroupsError('ERR_CGROUP_GONE', `Cannot add process ${pid}: no hierarchy has that cgroup`, {
        pid,
      });
    }
    await withProcess(this.host, pid, async (held) => {
      const targets: MoveTarget[] = [];
      try {
        for (const cgroup of this.cgroups) targets.push({ cgroup, directory: holdCgroup(this.host, cgroup) });
        const move = OwnMove.plan(this.host, held, targets);
        try {
          const unproven = await attempted(move);
          if (move.complete && unproven === undefined) return;
          await move.undo();
          throw failureOf(move, unproven);
        } finally {
          move.close();
        }
      } finally {
        for (const target of targets) target.directory.close();
      }
    });
  }

  /** Creates a cgroup of that name below each, or none: what was made is removed when one is refused. */
  create(name: string): CgroupSet {
    const made: Cgroup[] = [];
    try {
      for (const cgroup of this.cgroups) made.push(cgroup.create(name));
      return new CgroupSet(this.host, made);
    } catch (error) {
      for (const cgroup of made) ifThere(() => cgroup.remove());
      throw error;
    }
  }

  /** Removes it and everything below in every hierarchy, as far as it is empty. See removeTrees. */
  async remove(options: RemovalOptions): Promise<Removal> {
    return removeTrees(this.host, this.cgroups, options);
  }

  /** The set of cgroups of that name below, where it exists. */
  child(...names: readonly string[]): CgroupSet {
    const there = this.cgroups
      .map((cgroup) => new Cgroup(this.host, cgroup.hierarchy, childPath(cgroup.path, ...names)))
      .filter((cgroup) => this.host.stat(cgroup.directory) !== undefined);
    return new CgroupSet(this.host, there);
  }
}

/** Writes and looks in /proc; the error when that could not be read: not proven is not done. */
async function attempted(move: OwnMove): Promise<SlurmCgroupsError | undefined> {
  try {
    await move.run(false);
    move.prove();
    return undefined;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error;
    await move.undo();
    throw error;
  }
}

function failureOf(move: Move, unproven: SlurmCgroupsError | undefined): SlurmCgroupsError {
  const refusals = move.report.filter((one) => one.error !== undefined);
  const first = unproven ?? (refusals.find((one) => one.outcome === 'failed') ?? refusals[0])?.error;
  const remaining = move.report.filter((one) => one.outcome === 'remains').map((one) => quote(one.path));
  const message = first?.message ?? `Cannot move process ${move.process.pid}`;
  const rest = remaining.length === 0 ? '' : `; it could not be put back from ${remaining.join(', ')}`;
  return new SlurmCgroupsError(first?.code ?? 'ERR_CGROUP_REFUSED', `${message}${rest}`, first?.subject, first);
}
