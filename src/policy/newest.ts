// Which of a user's jobs is the newest: our rule, the author's, and those of the releases of pam_slurm_adopt, by name. Nothing here reads a file; the times come with the jobs (FACTS.md section 3 for what they are worth).

import { type Job, type JobCgroup, nameOfJob } from '../jobs/job.js';
import { jobNames } from './facts.js';

/** The ranks by name; `newest` is ours. */
export const rankNames = [
  'newest',
  'step-extern-mtime',
  'pam_slurm_adopt-15.08',
  'pam_slurm_adopt-20.02',
  'pam_slurm_adopt-26.05',
] as const;

/**
 * - `newest`: of each job the earliest sign of its extern step; the job whose sign is latest wins.
 * - `step-extern-mtime`: the latest mtime of `step_extern` in the memory hierarchy, or its fallbacks.
 * - `pam_slurm_adopt-15.08` (to 19.05): the latest mtime of `job_N` in memory in whole seconds, first of equals
 *   (where none can be read it finds no job at all; here the least job id).
 * - `pam_slurm_adopt-20.02` (to 25.11): the same, last of equals, with fallbacks; on v2 the greatest job id.
 * - `pam_slurm_adopt-26.05`: the latest socket in whole seconds, then the greatest job id. That is what 26.05
 *   intends. Its comparison reads the list's nodes as jobs, and 26.05.5 took the oldest of four (measured). A rule that
 *   was not intended is of no use for a choice, so this rank does what was.
 */
export type RankName = (typeof rankNames)[number];

/** Where `step-extern-mtime` looks, in this order: hierarchies or controllers. Others follow by name. */
const defaultControllers: readonly string[] = ['memory', 'cpuset', 'devices', 'freezer', 'cpuacct', 'cpu', 'unified'];

export interface NewestOptions {
  readonly rank?: RankName;
  /** For `step-extern-mtime`: hierarchies or controllers, the preferred first. Default: memory, cpuset, devices, freezer, cpuacct, cpu, unified. */
  readonly controllers?: readonly string[];
}

/** All jobs, ordered. */
export interface Ranking {
  /** The newest first. */
  readonly jobs: readonly Job[];
  readonly rank: RankName;
  /** Lines for an administrator: what was compared, and what decided. */
  readonly trace: readonly string[];
}

export interface NewestJob {
  readonly job: Job;
  readonly rank: RankName;
  readonly trace: readonly string[];
}

/** The job that comes first in `rankJobs`; undefined for no jobs. */
export function newestJob(jobs: readonly Job[], options: NewestOptions = {}): NewestJob | undefined {
  const { jobs: ranked, rank, trace } = rankJobs(jobs, options);
  const job = ranked[0];
  return job && { job, rank, trace };
}

/**
 * Orders jobs, the newest first. Jobs whose time is unknown come last, and the trace says so. The order of `jobs` does
 * not matter: where pam_slurm_adopt takes the first or last of equals in a directory's order, which is unspecified,
 * ascending job ids stand for that order.
 */
export function rankJobs(jobs: readonly Job[], options: NewestOptions = {}): Ranking {
  const rank = options.rank ?? 'newest';
  const trace: string[] = [];
  const ranked = order(jobs, rank, options.controllers ?? defaultControllers, trace);
  return { jobs: ranked, rank, trace };
}

function order(jobs: readonly Job[], rank: RankName, controllers: readonly string[], trace: string[]): readonly Job[] {
  switch (rank) {
    case 'newest':
      return orderByBeginning(jobs, trace);
    case 'step-extern-mtime':
      return orderByStepExtern(jobs, controllers, trace);
    case 'pam_slurm_adopt-15.08':
      return orderByJobDirectory(jobs, ['memory'], 'least', trace);
    case 'pam_slurm_adopt-20.02': {
      if (jobs.some(isOnV1)) return orderByJobDirectory(jobs, placesOf2002, 'greatest', trace);
      const ranked = byIdDown(jobs);
      trace.push(`newest by the greatest job id (pam_slurm_adopt 20.02 on cgroup v2): ${jobNames(ranked)}`);
      return ranked;
    }
    case 'pam_slurm_adopt-26.05': {
      const timed = jobs.map((job) => ({ job, ns: wholeSecond(job.extern?.socketNs) }));
      return settle(timed, 0n, 'greatest', "the extern step's socket in whole seconds", trace);
    }
  }
}

interface Timed {
  readonly job: Job;
  /** ns since 1970; undefined where no time is known. */
  readonly ns: bigint | undefined;
}

interface Dated extends Timed {
  readonly ns: bigint;
}

/**
 * Times that differ by less are equal. File systems stamp with the coarse clock, which stands still for up to 4 ms
 * (CONFIG_HZ=250), and with fine ones (kernel 6.13 on); a difference of a whole tick is a real one.
 */
const coarseClockNs = 4_000_000n;

/**
 * Every error of a cgroup's mtime makes it later, never earlier (Slurm 23.11 on no longer chowns, and then any
 * `ls -l` or inode reclaim sets it to now; measured): the earliest of all sightings is nearest to the beginning.
 */
function orderByBeginning(jobs: readonly Job[], trace: string[]): readonly Job[] {
  const timed = jobs.map((job) => ({ job, ns: earliest(sightings(job)) }));
  const byTime = settle(timed, coarseClockNs, 'greatest', 'the earliest sign of its extern step', trace);
  if (jobs.length < 2 || jobs.some((job) => job.extern?.stepdStartTicks === undefined)) return byTime;
  const byStart = byTime.toSorted((a, b) => Number(startTicks(b) - startTicks(a)));
  // The starts are on the boot clock, which a clock set back cannot disturb.
  if (byStart.every((job, index) => job === byTime[index])) {
    trace.push('their slurmstepds started in the same order');
    return byTime;
  }
  trace.push(`their slurmstepds started in another order (boot clock), which decides: ${jobNames(byStart)}`);
  return byStart;
}

function sightings(job: Job): readonly bigint[] {
  const mtimes = (job.extern?.cgroups ?? []).map((cgroup) => cgroup.mtimeNs);
  return job.extern?.socketNs === undefined ? mtimes : [...mtimes, job.extern.socketNs];
}

function startTicks(job: Job): bigint {
  return job.extern?.stepdStartTicks ?? 0n;
}

/**
 * Two hierarchies show the same step up to 0.2 s apart (20.11 on v1, measured), and from 25.05 on `step_extern` appears
 * in memory only with the first adoption, late. So all jobs are read in the same hierarchy, if one has them all.
 */
function orderByStepExtern(jobs: readonly Job[], controllers: readonly string[], trace: string[]): readonly Job[] {
  const seen = jobs.filter((job) => (job.extern?.cgroups.length ?? 0) > 0);
  const rest = [...new Set(seen.flatMap((job) => (job.extern?.cgroups ?? []).map(({ hierarchy }) => hierarchy)))];
  const places = [...controllers, ...rest.toSorted()];
  const common = places.find((place) => seen.every((job) => externMtime(job, place) !== undefined));
  if (common === undefined) {
    trace.push('no hierarchy has step_extern for all of these jobs: each job is read in the first that has it');
    const timed = jobs.map((job) => ({ job, ns: places.map((place) => externMtime(job, place)).find(isKnown) }));
    return settle(timed, 0n, 'greatest', 'step_extern', trace);
  }
  if (common !== places[0]) trace.push(`step_extern is not in ${places[0]} for every job: read in ${common}`);
  const timed = jobs.map((job) => ({ job, ns: externMtime(job, common) }));
  return settle(timed, 0n, 'greatest', `step_extern in ${common}`, trace);
}

function externMtime(job: Job, place: string): bigint | undefined {
  const cgroups = (job.extern?.cgroups ?? []).filter((cgroup) => isIn(cgroup, place));
  return earliest(cgroups.map((cgroup) => cgroup.mtimeNs));
}

const placesOf2002 = ['memory', 'cpuset', 'devices', 'freezer'] as const;

/** pam_slurm_adopt picks one hierarchy from Constrain* of cgroup.conf; here it is the first that has a job of the list. */
function orderByJobDirectory(
  jobs: readonly Job[],
  places: readonly string[],
  wins: 'least' | 'greatest',
  trace: string[],
): readonly Job[] {
  const place = places.find((name) => jobs.some((job) => jobMtime(job, name) !== undefined)) ?? 'memory';
  const timed = jobs.map((job) => ({ job, ns: wholeSecond(jobMtime(job, place)) }));
  return settle(timed, 0n, wins, `its directory in ${place} in whole seconds`, trace);
}

function jobMtime(job: Job, place: string): bigint | undefined {
  return earliest(job.cgroups.filter((cgroup) => isIn(cgroup, place)).flatMap((cgroup) => cgroup.mtimeNs ?? []));
}

function isIn(cgroup: JobCgroup, place: string): boolean {
  return cgroup.hierarchy === place || cgroup.controllers.includes(place);
}

function isOnV1(job: Job): boolean {
  return job.cgroups.some(({ hierarchy }) => hierarchy !== 'unified');
}

function wholeSecond(ns: bigint | undefined): bigint | undefined {
  return ns === undefined ? undefined : (ns / 1_000_000_000n) * 1_000_000_000n;
}

/** Orders by time. The trace says what decided the first place. */
function settle(
  timed: readonly Timed[],
  equalBelowNs: bigint,
  wins: 'least' | 'greatest',
  by: string,
  trace: string[],
): readonly Job[] {
  const { groups, unknown } = orderByTime(timed, equalBelowNs, wins);
  const jobs = [...groups.flat(), ...unknown].map(({ job }) => job);
  const [first, second] = groups.flat();
  if (first === undefined) {
    if (jobs.length > 0) trace.push(`no time is known from ${by}: the ${wins} job id decides: ${jobNames(jobs)}`);
    return jobs;
  }
  const equals = groups[0] ?? [];
  const lead =
    equals.length > 1 || second === undefined
      ? ''
      : `, ${seconds(first.ns - second.ns)} after ${nameOfJob(second.job)}`;
  trace.push(`newest by ${by}: ${nameOfJob(first.job)}${lead}`);
  if (equals.length > 1)
    trace.push(`equally new: ${jobNames(equals.map(({ job }) => job))}: the ${wins} job id decides`);
  if (unknown.length > 0) trace.push(`no time is known for ${jobNames(unknown.map(({ job }) => job))}: last`);
  return jobs;
}

/**
 * Groups of equals, the latest group first, in each the winning job id first. "Equal within 4 ms" is not transitive, so
 * each group is what is equal to the latest job that is left: the order depends on the values alone.
 */
function orderByTime(
  timed: readonly Timed[],
  equalBelowNs: bigint,
  wins: 'least' | 'greatest',
): { readonly groups: readonly (readonly Dated[])[]; readonly unknown: readonly Timed[] } {
  const byId = (a: Timed, b: Timed): number => compareIds(a.job, b.job) * (wins === 'least' ? 1 : -1);
  const dated = timed.flatMap(({ job, ns }) => (ns === undefined ? [] : [{ job, ns }]));
  const groups: Dated[][] = [];
  let latest: Dated | undefined;
  for (const next of dated.toSorted((a, b) => (a.ns === b.ns ? 0 : a.ns < b.ns ? 1 : -1))) {
    if (latest === undefined || (latest.ns !== next.ns && latest.ns - next.ns >= equalBelowNs)) {
      latest = next;
      groups.push([]);
    }
    groups.at(-1)?.push(next);
  }
  return {
    groups: groups.map((group) => group.toSorted(byId)),
    unknown: timed.filter(({ ns }) => ns === undefined).toSorted(byId),
  };
}

function seconds(ns: bigint): string {
  const digits = (ns % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  return `${ns / 1_000_000_000n}${digits === '' ? '' : `.${digits}`} s`;
}

function earliest(times: readonly bigint[]): bigint | undefined {
  return times.reduce<bigint | undefined>((least, ns) => (least === undefined || ns < least ? ns : least), undefined);
}

function isKnown(ns: bigint | undefined): ns is bigint {
  return ns !== undefined;
}

function byIdDown(jobs: readonly Job[]): readonly Job[] {
  return jobs.toSorted((a, b) => compareIds(b, a));
}

/**
 * Ascending by job id; a job without id is below every other, then by SLUID (which packs the submission time), node
 * and first directory, so that only indistinguishable jobs are equal.
 */
export function compareIds(a: Job, b: Job): number {
  if (a.jobId !== b.jobId) return (a.jobId ?? -1) - (b.jobId ?? -1);
  return (
    compareText(a.sluid ?? '', b.sluid ?? '') ||
    compareText(a.nodeName ?? '', b.nodeName ?? '') ||
    compareText(a.cgroups[0]?.path ?? '', b.cgroups[0]?.path ?? '')
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
