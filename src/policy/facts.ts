// What a decision is made from: the login, and what was found out about it. A fact is known, unknown with
// its reason, or absent, which means that nobody has asked yet. How facts are gathered: adopt/evidence.ts.

import { type Job, nameOfJob } from '../jobs/job.js';
import { someOf } from '../machine/errors.js';

/**
 * Something that was asked: the answer, or why there is none. `unknown` is one line, safe to print. Not knowing
 * is never the same as an answer "none".
 */
export type Fact<T> = { readonly known: T } | { readonly unknown: string };

/** The facts that a decision can ask for. */
export type FactName = 'node' | 'jobs' | 'callerId' | 'preference' | 'stepds';

/** The login to decide on. Who gathers the facts adds what he needs (pid, connection). */
export interface AdoptionRequest {
  readonly uid: number;
  /** Login name, for the trace only. */
  readonly user?: string;
  /** PAM service. Absent: not a PAM login, so the option `service` does not apply. */
  readonly service?: string;
}

/** A node of Slurm with its name and the version of the cgroups that Slurm uses on it, or none of Slurm's nodes. */
export type NodeFact =
  | {
      readonly isSlurmNode: true;
      /** NodeName: the option `nodename`, else SLURMD_NODENAME, else the short host name. */
      readonly nodeName: string;
      readonly cgroupVersion: 1 | 2;
    }
  | { readonly isSlurmNode: false; readonly why?: string };

/** A job that somebody named: the slurmd at the other end of the connection, or the user. Its owner, where he knew him. */
export type NamedJob = { readonly jobId: number; readonly uid?: number } | 'none';

/** How a fact points at a job: the job itself, or its id, or its SLUID. */
export type JobRef = Pick<Job, 'jobId' | 'sluid'>;

/** A state that keeps a job from being adopted into. Jobs without an entry are taken as running. */
export interface JobState {
  readonly job: JobRef;
  /**
   * `starting`: no extern step yet; `ending`: no extern step any more, or it refuses; `deserted`: nobody is there who
   * would take somebody into it (so far); `suspended`: frozen.
   */
  readonly state: 'starting' | 'ending' | 'deserted' | 'suspended';
}

/** A job that this login already tried, or must not try. */
export interface ExcludedJob {
  readonly job: JobRef;
  readonly why: 'suspended' | 'failed';
  /** What went wrong: one line, safe to print. */
  readonly detail?: string;
}

/** What is known of a login. Start with `{}` and add what `decideAdoption` asks for. */
export interface AdoptionFacts {
  readonly node?: Fact<NodeFact>;
  /**
   * The jobs of the request's uid on this node, each once. Jobs whose owner could not be told belong into it too, without
   * `uid`: they are never adopted into, but with one of them that could take the session in "no jobs" is not known.
   */
  readonly jobs?: Fact<readonly Job[]>;
  /** What the slurmd at the source of the connection says; `none`: the connection is in no job. */
  readonly callerId?: Fact<NamedJob>;
  /** The user's own choice. */
  readonly preference?: Fact<NamedJob>;
  /**
   * The slurmstepds of the user's jobs were asked whether their extern steps take somebody in: those that do not are
   * `ending` in `states`.
   */
  readonly stepds?: Fact<'asked'>;
  readonly states?: readonly JobState[];
  readonly excluded?: readonly ExcludedJob[];
  /** How long this login has waited for its jobs so far, in ms. */
  readonly waitedMs?: number;
}

/** Looks up what is said of a job: by itself, else its id, else its SLUID; the first of several entries counts. */
export function saidOf<T extends { readonly job: JobRef }>(entries: readonly T[] = []): (job: JobRef) => T | undefined {
  const byItself = new Map<JobRef, T>();
  const byId = new Map<number, T>();
  const bySluid = new Map<string, T>();
  for (const entry of entries.toReversed()) {
    byItself.set(entry.job, entry);
    if (entry.job.jobId !== undefined) byId.set(entry.job.jobId, entry);
    if (entry.job.sluid !== undefined) bySluid.set(entry.job.sluid, entry);
  }
  return (job) =>
    byItself.get(job) ??
    (job.jobId === undefined ? undefined : byId.get(job.jobId)) ??
    (job.sluid === undefined ? undefined : bySluid.get(job.sluid));
}

/** The names of several jobs, eight at most: a trace is for reading. */
export function jobNames(jobs: readonly JobRef[]): string {
  return someOf(jobs.map(nameOfJob), 8);
}

/** The same facts with more jobs excluded: what the answer `next` of decideAfterAdoption asks for. */
export function withExcluded(facts: AdoptionFacts, more: readonly ExcludedJob[]): AdoptionFacts {
  return { ...facts, excluded: [...(facts.excluded ?? []), ...more] };
}

/** The same facts with a job that turned out to be ending, when it was to be adopted into: it is none of the user's any more. */
export function withEnding(facts: AdoptionFacts, job: JobRef): AdoptionFacts {
  return { ...facts, states: [{ job, state: 'ending' }, ...(facts.states ?? [])] };
}

/**
 * The same facts after a wait for jobs of `waitedMs` more: the jobs, their states and slurmstepds are to be asked again. What a
 * caller ID or the user named stays named, and a job that is ending does not come back.
 */
export function afterWaiting(facts: AdoptionFacts, waitedMs: number): AdoptionFacts {
  const { jobs, stepds, states = [], ...kept } = facts;
  const ending = states.filter(({ state }) => state === 'ending');
  return {
    ...kept,
    ...(ending.length === 0 ? {} : { states: ending }),
    waitedMs: (facts.waitedMs ?? 0) + waitedMs,
  };
}

/** The same facts with the user's jobs as they were asked for, and their states; what was known to be ending is. */
export function withJobs(facts: AdoptionFacts, jobs: Fact<readonly Job[]>, states: readonly JobState[]): AdoptionFacts {
  const before = facts.states ?? [];
  const known = saidOf(before);
  return { ...facts, jobs, states: [...before, ...states.filter(({ job }) => known(job) === undefined)] };
}
