// The user's jobs on this node, classified by what a login can do with them.

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
  /** Of an unknown owner: any of these can be the user's job. */
  readonly unknownOwnerOpen: readonly Job[];
  /**
   * Of an unknown owner, and accepting no session of any user: if it were the user's own job the answer would be the
   * same, so it does not count. pam_slurm_adopt does not count a job whose slurmstepd it cannot reach, either.
   */
  readonly unknownOwnerClosed: readonly Job[];
  /** Of those: just starting, so that its slurmstepd will say whose it is. */
  readonly unknownOwnerStarting: readonly Job[];
}

interface Classified {
  readonly job: Job;
  readonly state: JobState['state'] | 'running';
}

/** Classifies the jobs of the fact by what they are to `request`. */
export function classifyJobs(request: AdoptionRequest, facts: AdoptionFacts, jobs: readonly Job[]): JobsHere {
  const stateOf = saidOf(facts.states);
  const all = jobs.toSorted(compareIds).map((job): Classified => ({ job, state: stateOf(job)?.state ?? 'running' }));
  const own = all.filter(({ job }) => job.uid === request.uid);
  const others = all.filter(({ job }) => job.uid !== request.uid);
  const unknown = others.filter(({ job }) => job.uid === undefined);
  return {
    present: jobsOf(own.filter(({ state }) => isOpen(state))),
    suspended: jobsOf(own.filter(({ state }) => state === 'suspended')),
    starting: jobsOf(own.filter(({ state }) => state === 'starting')),
    ending: jobsOf(own.filter(({ state }) => state === 'ending' || state === 'deserted')),
    ofOthers: jobsOf(others.filter(({ job }) => job.uid !== undefined)),
    unknownOwnerOpen: jobsOf(unknown.filter(({ state }) => isOpen(state))),
    unknownOwnerClosed: jobsOf(unknown.filter(({ state }) => !isOpen(state))),
    unknownOwnerStarting: jobsOf(unknown.filter(({ state }) => state === 'starting')),
  };
}

/** What pam_slurm_adopt counts: an extern step that can accept a session, now or later. */
function isOpen(state: Classified['state']): boolean {
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
    `${who} has ${count === 0 ? (here.unknownOwnerOpen.length > 0 ? 'no known jobs' : 'no jobs') : count === 1 ? '1 job' : `${count} jobs`} here${listed(here.present)}`,
    ...(here.starting.length > 0 ? [`starting${listed(here.starting)}`] : []),
    ...(here.ending.length > 0 ? [`ending${listed(here.ending)}`] : []),
    ...(here.ofOthers.length > 0 ? [`of another user, ignored${listed(here.ofOthers)}`] : []),
    ...(here.unknownOwnerOpen.length > 0
      ? [`of an unknown owner, ignored${listed(here.unknownOwnerOpen)}${whyUnknown(here.unknownOwnerOpen)}`]
      : []),
    ...(here.unknownOwnerClosed.length > 0
      ? [
          `of an unknown owner, and accepting no session${listed(here.unknownOwnerClosed)}${whyUnknown(here.unknownOwnerClosed)}`,
        ]
      : []),
  ];
  return parts.join('; ');
}

/** Why a job that was named cannot be adopted into. */
export function whyNot(facts: AdoptionFacts, here: JobsHere, isNamed: (job: Job) => boolean): string {
  const present = here.present.find(isNamed);
  if (present !== undefined) {
    return saidOf(facts.excluded)(present)?.why === 'suspended' ? 'it is suspended' : 'it was tried, and failed';
  }
  if (here.ending.some(isNamed)) return 'it is ending';
  // slurmd does not check whose job it answers with: from A's job 100, `ssh B@node` names it (measured on 24.11).
  if (here.ofOthers.some(isNamed)) return 'it belongs to another user';
  if (here.unknownOwnerOpen.some(isNamed)) return 'its owner is unknown';
  if (here.unknownOwnerClosed.some(isNamed)) return 'its owner is unknown, and it accepts no session';
  return 'the user has no such job on this node';
}

/** What limits a "no such job": a directory named by SLUID, whose job id is unknown, can be that job. */
export function unlessAmong(jobs: readonly Job[]): string {
  const nameless = jobs.filter((job) => job.jobId === undefined).toSorted(compareIds);
  return nameless.length === 0
    ? ''
    : `, as far as is known: the job id of ${jobNames(nameless)} is unknown${whyUnknown(nameless)}`;
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

/** The reason of the first alone: the others are alike, or in the notes of `list`. */
function whyUnknown(jobs: readonly Job[]): string {
  const why = jobs.find((job) => job.unknownWhy !== undefined)?.unknownWhy;
  return why === undefined ? '' : ` (${why})`;
}

function listed(jobs: readonly Job[]): string {
  return jobs.length === 0 ? '' : `: ${jobNames(jobs)}`;
}
