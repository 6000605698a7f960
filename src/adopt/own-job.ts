// A program that opens a session in a job of its user's (sudo, su): the session is there already. It stays in its step,
// even where the user has a newer job.

import type { HeldProcess } from '../cgroup/process.js';
import { discoverJobs } from '../jobs/discovery.js';
import type { Job } from '../jobs/job.js';
import { isJobLiving } from '../jobs/living.js';
import { jobPlaceOf, placeOf } from '../jobs/membership-in-job.js';
import type { SlurmNode } from '../jobs/node.js';
import { findOwners } from '../jobs/owners/find.js';
import type { Deadline } from '../machine/deadline.js';

/** The living job of that user in which a process is, in each of the job's hierarchies; `undefined`: there is none. */
export async function ownJobAround(
  node: SlurmNode,
  held: HeldProcess,
  { uid, deadline }: { readonly uid: number; readonly deadline: Deadline },
): Promise<Job | undefined> {
  const memberships = held.memberships();
  const place = jobPlaceOf(node, memberships);
  if (place === undefined || place === 'several') return undefined;
  const jobs = await findOwners(discoverJobs(node, { only: place.job }), { node, ...deadline.wait() });
  const job = jobs.find((one) => one.uid === uid && one.nodeName === place.nodeName);
  if (job === undefined) return undefined;
  const places = memberships.filter((membership) => placeOf(node, membership)?.job !== undefined);
  const isWhole = new Set(job.cgroups.map(({ hierarchy }) => hierarchy)).size === places.length;
  return isWhole && (await isJobLiving(node, job, { except: held.pid, deadline })) ? job : undefined;
}
