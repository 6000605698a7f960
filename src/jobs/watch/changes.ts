// Two looks at the jobs of a node, as a list of what happened in between. Pure: the events, told over the first
// look, give the second. Who looks, and when, is watch.ts's.

import { defined } from '../../machine/defined.js';
import type { Job } from '../job.js';

/** A job as one look saw it. */
export interface SeenJob {
  readonly job: Job;
  /** Inode of the job's directory in each hierarchy, by `Hierarchy.key`: the kernel gives none twice. */
  readonly inodes: ReadonlyMap<string, bigint>;
}

/** The job an event is about, as the last look saw it. */
export interface AboutJob {
  /** Absent where only the SLUID is known. */
  readonly jobId?: number;
  readonly sluid?: string;
  /** Absent where it is not known whose it is (yet). */
  readonly uid?: number;
  readonly nodeName?: string;
  readonly job: Job;
}

export type JobChange = AboutJob &
  (
    | { readonly event: 'added' }
    | { readonly event: 'removed' }
    /** Its owner or its id became known, or it came to or left a hierarchy. */
    | { readonly event: 'changed' }
    | { readonly event: 'step-added'; readonly stepId: string }
    | { readonly event: 'step-removed'; readonly stepId: string }
  );

/**
 * What two looks call the same: the name of the directory, where ids begin anew and nodes share a machine also whose
 * it is (as discovery.ts merges). What only becomes known later (a v2 owner, the id behind a SLUID) is no part of it.
 */
export function directoryKeyOf(job: Job): string {
  const [first] = job.cgroups;
  const isV2 = first?.hierarchy === 'unified';
  const name = first?.path.slice(first.path.lastIndexOf('/') + 1);
  return `${isV2 ? 2 : 1} ${job.nodeName ?? ''} ${isV2 ? '' : job.uid} ${name}`;
}

/**
 * The same job, not another of its name: it kept at least one directory. A hierarchy of a living job may come
 * late, go early, or be made again.
 */
export function isSameDirectory(a: SeenJob, b: SeenJob): boolean {
  return [...a.inodes].some(([hierarchy, inode]) => b.inodes.get(hierarchy) === inode);
}

export interface ChangesOptions {
  readonly steps: boolean;
}

/** What happened between two looks: first what went, then what changed and came. Keys are those of `directoryKeyOf`. */
export function changesBetween(
  before: ReadonlyMap<string, SeenJob>,
  after: ReadonlyMap<string, SeenJob>,
  options: ChangesOptions,
): readonly JobChange[] {
  const gone: JobChange[] = [];
  const here: JobChange[] = [];
  for (const [key, seen] of before) {
    const now = after.get(key);
    if (now !== undefined && isSameDirectory(seen, now)) continue;
    if (options.steps) gone.push(...seen.job.steps.map(({ stepId }) => ofStep('step-removed', seen.job, stepId)));
    gone.push({ event: 'removed', ...aboutJob(seen.job) });
  }
  for (const [key, seen] of after) {
    const was = before.get(key);
    const same = was !== undefined && isSameDirectory(was, seen) ? was : undefined;
    if (same === undefined) here.push({ event: 'added', ...aboutJob(seen.job) });
    else if (differs(same.job, seen.job)) here.push({ event: 'changed', ...aboutJob(seen.job) });
    if (!options.steps) continue;
    const [old, now] = [stepsOf(same), stepsOf(seen)];
    for (const stepId of old) if (!now.has(stepId)) here.push(ofStep('step-removed', seen.job, stepId));
    for (const stepId of now) if (!old.has(stepId)) here.push(ofStep('step-added', seen.job, stepId));
  }
  return [...gone, ...here];
}

function stepsOf(seen: SeenJob | undefined): ReadonlySet<string> {
  return new Set(seen?.job.steps.map(({ stepId }) => stepId));
}

function differs(a: Job, b: Job): boolean {
  const places = (job: Job) => job.cgroups.map(({ hierarchy, path }) => `${hierarchy} ${path}`).join('\n');
  return a.jobId !== b.jobId || a.uid !== b.uid || places(a) !== places(b);
}

function ofStep(event: 'step-added' | 'step-removed', job: Job, stepId: string): JobChange {
  return { event, stepId, ...aboutJob(job) };
}

function aboutJob(job: Job): AboutJob {
  return {
    ...defined({ jobId: job.jobId, sluid: job.sluid, uid: job.uid, nodeName: job.nodeName }),
    job,
  };
}
