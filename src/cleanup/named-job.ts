// Which directories of this node are those of the job that is meant. Since 26.05 a v2 directory is named by a SLUID,
// people know jobs by their ids, and the place of a slurmstepd that lives tells which is which: nobody is asked.

import { discoverJobs } from '../jobs/discovery.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import type { JobName } from '../jobs/layout.js';
import type { SlurmNode } from '../jobs/node.js';
import { jobIdByPlace } from '../jobs/stepd/process.js';
import { unplacedNote, unplacedSteps } from '../jobs/stepd/unplaced.js';
import { SlurmCgroupsError } from '../machine/errors.js';

/** More would make the line long. */
const sluidsNamed = 3;

/**
 * The jobs of that name; those named by SLUID with their ids, where that is told. A directory that is named by the
 * job id is meant before any whose id is only told.
 *
 * @throws SlurmCgroupsError ERR_NO_SUCH_JOB; others when a directory that is there cannot be read.
 */
export function jobsMeant(name: JobName, node: SlurmNode): readonly Job[] {
  const all = discoverJobs(node);
  if ('sluid' in name) {
    const named = all.filter((one) => one.sluid === name.sluid);
    if (named.length > 0) return named.map((one) => identified(node, one));
    throw noSuchJob(name);
  }
  const named = all.filter((one) => one.jobId === name.jobId);
  if (named.length > 0) return named;
  const bySluid = all.filter((one) => one.sluid !== undefined).map((one) => identified(node, one));
  const told = bySluid.filter((one) => one.jobId === name.jobId);
  if (told.length > 0) return told;
  requireNoStepd(node, bySluid, name.jobId);
  throw noSuchJob(
    name,
    bySluid.flatMap(({ jobId, sluid }) => (jobId === undefined && sluid !== undefined ? [sluid] : [])),
  );
}

/** @throws SlurmCgroupsError ERR_STEPD where a slurmstepd of the job listens: it is here, and its cgroup is not known. */
function requireNoStepd(node: SlurmNode, jobs: readonly Job[], jobId: number): void {
  const note = unplacedNote(unplacedSteps(node, jobs).filter((step) => step.jobId === jobId));
  if (note === undefined) return;
  throw new SlurmCgroupsError(
    'ERR_STEPD',
    `Cannot tell what belongs to job ${jobId}: ${note}; "slurm-cgroups doctor" checks where Slurm keeps its cgroups`,
    { jobId },
  );
}

function identified(node: SlurmNode, job: Job): Job {
  const jobId = jobIdByPlace(node, job);
  return jobId === undefined ? job : { ...job, jobId };
}

/** @param untold SLUIDs of which nobody tells the job: one of them may be the one that is meant */
function noSuchJob(name: JobName, untold: readonly string[] = []): SlurmCgroupsError {
  const sluids = [...new Set(untold)];
  const some = [...sluids.slice(0, sluidsNamed), ...(sluids.length > sluidsNamed ? ['…'] : [])].join(', ');
  const directories =
    sluids.length === 1 ? '1 directory is named by a SLUID' : `${sluids.length} directories are named by a SLUID`;
  const hint =
    sluids.length === 0
      ? ''
      : `, but ${directories} whose job nobody tells (${some}): if one of them is it, name the SLUID, "slurm-cgroups clean sXXXXXXXXXXXXX"`;
  return new SlurmCgroupsError(
    'ERR_NO_SUCH_JOB',
    `There is no ${nameOfJob(name)} on this node${hint}`,
    'jobId' in name ? { jobId: name.jobId } : {},
  );
}
