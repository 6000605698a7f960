// The user's jobs on this node, sorted by what a login can do with them.

import type { Job } from '../jobs/job.js';
import { quote } from '../machine/errors.js';
import type { Rule } from './answer.js';
import type { AdoptionFacts, AdoptionRequest, JobState } from './facts.js';
import { jobNames, saidOf } from './facts.js';
import { compareIds } from './newest.js';

/** The jobs by what they are to this login, each list ascending by id. */
export interface JobsHere {
  /** With an extern step: what pam_slurm_adopt counts. Suspended jobs and those already tried are among them. */
  readonly present: readonly Job[];
  /** Of those present. */
  readonly suspended: readonly Job[];
  readonly starting: readonly Job[];
  readonly ending: readonly Job[];
  readonly ofOthers: readonly Job[];
  /** One of these could be the user's job. */
  readonly ownerless: readonly Job[];
  /**
   * Of an unknown owner, and closed to everybody, whoever he is: to the user's own job of that state the answer would be
   * the same, so for him there is none. pam_slurm_adopt does not count a job whose slurmstepd it cannot reach, either.
   */
  readonly closed: readonly Job[];
}

interface Sorted {
  readonly job: Job;
  readonly state: JobState['state'] | 'running';
}

/** Sorts the jobs of the fact by what they are to `request`. */
export function sortOut(request: AdoptionRequest, facts: AdoptionFacts, jobs: readonly Job[]): JobsHere {
  const stateOf = saidOf(facts.states);
  const sorted = jobs.toSorted(compareIds).map((job): Sorted => ({ job, state: stateOf(job)?.state ?? 'running' }));
  const own = sorted.filter(({ job }) => job.uid === request.uid);
  const others = sorted.filter(({ job }) => job.uid !== request.uid);
  const untold = others.filter(({ job }) => job.uid === undefined);
  return {
    present: jobsOf(own.filter(({ state }) => isOpen(state))),
    suspended: jobsOf(own.filter(({ state }) => state === 'suspended')),
    starting: jobsOf(own.filter(({ state }) => state === 'starting')),
    ending: jobsOf(own.filter(({ state }) => state === 'ending' || state === 'deserted')),
    ofOthers: jobsOf(others.filter(({ job }) => job.uid !== undefined)),
    ownerless: jobsOf(untold.filter(({ state }) => isOpen(state))),
    closed: jobsOf(untold.filter(({ state }) => !isOpen(state))),
  };
}

/** What pam_slurm_adopt counts: an extern step that can take somebody in, if not now. */
function isOpen(state: Sorted['state']): boolean {
  return state === 'running' || state === 'suspended';
}

function jobsOf(entries: readonly { readonly job: Job }[]): readonly Job[] {
  return entries.map(({ job }) => job);
}

/** The trace line that counts them. */
export function describeJobs(request: AdoptionRequest, here: JobsHere): string {
  const count = here.present.length;
  const who = request.user === undefined ? `uid ${request.uid}` : `uid ${request.uid} (${quote(request.user)})`;
  const parts = [
    `${who} has ${count === 0 ? 'no jobs' : count === 1 ? '1 job' : `${count} jobs`} here${listed(here.present)}`,
    ...(here.starting.length > 0 ? [`starting${listed(here.starting)}`] : []),
    ...(here.ending.length > 0 ? [`ending${listed(here.ending)}`] : []),
    ...(here.ofOthers.length > 0 ? [`of another owner, left out${listed(here.ofOthers)}`] : []),
    ...(here.ownerless.length > 0
      ? [`of an unknown owner, left out${listed(here.ownerless)}${whyUnknown(here.ownerless)}`]
      : []),
    ...(here.closed.length > 0
      ? [`of an unknown owner, and closed to everybody${listed(here.closed)}${whyUnknown(here.closed)}`]
      : []),
  ];
  return parts.join('; ');
}

/** Why a job that was named cannot be taken. */
export function whyNot(facts: AdoptionFacts, here: JobsHere, isNamed: (job: Job) => boolean): string {
  const present = here.present.find(isNamed);
  if (present !== undefined) {
    return saidOf(facts.excluded)(present)?.why === 'suspended' ? 'it is suspended' : 'it was tried in vain';
  }
  if (here.ending.some(isNamed)) return 'it is ending';
  // slurmd does not look whose job it answers with: A's job 100, then `ssh B@node` (measured on 24.11).
  if (here.ofOthers.some(isNamed)) return 'it belongs to another user';
  if (here.ownerless.some(isNamed)) return 'its owner is unknown';
  if (here.closed.some(isNamed)) return 'its owner is unknown, and it takes nobody in';
  return 'the user has no such job here';
}

/** Why the user has no job that runs here. */
export function whyNone(here: JobsHere): readonly [Rule, string] {
  if (here.starting.length > 0) {
    return ['starting', `You have no running job on this node yet, still starting: ${jobNames(here.starting)}`];
  }
  if (here.ending.length > 0) {
    return ['ending', `You have no running job on this node any more, ending: ${jobNames(here.ending)}`];
  }
  return ['no-jobs', 'You have no active jobs on this node'];
}

/** Of the first alone: the others' are alike, or in the notes of `list`. */
function whyUnknown(jobs: readonly Job[]): string {
  const why = jobs.find((job) => job.unknownWhy !== undefined)?.unknownWhy;
  return why === undefined ? '' : ` (${why})`;
}

function listed(jobs: readonly Job[]): string {
  return jobs.length === 0 ? '' : `: ${jobNames(jobs)}`;
}
