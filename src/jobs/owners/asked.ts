// Asks slurmstepds whose jobs those are of which nothing else tells. One that is stopped costs its deadline, not the
// others' answers; what answers has to be tied to the job's directory before it is believed.

import type { Deadline } from '../../machine/deadline.js';
import { Slots } from '../../machine/slots.js';
import type { Job } from '../job.js';
import { nameOfJob } from '../job.js';
import type { SlurmNode } from '../node.js';
import { askStepd, type StepdReport } from '../stepd/ask.js';
import { JobSockets } from '../stepd/find.js';
import { standsIn } from '../stepd/process.js';
import type { StepdQuestion } from '../stepd/protocol.js';
import type { StepSocket, TrustedOwners } from '../stepd/sockets.js';

export interface AskOwnersOptions {
  readonly node: SlurmNode;
  /** Over all. */
  readonly deadline: Deadline;
  /** For each slurmstepd. Default 1000. */
  readonly eachTimeoutMs?: number;
  /** Shared by all that connect at the same time. Default: eight. */
  readonly slots?: Slots;
}

/** What a slurmstepd told of its job, or why none did. */
export type AskedOwner = { readonly jobId: number; readonly uid: number } | { readonly why: string };

/** Asks for jobs of v2; answers in their order. The slurmstepds of `others`, which are known, are not asked. */
export async function askOwners(
  jobs: readonly Job[],
  options: AskOwnersOptions,
  others: readonly Job[] = [],
): Promise<readonly AskedOwner[]> {
  const asking = new Asking(options);
  const found = new Map<Job, AskedOwner>();
  const named = jobs.filter((job) => job.jobId !== undefined);
  const nameless = jobs.filter((job) => job.jobId === undefined);
  await asking.named(named, found);
  // Last: they can be any user's, so all are asked whose job is not known by then.
  for (const group of groupedByNode(nameless)) await asking.nameless(group, { found, known: [...others, ...named] });
  return jobs.map((job) => found.get(job) ?? { why: 'no slurmstepd here says that it is its own' });
}

class Asking {
  readonly #options: AskOwnersOptions;
  readonly #sockets: JobSockets;
  readonly #slots: Slots;

  constructor(options: AskOwnersOptions) {
    this.#options = options;
    this.#sockets = new JobSockets(options.node);
    this.#slots = options.slots ?? new Slots(options.node.host);
  }

  /** Jobs whose id is known: each has sockets of its own. */
  async named(jobs: readonly Job[], found: Map<Job, AskedOwner>): Promise<void> {
    await this.#slots.each(jobs, this.#options.deadline, async (job, deadline) => {
      found.set(job, await this.#ownerOf(job, deadline));
    });
  }

  async #ownerOf(job: Job, deadline: Deadline): Promise<AskedOwner> {
    const { sockets, trusted, notes } = await this.#sockets.of(job);
    const reasons: string[] = [];
    let silent = 0;
    for (const socket of sockets) {
      // One that is stopped may have a neighbour that answers; two, and its steps are not worth more time.
      if (silent === 2) break;
      const report = await this.#ask(socket, job.sluid === undefined ? [] : ['sluid'], { trusted, deadline });
      if (report.failures.some(({ failure }) => failure === 'silent')) silent++;
      const owner = this.#ownerIn(report, job);
      if ('uid' in owner) return owner;
      reasons.push(owner.why);
    }
    if (reasons.length > 0) return { why: reasons[0] ?? '' };
    return { why: ['no slurmstepd of it has a socket here', ...notes].join('; ') };
  }

  /** Jobs named by SLUID in whose directories no slurmstepd was seen: asks those whose job is not known. */
  async nameless(
    jobs: readonly Job[],
    { found, known }: { readonly found: Map<Job, AskedOwner>; readonly known: readonly Job[] },
  ): Promise<void> {
    const [first] = jobs;
    if (first === undefined) return;
    const { sockets, trusted, notes } = await this.#sockets.of(first);
    // A job has the same id on each of its nodes, of which several can be on this machine.
    const taken = new Set(known.filter((job) => job.nodeName === first.nodeName).map(({ jobId }) => jobId));
    const oneEach = new Map<string, StepSocket>();
    for (const socket of sockets) {
      const key = `${socket.nodeName} ${socket.jobId}`;
      if (!taken.has(socket.jobId) && !oneEach.has(key)) oneEach.set(key, socket);
    }
    const left = new Set(jobs);
    const silent: string[] = [];
    await this.#slots.each([...oneEach.values()], this.#options.deadline, async (socket, deadline) => {
      if (left.size === 0) return;
      const report = await this.#ask(socket, ['sluid'], { trusted, deadline });
      if (report.failures.some(({ failure }) => failure === 'silent')) silent.push(socket.name);
      for (const job of left) {
        const owner = this.#ownerIn(report, job);
        if (!('uid' in owner)) continue;
        left.delete(job);
        found.set(job, owner);
      }
    });
    const reasons = ['no slurmstepd that answers is its own', ...silent.map((name) => `${name} is silent`), ...notes];
    for (const job of left) found.set(job, { why: reasons.slice(0, 5).join('; ') });
  }

  #ask(
    socket: StepSocket,
    more: readonly StepdQuestion[],
    { trusted, deadline }: { readonly trusted: TrustedOwners; readonly deadline: Deadline },
  ): Promise<StepdReport> {
    const { node, eachTimeoutMs = 1000 } = this.#options;
    const options = { host: node.host, trusted, deadline: deadline.part(eachTimeoutMs) };
    return askStepd(socket, ['daemonPid', 'uid', ...more], options);
  }

  /** A socket is named after a job; that its slurmstepd is in this directory, the kernel or its SLUID has to say. */
  #ownerIn({ socket, answers, failures }: StepdReport, job: Job): AskedOwner {
    const { uid, daemonPid, sluid } = answers;
    const isItsOwn =
      (sluid !== undefined && sluid === job.sluid) ||
      (daemonPid !== undefined && standsIn(this.#options.node, job, daemonPid));
    if (isItsOwn && uid !== undefined) return { jobId: socket.jobId, uid };
    const failure = failures.find(({ request }) => request !== 'sluid');
    return { why: failure?.message ?? `what answers at ${socket.name} is not the slurmstepd of ${nameOfJob(job)}` };
  }
}

function groupedByNode(jobs: readonly Job[]): readonly (readonly Job[])[] {
  const groups = new Map<string, Job[]>();
  for (const job of jobs) {
    const key = job.nodeName ?? '';
    groups.set(key, [...(groups.get(key) ?? []), job]);
  }
  return [...groups.values()];
}
