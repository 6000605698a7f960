// The same cgroup in each hierarchy: what a job, a step or a task is to the kernel. The difference between
// v1 and v2 ends here: on v1 memberships differ from hierarchy to hierarchy, so lists are unions.

import { deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, ifThere, isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import {
  Cgroup,
  holdCgroup,
  incomplete,
  type LookOptions,
  paceOf,
  procsAt,
  threadsAt,
  type WalkCgroupsOptions,
  type WalkedCgroup,
  walkCgroups,
} from './cgroup.js';
import { canFreeze, type FreezeOptions, freezeAll, type HeldCgroup, thaw } from './freezer.js';
import { writeFrozenNote } from './frozen-note.js';
import type { Hierarchies } from './hierarchies.js';
import { type KillOptions, type KillReport, killMembers, type Member, MemberReader } from './killing.js';
import { placeAt } from './membership-fallback.js';
import { type Move, type MoveTarget, OwnMove } from './move.js';
import { type CgroupPath, childPath } from './path.js';
import { withProcess } from './process.js';
import { type Removal, type RemovalOptions, removeTrees } from './removal.js';

/** A process in a set, and where it was seen. */
export interface SetMember {
  readonly pid: number;
  readonly seenIn: readonly Cgroup[];
}

/** What was seen in a set. */
export interface Seen<T> {
  readonly all: readonly T[];
  /** Why there may be more. */
  readonly unknown?: string;
}

function complete<T>(cgroups: readonly Cgroup[], { all, unknown }: Seen<T>): readonly T[] {
  const [first] = cgroups;
  if (unknown === undefined || first === undefined) return all;
  throw incomplete(first, unknown);
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

  /**
   * Every process in it or below, in any hierarchy, ascending by pid.
   *
   * @throws SlurmCgroupsError ERR_INCOMPLETE where not all could be seen (see Cgroup.descendants).
   */
  async procs(options: LookOptions = {}): Promise<readonly SetMember[]> {
    return complete(this.cgroups, await this.listProcs(options));
  }

  /** The same; where not all could be seen, what was seen and why it is not all. */
  listProcs(options: LookOptions = {}): Promise<Seen<SetMember>> {
    return this.#members(procsAt, options);
  }

  /** Every thread in it or below, in any hierarchy. Throws like procs(). */
  async threads(options: LookOptions = {}): Promise<readonly SetMember[]> {
    return complete(this.cgroups, await this.#members(threadsAt, options));
  }

  async #members(list: (at: WalkedCgroup) => readonly number[], options: LookOptions): Promise<Seen<SetMember>> {
    const pace = paceOf(this.host, options);
    const members = new Map<number, Cgroup[]>();
    const unknown = await this.#walk({
      ...options,
      pace,
      enter: (at) => {
        for (const pid of list(at)) {
          const seen = members.get(pid);
          if (seen === undefined) members.set(pid, [at.value]);
          else seen.push(at.value);
        }
        return undefined;
      },
    });
    const all = [...members].sort(([a], [b]) => a - b).map(([pid, seenIn]) => ({ pid, seenIn }));
    return { all, ...defined({ unknown }) };
  }

  /** Through every hierarchy that still has it; the first reason why not all was seen. */
  async #walk(options: WalkCgroupsOptions): Promise<string | undefined> {
    let unknown: string | undefined;
    for (const top of this.cgroups) {
      try {
        const end = walkCgroups(top, options);
        const seen = end instanceof Promise ? await end : end;
        unknown ??= seen.unknown;
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    return unknown;
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

  /** All sets below, parents before children, by path. Throws like procs(). */
  async descendants(options: LookOptions = {}): Promise<ReadonlyMap<CgroupPath, CgroupSet>> {
    const byPath = new Map<CgroupPath, Cgroup[]>();
    let tooDeep: string | undefined;
    const unknown = await this.#walk({
      ...options,
      pace: paceOf(this.host, options),
      enter: (at) => {
        if (at.depth === 0) return undefined;
        if (at.value.nameable !== at.value) {
          tooDeep = 'some cgroups are deeper than a path may be long';
          return 'skip';
        }
        const known = byPath.get(at.value.path);
        if (known === undefined) byPath.set(at.value.path, [at.value]);
        else known.push(at.value);
        return undefined;
      },
    });
    const why = unknown ?? tooDeep;
    complete(this.cgroups, { all: [], ...(why === undefined ? {} : { unknown: why }) });
    return new Map([...byPath].map(([path, cgroups]) => [path, new CgroupSet(this.host, cgroups)]));
  }

  /** The same as procs() with what each process is; one that ended meanwhile is left out. */
  async members(options: LookOptions = {}): Promise<readonly Member[]> {
    return complete(this.cgroups, await this.listMembers(options));
  }

  /** The same; where not all could be seen, what was seen and why it is not all. */
  async listMembers(options: LookOptions = {}): Promise<Seen<Member>> {
    const pace = paceOf(this.host, options);
    const reader = new MemberReader(this.host);
    const known = new Set<number>();
    const all: Member[] = [];
    const unknown = await this.#walk({
      ...options,
      pace,
      enter: async (at) => {
        for (const pid of procsAt(at)) {
          if (known.has(pid)) continue;
          if (pace.isDue()) await pace.pause();
          const member = reader.read(pid, placeAt(at));
          known.add(pid);
          if (member !== undefined) all.push(member);
        }
        return undefined;
      },
    });
    return { all: all.sort((a, b) => a.pid - b.pid), ...defined({ unknown }) };
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
    try {
      const held: HeldCgroup[] = [];
      for (const cgroup of this.cgroups.filter((one) => canFreeze(this.host, one))) {
        const directory = holdCgroup(this.host, cgroup);
        undo.push(() => directory.close());
        const note = writeFrozenNote(this.host, cgroup, directory);
        undo.push(() => {
          thaw({ cgroup, directory });
          note.remove();
        });
        held.push({ cgroup, directory });
      }
      const frozen = await freezeAll(this.host, held, deadlineIn(this.host, options.timeoutMs, options.signal));
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

  /** Whether a process is in it or below in any hierarchy. See Cgroup.populated. */
  async populated(options: LookOptions = {}): Promise<boolean> {
    const pace = paceOf(this.host, options);
    let unknown: unknown;
    for (const cgroup of this.cgroups) {
      try {
        if (await cgroup.populated({ ...options, pace })) return true;
      } catch (error) {
        if (hasCode(error, 'ERR_INCOMPLETE')) unknown ??= error;
        else if (!isGone(error)) throw error;
      }
    }
    if (unknown !== undefined) throw unknown;
    return false;
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
