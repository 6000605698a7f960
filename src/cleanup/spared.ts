// Who is never ended, though found in a job's cgroups: slurmstepd and what it needs, ourselves and our
// ancestors, and a process that another job has too.

import type { Member } from '../cgroup/killing.js';
import { placesLine } from '../cgroup/membership.js';
import { parseProcStat, processKey } from '../cgroup/process.js';
import { discoverJobs } from '../jobs/discovery.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { isSameJob, type JobName } from '../jobs/layout.js';
import { isJobLiving } from '../jobs/living.js';
import { otherJobsIn, placeOf } from '../jobs/membership-in-job.js';
import type { SlurmNode } from '../jobs/node.js';
import { isAtSlurmstepdsPlace, protectedProgramOf } from '../jobs/protected.js';
import type { Deadline } from '../machine/deadline.js';
import { ifThere } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

/** Pids of this process and of all it descends from: a clean-up may stand inside what it cleans (RunInJob). */
export function lineOfDescent(host: Host): ReadonlySet<number> {
  const line = new Set<number>();
  for (let pid = host.self().pid; pid > 0 && !line.has(pid); ) {
    line.add(pid);
    const at = pid;
    // Where it ended, its child got another parent, which is none of ours.
    pid = ifThere(() => parseProcStat(host.read(`/proc/${at}/stat`)).ppid) ?? 0;
  }
  return line;
}

export interface SpareOptions {
  readonly node: SlurmNode;
  readonly job: JobName;
  readonly line: ReadonlySet<number>;
  /** Of `endedJobsOf`: a place in one of them spares nothing. */
  readonly ended?: ReadonlySet<string>;
}

/**
 * Which of the other jobs that members stand in have ended: a job that lives keeps its processes, a directory that one
 * has left behind keeps nothing. Asked for each process, which alone does not keep its other job alive.
 */
export async function endedJobsOf(
  members: readonly Member[],
  { node, job, deadline }: Pick<SpareOptions, 'node' | 'job'> & { readonly deadline: Deadline },
): Promise<ReadonlySet<string>> {
  const ended = new Set<string>();
  const found = new Map<string, readonly Job[]>();
  for (const member of members) {
    const [other] = otherJobsIn(node, member.memberships, job);
    if (other === undefined) continue;
    const key = jobKey(other);
    const there = found.get(key) ?? discoverJobs(node, { only: other });
    found.set(key, there);
    const lives = await Promise.all(there.map((one) => isJobLiving(node, one, { except: member.pid, deadline })));
    if (!lives.includes(true)) ended.add(`${key} ${processKey(member)}`);
  }
  return ended;
}

function jobKey(job: JobName): string {
  return 'jobId' in job ? String(job.jobId) : job.sluid;
}

/** Why a member of the job's cgroups is not ended; `undefined`: it is. */
export function spareReason(member: Member, options: SpareOptions): string | undefined {
  const { node, job, line } = options;
  if (member.pid === 1) return 'is the first process of this machine';
  if (member.kernelThread) return 'is a thread of the kernel';
  if (line.has(member.pid))
    return member.pid === node.host.self().pid ? 'is this command itself' : 'is an ancestor of this command';
  if (isAtSlurmstepdsPlace(node, member.memberships)) return "is at slurmstepd's place in the job";
  if (member.uids.every((uid) => uid === 0)) {
    const name = protectedProgramOf(node.host, member);
    if (name === 'slurmstepd' || name === 'slurmd') return `is ${name}`;
    if (isPlaceholder(node, member)) return "is slurmstepd's own placeholder, and slurmstepd lives";
  }
  const [other] = otherJobsIn(node, member.memberships, job);
  if (other === undefined || options.ended?.has(`${jobKey(other)} ${processKey(member)}`) === true) return undefined;
  return `is also in ${nameOfJob(other)}`;
}

/** Whether the member is the slurmstepd of a step: by uids and executable. */
export function isSlurmstepd(node: SlurmNode, member: Member): boolean {
  return protectedProgramOf(node.host, member) === 'slurmstepd';
}

/** `sleep 100000000` in the extern step, a child of slurmstepd (up to 24.11): ending it ends the step of a living job. */
function isPlaceholder(node: SlurmNode, member: Member): boolean {
  const inExtern = member.memberships.some((membership) => placeOf(node, membership)?.stepId === 'extern');
  if (!inExtern || member.ppid <= 1) return false;
  return protectedProgramOf(node.host, { pid: member.ppid }) === 'slurmstepd';
}

/** Where the member stands in the job, as its proof: `member of /slurm/uid_1/job_2/step_batch in freezer, memory`. */
export function proofOf(member: Member, node: SlurmNode, job: JobName): string {
  const inside = member.memberships.filter((membership) => {
    const place = placeOf(node, membership);
    return place?.job !== undefined && isSameJob(place.job, job);
  });
  return `member of ${placesLine(inside)}`;
}
