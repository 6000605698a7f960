// From a job's directories, which are values, back to the cgroups they are.

import { Cgroup } from '../cgroup/cgroup.js';
import { cgroupAt, hierarchyOfKey } from '../cgroup/hierarchies.js';
import { cgroupPath } from '../cgroup/path.js';
import type { JobCgroup } from './job.js';
import type { SlurmNode } from './node.js';

/** The cgroup at a directory of a job; `undefined` when its hierarchy is not mounted here. */
export function cgroupOf(
  node: Pick<SlurmNode, 'host' | 'hierarchies'>,
  { hierarchy, path }: JobCgroup,
): Cgroup | undefined {
  const found = hierarchyOfKey(node.hierarchies, hierarchy);
  return found === undefined ? undefined : new Cgroup(node.host, found, cgroupPath(cgroupAt(found, path)));
}
