// Whether a job lives. Its directories prove nothing: an ended job leaves them behind, also because a user keeps a
// process in one of them. A job lives while its slurmstepd does, or a process that is in all of its hierarchies.

import type { Cgroup } from '../cgroup/cgroup.js';
import { CgroupSet, type SetMember } from '../cgroup/cgroup-set.js';
import type { HeldProcess } from '../cgroup/process.js';
import type { Deadline } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { ifReadable, ifThere, SlurmCgroupsError } from '../machine/errors.js';
import { Pace } from '../machine/pace.js';
import { cgroupOf, discoverJobs } from './discovery.js';
import type { Job } from './job.js';
import type { JobName } from './layout.js';
import { otherJobsIn } from './membership-in-job.js';
import type { SlurmNode } from './node.js';
import { protectedProgramOf } from './protected.js';
import { JobSockets } from './stepd/find.js';
import { jobIdByPlace } from './stepd/process.js';
import { pathsOfListeners } from './stepd/sockets.js';

export interface LifeOptions {
  /** Not counted: the process about which the question is asked. */
  readonly except?: number;
  readonly deadline: Deadline;
}

/**
 * Whether a job lives: something listens on the socket of one of its steps, something is at slurmstepd's place (v2) or
 * is slurmstepd, or a process is in the job in every hierarchy that has it. What could not be looked at counts as
 * living: unknown is never "none".
 */
export async function isJobLiving(node: SlurmNode, job: Job, options: LifeOptions): Promise<boolean> {
  try {
    if (isAtStepdsPlace(node, job) || (await hasListener(node, job))) return true;
    const cgroups = job.cgroups.flatMap((cgroup) => cgroupOf(node, cgroup) ?? []);
    const pace = new Pace(node.host, options.deadline);
    // By the lists of the cgroups: before Linux 6.8 /proc does not show the path of a process that is nested too deep.
    const members = await new CgroupSet(node.host, cgroups).procs({ pace });
    const others = members.filter(({ pid }) => pid !== options.except);
    return (
      others.some((one) => isInAll(one, cgroups)) ||
      others.some(({ pid }) => protectedProgramOf(node.host, { pid }) === 'slurmstepd')
    );
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return true;
    throw error;
  }
}

/**
 * The job, other than `job`, that a process stands in and that lives: one that it may not be taken out of without being
 * told so. What cannot be looked at counts as living.
 */
export async function otherLivingJobOf(
  node: SlurmNode,
  { pid, memberships }: Pick<HeldProcess, 'pid' | 'memberships'>,
  { job, deadline }: { readonly job: JobName | undefined; readonly deadline: Deadline },
): Promise<Pick<Job, 'jobId' | 'sluid'> | undefined> {
  for (const other of otherJobsIn(node, memberships(), job)) {
    const found = ifReadable(() => discoverJobs(node, { only: other }));
    if (found === undefined) return other;
    for (const one of found) {
      if (!(await isJobLiving(node, one, { except: pid, deadline }))) continue;
      const jobId = ifReadable(() => jobIdByPlace(node, one));
      return { ...other, ...defined({ jobId }) };
    }
  }
  return undefined;
}

/** v2: no process of a user can be in `step_X/slurm`. */
function isAtStepdsPlace(node: SlurmNode, job: Job): boolean {
  return job.steps
    .flatMap((step) => step.cgroups)
    .filter(({ controllers }) => controllers.length === 0)
    .some(({ path }) => (ifThere(() => node.host.read(`${path}/slurm/cgroup.procs`)) ?? '') !== '');
}

/** A slurmstepd that crashed leaves its socket behind, on which nothing listens any more. */
async function hasListener(node: SlurmNode, job: Job): Promise<boolean> {
  if (job.jobId === undefined) return false; // named by a SLUID: that is v2, where the place tells
  const { sockets } = await new JobSockets(node).of(job);
  if (sockets.length === 0) return false;
  const listening = pathsOfListeners(node.host);
  return sockets.some(({ folder, name }) => listening?.has(`${folder}/${name}`) ?? true);
}

function isInAll({ seenIn }: SetMember, cgroups: readonly Cgroup[]): boolean {
  return cgroups.every(({ hierarchy }) => seenIn.some((one) => one.hierarchy.key === hierarchy.key));
}
