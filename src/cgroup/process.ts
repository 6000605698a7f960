// What a process is: a pid and its start time, never a bare number. A listing gives values; for an effect
// the process is held (`/proc/PID` open), so that the kernel notices a pid that is given away.

import {
  ifReadable,
  ifRecorded,
  ifThere,
  isGone,
  ParseError,
  SlurmCgroupsError,
  SystemCallError,
} from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import type { Directory, Host } from '../machine/host.js';
import type { Pace } from '../machine/pace.js';
import { type Membership, parseMemberships } from './membership.js';

/** Pid and start time: two processes never share both. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly startTime: bigint;
}

/** A process as the key of a map. */
export function processKey({ pid, startTime }: ProcessIdentity): string {
  return `${pid} ${startTime}`;
}

/** What /proc/PID/stat tells. */
export interface ProcessStat extends ProcessIdentity {
  /** At most 15 bytes, chosen by the process itself: it proves nothing. */
  readonly comm: string;
  /** `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`. */
  readonly state: string;
  readonly ppid: number;
  /** That thread moves to no other cgroup any more: PF_EXITING, set some time before the state is Z, or dead. */
  readonly exiting: boolean;
  /** How many threads the process has, dead ones that are not collected yet among them. */
  readonly threads: number;
  /** PF_KTHREAD: it has no user space, and belongs to the kernel. */
  readonly kernelThread: boolean;
}

/** What /proc/PID/status tells of users and threads. */
export interface ProcessStatus {
  /** Thread group: the pid of the process a thread belongs to. */
  readonly tgid: number;
  readonly pid: number;
  /** Real, effective, saved and file-system uid. */
  readonly uids: readonly [number, number, number, number];
}

/** A process whose /proc/PID is held open: every read answers ERR_NO_SUCH_PROCESS once it is dead. */
export interface HeldProcess extends ProcessIdentity {
  readonly directory: Directory;
  stat(): ProcessStat;
  status(): ProcessStatus;
  /** Where it stands: its first thread, or where that one has ended and others have not, one of those. */
  memberships(): readonly Membership[];
  /** Memberships of one of its threads. */
  membershipsOf(tid: number): readonly Membership[];
  /** Ids of its threads, its own pid among them. */
  threads(): readonly number[];
  close(): void;
}

const flagExiting = 0x4; // PF_EXITING, include/linux/sched.h
const flagKernelThread = 0x00200000; // PF_KTHREAD, include/linux/sched.h
const maxPid = 4_194_304; // PID_MAX_LIMIT, include/linux/threads.h

/**
 * Holds a process open. The caller closes it.
 *
 * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS, also for a thread's id and a pid no kernel can have.
 */
export function holdProcess(host: Host, pid: number): HeldProcess {
  if (!Number.isSafeInteger(pid) || pid < 1 || pid > maxPid) throw noSuchProcess(pid);
  let directory: Directory;
  try {
    directory = host.open(`/proc/${pid}`);
  } catch (error) {
    throw isGone(error) ? noSuchProcess(pid, error) : error;
  }
  const stat = () => parseProcStat(directory.read('stat'));
  const status = () => parseProcStatus(directory.read('status'));
  try {
    const { tgid } = status();
    if (tgid !== pid)
      throw new SlurmCgroupsError('ERR_NO_SUCH_PROCESS', `${pid} is a thread of process ${tgid}, not a process`, {
        pid,
      });
    return {
      pid,
      startTime: stat().startTime,
      directory,
      stat,
      status,
      memberships: () => parseMemberships(readStanding(directory)),
      membershipsOf: (tid) => parseMemberships(directory.read(`task/${tid}/cgroup`)),
      threads: () => directory.names('task').filter(isNumber).map(Number),
      close: () => directory.close(),
    };
  } catch (error) {
    directory.close();
    throw error instanceof SystemCallError && isGone(error) ? noSuchProcess(pid, error) : error;
  }
}

/** Files of a process, held or by path. */
export type ProcessFiles = Pick<Directory, 'read' | 'names'>;

export function filesOf(host: Host, pid: number): ProcessFiles {
  const folder = `/proc/${pid}`;
  return {
    read: (name) => host.read(`${folder}/${name}`),
    names: (name) => host.names(name === undefined ? folder : `${folder}/${name}`),
  };
}

/**
 * The thread that says where a process stands: the first, as `stat` shows it, or where that one is exiting and others
 * are not, one of those. An exiting thread is at the root on v1 and where it ended on v2, wherever the others are moved
 * to afterwards (measured).
 */
export function standingThread(files: ProcessFiles, { pid, exiting, threads }: ProcessStat): number {
  if (!exiting || threads <= 1) return pid;
  const others = files.names('task').filter((tid) => isNumber(tid) && Number(tid) !== pid);
  const isLiving = (tid: string) => ifThere(() => parseProcStat(files.read(`task/${tid}/stat`)).exiting) === false;
  return Number(others.find(isLiving) ?? pid);
}

/** The text of /proc/PID/cgroup, which may have been read just now, or that of the thread by which the process stands. */
export function readStanding(files: ProcessFiles, text: string = files.read('cgroup')): string {
  // Looked at afterwards: what was read of a thread that is not exiting now was true.
  const first = parseProcStat(files.read('stat'));
  const tid = standingThread(files, first);
  return tid === first.pid ? text : (ifThere(() => files.read(`task/${tid}/cgroup`)) ?? text);
}

/**
 * Where each thread of a process is, but its first. Threads that are exiting are left out: they move no more, and v1
 * shows them at the root of every hierarchy.
 */
export function placesOfOtherThreads(held: HeldProcess): readonly ThreadPlace[] {
  const others = held.threads().filter((tid) => tid !== held.pid);
  return others.flatMap((tid) => {
    const memberships = ifThere(() => held.membershipsOf(tid));
    return memberships === undefined || isExitingThread(held.directory, tid) ? [] : [{ tid, memberships }];
  });
}

export interface ThreadPlace {
  readonly tid: number;
  readonly memberships: readonly Membership[];
}

function isExitingThread(files: ProcessFiles, tid: number): boolean {
  const look = () => ifThere(() => parseProcStat(files.read(`task/${tid}/stat`)).exiting) ?? true;
  return ifRecorded(look) ?? false; // of a recording made before this was read
}

/** Runs `act` with the process held open, and closes it whatever happens. */
export async function withProcess<T>(host: Host, pid: number, act: (held: HeldProcess) => Promise<T> | T): Promise<T> {
  const held = holdProcess(host, pid);
  try {
    return await act(held);
  } finally {
    held.close();
  }
}

function noSuchProcess(pid: number, cause?: unknown): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_NO_SUCH_PROCESS', `There is no process ${pid}`, { pid }, cause);
}

/** Who a process is. */
export function identityOf(host: Host, pid: number): ProcessIdentity {
  return withHeld(holdProcess(host, pid), ({ startTime }) => ({ pid, startTime }));
}

/** Whether that very process is still there, zombies too. */
export function isThere(host: Host, identity: ProcessIdentity): boolean {
  const found = ifThere(() => parseProcStat(host.read(`/proc/${identity.pid}/stat`)));
  return found?.startTime === identity.startTime;
}

/**
 * Looks at one process after the other, as /proc lists them: none that lives all the while is left out. Lets others run
 * meanwhile. `late`: the time was over before all were looked at.
 */
export async function eachProcess(
  host: Host,
  pace: Pace,
  look: (pid: number) => 'stop' | undefined,
): Promise<'all' | 'stopped' | 'late'> {
  for (const pid of listPids(host)) {
    if (pace.isDue()) {
      await pace.pause();
      if (pace.isOver()) return 'late';
    }
    if (look(pid) === 'stop') return 'stopped';
  }
  return 'all';
}

/** Pids in /proc, unsorted. */
export function listPids(host: Host): readonly number[] {
  return host.names('/proc').filter(isNumber).map(Number);
}

/**
 * The processes with root's four uids that have this name (15 characters at most), by what every user can see. That is
 * no proof: a program of that name that root runs may be a user's. The caller looks at its executable.
 */
export function* rootsProcessesCalled(host: Host, comm: string): Generator<number> {
  // Ended meanwhile, hidden from this user, or not recorded: none.
  for (const pid of listPids(host)) if (ifReadable(() => isRootsCalled(host, pid, comm)) === true) yield pid;
}

function isRootsCalled(host: Host, pid: number, comm: string): boolean {
  // Where the effective uid is 0 the folder is root's (proc(5)). Asking costs a third of a read, and most are users'.
  const folder = ifRecorded(() => host.stat(`/proc/${pid}`));
  if (folder !== undefined && folder.uid !== 0n) return false;
  if (parseProcStat(host.read(`/proc/${pid}/stat`)).comm !== comm) return false;
  return parseProcStatus(host.read(`/proc/${pid}/status`)).uids.every((uid) => uid === 0);
}

/**
 * The direct children, from /proc/PID/task/TID/children, or by looking at every process where that file is missing.
 *
 * @throws SlurmCgroupsError ERR_TIMEOUT where the time is over before all were looked at.
 */
export async function childrenOf(host: Host, held: HeldProcess, pace: Pace): Promise<readonly number[]> {
  const children: number[] = [];
  for (const tid of held.threads()) {
    if (pace.isDue()) await pace.pause();
    if (pace.isOver()) throw late();
    try {
      children.push(...held.directory.read(`task/${tid}/children`).split(' ').filter(isNumber).map(Number));
    } catch (error) {
      // A thread may end meanwhile. Without CONFIG_PROC_CHILDREN the file is missing in a thread that lives.
      if (!isGone(error)) throw error;
      if (held.directory.stat(`task/${tid}`) !== undefined) return (await allChildren(host, pace)).get(held.pid) ?? [];
    }
  }
  return children;
}

/**
 * The children of every process that has any: each that lives while that is read is among them. Of that file the kernel
 * promises less: where children end while it is read, others can be left out (proc(5), task/TID/children).
 *
 * @throws SlurmCgroupsError ERR_TIMEOUT where the time is over before all were looked at.
 */
export async function allChildren(host: Host, pace: Pace): Promise<ReadonlyMap<number, readonly number[]>> {
  const children = new Map<number, number[]>();
  const end = await eachProcess(host, pace, (pid) => {
    const parent = parentOf(host, pid);
    if (parent === undefined) return undefined;
    const known = children.get(parent);
    if (known === undefined) children.set(parent, [pid]);
    else known.push(pid);
    return undefined;
  });
  if (end === 'late') throw late();
  return children;
}

function late(): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_TIMEOUT', 'Not all processes could be looked at before the deadline');
}

/** `undefined`: it ended between being listed and being read. */
function parentOf(host: Host, pid: number): number | undefined {
  return ifThere(() => parseProcStat(host.read(`/proc/${pid}/stat`)).ppid);
}

/**
 * Parses /proc/PID/stat (proc_pid_stat(5)).
 *
 * @throws ParseError
 */
export function parseProcStat(text: string): ProcessStat {
  // The name may hold blanks, parentheses and line breaks; no later field holds a parenthesis.
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const fields = text
    .slice(close + 2)
    .trimEnd()
    .split(' ');
  const pid = text.slice(0, open).trim();
  const [state, ppid, , , , , flags] = fields;
  const [threads, startTime] = [fields[17], fields[19]];
  if (
    open < 1 ||
    close < open ||
    state === undefined ||
    !isNumber(pid) ||
    !isNumber(ppid ?? '') ||
    !isNumber(flags ?? '') ||
    !isNumber(threads ?? '') ||
    !isNumber(startTime ?? '')
  ) {
    throw new ParseError('Cannot read the state of a process: /proc/PID/stat does not have its form', { line: 1 });
  }
  return {
    pid: Number(pid),
    startTime: BigInt(startTime ?? 0),
    comm: text.slice(open + 1, close),
    state,
    ppid: Number(ppid),
    exiting: state === 'Z' || state === 'X' || (Number(flags) & flagExiting) !== 0,
    threads: Number(threads),
    kernelThread: (Number(flags) & flagKernelThread) !== 0,
  };
}

/**
 * Parses /proc/PID/status (proc_pid_status(5)).
 *
 * @throws ParseError
 */
export function parseProcStatus(text: string): ProcessStatus {
  const tgid = /^Tgid:\t(\d+)$/m.exec(text)?.[1];
  const pid = /^Pid:\t(\d+)$/m.exec(text)?.[1];
  const uid = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(text);
  if (tgid === undefined || pid === undefined || uid === null) {
    throw new ParseError('Cannot read the users of a process: /proc/PID/status lacks Tgid, Pid or Uid');
  }
  return {
    tgid: Number(tgid),
    pid: Number(pid),
    uids: [Number(uid[1]), Number(uid[2]), Number(uid[3]), Number(uid[4])],
  };
}

/**
 * For how many descriptors the table of a process has room (FDSize): it has no more than that, and has had half as many
 * or one with as high a number. To list them takes the longer the more there is room for.
 */
export function descriptorRoom({ directory }: HeldProcess): number {
  return Number(/^FDSize:\t(\d+)$/m.exec(directory.read('status'))?.[1] ?? 0);
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}
