// The way into a job for one process: who moves it, and where to. slurmstepd is asked first, whatever the cgroups look
// like; what is found is held open until closeWay().

import { type Cgroup, holdCgroup } from '../cgroup/cgroup.js';
import type { Move, MoveTarget } from '../cgroup/move.js';
import { at } from '../jobs/config/place.js';
import type { Job } from '../jobs/job.js';
import { closeTargets, type ExternLeaves, externGoals, holdExternLeaves, needsStepd } from '../jobs/leaves.js';
import type { SlurmNode } from '../jobs/node.js';
import type { StepdConnection } from '../jobs/stepd/connection.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';

/** What slurmstepd is told of once it stands in the job. */
export interface Counted {
  readonly job: Job;
  /** Where slurmstepd may put it, at or below. */
  readonly goals: readonly Cgroup[];
  /** The connection on which it said that it runs; absent: it was silent, or see `unasked`. */
  readonly stepd?: StepdConnection;
  /** Why it cannot be told at all. */
  readonly unasked?: string;
  /** What wants it told before the answer. */
  readonly first?: string;
}

export interface CgroupWay {
  readonly by: 'cgroup';
  readonly targets: readonly MoveTarget[];
  /** Absent: nobody counts there. */
  readonly counted?: Counted;
}

export interface StepdWay {
  readonly by: 'stepd';
  readonly stepd: StepdConnection;
  readonly job: Job;
  readonly goals: readonly Cgroup[];
}

/** `nobody`: the step is ending, and takes nobody any more, or there was no time to ask (ERR_TIMEOUT). */
export type Way = CgroupWay | StepdWay | { readonly by: 'nobody'; readonly why: SlurmCgroupsError };

export interface WayOptions {
  /** How long slurmstepd may take for each thing that it is asked. */
  readonly stepdTimeoutMs: number;
  readonly signal?: AbortSignal;
  /** A line for an administrator. */
  readonly say: (line: string) => void;
}

/**
 * Finds it.
 *
 * @throws SlurmCgroupsError ERR_NOT_SUPPORTED where only slurmstepd could move it and cannot be asked; ERR_CGROUP_GONE.
 */
export async function findWay(node: SlurmNode, job: Job, options: WayOptions): Promise<Way> {
  const { stepdTimeoutMs: timeoutMs, signal, say } = options;
  const reached = await reachExternStepd(node, job, { timeoutMs, ...(signal && { signal }) });
  if (reached.outcome === 'ending') return { by: 'nobody', why: reached.error };
  const stepd = reached.outcome === 'ready' ? reached.stepd : undefined;
  let leaves: ExternLeaves | undefined;
  let isFound = false;
  try {
    leaves = await holdLeaves(node, job, stepd, options);
    const goals = externGoals(node, job);
    if (leaves.outcome === 'held') {
      if (reached.outcome === 'unasked') say(`by its cgroups alone: ${reached.why}`);
      const unasked = reached.outcome === 'unasked' && reached.isSilent !== true ? { unasked: reached.why } : {};
      isFound = true;
      return {
        by: 'cgroup',
        targets: leaves.targets,
        counted: { job, goals, ...(stepd && { stepd }), ...unasked, ...limitsFirst(node) },
      };
    }
    if (reached.outcome === 'unasked') needsStepd(job, { why: leaves.why, unasked: reached.why });
    say(`through slurmstepd: ${leaves.why}`);
    isFound = true;
    return { by: 'stepd', stepd: reached.stepd, job, goals };
  } finally {
    if (!isFound) {
      stepd?.close();
      if (leaves?.outcome === 'held') closeTargets(leaves.targets);
    }
  }
}

/**
 * The way for the children of a process that slurmstepd has moved: where it stands now the leaves are, and so they are
 * moved by writes. slurmstepd told of each would count them twice, as tasks of their own and as children of the first
 * (jobacct_gather/linux, measured).
 *
 * @throws SlurmCgroupsError ERR_CGROUP_GONE where the process is not there any more.
 */
export function wayBehind(host: Host, { cgroups, process: { pid } }: Move): CgroupWay {
  const targets: MoveTarget[] = [];
  let isWhole = false;
  try {
    for (const cgroup of cgroups) {
      const target = { cgroup, directory: holdCgroup(host, cgroup) };
      targets.push(target);
      if (!holds(target.directory, pid))
        throw new SlurmCgroupsError(
          'ERR_CGROUP_GONE',
          `Process ${pid} is not in ${quote(cgroup.directory)} any more, so its children are not moved there`,
          { pid, path: cgroup.directory },
        );
    }
    isWhole = true;
    return { by: 'cgroup', targets };
  } finally {
    if (!isWhole) closeTargets(targets);
  }
}

/** A directory held open that lists the process is the one in which it is, not another of the same name. */
function holds(directory: Directory, pid: number): boolean {
  return `\n${directory.read('cgroup.procs')}`.includes(`\n${pid}\n`);
}

export function closeWay(way: Way): void {
  if (way.by === 'nobody') return;
  if (way.by === 'stepd') way.stepd.close();
  else {
    closeTargets(way.targets);
    way.counted?.stepd?.close();
  }
}

/** Of several tasks, one of which can be the user's making (up to 23.02), slurmstepd tells Slurm's. */
async function holdLeaves(
  node: SlurmNode,
  job: Job,
  stepd: StepdConnection | undefined,
  { stepdTimeoutMs: timeoutMs, signal, say }: WayOptions,
): Promise<ExternLeaves> {
  const leaves = holdExternLeaves(node, job);
  if (leaves.outcome === 'held' || leaves.among === undefined || stepd === undefined) return leaves;
  const nodeId = await stepd.ask('nodeId', { timeoutMs, ...(signal && { signal }) });
  if (nodeId.outcome !== 'answered') {
    say(`which of ${leaves.among.join(', ')} is Slurm's is not known: ${nodeId.error.message}`);
    return leaves;
  }
  say(`of ${leaves.among.join(', ')} slurmstepd names task_${nodeId.value}`);
  return holdExternLeaves(node, job, nodeId.value);
}

/**
 * With ulimit_pam_adopt slurmstepd sets the limits of the job for whom it takes in, RLIMIT_RSS among them (23.02 on; it
 * looks for the word anywhere in LaunchParameters): before he goes on.
 */
function limitsFirst({ configuration }: SlurmNode): { readonly first: string } | undefined {
  const words = configuration?.launchParameters?.join().toLowerCase();
  if (words?.includes('ulimit_pam_adopt') !== true) return undefined;
  return { first: `LaunchParameters=ulimit_pam_adopt${at(configuration?.places.get('launchParameters'))}` };
}
