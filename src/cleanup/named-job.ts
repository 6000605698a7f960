// Which directories of this node are those of the job that was named. Since 26.05 a v2 directory is named by a SLUID,
// people know jobs by their ids, and the place of a slurmstepd that lives shows which is which: no slurmstepd is asked.

import { discoverJobs } from '../jobs/discovery.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import type { JobName } from '../jobs/layout.js';
import type { SlurmNode } from '../jobs/node.js';
import { jobIdByPlace } from '../jobs/stepd/process.js';
import { unplacedNote, unplacedSteps } from '../jobs/stepd/unplaced.js';
import { SlurmCgroupsError, someOf } from '../machine/errors.js';

/** More would make the line long. */
const sluidsNamed = 3;

/**
 * The jobs of that name; those named by SLUID with their ids, where that is told. A directory that is named by the
 * job id comes before any whose id was only told. Empty: nothing of the job is here.
 *
 * @throws SlurmCgroupsError ERR_STEPD, ERR_NOT_SLURM where it may be here and that cannot be known; others when a directory that
 * is there cannot be read.
 */
export function findNamedJobs(name: JobName, node: SlurmNode): readonly Job[] {
  const all = discoverJobs(node);
  if (all.length === 0) requireEvidence(node, name);
  if ('sluid' in name) return all.filter((one) => one.sluid === name.sluid).map((one) => identified(node, one));
  const named = all.filter((one) => one.jobId === name.jobId);
  if (named.length > 0) return named;
  const bySluid = all.filter((one) => one.sluid !== undefined).map((one) => identified(node, one));
  const told = bySluid.filter((one) => one.jobId === name.jobId);
  if (told.length > 0) return told;
  const untold = bySluid.flatMap(({ jobId, sluid }) => (jobId === undefined && sluid !== undefined ? [sluid] : []));
  requireNoStepd(node, bySluid, name.jobId);
  requireAllTold(untold, name.jobId);
  return [];
}

/** @throws SlurmCgroupsError ERR_NOT_SLURM where neither Slurm's cgroups nor its spool were found: no list says "none". */
function requireEvidence({ evidence }: SlurmNode, name: JobName): void {
  if (evidence !== undefined) return;
  throw new SlurmCgroupsError(
    'ERR_NOT_SLURM',
    `Cannot tell whether ${nameOfJob(name)} is on this node: neither Slurm's cgroups nor the spool of slurmd were found`,
    'jobId' in name ? { jobId: name.jobId } : {},
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

/** @throws SlurmCgroupsError ERR_STEPD where there are directories, and whether one is the job's is not known. */
function requireAllTold(untold: readonly string[], jobId: number): void {
  const sluids = [...new Set(untold)];
  if (sluids.length === 0) return;
  const directories =
    sluids.length === 1 ? '1 directory is named by a SLUID' : `${sluids.length} directories are named by a SLUID`;
  const [them, it] = sluids.length === 1 ? ['it', 'it'] : ['them', 'one of them'];
  throw new SlurmCgroupsError(
    'ERR_STEPD',
    `Cannot tell whether job ${jobId} is on this node: ${directories}, and no slurmstepd of ${them} is left to tell the job (${someOf(sluids, sluidsNamed)}); if ${it} is job ${jobId}, name the SLUID: "slurm-cgroups clean ${sluids[0]}"`,
    { jobId },
  );
}

function identified(node: SlurmNode, job: Job): Job {
  const jobId = jobIdByPlace(node, job);
  return jobId === undefined ? job : { ...job, jobId };
}
