// The processes of a job, what they use and what limits them: by step, and by hierarchy where these differ. It only
// looks, and it looks at the directories that the job had when it was discovered.

import { type LookOptions, paceOf } from '../cgroup/cgroup.js';
import { CgroupSet, type Seen, type SetMember } from '../cgroup/cgroup-set.js';
import { cgroupAt, hierarchyOfKey } from '../cgroup/hierarchies.js';
import { type CgroupPlace, type Limits, limitsAt } from '../cgroup/limits.js';
import { cgroupPath } from '../cgroup/path.js';
import { parseProcStat, parseProcStatus } from '../cgroup/process.js';
import { readUsage, type Usage } from '../cgroup/usage.js';
import { defined } from '../machine/defined.js';
import { ifThere, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { cgroupOf } from './discovery.js';
import type { Job, JobCgroup, Step } from './job.js';
import type { SlurmNode } from './node.js';

/** What says which machine a job is looked at on. */
export interface OfJobOptions {
  readonly node: Pick<SlurmNode, 'host' | 'hierarchies'>;
  /** To look through the job's cgroups, in which users can make others. Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** One cgroup of a job in which a process was seen. On v1 a process can be in different ones, by hierarchy. */
export interface SeenIn {
  /** `Hierarchy.key`: `memory`, `cpu,cpuacct`, or `unified` for v2. */
  readonly hierarchy: string;
  /** Absolute path of the directory. */
  readonly path: string;
  /** Absent: it is in the job's own cgroup, in no step. */
  readonly stepId?: string;
}

/** A process as it was seen. */
export interface ProcessSeen {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot. Absent, as the others: it has ended, or is hidden from this user. */
  readonly startTime?: bigint;
  /** Effective uid. */
  readonly uid?: number;
  /** At most 15 bytes, chosen by the process itself: it proves nothing. */
  readonly comm?: string;
}

export interface JobProcess extends ProcessSeen {
  readonly seenIn: readonly SeenIn[];
}

/** What a step uses. */
export interface StepUsage extends Usage {
  readonly stepId: string;
  /** Processes in it, in any hierarchy. */
  readonly processes: number;
}

/** What a job uses: all its steps together, also those that have ended, and each that is there. */
export interface JobUsage extends Usage {
  readonly processes: number;
  readonly steps: readonly StepUsage[];
}

/** What limits a step. */
export interface StepLimits extends Limits {
  readonly stepId: string;
}

/** What limits a job: itself and each step, under what is above them. */
export interface JobLimits extends Limits {
  readonly steps: readonly StepLimits[];
}

/**
 * The processes of a job, each once, ascending by pid.
 *
 * @throws SlurmCgroupsError when a cgroup that is there cannot be read, or (ERR_INCOMPLETE) not all could be seen: a list
 * that is not known is not an empty one.
 */
export async function processesOf(
  job: Pick<Job, 'steps' | 'cgroups'>,
  options: OfJobOptions,
): Promise<readonly JobProcess[]> {
  const { node } = options;
  const places = new Map<number, SeenIn[]>();
  for (const { members, stepId } of await membersOf(job, options)) {
    for (const { pid, seenIn } of members) {
      const seen = seenIn.map(
        ({ hierarchy, directory }): SeenIn => ({
          hierarchy: hierarchy.key,
          path: directory,
          ...defined({ stepId }),
        }),
      );
      places.set(pid, [...(places.get(pid) ?? []), ...seen]);
    }
  }
  return [...places].sort(([a], [b]) => a - b).map(([pid, seenIn]) => ({ ...processSeen(node.host, pid), seenIn }));
}

/** What a job uses, and each of its steps. What no file tells is absent. */
export async function usageOf(job: Pick<Job, 'steps' | 'cgroups'>, options: OfJobOptions): Promise<JobUsage> {
  const { node } = options;
  const all = await membersOf(job, options);
  const usage = (cgroups: readonly JobCgroup[]) => readUsage(node.host, cgroupsOf(node, cgroups));
  return {
    ...usage(job.cgroups),
    processes: new Set(all.flatMap(({ members }) => members.map(({ pid }) => pid))).size,
    steps: job.steps.map(({ stepId, cgroups }) => ({
      stepId,
      ...usage(cgroups),
      processes: all.find((one) => one.stepId === stepId)?.members.length ?? 0,
    })),
  };
}

/** The limits of a job and of each of its steps: the tightest of its own and those above. What no file tells is absent. */
export function limitsOf(job: Pick<Job, 'steps' | 'cgroups'>, { node }: OfJobOptions): JobLimits {
  const limits = (cgroups: readonly JobCgroup[]) =>
    limitsAt(
      node,
      cgroups.flatMap((one) => placeOf(node, one) ?? []),
    );
  return {
    ...limits(job.cgroups),
    steps: job.steps.map(({ stepId, cgroups }) => ({ stepId, ...limits(cgroups) })),
  };
}

/** The processes of a step, over all its hierarchies, ascending by pid. Throws like processesOf(). */
export async function membersOfStep(
  node: OfJobOptions['node'],
  { cgroups }: Pick<Step, 'cgroups'>,
  options: LookOptions = {},
): Promise<readonly SetMember[]> {
  return new CgroupSet(node.host, cgroupsOf(node, cgroups)).procs({ likely: likelyTasks, ...options });
}

/** The same; where not all could be seen, what was seen and why it is not all. */
export async function seenOfStep(
  node: OfJobOptions['node'],
  step: Step,
  options: LookOptions = {},
): Promise<Seen<SetMember>> {
  return new CgroupSet(node.host, cgroupsOf(node, step.cgroups)).listProcs({ likely: likelyTasks, ...options });
}

/** What is to be seen of a process now. */
export function processSeen(host: Host, pid: number): ProcessSeen {
  try {
    const { comm, startTime } = parseProcStat(host.read(`/proc/${pid}/stat`));
    const [, uid] = parseProcStatus(host.read(`/proc/${pid}/status`)).uids;
    return { pid, startTime, uid, comm };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { pid }; // it ended meanwhile, or is hidden from this user
    throw error;
  }
}

/** What most steps have below them on v1. */
const likelyTasks: readonly string[] = ['task_0'];

interface MembersOfPart {
  /** Absent: of the job's own cgroup. */
  readonly stepId?: string;
  readonly members: readonly SetMember[];
}

/** With one time limit over all steps. */
async function membersOf(
  job: Pick<Job, 'steps' | 'cgroups'>,
  options: OfJobOptions,
): Promise<readonly MembersOfPart[]> {
  const { node } = options;
  const pace = paceOf(node.host, options);
  const parts: MembersOfPart[] = [{ members: ownMembers(node, job) }];
  for (const { stepId, cgroups } of job.steps) {
    parts.push({ stepId, members: await membersOfStep(node, { cgroups }, { pace }) });
  }
  return parts;
}

/** In the job's own cgroup and in no step: Slurm puts nothing there, but root can. */
function ownMembers(node: OfJobOptions['node'], { cgroups }: Pick<Job, 'cgroups'>): readonly SetMember[] {
  const members = new Map<number, SetMember>();
  for (const cgroup of cgroupsOf(node, cgroups)) {
    for (const pid of ifThere(() => cgroup.procs()) ?? [])
      members.set(pid, { pid, seenIn: [...(members.get(pid)?.seenIn ?? []), cgroup] });
  }
  return [...members.values()];
}

function cgroupsOf(node: OfJobOptions['node'], cgroups: readonly JobCgroup[]): CgroupSet['cgroups'] {
  return cgroups.flatMap((one) => cgroupOf(node, one) ?? []);
}

function placeOf(
  node: OfJobOptions['node'],
  { hierarchy: key, controllers, path }: JobCgroup,
): CgroupPlace | undefined {
  const hierarchy = hierarchyOfKey(node.hierarchies, key);
  return hierarchy === undefined ? undefined : { controllers, path: cgroupPath(cgroupAt(hierarchy, path)) };
}
