// The living children of a process, and theirs, that are not in a job: what a person is told after an adoption that moved
// the process alone. It only looks.

import type { Cgroup } from '../cgroup/cgroup.js';
import { hierarchyKey, type Membership } from '../cgroup/membership.js';
import { pathBelow } from '../cgroup/path.js';
import { childrenOf, type HeldProcess, type ProcessIdentity, withProcess } from '../cgroup/process.js';
import { exitOf } from '../cgroup/process-end.js';
import { cgroupOf } from '../jobs/discovery.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import type { Deadline } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';
import { Pace } from '../machine/pace.js';

export interface ChildrenOutside {
  readonly count: number;
  /** The first of them, twenty at most. */
  readonly processes: readonly { readonly pid: number; readonly uid: number; readonly comm: string }[];
  /** Why there may be more. */
  readonly unknown?: string;
}

const named = 20;
/**
 * The children of a process, and theirs, that are not in the job in every hierarchy that has it. While processes end,
 * the kernel's list of children can lack some that live: there can be more.
 */
export async function childrenOutside(
  node: SlurmNode,
  process: ProcessIdentity,
  { job, deadline }: { readonly job: Pick<Job, 'cgroups'>; readonly deadline: Deadline },
): Promise<ChildrenOutside> {
  const { host } = node;
  const homes = job.cgroups.flatMap((one) => cgroupOf(node, one) ?? []);
  const pace = new Pace(host, deadline);
  const found: { pid: number; uid: number; comm: string }[] = [];
  let count = 0;
  const look = (held: HeldProcess) => {
    if (isInside(held.memberships(), homes)) return;
    count++;
    if (found.length < named) found.push({ pid: held.pid, uid: held.status().uids[1], comm: held.stat().comm });
  };
  /** Its children; none of one that has ended meanwhile. */
  const childrenLookedAt = async (pid: number): Promise<readonly number[]> => {
    try {
      return await withProcess(host, pid, async (held) => {
        if (exitOf(held) !== undefined || (pid === process.pid && held.startTime !== process.startTime)) return [];
        if (pid !== process.pid) look(held);
        return childrenOf(host, held, pace);
      });
    } catch (error) {
      if (isGone(error) || hasCode(error, 'ERR_NOT_RECORDED')) return [];
      throw error;
    }
  };
  let unknown: string | undefined;
  try {
    const family = new Set([process.pid]);
    for (const one of family) {
      if (deadline.isOver()) {
        unknown = 'there was no time to look at all of them';
        break;
      }
      if (pace.isDue()) await pace.pause();
      for (const child of await childrenLookedAt(one)) family.add(child); // a set that grows is walked to its end
    }
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    unknown = error.message;
  }
  return { count, processes: found, ...defined({ unknown }) };
}

function isInside(memberships: readonly Membership[], homes: readonly Cgroup[]): boolean {
  return homes.every((home) =>
    memberships.some(
      ({ controllers, path }) =>
        hierarchyKey(controllers) === home.hierarchy.key && pathBelow(path, home.path) !== undefined,
    ),
  );
}
