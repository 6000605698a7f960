// What a decision can be, and the sentences that several rules use.

import type { Job } from '../jobs/job.js';
import type { ExcludedJob, FactName } from './facts.js';
import { jobNames } from './facts.js';

/** Which rule settled it: a stable word to match on. `reason` is for people and may change. */
export type Rule =
  | 'service'
  | 'root'
  | 'node-unknown'
  | 'not-slurm'
  | 'jobs-unknown'
  | 'no-jobs'
  | 'starting'
  | 'ending'
  | 'named'
  | 'no-such-job'
  | 'single-job'
  | 'caller-id'
  | 'preference'
  | 'newest'
  | 'user'
  | 'source-unknown'
  | 'suspended'
  | 'adopt-failure'
  /** Not of policy: the program that asks (sudo) is in a job of this user already. */
  | 'already'
  /** Not of policy: the options of the login cannot be read. */
  | 'configuration';

/** Where a session goes: into a job, or into the user's own cgroup, above all their jobs (`action_unknown=user`, v1). */
export type AdoptionTarget =
  | {
      readonly kind: 'job';
      /** Absent for a directory named by SLUID whose job id is unknown. */
      readonly jobId?: number;
      readonly job: Job;
    }
  | { readonly kind: 'user'; readonly uid: number };

export interface Explained {
  /** One sentence for people; with `deny` the user reads it. */
  readonly reason: string;
  /** Lines for an administrator, in the order of the rules. */
  readonly trace: readonly string[];
}

/** Adopt the session; then decideAfterAdoption() says how to answer the login. */
export interface AdoptDecision extends Explained {
  readonly action: 'adopt';
  readonly rule: Rule;
  readonly target: AdoptionTarget;
}

/** Answer the login: let in unadopted, leave it to the other PAM modules, or refuse. */
export interface AnswerDecision extends Explained {
  readonly action: 'allow' | 'ignore' | 'deny';
  readonly rule: Rule;
  /** With `mode=observe`: what would have been decided. */
  readonly would?: AdoptDecision | AnswerDecision;
}

/** Find out one fact, and decide again. */
export interface AskDecision extends Explained {
  readonly action: 'ask';
  readonly fact: FactName;
}

/** Wait for the user's jobs, at most `forMs`; then decide again with the facts of afterWaiting(). */
export interface WaitDecision extends Explained {
  readonly action: 'wait';
  readonly for: 'jobs';
  readonly forMs: number;
}

export type AdoptionDecision = AdoptDecision | AnswerDecision | AskDecision | WaitDecision;

/** What policy has to know of an adoption; the result of adopt() says it. */
export interface AdoptionReport {
  readonly outcome: 'adopted' | 'untouched' | 'undone' | 'partial' | 'suspended';
  /** Why it did not succeed: one line, safe to print. */
  readonly reason?: string;
}

/** The last word on a login. */
export interface FinalAnswer extends AnswerDecision {
  readonly outcome: AdoptionReport['outcome'];
}

/** Decide again without that job: `decideAdoption(request, withExcluded(facts, [answer.exclude]), options)`. */
export interface NextDecision extends Explained {
  readonly action: 'next';
  readonly outcome: AdoptionReport['outcome'];
  readonly exclude: ExcludedJob;
}

/** The answer of `mode=observe`: nothing is done, and `would` keeps what would have been. */
export function observed(would: AdoptDecision | AnswerDecision): AnswerDecision {
  const done = would.action === 'adopt' ? 'be adopted' : wouldBe[would.action];
  const reason = `Observing only; the session would ${done}: ${would.reason}`;
  return {
    action: 'ignore',
    rule: would.rule,
    would,
    reason,
    trace: [...would.trace, `mode=observe, ignore: would ${done}`],
  };
}

const wouldBe = { allow: 'be let in', ignore: 'be ignored', deny: 'be refused' } as const;

export function suspendedReason(jobs: readonly Job[]): string {
  return jobs.length === 1
    ? `Your ${jobNames(jobs)} on this node is suspended`
    : `All your jobs on this node are suspended: ${jobNames(jobs)}`;
}

export function failureReason(target: string, detail: string | undefined): string {
  return `The session could not be put into ${target}${detail === undefined ? '' : `: ${detail}`}`;
}
