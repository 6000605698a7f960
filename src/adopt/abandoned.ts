// What an adoption that was killed had begun to move: put back, as far as it still stands where that adoption put it.

import { Cgroup, holdCgroup, writeProcess } from '../cgroup/cgroup.js';
import { type Hierarchies, hierarchyOfKey } from '../cgroup/hierarchies.js';
import { hierarchyKey } from '../cgroup/membership.js';
import { cgroupPath, pathBelow } from '../cgroup/path.js';
import type { HeldProcess } from '../cgroup/process.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { Abandoned, NotedMove } from './adopting-lock.js';

/** Gives lines for an administrator: what was put back, and what remains where it is. */
export async function putBackAbandoned(
  host: Host,
  hierarchies: Hierarchies,
  { held, abandoned }: { readonly held: HeldProcess; readonly abandoned: Abandoned },
): Promise<readonly string[]> {
  const lines: string[] = [];
  // The freezer was written last: out of it first, where it could be frozen with the job.
  for (const move of [...abandoned.moves].reverse()) {
    if (!isWhereItWasPut(held, move)) continue;
    const { hierarchy, from, to } = move;
    try {
      await putBack(host, hierarchies, { held, move });
      lines.push(
        `an adoption that was killed had moved process ${held.pid} to ${to} in ${hierarchy}: put back to ${from}`,
      );
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      lines.push(
        `an adoption that was killed had moved process ${held.pid} to ${to} in ${hierarchy}, where it stays: ${error.message}`,
      );
    }
  }
  return lines;
}

function isWhereItWasPut(held: HeldProcess, { hierarchy, from, to }: NotedMove): boolean {
  const here = held.memberships().find(({ controllers }) => hierarchyKey(controllers) === hierarchy)?.path;
  return here !== undefined && here !== from && pathBelow(here, cgroupPath(to)) !== undefined;
}

async function putBack(
  host: Host,
  hierarchies: Hierarchies,
  { held, move: { hierarchy: key, from } }: { readonly held: HeldProcess; readonly move: NotedMove },
): Promise<void> {
  const hierarchy = hierarchyOfKey(hierarchies, key);
  if (hierarchy === undefined) throw new SlurmCgroupsError('ERR_NO_CGROUPS', `There is no hierarchy ${key} any more`);
  const target = holdCgroup(host, new Cgroup(host, hierarchy, cgroupPath(from)));
  try {
    await writeProcess(host, target, held);
  } finally {
    target.close();
  }
}
