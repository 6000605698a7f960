// Which job a session belongs to, and what follows from how its adoption went. Pure: facts in, one decision out,
// and it explains itself. The order is pam_slurm_adopt's (26.05, pam_sm_acct_mgmt); PARITY.md lists where it differs.

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
import { describeJobs, sortOut, whyNone, whyNot } from './jobs-here.js';
import { newestJob } from './newest.js';
import type { AdoptionOptions } from './options.js';
import { defaultOptions } from './options.js';

interface Login {
  readonly request: AdoptionRequest;
  readonly facts: AdoptionFacts;
  readonly options: AdoptionOptions;
  readonly trace: string[];
}

type SlurmNode = Extract<NodeFact, { readonly isSlurmNode: true }>;

/**
 * Decides on a login with what is known of it so far. Total and deterministic: it never throws, the order of the
 * jobs does not count, and asking, answering and deciding again comes to an end: each fact is asked for once, a wait
 * ends with `waitedMs`, and a job is tried once.
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
  if (request.uid === 0 && options.ignoreRoot) return answer(login, 'ignore', 'root', 'Root is not adopted');
  if (request.uid === 0) trace.push('root is treated like every user (ignore_root=0)');

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
  const here = sortOut(request, facts, facts.jobs.known);
  trace.push(describeJobs(request, here));
  return decideAmong(login, node, here);
}

function decideAmong(login: Login, node: SlurmNode, here: JobsHere): AdoptionDecision {
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

/** The job that caller ID or the user names, if it is one of theirs here; undefined: the next rule. */
function decideByName(
  login: Login,
  node: SlurmNode,
  here: JobsHere,
  open: readonly Job[],
  fact: 'callerId' | 'preference',
): AdoptionDecision | undefined {
  const { facts, trace } = login;
  const who = fact === 'callerId' ? 'caller ID' : "the user's choice";
  const named = facts[fact];
  if (named === undefined) return ask(login, fact);
  if ('unknown' in named || named.known === 'none') {
    trace.push('unknown' in named ? `${who} is unknown: ${named.unknown}` : `${who} named none`);
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

function decideUnknown(login: Login, node: SlurmNode, here: JobsHere, open: readonly Job[]): AdoptionDecision {
  const { request, facts, options, trace } = login;
  // To the newest a session goes by asking its slurmstepd anyway. Elsewhere a job that takes nobody in any more, or whose
  // slurmstepd has died, must not make a doubt of the only other one: pam_slurm_adopt does not count it.
  if (options.actionUnknown !== 'newest') {
    if (facts.stepds === undefined) return ask(login, 'stepds');
    if ('unknown' in facts.stepds)
      trace.push(`which of these jobs take somebody in is unknown: ${facts.stepds.unknown}`);
  }
  const untold = `You have ${here.present.length} jobs on this node, and which of them this session comes from cannot be told`;
  const { actionUnknown } = options;
  trace.push(`the source job cannot be told: action_unknown=${actionUnknown}`);
  switch (actionUnknown) {
    case 'allow':
    case 'deny':
      return answer(login, actionUnknown, 'source-unknown', untold);
    case 'user':
      // checkOptions refuses this at the start; a login must be answered all the same.
      if (node.cgroupVersion === 2) {
        return genericFailure(login, 'user', 'There is no cgroup of a user on cgroup v2 (action_unknown=user)');
      }
      return adoptInto(login, 'user', { kind: 'user', uid: request.uid }, `${untold}: into your own cgroup, no job's`);
    case 'newest':
      return choose(login, node, here, open, 'newest');
  }
}

/** Takes the newest of `candidates`, unless it is suspended. */
function choose(
  login: Login,
  node: SlurmNode,
  here: JobsHere,
  candidates: readonly Job[],
  rule: 'single-job' | 'caller-id' | 'preference' | 'newest',
): AdoptionDecision {
  const { facts, options, trace } = login;
  const newest = newestJob(candidates, { rank: options.rank });
  if (newest === undefined) return nothingOpen(login, here);
  const { job } = newest;
  if (rule === 'newest') trace.push(...newest.trace);
  if (!here.suspended.includes(job)) {
    const target = { kind: 'job', ...(job.jobId === undefined ? {} : { jobId: job.jobId }), job } as const;
    return adoptInto(login, rule, target, `The session goes into ${nameOfJob(job)}: ${becauseOf[rule]}`);
  }
  trace.push(`${nameOfJob(job)} is suspended: action_suspended=${options.actionSuspended}`);
  if (options.actionSuspended !== 'next') {
    return answer(login, options.actionSuspended, 'suspended', suspendedReason([job]));
  }
  // None of the suspended jobs can be the next one: so this is done once, however many there are.
  const excluded = here.suspended.map((other) => ({ job: other, why: 'suspended' }) as const);
  return decideAmong({ ...login, facts: withExcluded(facts, excluded) }, node, here);
}

const becauseOf = {
  'single-job': 'it is the only job of the user here',
  'caller-id': 'the connection comes from it',
  preference: 'the user chose it',
  newest: 'it is the newest of the user here',
} as const;

/** No job to choose from: none is there, none is ready, or all were tried. */
function nothingOpen(login: Login, here: JobsHere): AdoptionDecision {
  const { facts, options, trace } = login;
  if (here.present.length === 0 || here.starting.length > 0) {
    const waiting = wait(login, 'Waiting for a job of the user to start on this node');
    if (waiting !== undefined) return waiting;
  }
  if (here.present.length > 0) {
    const tried = saidOf(facts.excluded);
    const failed = here.present.filter((job) => tried(job)?.why === 'failed');
    if (failed.length === 0) return answer(login, 'deny', 'suspended', suspendedReason(here.present));
    const detail = failed.map((job) => tried(job)?.detail).find((text) => text !== undefined);
    trace.push(`no other job is left to try: action_adopt_failure=${options.actionAdoptFailure}`);
    return answer(login, options.actionAdoptFailure, 'adopt-failure', failureReason(jobNames(failed), detail));
  }
  if (here.ownerless.length > 0) {
    const reason = `Cannot tell whether you have a job on this node: the owner of ${jobNames(here.ownerless)} is unknown`;
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
  callerId: 'which job the connection comes from',
  preference: 'which job the user chose',
  stepds: 'which of these jobs take somebody in',
};

function ask({ trace }: Login, fact: FactName): AskDecision {
  return { action: 'ask', fact, reason: `To be asked: ${questions[fact]}`, trace };
}

/** The rest of the wait that is left to this login; undefined when it is used up. */
function wait({ facts, options, trace }: Login, reason: string): WaitDecision | undefined {
  const waitedMs = Math.max(0, facts.waitedMs ?? 0);
  const forMs = Math.min(options.waitForJobMs, options.budgetMs) - waitedMs;
  if (forMs > 0) return { action: 'wait', for: 'jobs', forMs, reason, trace };
  if (waitedMs > 0) trace.push(`waited ${waitedMs} ms for a job to start`);
  return undefined;
}

/**
 * Turns the outcome of an adoption into the answer to the login. `next` comes at most once a job: after a suspended
 * one with action_suspended=next, and, as in pam_slurm_adopt, after one that caller ID (or the user) named and that
 * left the session where it was.
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
      if (options.actionSuspended !== 'next') return finish(options.actionSuspended, 'suspended', reason);
      return target.kind === 'job' ? next(target.job, 'suspended', reason) : finish('deny', 'suspended', reason);
    }
    case 'untouched':
    case 'undone':
    case 'partial': {
      const reason = failureReason(where, result.reason);
      const named = rule === 'caller-id' || rule === 'preference';
      if (named && outcome !== 'partial' && target.kind === 'job') return next(target.job, 'failed', reason);
      trace.push(`action_adopt_failure=${options.actionAdoptFailure}`);
      return finish(options.actionAdoptFailure, 'adopt-failure', reason);
    }
  }
}
