// Whether a job is suspended: `scontrol suspend` freezes its steps, the extern step too (Slurm, measured 20.11 to 26.05).

import { hasCode, ifThere } from '../machine/errors.js';
import type { Job, Step } from './job.js';
import type { SlurmNode } from './node.js';

/**
 * By its extern step, into which a session would go; without one by all of its steps. Up to Slurm 23.02 a user can freeze
 * their own steps: a session meets the same there. One read a job: the kernel shows what is frozen from above, too.
 * `undefined`: that is not to be seen here.
 */
export function isSuspended(node: Pick<SlurmNode, 'host'>, { steps }: Pick<Job, 'steps'>): boolean | undefined {
  const extern = steps.find(({ stepId }) => stepId === 'extern');
  const looked = extern === undefined ? steps : [extern];
  try {
    return looked.length > 0 && looked.every((step) => isFrozen(node, step));
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED')) return undefined;
    throw error;
  }
}

function isFrozen({ host }: Pick<SlurmNode, 'host'>, { cgroups }: Step): boolean {
  const read = (file: string) => ifThere(() => host.read(file)) ?? '';
  return cgroups.some(({ controllers, path }) => {
    // v2: Slurm freezes `step_X/user`, not slurmstepd beside it.
    if (controllers.length === 0) return /^frozen 1$/m.test(read(`${path}/user/cgroup.events`));
    return controllers.includes('freezer') && /^FR/.test(read(`${path}/freezer.state`));
  });
}
