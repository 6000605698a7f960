// Steps whose slurmstepd listens while no cgroup of their job was found: jobs that are not known, which is not no jobs
// (proctrack without cgroups, a tree that stands elsewhere). By their sockets in the spools of this node.

import { ifRecorded, someOf } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { discoverJobs } from '../discovery.js';
import type { Job } from '../job.js';
import type { SlurmNode } from '../node.js';
import { pathsOfListeners, type StepSocket, socketsInSpool } from './sockets.js';

/**
 * A slurmstepd that crashed leaves its socket behind, on which nothing listens any more. A user can make it look as if
 * something did (machine/unix-table.ts): then a job is not known, rather than none.
 *
 * @param jobs all jobs of this node that have a cgroup
 * @throws SlurmCgroupsError where a spool cannot be read
 */
export function unplacedSteps(node: Pick<SlurmNode, 'host' | 'spools'>, jobs: readonly Job[]): readonly StepSocket[] {
  const sockets = [...node.spools]
    .flatMap(([nodeName, spool]) => socketsThere(node.host, spool, nodeName))
    .filter(({ jobId, nodeName }) => !jobs.some((job) => isThatJob(job, jobId, nodeName)));
  if (sockets.length === 0) return [];
  const listening = pathsOfListeners(node.host);
  return sockets.filter(({ folder, name }) => listening?.has(`${folder}/${name}`) ?? true);
}

/** The same, reading the directories of all jobs only where something listens. */
export function unplacedOnNode(node: SlurmNode): readonly StepSocket[] {
  return unplacedSteps(node, []).length === 0 ? [] : unplacedSteps(node, discoverJobs(node));
}

/** For people: `slurmstepd of job 5 listens here, but no cgroup of it was found`; `undefined`: there is none. */
export function unplacedNote(steps: readonly StepSocket[]): string | undefined {
  const ids = [...new Set(steps.map(({ jobId }) => jobId))].sort((a, b) => a - b);
  if (ids.length === 0) return undefined;
  const names = someOf(ids.map((id) => `job ${id}`));
  return `slurmstepd of ${names} listens here, but no cgroup of ${ids.length === 1 ? 'it' : 'them'} was found`;
}

/** A job named by its SLUID can be any. */
function isThatJob(job: Job, jobId: number, nodeName: string): boolean {
  return job.jobId === undefined || (job.jobId === jobId && (job.nodeName ?? nodeName) === nodeName);
}

function socketsThere(host: Host, spool: string, nodeName: string): readonly StepSocket[] {
  return ifRecorded(() => socketsInSpool(host, spool, { nodeName })) ?? [];
}
