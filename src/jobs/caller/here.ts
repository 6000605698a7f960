// Caller ID where the source of a connection is this very node: what its slurmd would look up is looked up here, with
// no other program. The other end of the connection is a socket of this node, and a process in some job holds it.
//
// Only the members of Slurm's job cgroups are looked at, never the whole of /proc: a process in none of them is in no job,
// so whether it holds the socket changes nothing. The user's own jobs come first, since no other counts in the end; then,
// where the kernel says that another user made the socket, that user's, to say whose it is. So the cost follows the
// jobs of one user or two (v1), not the processes of the node.

import { CgroupSet } from '../../cgroup/cgroup-set.js';
import { descriptorRoom, type HeldProcess, holdProcess } from '../../cgroup/process.js';
import { defined } from '../../machine/defined.js';
import { hasCode, isGone } from '../../machine/errors.js';
import { withHeld } from '../../machine/held.js';
import type { Directory } from '../../machine/host.js';
import { isOwnAddress } from '../../machine/own-addresses.js';
import { Pace } from '../../machine/pace.js';
import { findSockets, socketInodeAt, type TcpConnection, type TcpSocket } from '../../machine/tcp-table.js';
import { cgroupOf, discoverJobs } from '../discovery.js';
import { nameOfJob, type OwnedJob } from '../job.js';
import { isSameJob } from '../layout.js';
import { jobPlaceOf } from '../membership-in-job.js';
import { findOwners } from '../owners/find.js';
import { type CallerIdAnswer, type CallerIdQuestion, unknownCaller } from './question.js';

/**
 * The answer of this node; `undefined`: the connection does not begin here, another must be asked.
 *
 * @throws SlurmCgroupsError where /proc or the jobs cannot be read.
 */
export async function callerHere(question: CallerIdQuestion): Promise<CallerIdAnswer | undefined> {
  const { connection } = question;
  const found = lookUp(question);
  if (found === undefined) return undefined;
  if (found.length === 0)
    return unknownCaller(`${connection.source.address.text} is this node, which has no such connection (any more)`);
  const walk = new Walk(question, new Set(found.map(({ inode }) => inode)));
  const holder = (await walk.through(question.ownJobs)) ?? (await walk.through(jobsOfOthers(question, found)));
  if (holder === undefined) {
    if (walk.late) return unknownCaller('looking through the processes of the jobs here took too long');
    if (walk.unlisted !== undefined) return unknownCaller(walk.unlisted);
    if (walk.hidden > 0)
      return unknownCaller(`only root may see whether ${walk.hidden} processes of jobs here hold the socket`);
    if (walk.crowded !== undefined)
      return unknownCaller(
        `process ${walk.crowded} in a job here may hold the socket: it has room for more than ${mostDescriptors} descriptors, and was not looked through`,
      );
    return { answer: 'none' };
  }
  if (holder.inSeveral)
    return unknownCaller(`process ${holder.pid}, which holds the other end, is in several jobs at once`);
  return answerFor(question, holder.job);
}

async function answerFor({ node, deadline }: CallerIdQuestion, job: OwnedJob): Promise<CallerIdAnswer> {
  const isKnown = job.jobId !== undefined && job.uid !== undefined;
  const [owned = job] = isKnown ? [job] : await findOwners([job], { node, ...deadline.wait() });
  const { jobId, uid, unknownWhy } = owned;
  if (jobId === undefined)
    return unknownCaller(`it comes from ${nameOfJob(job)}, whose id is not known: ${unknownWhy ?? 'it is gone'}`);
  return { answer: 'job', jobId, ...defined({ uid }) };
}

/** The sockets of this node at the source of the connection; `undefined`: the source is another machine. */
function lookUp({
  node: { host },
  connection,
  pid = host.self().pid,
}: CallerIdQuestion): readonly TcpSocket[] | undefined {
  return withHeld(host.open(`/proc/${pid}`), (process) => {
    const isOwn = isOwnAddress(process, connection.source.address);
    if (isOwn === false) return undefined;
    const found = socketsAt(process, connection);
    // Where the addresses are not to be seen, having the socket proves that the source is here.
    return found.length === 0 && isOwn === undefined ? undefined : found;
  });
}

/** A table that changes while it is read may lack a row: what is not there is looked for a second time. */
function socketsAt(process: Directory, { source, destination }: TcpConnection): readonly TcpSocket[] {
  const look = () => findSockets(process, source, destination);
  const found = look();
  return found.length > 0 ? found : look();
}

/** Where the socket is another user's: that user's jobs on v1; on v2, where no path names an owner, all others. */
function jobsOfOthers({ node, uid, ownJobs }: CallerIdQuestion, sockets: readonly TcpSocket[]): readonly OwnedJob[] {
  const known = new Set(ownJobs.flatMap(({ cgroups }) => cgroups.map(({ path }) => path)));
  const makers = new Set(sockets.map((socket) => socket.uid).filter((maker) => maker !== uid));
  return [...makers]
    .flatMap((maker) => discoverJobs(node, { uid: maker }))
    .filter(({ cgroups }) => !cgroups.some(({ path }) => known.has(path)));
}

interface Holder {
  readonly pid: number;
  readonly job: OwnedJob;
  /** v1: different hierarchies name different jobs. */
  readonly inSeveral: boolean;
}

/** How long others wait for this program at most: /proc is read without a pause. */
const stretchMs = 10;

/**
 * A process with room for more is not looked through. Half a million descriptors, which a user has at once (dup), and
 * all of that user's processes with CLONE_FILES, would be four seconds of a login (measured: 8 µs each), and one list without a
 * pause of nearly one (19,500 of them: 33 ms).
 */
const mostDescriptors = 65_536;

/** Looked at between two looks at the clock: 2 ms (measured, 8 µs each). */
const descriptorsAtOnce = 256;

/** What most jobs have below them on v1. */
const likely: readonly string[] = ['step_extern', 'step_batch', 'step_0', 'task_0'];

/** Looks through the processes of jobs for one that holds a socket, each process once. */
class Walk {
  readonly #question: CallerIdQuestion;
  readonly #inodes: ReadonlySet<string>;
  readonly #seen = new Set<number>();
  readonly #pace: Pace;
  #pausedMs: number;
  /** The time was over before all were looked at. */
  late = false;
  /** So many were not to be seen. */
  hidden = 0;
  /** Why not all processes of a job could be listed. */
  unlisted: string | undefined;
  /** The first that has too many descriptors. */
  crowded: number | undefined;

  constructor(question: CallerIdQuestion, inodes: ReadonlySet<string>) {
    this.#question = question;
    this.#inodes = inodes;
    this.#pace = new Pace(question.node.host, question.deadline);
    this.#pausedMs = question.node.host.now();
  }

  async through(jobs: readonly OwnedJob[]): Promise<Holder | undefined> {
    const { node } = this.#question;
    for (const job of jobs) {
      const cgroups = job.cgroups.flatMap((cgroup) => cgroupOf(node, cgroup) ?? []);
      const { all, unknown } = await new CgroupSet(node.host, cgroups).listProcs({ pace: this.#pace, likely });
      this.unlisted ??= unknown;
      if (unknown !== undefined && this.#pace.isOver()) this.late = true;
      for (const { pid } of all) {
        if (this.late || (await this.#isOver())) return undefined;
        if (this.#seen.has(pid)) continue;
        this.#seen.add(pid);
        const holder = await this.#lookAt(pid, job);
        if (holder !== undefined) return holder;
      }
    }
    return undefined;
  }

  async #isOver(): Promise<boolean> {
    const { node, deadline } = this.#question;
    this.late = deadline.isOver();
    if (node.host.now() - this.#pausedMs >= stretchMs) {
      await node.host.sleep(0, deadline.signal);
      this.#pausedMs = node.host.now();
    }
    return this.late;
  }

  async #lookAt(pid: number, job: OwnedJob): Promise<Holder | undefined> {
    try {
      const held = holdProcess(this.#question.node.host, pid);
      try {
        return (await this.#holds(held)) ? this.#placed(held, job) : undefined;
      } finally {
        held.close();
      }
    } catch (error) {
      if (isGone(error)) return undefined; // it has ended, and its socket is another's or gone
      if (!hasCode(error, 'ERR_NOT_PERMITTED')) throw error;
      this.hidden++;
      return undefined;
    }
  }

  /** Whether one of its descriptors is the socket, as far as it was looked through. */
  async #holds(held: HeldProcess): Promise<boolean> {
    if (descriptorRoom(held) > mostDescriptors) {
      this.crowded ??= held.pid;
      return false;
    }
    let leftAtOnce = descriptorsAtOnce;
    for (const fd of held.directory.names('fd')) {
      const inode = socketInodeAt(held.directory, fd);
      if (inode !== undefined && this.#inodes.has(inode)) return true;
      if (--leftAtOnce > 0) continue;
      if (await this.#isOver()) return false;
      leftAtOnce = descriptorsAtOnce;
    }
    return false;
  }

  /** It was listed in the job; the kernel's word on the process itself counts, in every hierarchy. */
  #placed(held: HeldProcess, job: OwnedJob): Holder | undefined {
    const place = jobPlaceOf(this.#question.node, held.memberships());
    if (place === undefined) return undefined; // moved out meanwhile
    if (place === 'several') return { pid: held.pid, job, inSeveral: true };
    const name = job.sluid === undefined ? { jobId: job.jobId ?? 0 } : { sluid: job.sluid };
    return isSameJob(place.job, name) ? { pid: held.pid, job, inSeveral: false } : undefined;
  }
}
