// Ending every process of a set of cgroups, however fast they fork: cgroup.kill where the kernel has it,
// else freeze, list, signal, thaw; what is seen outside a freezer is signalled one by one, identity checked.
// The caller says what is spared; a cgroup that holds a spared process is never frozen nor killed as a whole.

import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, ifReadable, ifThere, isGone } from '../machine/errors.js';
import type { Host, Libc, Signal } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { Cgroup, holdCgroup, procsAt, threadsAt, type WalkedCgroup, walkCgroups } from './cgroup.js';
import { canFreeze, freezeAll, frozenAt, type HeldCgroup, isToldToFreezeAt, thaw } from './freezer.js';
import { type FrozenNote, writeFrozenNote } from './frozen-note.js';
import type { Hierarchy } from './hierarchies.js';
import { hierarchyKey, type Membership, parseMemberships } from './membership.js';
import { membershipsOf, type Place, placeAt, seenPlace } from './membership-fallback.js';
import { pathBelow } from './path.js';
import {
  filesOf,
  listPids,
  type ProcessIdentity,
  parseProcStat,
  parseProcStatus,
  processKey,
  standingThread,
} from './process.js';
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
  /** Cgroups that others had frozen, thawed so that what is in them can end. */
  readonly thawed: readonly string[];
  readonly rounds: number;
  /** Why there may be others that were not seen: the tree is too deep or too wide, changes too fast, or the time was over. */
  readonly unknown?: string;
}

/**
 * How long the freezes of a round may take before members are signalled one by one, waits between looks, and the time
 * that a look has at least, also when the time limit has passed: what is left must be told.
 */
const timing = { freezeMs: 3000, firstPauseMs: 1, longestPauseMs: 50, againMs: 250, leastMs: 150, signalMs: 15_000 };

/** How often it is tried to see what could not be seen, when nothing else is left to end. */
const blindRounds = 3;

/** Cgroups that are held and frozen at once. */
const mostFrozen = 64;

/**
 * Ends the members of `cgroups` and of all below, again until nothing new appears or the time is over. All that it does
 * is within that time, and some hundred milliseconds.
 */
export async function killMembers(host: Host, cgroups: readonly Cgroup[], options: KillOptions): Promise<KillReport> {
  const deadline = deadlineIn(host, options.timeoutMs, options.signal);
  const killing = new Killing(host, { cgroups, deadline, spare: options.spare, libc: await host.libc() });
  let pause = timing.firstPauseMs;
  let untilCloseLook = deadlineIn(host, timing.againMs);
  let blind = 0;
  let isLate = false;
  for (;;) {
    // Dying takes far longer than killing, so waiting costs little: pids alone are compared until one is new. From
    // time to time all are looked at closely, since a pid can have become another's.
    const { fresh, dying } = await killing.list();
    const isBlind = killing.unknown !== undefined;
    if (!fresh && !dying && (!isBlind || blind >= blindRounds) && (await killing.isDone())) {
      if (!(await killing.goByThreads())) break;
      continue;
    }
    const isTime = untilCloseLook.isOver();
    if (isTime) untilCloseLook = deadlineIn(host, untilCloseLook.wholeMs * 2);
    isLate = deadline.isOver();
    if (isLate && !killing.isFirst) break;
    const trySeeing = isBlind && !fresh && blind < blindRounds;
    if (trySeeing) blind++;
    if (fresh || trySeeing || (isTime && (await killing.hasUnsignalled()))) {
      await killing.round();
      pause = timing.firstPauseMs;
    }
    isLate = deadline.isOver();
    if (isLate) break;
    await host.sleep(Math.min(pause, deadline.leftMs()), options.signal);
    pause = Math.min(pause * 2, timing.longestPauseMs);
  }
  const seen = isLate ? await killing.look() : [];
  const { unknown } = killing;
  const isReached = await killing.endSeen(seen);
  await killing.thawOthers();
  if (isReached) await killing.settle();
  return killing.report(seen, unknown);
}

/** Sends a signal to every member, one by one. Gives those it reached. */
export async function signalMembers(
  host: Host,
  cgroups: readonly Cgroup[],
  signal: Signal,
  spare?: KillOptions['spare'],
  deadline: Deadline = deadlineIn(host, timing.signalMs),
): Promise<readonly Member[]> {
  return new Killing(host, { cgroups, deadline, spare, libc: await host.libc() }).signalAll(signal);
}

/** More ancestors than any process has. */
const mostAncestors = 1000;

interface Ending {
  readonly known: ReadonlyMap<number, Member>;
  readonly pace: Pace;
  /** The one time limit for all that is frozen. */
  readonly freezing: Deadline;
}

/** A cgroup that is frozen by us, and the note that says so. */
interface NotedCgroup extends HeldCgroup {
  readonly note: FrozenNote;
}

/** All of them, also where one fails: its note stays, and the next run tries again. */
function thawNoted(frozen: readonly NotedCgroup[]): void {
  const failures: unknown[] = [];
  for (const { note, ...one } of frozen) {
    try {
      thaw(one);
      note.remove();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

type SignalledMember = Member & { readonly by: 'cgroup.kill' | Signal };

interface KillingOptions {
  readonly cgroups: readonly Cgroup[];
  readonly deadline: Deadline;
  readonly spare: KillOptions['spare'];
  readonly libc: Libc | undefined;
}

/** What a walk found in a directory and below. */
interface Found {
  any: boolean;
  spared: boolean;
  /** Not all below could be seen. */
  blind: boolean;
  /** The highest cgroups below in which no process is spared and some are to end. */
  roots: Cgroup[];
}

/** What one look at everything gives. */
interface Survey {
  readonly members: ReadonlyMap<number, Member>;
  readonly roots: readonly Cgroup[];
}

class Killing {
  readonly #host: Host;
  readonly #cgroups: readonly Cgroup[];
  readonly #spare: KillOptions['spare'];
  readonly #deadline: Deadline;
  readonly #libc: Libc | undefined;
  readonly #reader: MemberReader;
  readonly #signalled = new Map<string, SignalledMember>();
  /** Those of them that had not ended when they were looked at last. */
  readonly #pending = new Map<string, SignalledMember>();
  /** The pids of all that were signalled: a hint, by which most need no look. */
  readonly #signalledPids = new Set<number>();
  readonly #spared = new Map<string, { readonly member: Member; readonly why: string }>();
  readonly #sparedPids = new Set<number>();
  readonly #thawed = new Set<string>();
  #byThreads = false;
  #rounds = 0;
  /** Why the last pass over everything did not see all. */
  unknown: string | undefined;

  constructor(host: Host, { cgroups, deadline, spare, libc }: KillingOptions) {
    this.#host = host;
    this.#cgroups = cgroups;
    this.#spare = spare;
    this.#deadline = deadline;
    this.#libc = libc;
    this.#reader = new MemberReader(host);
  }

  get isFirst(): boolean {
    return this.#rounds === 0;
  }

  /** The clock of one pass. */
  #pace(): Pace {
    return new Pace(this.#host, this.#deadline.atLeast(timing.leastMs));
  }

  /** Through one of the cgroups and all below; nothing where it is gone. */
  async #through(
    top: Cgroup,
    pace: Pace,
    visit: Pick<Parameters<typeof walkCgroups>[1], 'enter' | 'leave' | 'held'>,
  ): Promise<void> {
    try {
      const { unknown } = await walkCgroups(top, { pace, ...visit });
      this.unknown ??= unknown;
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /** Each pid that is listed, each cgroup for itself. */
  async #eachPid(pace: Pace, act: (pid: number, place: Place) => 'stop' | undefined): Promise<void> {
    this.unknown = undefined;
    let stopped = false;
    for (const top of this.#cgroups) {
      await this.#through(top, pace, {
        enter: async (at) => {
          const place = placeAt(at);
          for (const pid of this.#pidsAt(at)) {
            if (act(pid, place) === 'stop') {
              stopped = true;
              return 'stop';
            }
            if (pace.isDue()) await pace.pause();
          }
          return undefined;
        },
      });
      if (stopped) return;
    }
  }

  /**
   * A process whose first thread had ended before it was moved into a cgroup of v2 is in the list of threads there, and
   * in no list of processes, by which cgroup.kill goes too (measured). So where the lists are done with and something is
   * still in a cgroup, all that follows goes by threads as well. False: it did already, or nothing is there.
   */
  async goByThreads(): Promise<boolean> {
    if (this.#byThreads) return false;
    for (const top of this.#cgroups) {
      if (top.hierarchy.version === 1) continue; // there a process is listed where any thread of it is (measured)
      try {
        this.#byThreads ||= await top.populated({ pace: this.#pace() });
      } catch (error) {
        if (!isGone(error)) throw error; // removed by slurmd meanwhile
      }
    }
    return this.#byThreads;
  }

  #pidsAt(at: WalkedCgroup): readonly number[] {
    const pids = pidsAt(at);
    if (!this.#byThreads || at.top.value.hierarchy.version === 1) return pids;
    const known = new Set(pids);
    for (const tid of threadsAt(at)) {
      const tgid = known.has(tid) ? tid : ifThere(() => parseProcStatus(this.#host.read(`/proc/${tid}/status`)).tgid);
      if (tgid !== undefined) known.add(tgid);
    }
    return [...known];
  }

  /** Whether a pid is listed that was neither signalled nor spared, and whether one is that was signalled. */
  async list(): Promise<{ readonly fresh: boolean; readonly dying: boolean }> {
    let [fresh, dying] = [false, false];
    await this.#eachPid(this.#pace(), (pid) => {
      if (this.#signalledPids.has(pid)) dying = true;
      else if (!this.#sparedPids.has(pid)) fresh = true;
      return fresh ? 'stop' : undefined;
    });
    return { fresh, dying };
  }

  /** Looked at closely: no process is left that is to end, and those that were signalled are gone. */
  async isDone(): Promise<boolean> {
    return (await this.look()).length === 0 && this.remaining().length === 0;
  }

  /** Looked at closely: whether a member was never signalled. SIGKILL once is enough, but what is frozen must be thawed. */
  async hasUnsignalled(): Promise<boolean> {
    await this.thawOthers();
    const members = await this.look();
    this.#signalPassedBy(members); // its first thread ended just then
    return members.some((member) => !this.#signalled.has(processKey(member)));
  }

  /** The members that are to end, now. */
  async look(): Promise<readonly Member[]> {
    const members = new Map<number, Member>();
    const seen = new Set<number>();
    await this.#eachPid(this.#pace(), (pid, place) => {
      if (seen.has(pid)) return undefined;
      seen.add(pid);
      const member = this.#member(pid, place);
      if (member !== undefined) members.set(pid, member);
      return undefined;
    });
    return [...members.values()];
  }

  /** The same, and which cgroups hold no spared process. */
  async #survey(pace: Pace): Promise<Survey> {
    this.unknown = undefined;
    const members = new Map<number, Member>();
    const seen = new Set<number>();
    const roots: Cgroup[] = [];
    for (const top of this.#cgroups) {
      const found = new Map<number, Found>();
      await this.#through(top, pace, {
        enter: async (at) => {
          const here: Found = { any: false, spared: false, blind: false, roots: [] };
          found.set(at.depth, here);
          const place = placeAt(at);
          for (const pid of this.#pidsAt(at)) {
            here.any = true;
            if (!seen.has(pid)) {
              seen.add(pid);
              const member = this.#member(pid, place);
              if (member !== undefined) members.set(pid, member);
              if (pace.isDue()) await pace.pause();
            }
            if (this.#sparedPids.has(pid)) here.spared = true;
          }
          return undefined;
        },
        leave: (at) => {
          const here = found.get(at.depth);
          if (here === undefined) return undefined;
          if (!here.spared && !here.blind && (here.any || (at.restless && at.depth > 0))) here.roots = [at.value];
          if (at.restless) here.blind = true;
          const above = found.get(at.depth - 1);
          if (above !== undefined) {
            above.any ||= here.any;
            above.spared ||= here.spared;
            above.blind ||= here.blind;
            above.roots.push(...here.roots);
          } else if (canFreeze(this.#host, top)) roots.push(...here.roots);
          return undefined;
        },
      });
    }
    return { members, roots };
  }

  /**
   * A member that is to end; `undefined` for one that is spared, has ended, or has only a thread here. `known` is
   * the same process as it was some moments ago: whose it is need not be read again.
   */
  #member(pid: number, place: Place, known?: Member): Member | undefined {
    const member = this.#reader.read(pid, place, known);
    if (member === undefined) return undefined;
    const threads = () => threadsOf(this.#host, pid, place).some((memberships) => this.#isInside(memberships));
    // A dead first thread is in the root on v1, whatever the others do: then they say where the process is.
    if (this.#isInside(member.memberships) || (isDeadState(member.state) && threads())) {
      const why = this.#spare?.(member);
      if (why === undefined) return member;
      this.#leaveAlone(member, why);
    } else if (threads()) {
      // A process belongs where its first thread is: on v1 a thread of a foreign one can be moved in here.
      this.#leaveAlone(member, 'has only threads here, and belongs elsewhere');
    }
    return undefined; // or it left, or is dying: the dying are in the root already
  }

  #leaveAlone(member: Member, why: string): void {
    this.#spared.set(processKey(member), { member, why });
    this.#sparedPids.add(member.pid);
  }

  readonly #inside = new Map<readonly Membership[], boolean>();

  #isInside(memberships: readonly Membership[]): boolean {
    const known = this.#inside.get(memberships);
    if (known !== undefined) return known;
    const inside = memberships.some((one) => this.#topOf(one) !== undefined);
    this.#inside.set(memberships, inside);
    return inside;
  }

  /** The cgroup of the set at or below which a membership is. */
  #topOf({ controllers, path }: Membership): Cgroup | undefined {
    return this.#cgroups.find(
      (cgroup) => cgroup.hierarchy.key === hierarchyKey(controllers) && pathBelow(path, cgroup.path) !== undefined,
    );
  }

  /** One pass over everything: whole cgroups where no process is spared, then what is left, one by one. */
  async round(): Promise<void> {
    this.#rounds++;
    const pace = this.#pace();
    const freezing = pace.deadline.part(timing.freezeMs);
    const { members, roots } = await this.#survey(pace);
    const { unknown } = this;
    const done = new Set<number>();
    for (let first = 0; first < roots.length; first += mostFrozen) {
      if (pace.isOver()) break;
      const some = roots.slice(first, first + mostFrozen);
      for (const pid of await this.#killWhole(some, { known: members, pace, freezing })) done.add(pid);
    }
    if ([...members.keys()].some((pid) => !done.has(pid))) {
      await this.#eachPid(pace, (pid, place) => {
        const member = members.get(pid);
        if (member === undefined || done.has(pid)) return undefined;
        this.#signal(pid, place, 'SIGKILL', member);
        done.add(pid);
        return undefined;
      });
    }
    await this.endSeen([...members.values()].filter(({ pid }) => !done.has(pid)));
    if (unknown !== undefined || this.unknown !== undefined) await this.#endUnlisted();
    await this.thawOthers();
    this.unknown ??= unknown;
  }

  /**
   * Those that were seen, where the time was over before they were found in their cgroups once more: a tree that is wide
   * or restless costs its own removal time, and does not save its processes. Which process it is, and that it is still in
   * the set, is looked at as always. Gives whether a signal reached one.
   */
  async endSeen(members: readonly Member[]): Promise<boolean> {
    const turns = new Pace(this.#host, this.#deadline);
    let reached = false;
    for (const member of members) {
      if (this.#signalled.has(processKey(member))) continue;
      if (this.#signal(member.pid, seenPlace(member.seenIn), 'SIGKILL', member) !== undefined) reached = true;
      if (turns.isDue()) await turns.pause();
    }
    return reached;
  }

  /**
   * Where not every cgroup could be looked through, each process is asked where it is: a user can make more cgroups, or
   * rename them faster, than they can be listed, but /proc names the cgroup of a process in one read.
   */
  async #endUnlisted(): Promise<void> {
    const turns = new Pace(this.#host, this.#deadline);
    for (const pid of listPids(this.#host)) {
      if (pid <= 1 || this.#signalledPids.has(pid) || this.#sparedPids.has(pid)) continue;
      const cgroup = this.#cgroupOf(pid);
      if (cgroup !== undefined) this.#signal(pid, seenPlace(cgroup), 'SIGKILL');
      if (turns.isDue()) await turns.pause();
    }
  }

  /** The cgroup of the set in which a process says that it is; `undefined`: none, or /proc does not tell. */
  #cgroupOf(pid: number): Cgroup | undefined {
    for (const membership of ifReadable(() => this.#reader.memberships(pid)) ?? []) {
      const top = this.#topOf(membership);
      if (top !== undefined) return new Cgroup(this.#host, top.hierarchy, membership.path);
    }
    return undefined;
  }

  /** Waits for a moment until who was signalled last is gone. */
  async settle(): Promise<void> {
    const end = deadlineIn(this.#host, timing.leastMs, this.#deadline.signal);
    while (this.remaining().length > 0 && !end.isOver()) await this.#host.sleep(timing.firstPauseMs, end.signal);
  }

  async signalAll(signal: Signal): Promise<readonly Member[]> {
    const reached: Member[] = [];
    const seen = new Set<number>();
    await this.#eachPid(this.#pace(), (pid, place) => {
      if (seen.has(pid)) return undefined;
      seen.add(pid);
      const member = this.#signal(pid, place, signal);
      if (member !== undefined) reached.push(member);
      return undefined;
    });
    return reached;
  }

  /**
   * Ends everything in cgroups, as they are now; gives the pids that need no more. Their directories are held meanwhile:
   * where a user renames one or makes it anew, neither are another's processes ended nor is one left frozen. All are
   * frozen, and waited for once: a user who makes many that do not freeze delays no other.
   */
  async #killWhole(roots: readonly Cgroup[], { known, pace, freezing }: Ending): Promise<readonly number[]> {
    const done: number[] = [];
    const held: HeldCgroup[] = [];
    const frozen: NotedCgroup[] = [];
    try {
      for (const root of roots) {
        const directory = ifThere(() => holdCgroup(this.#host, root));
        if (directory === undefined) continue;
        const one: HeldCgroup = { cgroup: root, directory };
        held.push(one);
        const isKillable = root.hierarchy.version === 2 && !this.#byThreads;
        if (isKillable && this.#host.stat(`${root.directory}/cgroup.kill`) !== undefined) {
          done.push(...(await this.#killAtOnce(one, known, pace)));
          directory.close();
          held.pop();
        } else if (this.#mayFreeze(root)) {
          const note = ifThere(() => writeFrozenNote(this.#host, root, directory));
          if (note !== undefined) frozen.push({ ...one, note });
        }
      }
      // Not frozen in time, it is signalled all the same: most of it stands still and forks nothing meanwhile.
      if (frozen.length > 0) await freezeAll(this.#host, frozen, freezing);
      for (const one of held) done.push(...(await this.#killListed(one, known, pace)));
      return done;
    } finally {
      try {
        thawNoted(frozen);
      } finally {
        for (const { directory } of held) directory.close();
      }
    }
  }

  /**
   * Not what others froze: nothing in it can run, so it is listed and signalled as it is. Nor what is too deep to
   * be noted, nor where this process itself or one above it stands.
   */
  #mayFreeze(root: Cgroup): boolean {
    if (root.nameable !== root || frozenAt(this.#host, root) !== undefined) return false;
    for (let pid = this.#host.self().pid, steps = 0; pid > 1 && steps < mostAncestors; steps++) {
      const inside = ifThere(() =>
        parseMemberships(this.#host.read(`/proc/${pid}/cgroup`)).some(
          ({ controllers, path }) =>
            hierarchyKey(controllers) === root.hierarchy.key && pathBelow(path, root.path) !== undefined,
        ),
      );
      if (inside === true) return false;
      pid = ifThere(() => parseProcStat(this.#host.read(`/proc/${pid}/stat`)).ppid) ?? 0;
    }
    return true;
  }

  async #killAtOnce(
    { cgroup, directory }: HeldCgroup,
    known: ReadonlyMap<number, Member>,
    pace: Pace,
  ): Promise<readonly number[]> {
    const members: Member[] = [];
    let isFree = true;
    const before = this.unknown;
    this.unknown = undefined;
    await this.#through(cgroup, pace, {
      held: directory,
      enter: async (at) => {
        const place = placeAt(at);
        for (const pid of this.#pidsAt(at)) {
          const member = this.#member(pid, place, known.get(pid));
          if (member !== undefined) members.push(member);
          if (this.#sparedPids.has(pid)) isFree = false;
          if (pace.isDue()) await pace.pause();
        }
        return undefined;
      },
    });
    const isSeen = this.unknown === undefined;
    this.unknown = before ?? this.unknown;
    if (!isFree || !isSeen) return []; // a process came in that is spared: the next round goes round it
    if (this.#host.stat(cgroup.directory)?.ino !== directory.stat()?.ino) return []; // made anew: these are another's
    try {
      directory.write('cgroup.kill', '1');
    } catch (error) {
      if (isGone(error)) return []; // what was in it is gone, or is seen elsewhere
      throw error;
    }
    for (const member of members) this.#note(member, 'cgroup.kill');
    this.#signalPassedBy(members);
    return members.map((member) => member.pid);
  }

  /**
   * cgroup.kill sends its signal to the first thread of each process (send_sig in kernel/cgroup/cgroup.c): where that one
   * has ended, the others go on (measured, 6.1 and 6.18). A signal to the process takes them all.
   */
  #signalPassedBy(members: readonly Member[]): void {
    for (const member of members) {
      const isPassedBy = isDeadState(member.state) && this.#signalled.get(processKey(member))?.by === 'cgroup.kill';
      if (isPassedBy) this.#signal(member.pid, seenPlace(member.seenIn), 'SIGKILL', member);
    }
  }

  async #killListed(
    { cgroup, directory }: HeldCgroup,
    known: ReadonlyMap<number, Member>,
    pace: Pace,
  ): Promise<readonly number[]> {
    const done: number[] = [];
    await this.#through(cgroup, pace, {
      held: directory,
      enter: async (at) => {
        const place = placeAt(at);
        for (const pid of this.#pidsAt(at)) {
          if (this.#signal(pid, place, 'SIGKILL', known.get(pid)) !== undefined) done.push(pid);
          if (pace.isDue()) await pace.pause();
        }
        return undefined;
      },
    });
    return done;
  }

  /**
   * Signals the process that has that pid if it is to end: looked at while its pidfd is held, or without one right before. Not
   * even in a frozen cgroup is a listed pid the same for sure: on v2 a frozen process can be killed by others and its
   * pid be given away, on v1 one may have been on its way out. Gives whom the signal reached.
   */
  #signal(pid: number, place: Place, signal: Signal, known?: Member): Member | undefined {
    try {
      const held = this.#libc?.holdForSignal(pid);
      try {
        const member = this.#member(pid, place, known);
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
    const key = processKey(member);
    const signalled: SignalledMember = { ...member, by };
    this.#signalled.set(key, signalled);
    this.#pending.set(key, signalled);
    this.#signalledPids.add(member.pid);
  }

  /**
   * A frozen v1 process dies only when it is thawed; an empty frozen cgroup would swallow what comes next. What holds
   * none but the spared stays as it is.
   */
  async thawOthers(): Promise<void> {
    const pace = this.#pace();
    const { unknown } = this;
    for (const top of this.#cgroups.filter(({ hierarchy }) => isFreezer(hierarchy))) {
      let told = false;
      await this.#through(top, pace, {
        enter: (at) => {
          told = isToldToFreezeAt(at);
          return told ? 'stop' : undefined;
        },
      });
      if (told) await this.#thawBelow(top, pace);
    }
    this.unknown = unknown;
  }

  async #thawBelow(top: Cgroup, pace: Pace): Promise<void> {
    const found = new Map<number, { told: boolean; any: boolean; others: boolean }>();
    await this.#through(top, pace, {
      enter: (at) => {
        const pids = this.#pidsAt(at);
        const others = pids.some((pid) => !this.#sparedPids.has(pid));
        found.set(at.depth, { told: isToldToFreezeAt(at), any: pids.length > 0, others });
        return undefined;
      },
      leave: (at) => {
        const here = found.get(at.depth);
        if (here === undefined) return undefined;
        if (here.told && (!here.any || here.others)) {
          thaw({ cgroup: at.value, directory: at });
          this.#thawed.add(at.value.shown);
        }
        const above = found.get(at.depth - 1);
        if (above !== undefined) {
          above.any ||= here.any;
          above.others ||= here.others;
        }
        return undefined;
      },
    });
  }

  /** Those that were signalled and still are there: a dying process leaves its cgroup before it is gone. */
  remaining(): readonly Member[] {
    for (const [key, member] of this.#pending) if (isDead(this.#host, member)) this.#pending.delete(key);
    return [...this.#pending.values()];
  }

  /** @param seen at the very end: those of them that no signal reached came faster than they could be ended, or ended by themselves */
  report(seen: readonly Member[], unknown: string | undefined): KillReport {
    const unreached = seen.filter((member) => !this.#signalled.has(processKey(member)) && !isDead(this.#host, member));
    const remaining = [...this.remaining(), ...unreached];
    return {
      ended: [...this.#signalled].flatMap(([key, member]) => (this.#pending.has(key) ? [] : [member])),
      remaining,
      spared: [...this.#spared.values()],
      thawed: [...this.#thawed],
      rounds: this.#rounds,
      ...defined({ unknown }),
    };
  }
}

/** Reads many processes. Most stand where others stand: the same text is parsed once. */
export class MemberReader {
  readonly #host: Host;
  readonly #texts = new Map<string, readonly Membership[]>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** `known` is a process of that pid as it was: if it still is that one, whose it is is not read again. */
  read(pid: number, seenIn: Cgroup | Place, known?: Member): Member | undefined {
    const place = seenPlace(seenIn);
    return ifThere(() => {
      const stat = parseProcStat(this.#host.read(`/proc/${pid}/stat`));
      const { startTime, comm, state, ppid, kernelThread } = stat;
      const uids =
        known?.startTime === startTime ? known.uids : parseProcStatus(this.#host.read(`/proc/${pid}/status`)).uids;
      const tid = standingThread(filesOf(this.#host, pid), stat);
      const task = tid === pid ? { pid } : { pid, tid };
      const memberships = membershipsOf(this.#host, task, place, (text) => this.#memberships(text));
      return { pid, startTime, comm, state, ppid, kernelThread, uids, memberships, seenIn: place.cgroup };
    });
  }

  /** As /proc tells them. */
  memberships(pid: number): readonly Membership[] {
    return this.#memberships(this.#host.read(`/proc/${pid}/cgroup`));
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
function threadsOf(host: Host, pid: number, place: Place): readonly (readonly Membership[])[] {
  const tids = ifThere(() => host.names(`/proc/${pid}/task`)) ?? [];
  return tids.flatMap((tid) => {
    const memberships = ifThere(() => membershipsOf(host, { pid, tid: Number(tid) }, place));
    return memberships === undefined ? [] : [memberships];
  });
}

/** A threaded v2 cgroup has no list of processes, the top neither: its processes are listed by the domain above. */
function pidsAt(at: WalkedCgroup): readonly number[] {
  try {
    return procsAt(at);
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_SUPPORTED')) return [];
    throw error;
  }
}

function isFreezer({ version, controllers }: Hierarchy): boolean {
  return version === 2 || controllers.includes('freezer');
}
