// Where in a job a session belongs: the leaf of its extern step, in every hierarchy in which this node's
// Slurm has a tree. What is missing only slurmstepd may make; nothing is ever created in Slurm's tree here.

import { Cgroup, holdCgroup } from '../cgroup/cgroup.js';
import type { Hierarchy } from '../cgroup/hierarchies.js';
import type { MoveTarget } from '../cgroup/move.js';
import { type CgroupPath, childPath, partsOf } from '../cgroup/path.js';
import { defined } from '../machine/defined.js';
import { ifRecorded, isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { FileStat, Host } from '../machine/host.js';
import { cgroupOf } from './discovery.js';
import { type ExternCgroup, type Job, nameOfJob } from './job.js';
import { formatJobPath, parseTaskName } from './layout.js';
import type { LocatedTop, SlurmNode } from './node.js';

/** The leaves, held; or why only slurmstepd can put a process there, or (`among`) tell which of several tasks it is. */
export type ExternLeaves =
  | { readonly outcome: 'held'; readonly targets: readonly MoveTarget[] }
  | ({ readonly outcome: 'needs-stepd' } & NeedsStepd);

/**
 * Holds the leaves of a job's extern step open, one a hierarchy. The caller closes them (`closeTargets`).
 *
 * @param nodeId index of this node in the job, as slurmstepd tells it: the number of Slurm's own task among several.
 * @throws SlurmCgroupsError ERR_NOT_SUPPORTED where the job has no extern step at all; ERR_CGROUP_GONE when the step
 * found is not there any more, also when another one of its name is.
 */
export function holdExternLeaves(node: SlurmNode, job: Job, nodeId?: number): ExternLeaves {
  const cgroups = job.extern?.cgroups ?? [];
  if (cgroups.length === 0) {
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot adopt into ${nameOfJob(job)}: it has no extern step here (PrologFlags=Contain of slurm.conf makes one)`,
      about(job),
    );
  }
  if (job.externMissingIn.length > 0)
    return { outcome: 'needs-stepd', why: `it has no extern step in ${job.externMissingIn.join(', ')} yet` };
  const targets: MoveTarget[] = [];
  let whole = false;
  try {
    for (const cgroup of cgroups) {
      const leaf = holdLeaf(node, cgroup, nodeId);
      if ('why' in leaf) return { outcome: 'needs-stepd', ...leaf };
      targets.push(leaf);
    }
    whole = true;
    return { outcome: 'held', targets };
  } finally {
    if (!whole) closeTargets(targets);
  }
}

/** @throws SlurmCgroupsError ERR_NOT_SUPPORTED: `why`, and no slurmstepd that could help (`unasked`). */
export function needsStepd(job: Job, { why, unasked }: { readonly why: string; readonly unasked: string }): never {
  throw new SlurmCgroupsError(
    'ERR_NOT_SUPPORTED',
    `Cannot adopt into ${nameOfJob(job)} by its cgroups alone: ${why}, which needs stepd (slurmstepd of its extern step): ${unasked}`,
    about(job),
  );
}

/**
 * Where slurmstepd puts what joins the extern step: there or below, in each hierarchy in which this node's Slurm has
 * a tree. Whether the job has a part in it shows once it has a process.
 *
 * @throws SlurmCgroupsError ERR_CGROUP_GONE when an extern step that was found is not there any more.
 */
export function externGoals(node: SlurmNode, job: Job): readonly Cgroup[] {
  for (const cgroup of job.extern?.cgroups ?? [])
    if (node.host.stat(cgroup.path)?.ino !== cgroup.inode) throw gone(cgroup.path);
  return topsOf(node, job).map((top) => {
    const step = childPath(pathOfJob(top, job), 'step_extern');
    return new Cgroup(node.host, top.hierarchy, top.version === 2 ? childPath(step, 'user') : step);
  });
}

/** Whether the job has a directory in that hierarchy now. */
export function isJobIn(node: SlurmNode, job: Job, hierarchy: Hierarchy): boolean {
  const top = topsOf(node, job).find((one) => one.hierarchy.key === hierarchy.key);
  if (top === undefined) return false;
  return node.host.stat(new Cgroup(node.host, hierarchy, pathOfJob(top, job)).directory) !== undefined;
}

function topsOf(node: SlurmNode, job: Job): readonly LocatedTop[] {
  const version = job.cgroups.some(({ controllers }) => controllers.length === 0) ? 2 : 1;
  return node.tops.filter((top) => top.version === version && top.nodeName === job.nodeName);
}

function pathOfJob(top: LocatedTop, { jobId, sluid, uid }: Job): CgroupPath {
  const job = sluid !== undefined ? { sluid } : jobId !== undefined ? { jobId } : undefined;
  return formatJobPath({
    version: top.version,
    top: top.path,
    ...(top.version === 2 || uid === undefined ? {} : { uid }),
    ...defined({ job }),
    below: [],
  });
}

/**
 * Holds a user's own cgroup `uid_<U>` in each hierarchy of v1: the target of `action_unknown=user`.
 *
 * @throws SlurmCgroupsError ERR_NOT_SUPPORTED on v2, where users have none; ERR_NO_SUCH_JOB when it has none here.
 */
export function holdUserCgroups(node: SlurmNode, uid: number): readonly MoveTarget[] {
  const tops = node.tops.filter((top) => top.version === 1);
  if (tops.length === 0) {
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot adopt into the cgroup of uid ${uid}: Slurm has one for each user on cgroup v1 only`,
      { uid },
    );
  }
  const cgroups = tops
    .map((top) => new Cgroup(node.host, top.hierarchy, childPath(top.path, `uid_${uid}`)))
    .filter((cgroup) => node.host.stat(cgroup.directory) !== undefined);
  if (cgroups.length === 0)
    throw new SlurmCgroupsError('ERR_NO_SUCH_JOB', `uid ${uid} has no job on this node`, { uid });
  const keys = cgroups.map((cgroup) => cgroup.hierarchy.key);
  if (new Set(keys).size < keys.length) {
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot adopt into the cgroup of uid ${uid}: several nodes of Slurm on this machine have one, and none was named`,
      { uid },
    );
  }
  return holdAll(cgroups.map((cgroup) => () => ({ cgroup, directory: holdCgroup(node.host, cgroup) })));
}

export function closeTargets(targets: readonly MoveTarget[]): void {
  for (const target of targets) target.directory.close();
}

function holdAll(holds: readonly (() => MoveTarget)[]): readonly MoveTarget[] {
  const held: MoveTarget[] = [];
  try {
    for (const hold of holds) held.push(hold());
    return held;
  } catch (error) {
    closeTargets(held);
    throw error;
  }
}

interface NeedsStepd {
  readonly why: string;
  /** Tasks one of which is Slurm's: NODEID of slurmstepd tells which. */
  readonly among?: readonly string[];
}

function holdLeaf(node: SlurmNode, extern: ExternCgroup, nodeId: number | undefined): MoveTarget | NeedsStepd {
  const step = cgroupOf(node, extern);
  if (step === undefined) throw gone(extern.path);
  const leaf = leafOf(node.host, step, nodeId);
  if ('why' in leaf) return leaf;
  const directory = holdCgroup(node.host, leaf);
  try {
    // Looked at after the leaf is held: if the step is still the one that was found, the leaf held lies in it,
    // since inode numbers of cgroups never come again; if it is removed later, the held leaf answers ENODEV.
    if (node.host.stat(step.directory)?.ino !== extern.inode) throw gone(extern.path);
    // By the held directory: between the look and the opening the user can have put one of theirs in its place.
    if (leaf !== step && !isMadeByRoot((file) => directory.stat(file))) throw gone(leaf.directory);
    return { cgroup: leaf, directory };
  } catch (error) {
    directory.close();
    throw error;
  }
}

/**
 * The only `task_<N>` that root made (the number is the node's index in the job, never assume 0); on v2 without one
 * `task_special`, on v1 the step itself. Of several tasks Slurm's is the one that slurmstepd names, or none is taken.
 */
function leafOf(host: Host, step: Cgroup, nodeId: number | undefined): Cgroup | NeedsStepd {
  const { hierarchy } = step;
  const parent = hierarchy.version === 2 ? new Cgroup(host, hierarchy, childPath(step.path, 'user')) : step;
  const tasks = tasksIn(parent).filter((name) =>
    isMadeByRoot((file) => host.stat(`${parent.directory}/${name}/${file}`)),
  );
  const numbered = tasks.filter((name) => name !== 'task_special');
  const named = numbered.length > 1 ? numbered.filter((name) => name === `task_${nodeId}`) : numbered;
  if (numbered.length > 0 && named.length === 0)
    return { why: `"${parent.directory}" has several tasks (${numbered.join(', ')})`, among: numbered };
  const [name] = named.length > 0 ? named : hierarchy.version === 2 ? tasks : [];
  if (name !== undefined) return new Cgroup(host, hierarchy, childPath(parent.path, name));
  if (hierarchy.version === 2) return { why: `"${parent.directory}" has no task yet` };
  return step;
}

/**
 * Up to 23.02 the step's directory belongs to the job's user, who can make `task_0` in it, freeze what is adopted
 * there, or let the adoption fail. A chown of a directory leaves its files as they are: `cgroup.procs` tells who made it.
 */
function isMadeByRoot(statOf: (file: string) => FileStat | undefined): boolean {
  const isRoots = ifRecorded(() => (statOf('cgroup.procs') ?? statOf('tasks'))?.uid === 0n);
  return isRoots ?? true; // recordings up to 0.1 do not tell, and nothing is moved by them
}

function tasksIn(parent: Cgroup): readonly string[] {
  try {
    return parent
      .children()
      .map((child) => partsOf(child.path).at(-1) ?? '')
      .filter((name) => parseTaskName(name) !== undefined)
      .sort();
  } catch (error) {
    if (isGone(error)) throw gone(parent.directory, error);
    throw error;
  }
}

function gone(path: string, cause?: unknown): SlurmCgroupsError {
  return new SlurmCgroupsError(
    'ERR_CGROUP_GONE',
    `The extern step ${quote(path)} is gone: its job is ending, or began anew`,
    { path },
    cause,
  );
}

function about(job: Job): { readonly jobId?: number } {
  return defined({ jobId: job.jobId });
}
