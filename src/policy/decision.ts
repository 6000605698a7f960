// Which job a session belongs to, and what follows from how its adoption went. Pure: facts in, one decision out that
// explains itself. The order is pam_slurm_adopt's (26.05, pam_sm_acct_mgmt); PARITY.md lists where it differs.

import { type Job, nameOfJob } from '../jobs/job.js';
import { quote } from '../machine/errors.js';
import type {
  AdoptDecision,
  AdoptionDecision,
  AdoptionReport,
  AdoptionTarget,
  AnswerDecision,
  AskDecision,
  FinalAnswer,
  NextDecision,
  Rule,
  WaitDecision,
} from './answer.js';
import { failureReason, observed, suspendedReason } from './answer.js';
import type { AdoptionFacts, AdoptionRequest, ExcludedJob, FactName, NodeFact } from './facts.js';
import { jobNames, saidOf, withExcluded } from './facts.js';
import type { JobsHere } from './jobs-here.js';
import { classifyJobs, describeJobs, unlessAmong, whyNone, whyNot } from './jobs-here.js';
import { newestJob } from './newest.js';
import type { AdoptionOptions } from './options.js';
import { defaultOptions } from './options.js';

interface Login {
  readonly request: AdoptionRequest;
  readonly facts: AdoptionFacts;
  readonly options: AdoptionOptions;
  readonly trace: string[];
}

type KnownNode = Extract<NodeFact, { readonly isSlurmNode: true }>;

/**
 * Decides on a login with what is known of it so far. Total and deterministic: it never throws, and the order of the
 * jobs does not matter. Asking, answering and deciding again comes to an end: each fact is asked for once, a wait ends
 * with `waitedMs`, and a job is tried once.
 *
 * @example
 * decideAdoption({ uid: 1001 }, {}, defaultOptions); // { action: 'ask', fact: 'node', … }
 */
export function decideAdoption(
  request: AdoptionRequest,
  facts: AdoptionFacts,
  options: AdoptionOptions = defaultOptions,
): AdoptionDecision {
  const decision = decide({ request, facts, options, trace: [] });
  if (options.mode === 'enforce' || decision.action === 'ask' || decision.action === 'wait') return decision;
  return observed(decision);
}

function decide(login: Login): AdoptionDecision {
  const { request, facts, options, trace } = login;
  if (options.service !== '*' && request.service !== undefined && request.service !== options.service) {
    const [theirs, ours] = [quote(request.service), quote(options.service)];
    return answer(login, 'ignore', 'service', `Sessions of ${theirs} are not adopted, only those of ${ours}`);
  }
  if (request.jobId !== undefined) return decideNamed(login, request.jobId);
  if (request.uid === 0 && options.ignoreRoot)
    return answer(login, 'ignore', 'root', 'Sessions of root are not adopted (ignore_root=1)');
  if (request.uid === 0) trace.push('root is treated as any user (ignore_root=0)');

  if (facts.node === undefined) return ask(login, 'node');
  if ('unknown' in facts.node) {
    return genericFailure(login, 'node-unknown', `Cannot tell which node this is: ${facts.node.unknown}`);
  }
  const node = facts.node.known;
  if (!node.isSlurmNode) {
    const why = node.why === undefined ? '' : `: ${node.why}`;
    return genericFailure(login, 'not-slurm', `This is not a Slurm node${why}`);
  }
  if (node.nodeName === '') {
    return genericFailure(login, 'node-unknown', 'Cannot tell which node this is: its name is empty');
  }

  if (facts.jobs === undefined) return ask(login, 'jobs');
  if ('unknown' in facts.jobs) {
    return genericFailure(login, 'jobs-unknown', `Cannot tell which jobs are on this node: ${facts.jobs.unknown}`);
  }
  const here = classifyJobs(request, facts, facts.jobs.known);
  trace.push(describeJobs(request, here));
  return decideAmong(login, node, here);
}

/**
 * The job that the request names, or none. What the rules of a login choose by does not matter here: neither which node
 * this is, nor whether the user is root. If it cannot be adopted into, the answer is `deny`, whatever the options say.
 */
function decideNamed(login: Login, jobId: number): AdoptionDecision {
  const { request, facts, options, trace } = login;
  if (facts.jobs === undefined) return ask(login, 'jobs');
  if ('unknown' in facts.jobs) {
    return answer(login, 'deny', 'jobs-unknown', `Cannot tell which jobs are on this node: ${facts.jobs.unknown}`);
  }
  const here = classifyJobs(request, facts, facts.jobs.known);
  trace.push(describeJobs(request, here));
  const isNamed = (one: Job): boolean => one.jobId === jobId;
  const job = here.present.find(isNamed);
  if (job !== undefined) {
    const before = saidOf(facts.excluded)(job);
    if (before?.why === 'failed') {
      return answer(login, 'deny', 'adopt-failure', failureReason(nameOfJob(job), before.detail));
    }
    if (before === undefined && !here.suspended.includes(job))
      return adoptInto(login, 'named', intoJob(job), goesInto(job, 'named'));
    trace.push(`${nameOfJob(job)} is suspended: action_suspended=${options.actionSuspended}`);
    return answer(login, answerToSuspended(options), 'suspended', suspendedReason([job]));
  }
  if (here.starting.some(isNamed)) {
    const waiting = wait(login, `Waiting for job ${jobId} to start on this node`);
    const why = 'it has no extern step yet (PrologFlags=Contain of slurm.conf makes one)';
    return waiting ?? answer(login, 'deny', 'starting', `Job ${jobId} cannot be adopted into: ${why}`);
  }
  if (here.ending.some(isNamed)) {
    return answer(login, 'deny', 'ending', `Job ${jobId} accepts no session any more: it is ending`);
  }
  const unowned = [...here.unknownOwnerOpen, ...here.unknownOwnerClosed].find(isNamed);
  if (unowned !== undefined) {
    const why = unowned.unknownWhy === undefined ? '' : `: ${unowned.unknownWhy}`;
    return answer(login, 'deny', 'jobs-unknown', `The owner of job ${jobId} is unknown${why}`);
  }
  const owner = here.ofOthers.find(isNamed)?.uid;
  const reason =
    owner === undefined
      ? `uid ${request.uid} has no job ${jobId} on this node${unlessAmong(facts.jobs.known)}`
      : `Job ${jobId} belongs to uid ${owner}, not to uid ${request.uid}`;
  return answer(login, 'deny', 'no-such-job', reason);
}

/** Where only one job is considered there is no next one. */
function answerToSuspended({ actionSuspended }: AdoptionOptions): 'allow' | 'deny' {
  return actionSuspended === 'next' ? 'deny' : actionSuspended;
}

function decideAmong(login: Login, node: KnownNode, here: JobsHere): AdoptionDecision {
  const { facts, options, trace } = login;
  const tried = saidOf(facts.excluded);
  const open = here.present.filter((job) => tried(job) === undefined);
  if (open.length === 0) return nothingOpen(login, here);

  // A job that was tried in vain still counts: action_unknown=deny means users with several jobs, and going on after
  // a failure must not reach a job that it forbids (so does 26.05, whose list stays as it was).
  const several = here.present.length > 1;
  if (several || !options.singleJobSkipRpc) {
    if (options.callerIdTimeoutMs > 0 || facts.callerId !== undefined) {
      const decision = decideByName(login, node, here, open, 'callerId');
      if (decision !== undefined) return decision;
    } else {
      trace.push('caller ID is not asked (callerid_timeout=0)');
    }
  }
  if (several && options.prefer) {
    const decision = decideByName(login, node, here, open, 'preference');
    if (decision !== undefined) return decision;
  }
  return several ? decideUnknown(login, node, here, open) : choose(login, node, here, open, 'single-job');
}

/** The job that caller ID or the user's choice names, if it is a job of the user here; undefined: the next rule. */
function decideByName(
  login: Login,
  node: KnownNode,
  here: JobsHere,
  open: readonly Job[],
  fact: 'callerId' | 'preference',
): AdoptionDecision | undefined {
  const { facts, trace } = login;
  const who = fact === 'callerId' ? 'caller ID' : "the user's choice";
  const named = facts[fact];
  if (named === undefined) return ask(login, fact);
  if ('unknown' in named || named.known === 'none') {
    trace.push('unknown' in named ? `${who} is unknown: ${named.unknown}` : `${who} named no job`);
    return undefined;
  }
  const { jobId, uid = login.request.uid } = named.known;
  if (uid !== login.request.uid) {
    trace.push(`${who} named job ${jobId}: it belongs to uid ${uid}`);
    return undefined;
  }
  const isNamed = (job: Job): boolean => job.jobId === jobId;
  const job = open.find(isNamed);
  if (job !== undefined) {
    trace.push(`${who} named ${nameOfJob(job)}`);
    return choose(login, node, here, [job], fact === 'callerId' ? 'caller-id' : 'preference');
  }
  if (here.starting.some(isNamed)) {
    trace.push(`${who} named job ${jobId}, which is still starting`);
    return wait(login, `Waiting for job ${jobId} to start on this node`);
  }
  trace.push(`${who} named job ${jobId}: ${whyNot(facts, here, isNamed)}`);
  return undefined;
}

function decideUnknown(login: Login, node: KnownNode, here: JobsHere, open: readonly Job[]): AdoptionDecision {
  const { request, facts, options, trace } = login;
  // For action_unknown=newest the slurmstepd of the newest job is asked anyway. Otherwise a job that accepts no session
  // any more, or whose slurmstepd has died, must not make the only other job doubtful: pam_slurm_adopt does not count it.
  if (options.actionUnknown !== 'newest') {
    if (facts.stepds === undefined) return ask(login, 'stepds');
    if ('unknown' in facts.stepds)
      trace.push(`it is unknown which of these jobs accept a session: ${facts.stepds.unknown}`);
  }
  const unknown = `You have ${here.present.length} jobs on this node, and it is unknown which of them this session comes from`;
  const { actionUnknown } = options;
  trace.push(`the source job is unknown: action_unknown=${actionUnknown}`);
  switch (actionUnknown) {
    case 'allow':
    case 'deny':
      return answer(login, actionUnknown, 'source-unknown', unknown);
    case 'user':
      // checkOptions() refuses this at the start; but a login must always be answered.
      if (node.cgroupVersion === 2) {
        return genericFailure(login, 'user', 'Users have no cgroup of their own on cgroup v2 (action_unknown=user)');
      }
      return adoptInto(
        login,
        'user',
        { kind: 'user', uid: request.uid },
        `${unknown}: it goes into your own cgroup, which belongs to no job`,
      );
    case 'newest':
      return choose(login, node, here, open, 'newest');
  }
}

/** Chooses the newest of `candidates`, unless it is suspended. */
function choose(
  login: Login,
  node: KnownNode,
  here: JobsHere,
  candidates: readonly Job[],
  rule: 'single-job' | 'caller-id' | 'preference' | 'newest',
): AdoptionDecision {
  const { facts, options, trace } = login;
  const newest = newestJob(candidates, { rank: options.rank });
  if (newest === undefined) return nothingOpen(login, here);
  const { job } = newest;
  if (rule === 'newest') trace.push(...newest.trace);
  if (!here.suspended.includes(job)) return adoptInto(login, rule, intoJob(job), goesInto(job, rule));
  trace.push(`${nameOfJob(job)} is suspended: action_suspended=${options.actionSuspended}`);
  if (options.actionSuspended !== 'next') {
    return answer(login, options.actionSuspended, 'suspended', suspendedReason([job]));
  }
  // No suspended job can be the next one, so all are excluded at once, however many there are.
  const excluded = here.suspended.map((other) => ({ job: other, why: 'suspended' }) as const);
  return decideAmong({ ...login, facts: withExcluded(facts, excluded) }, node, here);
}

function intoJob(job: Job): AdoptionTarget {
  return { kind: 'job', ...(job.jobId === undefined ? {} : { jobId: job.jobId }), job };
}

function goesInto(job: Job, rule: keyof typeof becauseOf): string {
  return `The session goes into ${nameOfJob(job)}: ${becauseOf[rule]}`;
}

const becauseOf = {
  named: 'it was named',
  'single-job': 'it is the only job of this user here',
  'caller-id': 'the connection comes from it',
  preference: 'the user chose it',
  newest: 'it is the newest job of this user here',
} as const;

/** No job is left to choose from: there is none, none is ready, or all were tried. */
function nothingOpen(login: Login, here: JobsHere): AdoptionDecision {
  const { facts, options, trace } = login;
  const waiting = waitForSome(login, here);
  if (waiting !== undefined) return waiting;
  if (here.present.length > 0) {
    const tried = saidOf(facts.excluded);
    const failed = here.present.filter((job) => tried(job)?.why === 'failed');
    if (failed.length === 0) return answer(login, 'deny', 'suspended', suspendedReason(here.present));
    const detail = failed.map((job) => tried(job)?.detail).find((text) => text !== undefined);
    trace.push(`no other job is left to try: action_adopt_failure=${options.actionAdoptFailure}`);
    return answer(login, options.actionAdoptFailure, 'adopt-failure', failureReason(jobNames(failed), detail));
  }
  if (here.unknownOwnerOpen.length > 0) {
    const reason = `Cannot tell whether you have a job on this node: the owner of ${jobNames(here.unknownOwnerOpen)} is unknown`;
    return genericFailure(login, 'jobs-unknown', reason);
  }
  trace.push(`action_no_jobs=${options.actionNoJobs}`);
  const [rule, reason] = whyNone(here);
  return answer(login, options.actionNoJobs, rule, reason);
}

function adoptInto(login: Login, rule: Rule, target: AdoptionTarget, reason: string): AdoptDecision {
  login.trace.push(`adopt: ${reason}`);
  return { action: 'adopt', rule, target, reason, trace: login.trace };
}

function answer(login: Login, action: AnswerDecision['action'], rule: Rule, reason: string): AnswerDecision {
  login.trace.push(`${action}: ${reason}`);
  return { action, rule, reason, trace: login.trace };
}

function genericFailure(login: Login, rule: Rule, reason: string): AnswerDecision {
  login.trace.push(`action_generic_failure=${login.options.actionGenericFailure}`);
  return answer(login, login.options.actionGenericFailure, rule, reason);
}

const questions: Readonly<Record<FactName, string>> = {
  node: 'which node this is',
  jobs: 'which jobs the user has here',
  prolog: 'whether a job of the user is just starting here',
  callerId: 'which job the connection comes from',
  preference: 'which job the user chose',
  stepds: 'which of these jobs accept a session',
};

function ask({ trace }: Login, fact: FactName): AskDecision {
  return { action: 'ask', fact, reason: `Still to find out: ${questions[fact]}`, trace };
}

/**
 * Only where something says that a job is about to come: else every user without a job would wait in vain. Without such
 * a sign it is looked again for the time in which there is none.
 */
function waitForSome(login: Login, here: JobsHere): WaitDecision | AskDecision | undefined {
  const { facts, trace } = login;
  const waiting = () => wait(login, 'Waiting for a job of the user to start on this node');
  if (here.starting.length > 0) return waiting();
  if (here.present.length > 0) return undefined;
  // Whose it is slurmstepd says, which may be just starting.
  if (here.unknownOwnerOpen.length > 0 || here.unknownOwnerStarting.length > 0) return waiting();
  if (leftToWait(login) === 0) return waiting(); // says so in the trace
  if (facts.prolog === undefined) return ask(login, 'prolog');
  if ('known' in facts.prolog && facts.prolog.known === 'runs') return waiting();
  if ('unknown' in facts.prolog) trace.push(`it is unknown whether a job is just starting: ${facts.prolog.unknown}`);
  // The Prolog may have just ended: then its slurmstepd starts, and nothing shows that.
  const unseenMs = Math.min(stepdStartMs - (facts.waitedMs ?? 0), leftToWait(login));
  if (!(unseenMs > 0)) return undefined;
  return { action: 'wait', for: 'jobs', forMs: unseenMs, reason: 'Looking again for a job that just starts', trace };
}

/** In which slurmstepd starts, makes its socket and its cgroups (measured: below 0.3 s). */
const stepdStartMs = 300;

function leftToWait({ facts, options }: Login): number {
  const left = Math.min(options.waitForJobMs, options.budgetMs) - Math.max(0, facts.waitedMs ?? 0);
  return Number.isNaN(left) ? 0 : Math.max(left, 0);
}

/** What is left of this login's wait; undefined when it is used up. */
function wait(login: Login, reason: string): WaitDecision | undefined {
  const { facts, trace } = login;
  const waitedMs = Math.max(0, facts.waitedMs ?? 0);
  const forMs = leftToWait(login);
  if (forMs > 0) return { action: 'wait', for: 'jobs', forMs, reason, trace };
  if (waitedMs > 0) trace.push(`waited ${waitedMs} ms for a job to start`);
  return undefined;
}

/**
 * Turns the outcome of an adoption into the answer to the login. `next` comes at most once for each job: after a
 * suspended job with action_suspended=next, and, as in pam_slurm_adopt, after a job that caller ID (or the user's
 * choice) named and that left the session where it was.
 */
export function decideAfterAdoption(
  decision: AdoptDecision,
  result: AdoptionReport,
  options: AdoptionOptions = defaultOptions,
): FinalAnswer | NextDecision {
  const { outcome } = result;
  const { target, rule } = decision;
  const where = target.kind === 'job' ? nameOfJob(target.job) : `the cgroup of uid ${target.uid}`;
  const trace = [
    ...decision.trace,
    `adoption into ${where}: ${outcome}${result.reason === undefined ? '' : `: ${result.reason}`}`,
  ];
  const finish = (action: AnswerDecision['action'], finalRule: Rule, reason: string): FinalAnswer => {
    const final = { action, rule: finalRule, reason, trace };
    return { ...(options.mode === 'observe' ? observed(final) : final), outcome };
  };
  const next = (job: Job, why: ExcludedJob['why'], reason: string): NextDecision => {
    const exclude = { job, why, ...(result.reason === undefined ? {} : { detail: result.reason }) };
    return { action: 'next', exclude, outcome, reason, trace: [...trace, `next: ${reason}`] };
  };

  switch (outcome) {
    case 'adopted':
      return finish('allow', rule, `The session is in ${where}`);
    case 'suspended': {
      const reason = target.kind === 'job' ? suspendedReason([target.job]) : 'Your cgroup on this node is suspended';
      trace.push(`action_suspended=${options.actionSuspended}`);
      if (options.actionSuspended === 'next' && target.kind === 'job' && rule !== 'named')
        return next(target.job, 'suspended', reason);
      return finish(answerToSuspended(options), 'suspended', reason);
    }
    case 'untouched':
    case 'undone':
    case 'partial': {
      const reason = failureReason(where, result.reason);
      if (rule === 'named') return finish('deny', 'adopt-failure', reason);
      const isPreferred = rule === 'caller-id' || rule === 'preference';
      if (isPreferred && outcome !== 'partial' && target.kind === 'job') return next(target.job, 'failed', reason);
      trace.push(`action_adopt_failure=${options.actionAdoptFailure}`);
      return finish(options.actionAdoptFailure, 'adopt-failure', reason);
    }
  }
}
