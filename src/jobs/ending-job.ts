// The epilog's word that a job is ending: a file of its id, from its first step to its last. No session goes into such a
// job, whatever its slurmstepd says.

import type { Host } from '../machine/host.js';
import { stateFolder } from '../machine/state-folder.js';
import type { Job } from './job.js';

const folder = stateFolder('ending');

/** The file of a job, by its id. */
export function endingFile(jobId: number): string {
  return `${folder}/${jobId}`;
}

/** Whether an epilog of that job runs. A folder that cannot be read says nothing: only root can make it so. */
export function isEndingHere(host: Pick<Host, 'stat'>, { jobId }: Pick<Job, 'jobId'>): boolean {
  return jobId !== undefined && host.stat(endingFile(jobId)) !== undefined;
}
