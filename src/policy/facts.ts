// What a decision is made from: the login, and what was found out about it. A fact is known, unknown with a reason, or
// absent, which means that it was not asked for yet. adopt/evidence.ts gathers facts.

import { type Job, nameOfJob } from '../jobs/job.js';
import { someOf } from '../machine/errors.js';

/**
 * Something that was asked: the answer, or why there is none. `unknown` is one line, safe to print. "Unknown" never
 * means "none".
 */
export type Fact<T> = { readonly known: T } | { readonly unknown: string };

/** The facts that a decision can ask for. */
export type FactName = 'node' | 'jobs' | 'prolog' | 'callerId' | 'preference' | 'stepds';

/** The login to decide on. What gathers the facts needs more (pid, connection): adopt/evidence.ts adds it. */
export interface AdoptionRequest {
  readonly uid: number;
  /** Login name, for the trace only. */
  readonly user?: string;
  /** PAM service. Absent: not a PAM login, so the option `service` does not apply. */
  readonly service?: string;
  /** The job into which the session is to go. Then no other is considered, and the rules of a login do not choose. */
  readonly jobId?: number;
}

/** A Slurm node with its name and the version of the cgroups that Slurm uses there; or not a Slurm node. */
export type NodeFact =
  | {
      readonly isSlurmNode: true;
      /** NodeName: the option `nodename`, else SLURMD_NODENAME, else the short host name. */
      readonly nodeName: string;
      readonly cgroupVersion: 1 | 2;
    }
  | { readonly isSlurmNode: false; readonly why?: string };

/** A job named by the slurmd at the other end of the connection, or by the user; with its owner where that is known. */
export type NamedJob = { readonly jobId: number; readonly uid?: number } | 'none';

/** How a fact refers to a job: by the job itself, its id, or its SLUID. */
export type JobRef = Pick<Job, 'jobId' | 'sluid'>;

/** A state in which a job is not adopted into. A job without an entry counts as running. */
export interface JobState {
  readonly job: JobRef;
  /**
   * `starting`: no extern step yet, or one in which the Prolog runs; `ending`: no extern step any more, or it refuses; `deserted`: it has no slurmstepd
   * that would accept a session (so far); `suspended`: frozen.
   */
  readonly state: 'starting' | 'ending' | 'deserted' | 'suspended';
}

/** A job that this login has tried, or must not try. */
export interface ExcludedJob {
  readonly job: JobRef;
  readonly why: 'suspended' | 'failed';
  /** What went wrong: one line, safe to print. */
  readonly detail?: string;
}

/** What is known of a login. Start with `{}` and add what decideAdoption() asks for. */
export interface AdoptionFacts {
  readonly node?: Fact<NodeFact>;
  /**
   * The jobs of the request's uid on this node, each once, and the job that the request names, of any owner. Jobs of
   * an unknown owner are among them, without `uid`: no session goes into them, but while one of them accepts sessions
   * it is not known that the user has no job.
   */
  readonly jobs?: Fact<readonly Job[]>;
  /** Whether a Prolog runs on this node for a job of the user's: only then is one about to appear that is not seen yet. */
  readonly prolog?: Fact<'runs' | 'none'>;
  /** What the slurmd at the source of the connection says; `none`: the connection is in no job. */
  readonly callerId?: Fact<NamedJob>;
  /** The user's own choice. */
  readonly preference?: Fact<NamedJob>;
  /**
   * The slurmstepds of the user's jobs were asked whether their extern steps accept a session: those that do not are
   * `ending` in `states`.
   */
  readonly stepds?: Fact<'asked'>;
  readonly states?: readonly JobState[];
  readonly excluded?: readonly ExcludedJob[];
  /** How long this login has waited for its jobs so far, in ms. */
  readonly waitedMs?: number;
}

/** Looks up what is said of a job: by the job itself, its id, or its SLUID. The first of several entries counts. */
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

/** The names of several jobs, eight at most: people read a trace. */
export function jobNames(jobs: readonly JobRef[]): string {
  return someOf(jobs.map(nameOfJob), 8);
}

/** The same facts with more jobs excluded: what the answer `next` of decideAfterAdoption asks for. */
export function withExcluded(facts: AdoptionFacts, more: readonly ExcludedJob[]): AdoptionFacts {
  return { ...facts, excluded: [...(facts.excluded ?? []), ...more] };
}

/** The same facts with a job that turned out to be ending when the session was to go into it: it no longer counts. */
export function withEnding(facts: AdoptionFacts, job: JobRef): AdoptionFacts {
  return { ...facts, states: [{ job, state: 'ending' }, ...(facts.states ?? [])] };
}

/**
 * The same facts after waiting for jobs for `waitedMs` more: the jobs, their states and their slurmstepds are asked for
 * again. What caller ID or the user named stays, and a job that is ending does not come back; a Prolog that was seen is
 * followed by its job, also once it has ended.
 */
export function afterWaiting(facts: AdoptionFacts, waitedMs: number): AdoptionFacts {
  const { jobs, stepds, prolog, states = [], ...kept } = facts;
  const isComing = prolog !== undefined && 'known' in prolog && prolog.known === 'runs';
  const ending = states.filter(({ state }) => state === 'ending');
  return {
    ...kept,
    ...(isComing ? { prolog } : {}),
    ...(ending.length === 0 ? {} : { states: ending }),
    waitedMs: (facts.waitedMs ?? 0) + waitedMs,
  };
}

/** The same facts with the user's jobs and their states; a job that was known to be ending still is. */
export function withJobs(facts: AdoptionFacts, jobs: Fact<readonly Job[]>, states: readonly JobState[]): AdoptionFacts {
  const before = facts.states ?? [];
  const known = saidOf(before);
  return { ...facts, jobs, states: [...before, ...states.filter(({ job }) => known(job) === undefined)] };
}
