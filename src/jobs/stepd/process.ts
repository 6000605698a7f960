// What the place of a slurmstepd tells. On v2 it stands in `step_X/slurm`, where no process of a user can be, and
// its command line names its job: that needs no spool and no answer. Elsewhere its name and command line prove
// nothing, but where a pid stands that a slurmstepd gives as its own ties its socket to a job's directory.

import { readPids } from '../../cgroup/cgroup.js';
import { cgroupAt, hierarchyOfKey } from '../../cgroup/hierarchies.js';
import { hierarchyKey } from '../../cgroup/membership.js';
import { cgroupPath, pathBelow } from '../../cgroup/path.js';
import { type HeldProcess, holdProcess } from '../../cgroup/process.js';
import { ifReadable, ifThere } from '../../machine/errors.js';
import { withHeld } from '../../machine/held.js';
import type { Host } from '../../machine/host.js';
import type { Job, JobCgroup } from '../job.js';
import { parseJobName } from '../layout.js';
import type { SlurmNode } from '../node.js';

type NodeHierarchies = Pick<SlurmNode, 'host' | 'hierarchies'>;

/**
 * The id of a job of v2, from the command line of a slurmstepd in its directory: what else root starts there (a
 * Prolog with PrologFlags=RunInJob) has another. `undefined`: no process there, or not to be seen.
 */
export function jobIdByPlace(node: NodeHierarchies, job: Pick<Job, 'steps'>): number | undefined {
  for (const { cgroups } of job.steps) {
    for (const cgroup of cgroups) {
      if (cgroup.controllers.length > 0) continue; // v1: any user's process may be there
      const place = { ...cgroup, path: `${cgroup.path}/slurm` };
      for (const pid of pidsIn(node.host, place)) {
        const jobId = lookAt(node.host, pid, (held) =>
          isBelow(node, held, place) ? parseStepdTitle(held.directory.read('cmdline'))?.jobId : undefined,
        );
        if (jobId !== undefined) return jobId;
      }
    }
  }
  return undefined;
}

/**
 * When the slurmstepd of a job's extern step was started: field 22 of /proc/PID/stat, clock ticks since boot. On v2
 * it is the first process at its place. On v1, where it stands beside the user's, in the step's directory of some
 * hierarchies (FACTS: cpuset and devices), the first that runs with root's uids alone under its name: only root
 * could forge that, and it orders the jobs of one user, no more. `undefined`: it is not to be seen.
 */
export function externStepdStart(node: NodeHierarchies, job: Pick<Job, 'extern'>): bigint | undefined {
  for (const cgroup of job.extern?.cgroups ?? []) {
    let first: bigint | undefined;
    const isV2 = cgroup.controllers.length === 0;
    const place = isV2 ? { ...cgroup, path: `${cgroup.path}/slurm` } : cgroup;
    for (const pid of pidsIn(node.host, place)) {
      const start = lookAt(node.host, pid, (held) => {
        const { comm, startTime } = held.stat();
        if (!isV2 && (comm !== 'slurmstepd' || held.status().uids.some((uid) => uid !== 0))) return undefined;
        return isBelow(node, held, place) ? startTime : undefined;
      });
      if (start !== undefined && (first === undefined || start < first)) first = start;
    }
    if (first !== undefined) return first;
  }
  return undefined;
}

/**
 * Whether no process stands where the slurmstepd of a job's extern step stands on v2: it has died, or the directories are
 * what a job left behind (or are just being made), and no process can be accepted. No user can bring that about, nor hide
 * it. False where it cannot be seen, and on v1, where not every hierarchy has it (FACTS: freezer, memory).
 */
export function isDeserted({ host }: NodeHierarchies, job: Pick<Job, 'extern'>): boolean {
  const places = (job.extern?.cgroups ?? []).filter(({ controllers }) => controllers.length === 0);
  // Not by its pids: one of another pid namespace reads as 0, and is a process.
  return places.length > 0 && places.every(({ path }) => ifReadable(() => procsText(host, `${path}/slurm`)) === '');
}

/** Where the place is not there any more, no process is there. */
function procsText(host: Host, directory: string): string {
  return ifThere(() => host.read(`${directory}/cgroup.procs`)) ?? '';
}

/** `slurmstepd: [7.extern]` → job 7 (Slurm src/slurmd/slurmstepd/slurmstepd.c, setproctitle; measured). */
export function parseStepdTitle(cmdline: string): { readonly jobId: number } | undefined {
  const digits = /^slurmstepd: \[(\d+)\.[^\]\s]+\]/.exec(cmdline)?.[1];
  const name = digits === undefined ? undefined : parseJobName(`job_${digits}`);
  return name !== undefined && 'jobId' in name ? name : undefined;
}

/** Whether a process stands in the job's directory, or below, in any hierarchy: on v1 slurmstepd is not in all. */
export function standsIn(node: NodeHierarchies, job: Pick<Job, 'cgroups'>, pid: number): boolean {
  return (
    lookAt(node.host, pid, (held) => (job.cgroups.some((one) => isBelow(node, held, one)) ? true : undefined)) ?? false
  );
}

function isBelow(
  node: NodeHierarchies,
  held: HeldProcess,
  { hierarchy: key, path }: Pick<JobCgroup, 'hierarchy' | 'path'>,
) {
  const hierarchy = hierarchyOfKey(node.hierarchies, key);
  if (hierarchy === undefined) return false;
  const above = cgroupPath(cgroupAt(hierarchy, path));
  return held
    .memberships()
    .some((one) => hierarchyKey(one.controllers) === key && pathBelow(one.path, above) !== undefined);
}

function pidsIn(host: Host, { path }: JobCgroup): readonly number[] {
  return ifReadable(() => readPids(host.read(`${path}/cgroup.procs`))) ?? [];
}

/** What has ended meanwhile, is hidden from this user or was not recorded tells nothing; others may. */
function lookAt<T>(host: Host, pid: number, look: (held: HeldProcess) => T | undefined): T | undefined {
  return ifReadable(() => withHeld(holdProcess(host, pid), look));
}
