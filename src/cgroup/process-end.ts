// Whether a process has ended. There are two answers, which must not be mixed up. "Exiting": a write of its pid to
// cgroup.procs moves nothing any more, and v1 shows it at the root. "Dead": nothing of it runs or waits any more. In
// between a process can be stuck for ever (on a hung file system, say): it is exiting, and yet a survivor. A process
// whose first thread has ended lives as long as another thread does.

import { ifThere, isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import {
  filesOf,
  type HeldProcess,
  type ProcessFiles,
  type ProcessIdentity,
  type ProcessStat,
  parseProcStat,
} from './process.js';

/** By the state letter of a thread. */
export function isDeadState(state: string): boolean {
  return state === 'Z' || state === 'X';
}

/** Whether that is so of every thread. Those of which nothing is left count as ended. */
function isSoOfAll(files: ProcessFiles, first: ProcessStat, isSo: (stat: ProcessStat) => boolean): boolean {
  if (!isSo(first)) return false;
  if (first.threads <= 1) return true;
  const others = files.names('task').filter((tid) => tid !== String(first.pid));
  return others.every((tid) => {
    const stat = ifThere(() => parseProcStat(files.read(`task/${tid}/stat`)));
    return stat === undefined || isSo(stat);
  });
}

/**
 * Why a process cannot be moved any more: every thread of it is exiting. A write of its pid then does nothing and yet
 * succeeds, and v1 shows it in the root of every hierarchy (kernel/cgroup/cgroup.c, proc_cgroup_show and
 * cgroup_migrate_add_task). `undefined`: it can be moved.
 *
 * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS where it is gone altogether.
 */
export function exitOf(process: HeldProcess): SlurmCgroupsError | undefined {
  const first = process.stat();
  if (!isSoOfAll(process.directory, first, (stat) => stat.exiting)) return undefined;
  const message = `Process ${process.pid} (${first.comm}) has ended: only its exit code is waited for`;
  return new SlurmCgroupsError('ERR_NO_SUCH_PROCESS', message, { pid: process.pid });
}

/** Whether it is known to be exiting, or gone: where that cannot be read, it is not known. */
export function isExiting(process: HeldProcess): boolean {
  try {
    return exitOf(process) !== undefined;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return isGone(error);
    throw error;
  }
}

/** Whether nothing of that very process runs or waits any more: it is gone, or each of its threads is a zombie. */
export function isDead(host: Host, { pid, startTime }: ProcessIdentity): boolean {
  // Most are gone, and this way no error is made for each of ten thousand (measured: a quarter of the time).
  if (host.stat(`/proc/${pid}`) === undefined) return true;
  const files = filesOf(host, pid);
  const isOver = ifThere(() => {
    const first = parseProcStat(files.read('stat'));
    return first.startTime !== startTime || isSoOfAll(files, first, ({ state }) => isDeadState(state));
  });
  return isOver ?? true;
}

/** The same of a process that is held. */
export function isHeldDead(process: HeldProcess): boolean {
  return ifThere(() => isSoOfAll(process.directory, process.stat(), ({ state }) => isDeadState(state))) ?? true;
}
