// Gathers one fact when policy asks for it. What cannot be found out is "unknown" with a reason, never a "no": policy
// decides what follows.

import { Cgroup } from '../cgroup/cgroup.js';
import { frozenAt } from '../cgroup/freezer.js';
import { childPath } from '../cgroup/path.js';
import { askCallerId } from '../jobs/caller/ask.js';
import { externStepFlags } from '../jobs/config/values.js';
import { cgroupOf, discoverJobs } from '../jobs/discovery.js';
import { withExternTimes } from '../jobs/extern-times.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { findOwners } from '../jobs/owners/find.js';
import { runningPrologs, runsInJob } from '../jobs/prolog.js';
import { askSteps, type StepdReport } from '../jobs/stepd/ask.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import { isDeserted } from '../jobs/stepd/process.js';
import { trustedOwners } from '../jobs/stepd/trusted-users.js';
import { unplacedNote, unplacedOnNode, unplacedSteps } from '../jobs/stepd/unplaced.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
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

/** A login, and what caller ID needs. */
export interface EvidenceRequest extends AdoptionRequest {
  /** The process of the session: its own connection counts where none is given. */
  readonly pid?: number;
  /** `SSH_CONNECTION` as sshd gives it: `SRC SPORT DST DPORT`. */
  readonly connection?: string;
}

/** What a fact is gathered for, and from. */
export interface FactSource {
  readonly node: SlurmNode;
  readonly request: EvidenceRequest;
  readonly options: AdoptionOptions;
  /** Of the whole login. Default: its budget, from now on. */
  readonly deadline?: Deadline;
  /** Nothing is written down, not even which source is silent. */
  readonly dryRun?: boolean;
}

/** The same facts with one more: the answer to `{ action: 'ask', fact }`. */
export async function withFact(facts: AdoptionFacts, name: FactName, source: FactSource): Promise<AdoptionFacts> {
  switch (name) {
    case 'node':
      return { ...facts, node: nodeFact(source.node) };
    case 'jobs':
      return jobsFact(facts, source);
    case 'prolog':
      return { ...facts, prolog: await prologFact(source) };
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

async function prologFact(source: FactSource): Promise<Fact<'runs' | 'none'>> {
  const { node, request } = source;
  if (node.host.source === 'recording') return { unknown: 'a recording holds no environments' };
  try {
    const prologs = await runningPrologs(node, timeToAsk(source));
    return { known: prologs.some(({ uid }) => uid === request.uid) ? 'runs' : 'none' };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { unknown: error.message };
    throw error;
  }
}

async function callerIdFact({ jobs }: AdoptionFacts, source: FactSource): Promise<Fact<NamedJob>> {
  const { node, request, options } = source;
  const found = connectionFor(node.host, request);
  if ('why' in found) return { unknown: found.why };
  // Whatever callerid_timeout says, a part of the budget is left for the adoption.
  const timeoutMs = Math.min(options.callerIdTimeoutMs, options.budgetMs * callerIdPart);
  const deadline = deadlineOf(source);
  // A source that is given less time than it may take is not called silent.
  const isWholeTime = deadline.leftMs() >= timeoutMs;
  const answer = await askCallerId(
    {
      node,
      connection: found.connection,
      uid: request.uid,
      ownJobs: jobs !== undefined && 'known' in jobs ? jobs.known : [],
      deadline: deadline.part(timeoutMs),
      ...defined({ pid: request.pid }),
    },
    { remember: source.dryRun !== true && isWholeTime },
  );
  switch (answer.answer) {
    case 'job':
      return { known: { jobId: answer.jobId, ...defined({ uid: answer.uid }) } };
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

/** The largest part of a login's budget that caller ID may take. */
const callerIdPart = 0.6;

/** A slurmstepd that does not answer must not use up a login: at most half of its time goes into asking. */
const askMs = { most: 2000, part: 0.5 };

/** slurmstepd makes its directory and its socket within this (measured: below 0.3 s). */
const startMs = 300;

async function jobsFact(facts: AdoptionFacts, source: FactSource, isRetry = false): Promise<AdoptionFacts> {
  const { node, request, options } = source;
  const { uid, jobId } = request;
  try {
    // The ranks of pam_slurm_adopt go by the job's own directory.
    const jobTimes = options.rank.startsWith('pam_slurm_adopt');
    const all = await findOwners(discoverJobs(node, { uid, jobTimes }), { node, ...timeToAsk(source).wait() });
    const isNamed = (job: Job) => jobId !== undefined && job.jobId === jobId;
    // A directory of a name of yesterday holds no job of this node.
    const isOurs = ({ nodeName }: Job) => nodeName === undefined || nodeName === (node.nodeName ?? nodeName);
    const own = all.filter((job) => isOurs(job) && (job.uid === undefined || job.uid === uid || isNamed(job)));
    if (own.length === 0) {
      const unplaced = await unplacedOf(node, uid, timeToAsk(source));
      if (unplaced !== undefined && isRetry) return { ...facts, jobs: { unknown: unplaced } };
      if (unplaced !== undefined) {
        await node.host.sleep(startMs);
        return jobsFact(facts, source, true);
      }
    }
    const jobs = own.length > 1 ? withExternTimes(own, node) : own;
    const prologs = runsInJob(node) && jobs.length > 0 ? await runningPrologs(node, timeToAsk(source)) : [];
    const isStarting = (job: Job) => prologs.some((prolog) => prolog.jobId === job.jobId);
    const states = jobs.flatMap((job): JobState | [] =>
      isStarting(job) ? { job, state: 'starting' } : (stateOf(node, job) ?? []),
    );
    return withJobs(facts, { known: jobs }, states);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { ...facts, jobs: { unknown: error.message } };
    throw error;
  }
}

/**
 * A job of the user's whose slurmstepd listens and whose cgroup was not found is not known, which is not "no job". One of
 * another user does not matter here; one whose owner is not known may be the user's. Only where no job of the user's was
 * found: then all directories have to be looked at, and who listens without one is asked.
 */
async function unplacedOf(node: SlurmNode, uid: number, deadline: Deadline): Promise<string | undefined> {
  const steps = unplacedOnNode(node).filter(({ stepId }) => stepId === 'extern');
  if (steps.length === 0 || node.host.source === 'recording') return unplacedNote(steps);
  const trusted = await trustedOwners(node);
  const reports = await askSteps(steps, ['uid'], { host: node.host, deadline, trusted });
  const isOthers = ({ answers, failures }: StepdReport) =>
    (answers.uid !== undefined && answers.uid !== uid) || failures.some(({ failure }) => failure === 'absent');
  return unplacedNote(steps.filter((_, index) => !reports.some((report, at) => at === index && isOthers(report))));
}

/** A slurmstepd that does not answer in time does not count as ending. */
async function stepdsFact(facts: AdoptionFacts, source: FactSource): Promise<AdoptionFacts> {
  const { node, request } = source;
  if (node.host.source === 'recording') return { ...facts, stepds: { unknown: 'a recorded node cannot be asked' } };
  const deadline = timeToAsk(source);
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

function timeToAsk(source: FactSource): Deadline {
  return deadlineOf(source).part(Math.min(askMs.most, source.options.budgetMs * askMs.part));
}

function deadlineOf({ node, options, deadline }: FactSource): Deadline {
  return deadline ?? deadlineIn(node.host, options.budgetMs);
}

/** Whether the extern step's slurmstepd of a job listens; one whose owner does not answer is not deserted. */
function isListening(node: SlurmNode, { jobId, nodeName }: Job): boolean {
  return unplacedSteps(node, []).some(
    (step) =>
      step.stepId === 'extern' &&
      (jobId === undefined || step.jobId === jobId) &&
      (nodeName === undefined || step.nodeName === nodeName),
  );
}

/** slurmd starts a job's extern step before any other, so one that has others alone has lost it. */
function isPastItsStart({ configuration }: SlurmNode, { steps }: Job): boolean {
  return steps.length > 0 && externStepFlags(configuration?.prologFlags).length > 0;
}

function stateOf(node: SlurmNode, job: Job): JobState | undefined {
  if (job.extern === undefined) return { job, state: isPastItsStart(node, job) ? 'ending' : 'starting' };
  if (job.uid === undefined && isDeserted(node, job) && !isListening(node, job)) return { job, state: 'deserted' };
  const frozen = job.extern.cgroups.some((cgroup) => {
    const step = cgroupOf(node, cgroup);
    if (step === undefined) return false;
    // scontrol suspend freezes the step on v1 and its user side on v2 (measured): frozenAt() looks from there upwards.
    const place =
      step.hierarchy.version === 1 ? step : new Cgroup(node.host, step.hierarchy, childPath(step.path, 'user'));
    return frozenAt(node.host, place) !== undefined;
  });
  return frozen ? { job, state: 'suspended' } : undefined;
}
