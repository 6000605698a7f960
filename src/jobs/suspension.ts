// Whether a job is suspended: `scontrol suspend` freezes its steps, the extern step too (Slurm, measured 20.11 to 26.05).

import { Cgroup } from '../cgroup/cgroup.js';
import { frozenAt } from '../cgroup/freezer.js';
import { childPath } from '../cgroup/path.js';
import { hasCode } from '../machine/errors.js';
import { cgroupOf } from './discovery.js';
import type { Job, Step } from './job.js';
import type { SlurmNode } from './node.js';

/**
 * By its extern step, into which a session would go; without one by all of its steps. Up to Slurm 23.02 a user can freeze
 * their own steps: that is the same to whoever comes into the job. `undefined`: that is not to be seen here.
 */
export function isSuspended(node: SlurmNode, { steps }: Pick<Job, 'steps'>): boolean | undefined {
  const extern = steps.filter(({ stepId }) => stepId === 'extern');
  const looked = extern.length > 0 ? extern : steps;
  try {
    return looked.length > 0 && looked.every((step) => isFrozen(node, step));
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED')) return undefined;
    throw error;
  }
}

function isFrozen(node: SlurmNode, step: Step): boolean {
  return step.cgroups.some((one) => {
    const cgroup = cgroupOf(node, one);
    return cgroup !== undefined && frozenAt(node.host, userSide(cgroup)) !== undefined;
  });
}

/** v2: Slurm freezes `step_X/user`, not slurmstepd beside it. */
function userSide(cgroup: Cgroup): Cgroup {
  const { host, hierarchy, path } = cgroup;
  return hierarchy.version === 2 ? new Cgroup(host, hierarchy, childPath(path, 'user')) : cgroup;
}
