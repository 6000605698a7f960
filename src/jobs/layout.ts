// Where Slurm puts jobs, both ways: a cgroup's path read as job, step and task, and written again. One
// grammar for all releases (15.08 to 26.05); nothing here looks at the machine. Sources: recorded nodes,
// Slurm src/plugins/cgroup/v1 and v2, src/interfaces/cgroup.c.

import { type CgroupPath, childPath, partsOf } from '../cgroup/path.js';
import { ParseError, quote } from '../machine/errors.js';

/** Greatest job id: MAX_JOB_ID of slurm/slurm.h is 0x03ffffff for clusters, but NO_VAL and above are never one. */
export const maxJobId = 0xffff_fffd;

/** A job by the name of its directory: `job_7`, or since 26.05 on v2 its SLUID. */
export type JobName = { readonly jobId: number } | { readonly sluid: string };

/** What names the directory of a job: its SLUID where it is known by one. `undefined`: neither is known. */
export function directoryNameOf({
  jobId,
  sluid,
}: {
  readonly jobId?: number;
  readonly sluid?: string;
}): JobName | undefined {
  if (sluid !== undefined) return { sluid };
  return jobId === undefined ? undefined : { jobId };
}

/** A path inside Slurm's tree, as far as it leads. */
export interface JobPlace {
  readonly version: 1 | 2;
  /** Slurm's own directory: `/slurm`, `/slurm_NODE`, `/system.slice/slurmstepd.scope`, `/system.slice/NODE_slurmstepd.scope`. */
  readonly top: CgroupPath;
  /** NodeName, where `top` names it. */
  readonly nodeName?: string;
  /** v1 only: there is no uid in a v2 path. */
  readonly uid?: number;
  readonly job?: JobName;
  /** As in Job: `extern`, `batch`, `interactive`, `0`, `0+1`, or what else stands behind `step_`. */
  readonly stepId?: string;
  /** v2: `user` holds the job's processes, `slurm` slurmstepd. */
  readonly side?: 'user' | 'slurm';
  /** `0` of `task_0`, `special` of `task_special`. */
  readonly taskId?: string;
  /** Names below all that: made by the job itself. */
  readonly below: readonly string[];
}

/** Which directory is Slurm's own, in which version's layout. */
export interface SlurmTop {
  readonly version: 1 | 2;
  readonly path: CgroupPath;
  readonly nodeName?: string;
}

const sluidPattern = /^s[0-9A-HJKMNP-TV-Z]{13}$/; // Crockford's base 32 has no I, L, O, U

/** The name of the directory of a job. */
export function parseJobName(name: string): JobName | undefined {
  const digits = /^job_([1-9]\d{0,9})$/.exec(name)?.[1];
  if (digits !== undefined) return Number(digits) <= maxJobId ? { jobId: Number(digits) } : undefined;
  return sluidPattern.test(name) ? { sluid: name } : undefined;
}

/** `step_extern` → `extern`; any other word is an opaque step name. */
export function parseStepName(name: string): string | undefined {
  return name.startsWith('step_') && name.length > 5 ? name.slice(5) : undefined;
}

/** `task_0` → `0`, `task_special` → `special`. */
export function parseTaskName(name: string): string | undefined {
  return /^task_(\d{1,10}|special)$/.exec(name)?.[1];
}

/** `uid_1000` → 1000. */
export function parseUidName(name: string): number | undefined {
  const digits = /^uid_(0|[1-9]\d{0,9})$/.exec(name)?.[1];
  return digits !== undefined && Number(digits) <= 0xffff_fffe ? Number(digits) : undefined;
}

/** v1: `slurm`, or `slurm_NODE` where Slurm is built with multiple-slurmd. */
export function parseTopV1(name: string): { readonly nodeName?: string } | undefined {
  if (name === 'slurm') return {};
  return name.startsWith('slurm_') && name.length > 6 ? { nodeName: name.slice(6) } : undefined;
}

/** v2: `slurmstepd.scope` or `NODE_slurmstepd.scope`, below a slice. */
export function parseTopV2(name: string): { readonly nodeName?: string } | undefined {
  if (name === 'slurmstepd.scope') return {};
  return name.endsWith('_slurmstepd.scope') && name.length > 17 ? { nodeName: name.slice(0, -17) } : undefined;
}

/** Reads a path inside `top`; `undefined` when it does not lie there. */
export function parseJobPath(path: CgroupPath, top: SlurmTop): JobPlace | undefined {
  const above = partsOf(top.path);
  const parts = partsOf(path);
  if (above.some((name, at) => parts[at] !== name)) return undefined;
  const base: JobPlace = {
    version: top.version,
    top: top.path,
    ...(top.nodeName === undefined ? {} : { nodeName: top.nodeName }),
    below: [],
  };
  const rest = parts.slice(above.length);
  return top.version === 1 ? readV1(base, rest) : readV2(base, rest);
}

/** `uid_U/job_J/step_S[/task_N]` */
function readV1(base: JobPlace, parts: readonly string[]): JobPlace {
  const [uidName, ...afterUid] = parts;
  const uid = uidName === undefined ? undefined : parseUidName(uidName);
  if (uid === undefined) return { ...base, below: parts };
  const owner = { ...base, uid };
  const [jobName, ...afterJob] = afterUid;
  const job = jobName === undefined ? undefined : parseJobName(jobName);
  if (job === undefined || 'sluid' in job) return { ...owner, below: afterUid };
  return readStep({ ...owner, job }, afterJob, readTask);
}

/** `job_J/step_S/{user[/task_N],slurm}`, or a SLUID for `job_J` */
function readV2(base: JobPlace, parts: readonly string[]): JobPlace {
  const [jobName, ...afterJob] = parts;
  const job = jobName === undefined ? undefined : parseJobName(jobName);
  if (job === undefined) return { ...base, below: parts };
  return readStep({ ...base, job }, afterJob, (step, rest) => {
    const [side, ...afterSide] = rest;
    if (side === 'user') return readTask({ ...step, side }, afterSide);
    return side === 'slurm' ? { ...step, side, below: afterSide } : { ...step, below: rest };
  });
}

function readStep(
  job: JobPlace,
  parts: readonly string[],
  readBelow: (step: JobPlace, rest: readonly string[]) => JobPlace,
): JobPlace {
  const [name, ...rest] = parts;
  const stepId = name === undefined ? undefined : parseStepName(name);
  return stepId === undefined ? { ...job, below: parts } : readBelow({ ...job, stepId }, rest);
}

function readTask(step: JobPlace, parts: readonly string[]): JobPlace {
  const [name, ...rest] = parts;
  const taskId = name === undefined ? undefined : parseTaskName(name);
  return taskId === undefined ? { ...step, below: parts } : { ...step, taskId, below: rest };
}

/**
 * Writes the path of a place: the reverse of parseJobPath.
 *
 * @throws ParseError when the place leaves out what lies above something it names, or a name holds a slash.
 */
export function formatJobPath(place: JobPlace): CgroupPath {
  const names: string[] = [];
  if (place.uid !== undefined) names.push(`uid_${place.uid}`);
  if (place.job !== undefined) names.push('jobId' in place.job ? `job_${place.job.jobId}` : place.job.sluid);
  if (place.stepId !== undefined) names.push(`step_${place.stepId}`);
  if (place.side !== undefined) names.push(place.side);
  if (place.taskId !== undefined) names.push(`task_${place.taskId}`);
  const gap =
    (place.version === 1 && place.job !== undefined && place.uid === undefined) ||
    (place.version === 2 && place.uid !== undefined) ||
    (place.version === 1 && place.side !== undefined) ||
    (place.stepId !== undefined && place.job === undefined) ||
    (place.side !== undefined && place.stepId === undefined) ||
    (place.taskId !== undefined && (place.version === 2 ? place.side !== 'user' : place.stepId === undefined));
  if (gap)
    throw new ParseError(`Cannot write the path of a job: ${quote(JSON.stringify(place))} leaves out what lies above`);
  const split = [...names, ...place.below].find((name) => name.includes('/'));
  if (split !== undefined) throw new ParseError(`Cannot write the path of a job: ${quote(split)} is not one name`);
  return childPath(place.top, ...names, ...place.below);
}

/** Whether two places name the same job: ids of different nodes on one machine differ by node name. */
export function isSameJob(a: JobName, b: JobName): boolean {
  return 'jobId' in a ? 'jobId' in b && a.jobId === b.jobId : 'sluid' in b && a.sluid === b.sluid;
}
