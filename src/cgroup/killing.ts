// Ending every process of a set of cgroups, however fast they fork: cgroup.kill where the kernel has it,
// else freeze, list, signal, thaw; what is seen outside a freezer is signalled one by one, identity checked.
// Who is spared the caller says; a cgroup that holds somebody spared is never frozen nor killed as a whole.

import { defined } from '../machine/defined.js';
import { hasCode, ifThere, isGone } from '../machine/errors.js';
import type { Directory, Host, Libc, Signal } from '../machine/host.js';
import { type Cgroup, holdCgroup } from './cgroup.js';
import { canFreeze, freeze, frozenAt, isToldToFreeze, thaw, thawAt } from './freezer.js';
import { writeFrozenNote } from './frozen-note.js';
import { hierarchyKey, type Membership, parseMemberships } from './membership.js';
import { membershipsOf } from './membership-fallback.js';
import { pathBelow } from './path.js';
import { filesOf, type ProcessIdentity, parseProcStat, parseProcStatus, standingThread } from './process.js';
import { isDead, isDeadState } from './process-end.js';

/** A process of the set, as it was when it was looked at. */
export interface Member extends ProcessIdentity {
  readonly comm: string;
  readonly state: string;
  readonly ppid: number;
  readonly kernelThread: boolean;
  readonly uids: readonly [number, number, number, number];
  readonly memberships: readonly Membership[];
  /** The cgroup of the set in which it was seen first. */
  readonly seenIn: Cgroup;
}

export interface KillOptions {
  /** Why a member is left alone; `undefined`: it is ended. Asked anew in every round. */
  readonly spare?: (member: Member) => string | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface KillReport {
  /** Gone, and how: by cgroup.kill or SIGKILL. */
  readonly ended: readonly (Member & { readonly by: 'cgroup.kill' | Signal })[];
  /** Still there at the deadline. */
  readonly remaining: readonly Member[];
  readonly spared: readonly { readonly member: Member; readonly why: string }[];
  /** Cgroups that somebody else had frozen, thawed so that what is in them can end. */
  readonly thawed: readonly string[];
  readonly rounds: number;
}

/** How long a freeze may take before members are signalled one by one, and waits between looks. */
const timing = { freezeMs: 3000, firstPauseMs: 1, longestPauseMs: 50, againMs: 250 };

/** Ends the members of `cgroups` and of all below, again until nothing new appears or the deadline passes. */
export async function killMembers(host: Host, cgroups: readonly Cgroup[], options: KillOptions): Promise<KillReport> {
  const deadline = host.now() + options.timeoutMs;
  const killing = new Killing(host, cgroups, options, await host.libc());
  let pause = timing.firstPauseMs;
  let again = timing.againMs;
  let lookAt = host.now() + again;
  let unreached: readonly Member[] = [];
  for (;;) {
    // Dying takes far longer than killing, so waiting costs little: pids alone are compared until one is new. From
    // time to time all are looked at closely, since a pid can have become another's.
    const { fresh, dying } = killing.list();
    if (!fresh && !dying && killing.isDone()) break;
    const isTime = host.now() > lookAt;
    if (isTime) {
      again *= 2;
      lookAt = host.now() + again;
    }
    if (fresh || (isTime && killing.hasUnsignalled())) {
      await killing.round();
      pause = timing.firstPauseMs;
    }
    if (host.now() > deadline) {
      unreached = killing.look();
      break;
    }
    await host.sleep(pause, options.signal);
    pause = Math.min(pause * 2, timing.longestPauseMs);
  }
  killing.thawOthers();
  return killing.report(unreached);
}

/** Sends a signal to every member, one by one. Gives those it reached. */
export async function signalMembers(
  host: Host,
  cgroups: readonly Cgroup[],
  signal: Signal,
  spare?: KillOptions['spare'],
): Promise<readonly Member[]> {
  const killing = new Killing(host, cgroups, { timeoutMs: 0, ...defined({ spare }) }, await host.libc());
  return killing.look().flatMap((member) => killing.signal(member.pid, member.seenIn, signal, member) ?? []);
}

type SignalledMember = Member & { readonly by: 'cgroup.kill' | Signal };

class Killing {
  readonly #host: Host;
  readonly #cgroups: readonly Cgroup[];
  readonly #options: KillOptions;
  readonly #libc: Libc | undefined;
  readonly #reader: MemberReader;
  readonly #signalled = new Map<string, SignalledMember>();
  /** Those of them that had not ended when they were looked at last. */
  readonly #pending = new Map<string, SignalledMember>();
  /** The pids of all that were signalled: a hint, by which most need no look. */
  readonly #signalledPids = new Set<number>();
  readonly #spared = new Map<string, { readonly member: Member; readonly why: string }>();
  readonly #thawed = new Set<string>();
  #rounds = 0;

  constructor(host: Host, cgroups: readonly Cgroup[], options: KillOptions, libc: Libc | undefined) {
    this.#host = host;
    this.#cgroups = cgroups;
    this.#options = options;
    this.#libc = libc;
    this.#reader = new MemberReader(host);
  }

  /** Whether a pid is listed that was neither signalled nor spared, and whether one is that was signalled. */
  list(): { readonly fresh: boolean; readonly dying: boolean } {
    const spared = this.#sparedPids();
    const pids = [...this.#pids().keys()];
    return {
      fresh: pids.some((pid) => !this.#signalledPids.has(pid) && !spared.has(pid)),
      dying: pids.some((pid) => this.#signalledPids.has(pid)),
    };
  }

  /** Looked at closely: nobody is left who is to end, and who was signalled is gone. */
  isDone(): boolean {
    return this.look().length === 0 && this.remaining().length === 0;
  }

  /** Looked at closely: whether a member was never signalled. SIGKILL once is enough, but what is frozen must be thawed. */
  hasUnsignalled(): boolean {
    this.thawOthers();
    return this.look().some((member) => !this.#signalled.has(keyOf(member)));
  }

  #pids(): ReadonlyMap<number, Cgroup> {
    const pids = new Map<number, Cgroup>();
    for (const top of this.#cgroups) {
      for (const cgroup of treeOf(top)) for (const pid of procsOf(cgroup)) if (!pids.has(pid)) pids.set(pid, cgroup);
    }
    return pids;
  }

  /** The members that are to end, now. */
  look(): readonly Member[] {
    return [...this.#pids()].flatMap(([pid, seenIn]) => this.#member(pid, seenIn) ?? []);
  }

  /**
   * A member that is to end; `undefined` for one that is spared, has ended, or has only a thread here. `known` is
   * the same process as it was some moments ago: whose it is need not be read again.
   */
  #member(pid: number, seenIn: Cgroup, known?: Member): Member | undefined {
    const member = this.#reader.read(pid, seenIn, known);
    if (member === undefined) return undefined;
    const threads = () => threadsOf(this.#host, pid, seenIn).some((memberships) => this.#isInside(memberships));
    // A dead first thread is in the root on v1, whatever the others do: then they say where the process is.
    if (this.#isInside(member.memberships) || (isDeadState(member.state) && threads())) {
      const why = this.#options.spare?.(member);
      if (why === undefined) return member;
      this.#spared.set(keyOf(member), { member, why });
    } else if (threads()) {
      // A process belongs where its first thread is: on v1 a thread of a foreign one can be moved in here.
      this.#spared.set(keyOf(member), { member, why: 'has only threads here, and belongs elsewhere' });
    }
    return undefined; // or it left, or is dying: the dying are in the root already
  }

  readonly #inside = new Map<readonly Membership[], boolean>();

  #isInside(memberships: readonly Membership[]): boolean {
    const known = this.#inside.get(memberships);
    if (known !== undefined) return known;
    const inside = memberships.some(({ controllers, path }) =>
      this.#cgroups.some(
        (cgroup) => cgroup.hierarchy.key === hierarchyKey(controllers) && pathBelow(path, cgroup.path) !== undefined,
      ),
    );
    this.#inside.set(memberships, inside);
    return inside;
  }

  /** One pass over everything: whole cgroups where nobody is spared, then who is left, one by one. */
  async round(): Promise<void> {
    this.#rounds++;
    const members = this.look();
    const known = new Map(members.map((member) => [member.pid, member]));
    const done = new Set<number>();
    for (const top of this.#cgroups) {
      if (!canFreeze(this.#host, top)) continue;
      for (const root of this.#freeOfSpared(top)) {
        for (const pid of await this.#killWhole(root, known)) done.add(pid);
      }
    }
    for (const member of members) if (!done.has(member.pid)) this.signal(member.pid, member.seenIn, 'SIGKILL', member);
    this.thawOthers();
  }

  #sparedPids(): ReadonlySet<number> {
    return new Set([...this.#spared.values()].map(({ member }) => member.pid));
  }

  /** The highest cgroups below `top` in which nobody is spared and somebody is to end. */
  #freeOfSpared(top: Cgroup): readonly Cgroup[] {
    const spared = this.#sparedPids();
    const free = (cgroup: Cgroup): readonly Cgroup[] => {
      const pids = treeOf(cgroup).flatMap(procsOf);
      if (pids.length === 0) return [];
      if (!pids.some((pid) => spared.has(pid))) return [cgroup];
      return (ifThere(() => cgroup.children()) ?? []).flatMap(free);
    };
    return free(top);
  }

  /**
   * Ends everything in a cgroup, as it is now; gives the pids that need no more. Its directory is held meanwhile: who
   * renames it or makes it anew has neither another's processes ended nor his own left frozen.
   */
  async #killWhole(root: Cgroup, known: ReadonlyMap<number, Member>): Promise<readonly number[]> {
    const held = ifThere(() => holdCgroup(this.#host, root));
    if (held === undefined) return [];
    try {
      if (root.hierarchy.version === 2 && this.#host.stat(`${root.directory}/cgroup.kill`) !== undefined)
        return this.#killAtOnce(root, held, known);
      // Frozen by somebody else: nothing in it can run, so it is listed and signalled as it is.
      if (frozenAt(this.#host, root) !== undefined) return this.#killListed(root, known);
      const note = writeFrozenNote(this.#host, root, held);
      try {
        // Not frozen in time, it is signalled all the same: most of it stands still and forks nothing meanwhile.
        await freeze(this.#host, { cgroup: root, directory: held }, { timeoutMs: timing.freezeMs });
        return this.#killListed(root, known);
      } finally {
        thaw({ cgroup: root, directory: held });
        note.remove();
      }
    } catch (error) {
      if (isGone(error)) return []; // the cgroup vanished: what was in it is gone or is seen elsewhere
      throw error;
    } finally {
      held.close();
    }
  }

  #killAtOnce(root: Cgroup, held: Directory, known: ReadonlyMap<number, Member>): readonly number[] {
    const members = treeOf(root).flatMap((cgroup) =>
      procsOf(cgroup).flatMap((pid) => this.#member(pid, cgroup, known.get(pid)) ?? []),
    );
    if (this.#freeOfSpared(root)[0] !== root) return []; // somebody came in who is spared: the next round goes round them
    if (this.#host.stat(root.directory)?.ino !== held.stat()?.ino) return []; // made anew: these are another's
    held.write('cgroup.kill', '1');
    for (const member of members) this.#note(member, 'cgroup.kill');
    return members.map((member) => member.pid);
  }

  #killListed(root: Cgroup, known: ReadonlyMap<number, Member>): readonly number[] {
    return treeOf(root).flatMap((cgroup) =>
      procsOf(cgroup).filter((pid) => this.signal(pid, cgroup, 'SIGKILL', known.get(pid)) !== undefined),
    );
  }

  /**
   * Signals whoever has that pid if he is to end: looked at while his pidfd is held, or without one right before. Not
   * even in a frozen cgroup is a listed pid the same for sure: on v2 a frozen process can be killed by others and its
   * pid be given away, on v1 one may have been on its way out. Gives whom the signal reached.
   */
  signal(pid: number, seenIn: Cgroup, signal: Signal, known?: Member): Member | undefined {
    try {
      const held = this.#libc?.holdForSignal(pid);
      try {
        const member = this.#member(pid, seenIn, known);
        if (member === undefined) return undefined;
        const act = () => (held === undefined ? this.#host.signal(pid, signal) : held.send(signal));
        return this.#send(member, signal, act) ? member : undefined;
      } finally {
        held?.close();
      }
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }

  #send(member: Member, signal: Signal, act: () => void): boolean {
    try {
      act();
    } catch (error) {
      if (hasCode(error, 'ERR_NO_SUCH_PROCESS')) return false; // it ended before
      throw error;
    }
    if (signal === 'SIGKILL') this.#note(member, signal);
    return true;
  }

  #note(member: Member, by: SignalledMember['by']): void {
    const key = keyOf(member);
    const signalled: SignalledMember = { ...member, by };
    this.#signalled.set(key, signalled);
    this.#pending.set(key, signalled);
    this.#signalledPids.add(member.pid);
  }

  /** A frozen v1 process dies only when it is thawed; an empty frozen cgroup would swallow whoever comes next. */
  thawOthers(): void {
    const spared = this.#sparedPids();
    for (const top of this.#cgroups) {
      for (const cgroup of treeOf(top)) {
        if (!isToldToFreeze(this.#host, cgroup)) continue;
        const members = treeOf(cgroup).flatMap(procsOf);
        if (members.length > 0 && members.every((pid) => spared.has(pid))) continue; // not ours to wake
        thawAt(this.#host, cgroup);
        this.#thawed.add(cgroup.directory);
      }
    }
  }

  /** Those that were signalled and still are there: a dying process leaves its cgroup before it is gone. */
  remaining(): readonly Member[] {
    for (const [key, member] of this.#pending) if (isDead(this.#host, member)) this.#pending.delete(key);
    return [...this.#pending.values()];
  }

  /** @param unreached members that no signal reached in time, since they came faster than they could be ended */
  report(unreached: readonly Member[]): KillReport {
    const remaining = [...this.remaining(), ...unreached.filter((member) => !this.#signalled.has(keyOf(member)))];
    return {
      ended: [...this.#signalled].flatMap(([key, member]) => (this.#pending.has(key) ? [] : [member])),
      remaining,
      spared: [...this.#spared.values()],
      thawed: [...this.#thawed],
      rounds: this.#rounds,
    };
  }
}

function keyOf(identity: ProcessIdentity): string {
  return `${identity.pid} ${identity.startTime}`;
}

/** Reads many processes. Most stand where others stand: the same text is parsed once. */
export class MemberReader {
  readonly #host: Host;
  readonly #texts = new Map<string, readonly Membership[]>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** `known` is a process of that pid as it was: if it still is that one, whose it is is not read again. */
  read(pid: number, seenIn: Cgroup, known?: Member): Member | undefined {
    return ifThere(() => {
      const stat = parseProcStat(this.#host.read(`/proc/${pid}/stat`));
      const { startTime, comm, state, ppid, kernelThread } = stat;
      const uids =
        known?.startTime === startTime ? known.uids : parseProcStatus(this.#host.read(`/proc/${pid}/status`)).uids;
      const tid = standingThread(filesOf(this.#host, pid), stat);
      const task = tid === pid ? { pid } : { pid, tid };
      const memberships = membershipsOf(this.#host, task, seenIn, (text) => this.#memberships(text));
      return { pid, startTime, comm, state, ppid, kernelThread, uids, memberships, seenIn };
    });
  }

  #memberships(text: string): readonly Membership[] {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const memberships = parseMemberships(text);
    this.#texts.set(text, memberships);
    return memberships;
  }
}

/** Where each thread of a process is; those that end meanwhile are left out. */
function threadsOf(host: Host, pid: number, seenIn: Cgroup): readonly (readonly Membership[])[] {
  const tids = ifThere(() => host.names(`/proc/${pid}/task`)) ?? [];
  return tids.flatMap((tid) => {
    const memberships = ifThere(() => membershipsOf(host, { pid, tid: Number(tid) }, seenIn));
    return memberships === undefined ? [] : [memberships];
  });
}

/** A cgroup and all below; what vanishes meanwhile is left out. */
function treeOf(top: Cgroup): readonly Cgroup[] {
  return ifThere(() => [top, ...top.descendants()]) ?? [];
}

function procsOf(cgroup: Cgroup): readonly number[] {
  try {
    return ifThere(() => cgroup.procs()) ?? [];
  } catch (error) {
    // A threaded v2 cgroup has no list of processes: its processes are listed by the domain above.
    if (hasCode(error, 'ERR_NOT_SUPPORTED')) return [];
    throw error;
  }
}
