// Whose job it is. On v1 the path says so; on v2 it does not, and the script that slurmd stored for a batch
// job does: a file in root's spool that belongs to the job's user. (Asking slurmstepd comes with stepd.ts.)

import { hasCode } from '../cgroup/errors.js';
import { type FileStat, isDirectory, isRegularFile } from '../cgroup/host.js';
import type { Job } from './job.js';
import type { SlurmNode } from './node.js';

/** How an owner is known. */
export type OwnerSource = 'path' | 'slurm_script';

export interface OwnedJob extends Job {
  /** Absent with `uid`: nothing here says whose job it is. */
  readonly ownerFrom?: OwnerSource;
}

/**
 * The same jobs with their owners, as far as they can be known without asking a daemon.
 *
 * @throws SlurmCgroupsError when the spool is there and cannot be read.
 */
export function findOwners(jobs: readonly Job[], options: { readonly node: SlurmNode }): readonly OwnedJob[] {
  const { node } = options;
  const trusted = new Map([...node.spools].filter(([, spool]) => isTrusted(node, spool)));
  return jobs.map((job): OwnedJob => {
    if (job.uid !== undefined) return { ...job, ownerFrom: 'path' };
    const name = job.nodeName ?? node.nodeName;
    const spool = name === undefined ? undefined : trusted.get(name);
    const uid = spool === undefined || job.jobId === undefined ? undefined : ownerOfScript(node, spool, job.jobId);
    return uid === undefined ? job : { ...job, uid, ownerFrom: 'slurm_script' };
  });
}

/** A folder that others can write, or that is not root's, proves nothing. */
function isTrusted(node: SlurmNode, spool: string): boolean {
  try {
    const stat = node.host.stat(spool);
    return stat !== undefined && isRootsAlone(stat);
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED')) return false;
    throw error;
  }
}

function isRootsAlone(stat: FileStat): boolean {
  return isDirectory(stat) && stat.uid === 0n && (stat.mode & 0o022n) === 0n;
}

/** `<spool>/job<5 digits>/slurm_script`, mode 0700, owned by the job's user (measured, 20.11 to 26.05). */
function ownerOfScript(node: SlurmNode, spool: string, jobId: number): number | undefined {
  const folder = `${spool}/job${String(jobId).padStart(5, '0')}`;
  const above = node.host.stat(folder);
  // slurmd makes it 0750, root's, with the group of the job's user: where others can write, the script may be theirs.
  if (above === undefined || !isRootsAlone(above)) return undefined;
  const script = node.host.stat(`${folder}/slurm_script`);
  return script === undefined || !isRegularFile(script) ? undefined : Number(script.uid);
}
