// Memberships read as jobs and steps: which place in one of this node's Slurm trees a membership names, and which job
// the memberships of a process name together.

import { hierarchyKey, type Membership } from '../cgroup/membership.js';
import { isSameJob, type JobName, type JobPlace, parseJobPath } from './layout.js';
import type { SlurmNode } from './node.js';

/** A place that names a job. */
export type PlaceInJob = JobPlace & { readonly job: JobName };

/** The place a membership names, if it lies in one of this node's Slurm trees. */
export function placeOf(node: Pick<SlurmNode, 'tops'>, membership: Membership): JobPlace | undefined {
  const key = hierarchyKey(membership.controllers);
  for (const top of node.tops) {
    if (top.hierarchy.key !== key) continue;
    const place = parseJobPath(membership.path, top);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** The jobs, other than `job`, in which a process stands. On v1 memberships differ by hierarchy: it can be in several. */
export function otherJobsIn(
  node: Pick<SlurmNode, 'tops'>,
  memberships: readonly Membership[],
  job: JobName | undefined,
): readonly JobName[] {
  const others: JobName[] = [];
  for (const membership of memberships) {
    const found = placeOf(node, membership)?.job;
    if (found === undefined || (job !== undefined && isSameJob(found, job))) continue;
    if (!others.some((one) => isSameJob(one, found))) others.push(found);
  }
  return others;
}

/**
 * The job in which memberships are. `undefined`: none; `several`: not the same in every hierarchy that names one.
 */
export function jobPlaceOf(
  node: Pick<SlurmNode, 'tops'>,
  memberships: readonly Membership[],
): PlaceInJob | 'several' | undefined {
  const places = memberships.flatMap((membership) => {
    const place = placeOf(node, membership);
    return place?.job === undefined ? [] : [{ ...place, job: place.job }];
  });
  const [first] = places;
  if (first === undefined) return undefined;
  const isFirst = (one: PlaceInJob) =>
    isSameJob(one.job, first.job) && one.nodeName === first.nodeName && one.uid === first.uid;
  return places.every(isFirst) ? first : 'several';
}
