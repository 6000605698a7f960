// Which processes are never moved. A name proves nothing: a user's program can carry slurmstepd's name and
// command line, and a setuid program makes root the owner of its /proc/PID (measured). What counts is the
// place in the tree, or all four uids 0 together with a root-owned executable of that name.

import type { Membership } from '../cgroup/membership.js';
import { childrenOf, type HeldProcess, holdProcess, rootsProcessesCalled } from '../cgroup/process.js';
import type { Deadline } from '../machine/deadline.js';
import { ifReadable, ifThere, SlurmCgroupsError } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import { type Host, isRegularFile } from '../machine/host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';
import { Pace } from '../machine/pace.js';
import { isConnected, listening, type TcpSocket, tcpSocketsOf } from '../machine/tcp-table.js';
import { readUidMin } from '../machine/users.js';
import { programName } from './config/slurmd.js';
import { parseJobPath } from './layout.js';
import type { SlurmNode } from './node.js';

/** Whose job it would be moved into, and how long may be looked. */
export interface MoveQuestion {
  readonly uid: number;
  /**
   * The process itself asks, through PAM, to be put into the job: root's program that opens a session of that user
   * (login, su, cron; an sshd whose connection is not over TCP). It alone answers for whose session it is.
   */
  readonly asksItself?: boolean;
  readonly deadline: Deadline;
}

/** Why a process may not be moved, as the end of a sentence that begins with the process; `undefined`: it may. */
export type Refusal = string | undefined;

const daemons: readonly string[] = ['slurmd', 'slurmstepd'];
const monitors: readonly string[] = ['sshd', 'sshd-session'];

/**
 * Whether a process may be moved into a job of `uid`: it is that user's with all four uids, or the root
 * process of sshd that watches over one connection (it holds that connection and does not listen).
 *
 * @throws SlurmCgroupsError when the process has ended, or /proc cannot be read.
 */
export async function refusalToMove(node: SlurmNode, held: HeldProcess, question: MoveQuestion): Promise<Refusal> {
  const { uid } = question;
  if (held.pid === 1) return 'is the first process of this machine';
  if (held.pid === node.host.self().pid) return 'is this command itself';
  if (held.stat().kernelThread) return 'is a thread of the kernel';
  const { uids } = held.status();
  if (uids.every((one) => one === uid) && uid !== 0) {
    return isAtSlurmstepdsPlace(node, held.memberships()) ? 'is at the place of slurmstepd in a job' : undefined;
  }
  if (areRoots(uids)) return refusalOfRoot(node, held, question);
  // A setuid program (su) asks as root, for another than the user who has started it.
  if (question.asksItself === true && uids[1] === 0) return isListening(held) ? 'is a daemon that listens' : undefined;
  const [real, effective, saved, file] = uids;
  return uids.every((one) => one === real)
    ? `belongs to uid ${real}, not to uid ${uid}`
    : `runs with the uids ${real}, ${effective}, ${saved} and ${file} (a setuid program), not with uid ${uid} alone`;
}

/**
 * Checks that a process may be moved into a job of `uid`.
 *
 * @throws SlurmCgroupsError ERR_PROTECTED, with the reason; others as refusalToMove().
 */
export async function checkMayMove(node: SlurmNode, held: HeldProcess, question: MoveQuestion): Promise<void> {
  const refusal = await refusalToMove(node, held, question);
  if (refusal === undefined) return;
  const { pid } = held;
  const { uid } = question;
  const message = `Process ${pid} (${held.stat().comm}) is not moved: it ${refusal}`;
  throw new SlurmCgroupsError('ERR_PROTECTED', message, { pid, uid });
}

async function refusalOfRoot(node: SlurmNode, held: HeldProcess, question: MoveQuestion): Promise<Refusal> {
  const name = rootExecutable(node.host, held);
  if (name !== undefined && daemons.includes(name)) return `is ${name}`;
  if (isAtSlurmstepdsPlace(node, held.memberships())) return 'is slurmstepd';
  if (name === undefined || !isMonitor(name)) {
    if (question.asksItself !== true) return "is root's";
    return isListening(held) ? 'is a daemon that listens' : undefined;
  }
  const connections = connectionsOfMonitor(held);
  if (connections === 'listens') return 'is the sshd that listens for all users';
  if (connections.length === 0 && question.asksItself !== true) return 'is an sshd without a connection';
  const other = await otherUserBelow(node.host, held, question);
  return other === undefined ? undefined : `is the sshd of a session of uid ${other}`;
}

/** Whether a program of that name (`rootExecutable`) watches over connections: sshd, from 9.8 on sshd-session. */
export function isMonitor(name: string): boolean {
  return monitors.includes(name);
}

/**
 * The connections that an sshd holds, one where it watches over a session; `listens`: whatever else it holds, it is the
 * sshd that the connections of all users come to. What is read is the kernel's list of all the machine's connections, which
 * changes meanwhile and may lack one: where nothing was found it is looked for a second time.
 */
export function connectionsOfMonitor(held: Pick<HeldProcess, 'directory'>): readonly TcpSocket[] | 'listens' {
  const first = look(held);
  return first.length === 0 ? look(held) : first;
}

/**
 * Whether a process accepts TCP connections: a daemon that opens sessions of many users in its own process belongs to
 * none of their jobs. Unix sockets do not count: their table holds lines that any user can write.
 */
function isListening({ directory }: Pick<HeldProcess, 'directory'>): boolean {
  return tcpSocketsOf(directory).some(({ state }) => state === listening);
}

function look({ directory }: Pick<HeldProcess, 'directory'>): readonly TcpSocket[] | 'listens' {
  const sockets = tcpSocketsOf(directory);
  if (sockets.some(({ state }) => state === listening)) return 'listens';
  return sockets.filter(isConnected);
}

/** v2 only: `step_X/slurm` takes no process of a user. */
export function isAtSlurmstepdsPlace(node: Pick<SlurmNode, 'tops'>, memberships: readonly Membership[]): boolean {
  return memberships.some(
    ({ controllers, path }) =>
      controllers.length === 0 &&
      node.tops.some((top) => top.version === 2 && parseJobPath(path, top)?.side === 'slurm'),
  );
}

/**
 * Which of the programs that are protected by name a process runs that is root's with all four uids; `undefined`: none
 * of them, or it or its file is not root's. Distributions add a suffix (Debian's alternatives end in `slurmstepd-wlm`; measured), which is left out. An
 * update leaves ` (deleted)` behind the path of what still runs: the new file of that name answers for it.
 *
 * The name stands alone where there is no such file any more, and where the file lies on a file system that may never
 * answer (NFS, FUSE): that one is not touched, since this process could not be helped. Only root's own doing makes a
 * process with all four uids 0 from a file of that name.
 */
export function rootExecutable(host: Host, held: HeldProcess): string | undefined {
  if (!areRoots(held.status().uids)) return undefined;
  const link = ifThere(() => held.directory.readlink('exe'));
  if (link === undefined) return undefined; // a thread of the kernel, or it is ending
  const file = link.replace(/ \(deleted\)$/, '');
  const name = programName(file);
  if (!file.startsWith('/') || ![...daemons, ...monitors].includes(name)) return undefined;
  if (!answersAtOnce(readMountTable(host).at(file)?.type)) return name;
  const stat = host.stat(file);
  const trusted = stat === undefined ? file !== link : stat.uid === 0n && isRegularFile(stat);
  return trusted ? name : undefined;
}

/** A process that was listed. What is known of its uids spares the look at most of them. */
export interface ListedProcess {
  readonly pid: number;
  readonly startTime?: bigint;
  readonly uids?: readonly number[];
}

/** The same of a process that was listed; `undefined` also where it has ended, or its pid is another's now. */
export function protectedProgramOf(host: Host, { pid, startTime, uids = [] }: ListedProcess): string | undefined {
  if (!areRoots(uids)) return undefined;
  const isIt = (held: HeldProcess) => startTime === undefined || held.startTime === startTime;
  const look = (held: HeldProcess) => (isIt(held) ? rootExecutable(host, held) : undefined);
  return ifThere(() => withHeld(holdProcess(host, pid), look));
}

function areRoots(uids: readonly number[]): boolean {
  return uids.every((uid) => uid === 0);
}

/** A child that runs as another person: then the connection is that person's, not `uid`'s. */
async function otherUserBelow(
  host: Host,
  held: HeldProcess,
  { uid, deadline }: MoveQuestion,
): Promise<number | undefined> {
  const uidMin = readUidMin(host);
  for (const pid of await childrenOf(host, held, new Pace(host, deadline))) {
    // One that has ended tells nothing any more.
    const real = ifThere(() => withHeld(holdProcess(host, pid), (child) => child.status().uids[0]));
    if (real !== undefined && real >= uidMin && real !== uid) return real;
  }
  return undefined;
}

/** The pid of a running slurmd, found by executable and uids; `undefined` when none runs. */
export function findSlurmd(host: Host): number | undefined {
  for (const pid of rootsProcessesCalled(host, 'slurmd')) {
    // Where it has ended meanwhile, or is not ours to see, it is not known.
    const name = ifReadable(() => protectedProgramOf(host, { pid }));
    if (name === 'slurmd') return pid;
  }
  return undefined;
}
