// Gathers one fact when policy asks for it. What cannot be found out is an unknown with its reason, never a
// "no": the decision then says what follows.

import { Cgroup } from '../cgroup/cgroup.js';
import { frozenAt } from '../cgroup/freezer.js';
import { childPath } from '../cgroup/path.js';
import { askCallerId } from '../jobs/caller/ask.js';
import { cgroupOf, discoverJobs } from '../jobs/discovery.js';
import { dateJobs } from '../jobs/extern-times.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { findOwners } from '../jobs/owners/find.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import { isDeserted } from '../jobs/stepd/process.js';
import { deadlineAt, deadlineIn } from '../machine/deadline.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Slots } from '../machine/slots.js';
import {
  type AdoptionFacts,
  type AdoptionRequest,
  type Fact,
  type FactName,
  type JobState,
  type NamedJob,
  type NodeFact,
  withEnding,
  withJobs,
} from '../policy/facts.js';
import type { AdoptionOptions } from '../policy/options.js';
import { connectionOfProcess, type FoundConnection, parseSshConnection } from './connection.js';

/** A login, and what caller ID goes by. */
export interface EvidenceRequest extends AdoptionRequest {
  /** The process of the session: its own connection counts where none is given. */
  readonly pid?: number;
  /** `SSH_CONNECTION` as sshd gives it: `SRC SPORT DST DPORT`. */
  readonly connection?: string;
}

/** What facts are gathered from, and for. */
export interface FactSource {
  readonly node: SlurmNode;
  readonly request: EvidenceRequest;
  readonly options: AdoptionOptions;
  /** When the whole login must be over, in ms of the host's clock. Default: its budget from now on. */
  readonly endMs?: number;
  /** Nothing is written down, not even which source is silent. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** The same facts with one more: the answer to `{ action: 'ask', fact }`. */
export async function withFact(facts: AdoptionFacts, name: FactName, source: FactSource): Promise<AdoptionFacts> {
  switch (name) {
    case 'node':
      return { ...facts, node: nodeFact(source.node) };
    case 'jobs':
      return jobsFact(facts, source);
    case 'callerId':
      return { ...facts, callerId: await callerIdFact(facts, source) };
    case 'preference':
      return { ...facts, preference: { unknown: 'no choice was given' } };
    case 'stepds':
      return stepdsFact(facts, source);
  }
}

function nodeFact(node: SlurmNode): Fact<NodeFact> {
  if (node.evidence === undefined)
    return { known: { isSlurmNode: false, why: 'it has neither a Slurm cgroup nor a slurmd spool' } };
  if (node.nodeName === undefined) {
    const names = new Set([...node.tops.flatMap((top) => top.nodeName ?? []), ...node.spools.keys()]);
    if (names.size > 1) return { unknown: `several Slurm nodes share this machine: ${[...names].sort().join(', ')}` };
    return { unknown: ['its name is not known here', ...node.notes].join('; ') };
  }
  const version = node.tops[0]?.version ?? (node.hierarchies.mode === 'unified' ? 2 : 1);
  return { known: { isSlurmNode: true, nodeName: node.nodeName, cgroupVersion: version } };
}

async function callerIdFact({ jobs }: AdoptionFacts, source: FactSource): Promise<Fact<NamedJob>> {
  const { node, request, options, signal } = source;
  const { host } = node;
  const found = connectionFor(host, request);
  if ('why' in found) return { unknown: found.why };
  const now = host.now();
  // Whatever callerid_timeout says, something of the budget is left for the adoption.
  const timeoutMs = Math.min(options.callerIdTimeoutMs, options.budgetMs * callerIdPart);
  const leftMs = (source.endMs ?? now + options.budgetMs) - now;
  const answer = await askCallerId(
    {
      node,
      connection: found.connection,
      uid: request.uid,
      ownJobs: jobs !== undefined && 'known' in jobs ? jobs.known : [],
      deadline: deadlineAt(host, now + Math.min(timeoutMs, leftMs), signal),
      ...(request.pid === undefined ? {} : { pid: request.pid }),
    },
    // A source that was given less time than it may take was not silent.
    { remember: source.dryRun !== true && leftMs >= timeoutMs },
  );
  switch (answer.answer) {
    case 'job':
      return { known: { jobId: answer.jobId, ...(answer.uid === undefined ? {} : { uid: answer.uid }) } };
    case 'none':
      return { known: 'none' };
    case 'unknown':
      return { unknown: answer.why };
  }
}

function connectionFor(host: Host, { pid, connection }: EvidenceRequest): FoundConnection {
  if (connection !== undefined) {
    const found = parseSshConnection(connection);
    return 'why' in found ? { why: `the connection cannot be read: ${found.why}` } : found;
  }
  if (pid === undefined || host.source === 'recording') return { why: 'no connection was given' };
  const found = connectionOfProcess(host, pid);
  return 'why' in found ? { why: `no connection was given, and ${found.why}` } : found;
}

/** At most so much of a login's budget goes into asking who called. */
const callerIdPart = 0.6;

/** A slurmstepd that does not answer must not use up a login: half of its time at most goes into asking. */
const askMs = { most: 2000, part: 0.5 };

async function jobsFact(facts: AdoptionFacts, source: FactSource): Promise<AdoptionFacts> {
  const { node, request, options, signal } = source;
  const { uid } = request;
  try {
    // The ranks of pam_slurm_adopt go by the job's own directory.
    const jobTimes = options.rank.startsWith('pam_slurm_adopt');
    const timeoutMs = timeToAsk(source);
    const all = await findOwners(discoverJobs(node, { uid, jobTimes }), { node, timeoutMs, ...(signal && { signal }) });
    const isAsked = (job: Job) => job.uid === undefined || job.uid === uid || job.jobId === request.jobId;
    const own = all.filter((job) => isAsked(job));
    const jobs = own.length > 1 ? dateJobs(own, node) : own;
    const states = jobs.flatMap((job) => stateOf(node, job) ?? []);
    return withJobs(facts, { known: jobs }, states);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { ...facts, jobs: { unknown: error.message } };
    throw error;
  }
}

/** Who does not answer in time is not said to be ending. */
async function stepdsFact(facts: AdoptionFacts, source: FactSource): Promise<AdoptionFacts> {
  const { node, request, signal } = source;
  if (node.host.source === 'recording') return { ...facts, stepds: { unknown: 'a recorded node cannot be asked' } };
  const deadline = deadlineIn(node.host, timeToAsk(source), signal);
  const jobs = facts.jobs !== undefined && 'known' in facts.jobs ? facts.jobs.known : [];
  const own = jobs.filter((job) => job.uid === request.uid && job.extern !== undefined);
  const ending = new Set<Job>();
  const withWhatIsKnown = () => own.filter((job) => ending.has(job)).reduce(withEnding, facts);
  try {
    await new Slots(node.host).each(own, deadline, async (job, left) => {
      const reached = await reachExternStepd(node, job, left);
      if (reached.outcome === 'ready') reached.stepd.close();
      if (reached.outcome === 'ending') ending.add(job);
    });
    return { ...withWhatIsKnown(), stepds: { known: 'asked' } };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { ...withWhatIsKnown(), stepds: { unknown: error.message } };
    throw error;
  }
}

function timeToAsk({ node, options, endMs }: FactSource): number {
  const now = node.host.now();
  const leftMs = (endMs ?? now + options.budgetMs) - now;
  return Math.max(0, Math.min(askMs.most, options.budgetMs * askMs.part, leftMs));
}

function stateOf(node: SlurmNode, job: Job): JobState | undefined {
  if (job.extern === undefined) return { job, state: 'starting' };
  if (job.uid === undefined && isDeserted(node, job)) return { job, state: 'deserted' };
  const frozen = job.extern.cgroups.some((cgroup) => {
    const step = cgroupOf(node, cgroup);
    if (step === undefined) return false;
    // scontrol suspend freezes the step on v1 and its user side on v2 (measured): looked at from there upwards.
    const place =
      step.hierarchy.version === 1 ? step : new Cgroup(node.host, step.hierarchy, childPath(step.path, 'user'));
    return frozenAt(node.host, place) !== undefined;
  });
  return frozen ? { job, state: 'suspended' } : undefined;
}
