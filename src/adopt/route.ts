// The route of one process into a job: who moves it, and where to. slurmstepd is asked first, whatever the cgroups look
// like. What is found is held open until closeRoute().

import { type Cgroup, holdCgroup } from '../cgroup/cgroup.js';
import type { Move, MoveTarget } from '../cgroup/move.js';
import { at } from '../jobs/config/place.js';
import type { Job } from '../jobs/job.js';
import { closeTargets, type ExternLeaves, externGoals, holdExternLeaves, needsStepd } from '../jobs/leaves.js';
import type { SlurmNode } from '../jobs/node.js';
import type { StepdConnection } from '../jobs/stepd/connection.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import { deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';

/** How slurmstepd is told of a process that already stands in the job, so that Slurm counts it. */
export interface Counted {
  readonly job: Job;
  /** slurmstepd may put it here, or below. */
  readonly goals: readonly Cgroup[];
  /** The connection on which it said that it runs. Absent: it was silent, or `unasked` says why. */
  readonly stepd?: StepdConnection;
  /** Why slurmstepd cannot be told at all. */
  readonly unasked?: string;
  /** Why it has to be told before the login is answered. */
  readonly first?: string;
}

export interface CgroupRoute {
  readonly by: 'cgroup';
  readonly targets: readonly MoveTarget[];
  /** Absent: Slurm counts nothing there. */
  readonly counted?: Counted;
}

export interface StepdRoute {
  readonly by: 'stepd';
  readonly stepd: StepdConnection;
  readonly job: Job;
  readonly goals: readonly Cgroup[];
}

/** `why` is ERR_TIMEOUT where there was no time to ask; otherwise the step is ending and accepts no process any more. */
export interface NoRoute {
  readonly by: 'none';
  readonly why: SlurmCgroupsError;
}

export type Route = CgroupRoute | StepdRoute | NoRoute;

export interface RouteOptions {
  /** How long slurmstepd may take to answer each question. */
  readonly stepdTimeoutMs: number;
  readonly signal?: AbortSignal;
  /** Takes a line for an administrator. */
  readonly say: (line: string) => void;
}

/**
 * Finds the route of a process into the job's extern step.
 *
 * @throws SlurmCgroupsError ERR_NOT_SUPPORTED where only slurmstepd could move it and cannot be asked; ERR_CGROUP_GONE.
 */
export async function findRoute(node: SlurmNode, job: Job, options: RouteOptions): Promise<Route> {
  const { stepdTimeoutMs: timeoutMs, signal, say } = options;
  const reached = await reachExternStepd(node, job, deadlineIn(node.host, timeoutMs, signal));
  if (reached.outcome === 'ending') return { by: 'none', why: reached.error };
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
        counted: { job, goals, ...defined({ stepd }), ...unasked, ...limitsFirst(node) },
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
 * The route of the children of a process that slurmstepd has moved. The leaves are where that process stands now, so
 * the children are moved by writes. If slurmstepd were told of each child it would count them twice: as tasks of their
 * own, and as children of the first (jobacct_gather/linux, measured).
 *
 * @throws SlurmCgroupsError ERR_CGROUP_GONE where the process is not there any more.
 */
export function routeForChildren(host: Host, { cgroups, process: { pid } }: Move): CgroupRoute {
  const targets: MoveTarget[] = [];
  let isComplete = false;
  try {
    for (const cgroup of cgroups) {
      const target = { cgroup, directory: holdCgroup(host, cgroup) };
      targets.push(target);
      if (!holds(target.directory, pid))
        throw new SlurmCgroupsError(
          'ERR_CGROUP_GONE',
          `Process ${pid} has left ${quote(cgroup.directory)}, so its children are not moved there`,
          { pid, path: cgroup.directory },
        );
    }
    isComplete = true;
    return { by: 'cgroup', targets };
  } finally {
    if (!isComplete) closeTargets(targets);
  }
}

/** An open directory that lists the process is the one the process is in, not another of the same name. */
function holds(directory: Directory, pid: number): boolean {
  return `\n${directory.read('cgroup.procs')}`.includes(`\n${pid}\n`);
}

export function closeRoute(route: Route): void {
  if (route.by === 'none') return;
  if (route.by === 'stepd') route.stepd.close();
  else {
    closeTargets(route.targets);
    route.counted?.stepd?.close();
  }
}

/** Of several tasks one can be made by the user (up to 23.02): slurmstepd tells which is Slurm's. */
async function holdLeaves(
  node: SlurmNode,
  job: Job,
  stepd: StepdConnection | undefined,
  { stepdTimeoutMs: timeoutMs, signal, say }: RouteOptions,
): Promise<ExternLeaves> {
  const leaves = holdExternLeaves(node, job);
  if (leaves.outcome === 'held' || leaves.among === undefined || stepd === undefined) return leaves;
  const tasks = leaves.among.join(', ');
  const nodeId = await stepd.ask('nodeId', deadlineIn(node.host, timeoutMs, signal));
  if (nodeId.outcome !== 'answered') {
    say(`cannot tell which of ${tasks} is Slurm's: ${nodeId.error.message}`);
    return leaves;
  }
  say(`of ${tasks}, slurmstepd names task_${nodeId.value}`);
  return holdExternLeaves(node, job, nodeId.value);
}

/**
 * With ulimit_pam_adopt slurmstepd gives an accepted process the limits of the job, RLIMIT_RSS among them (23.02 on; it
 * looks for the word anywhere in LaunchParameters). The login must not go on before that.
 */
function limitsFirst({ configuration }: SlurmNode): { readonly first: string } | undefined {
  const words = configuration?.launchParameters?.join().toLowerCase();
  if (words?.includes('ulimit_pam_adopt') !== true) return undefined;
  return { first: `LaunchParameters=ulimit_pam_adopt${at(configuration?.places.get('launchParameters'))}` };
}
