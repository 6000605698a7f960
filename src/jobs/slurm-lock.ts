// Slurm's lock on a cgroup hierarchy: flock(LOCK_EX) on the directory of its root cgroup (on v1 each
// controller's mount point), held while it makes or removes job directories (Slurm src/interfaces/cgroup.c,
// common_cgroup_lock). Any user can hold it (measured), so it is tried, never waited for without end.

import type { Hierarchy } from '../cgroup/hierarchies.js';
import { isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

const pauseMs = 20;

/** Does `act` under the lock. Else why it was not done: nobody is made to wait for it. */
export async function withSlurmLock(
  host: Host,
  hierarchy: Hierarchy,
  options: { readonly timeoutMs: number },
  act: () => void,
): Promise<'done' | string> {
  const libc = await host.libc();
  if (libc === undefined) return "it is removed under Slurm's lock only, which needs the optional package koffi";
  const deadline = host.now() + options.timeoutMs;
  for (;;) {
    const unlock = libc.tryLock(hierarchy.mountPoint);
    if (unlock !== undefined) {
      try {
        act();
        return 'done';
      } catch (error) {
        if (isGone(error)) return 'done';
        if (error instanceof SlurmCgroupsError) return error.message;
        throw error;
      } finally {
        unlock();
      }
    }
    if (host.now() > deadline) return `somebody holds Slurm's lock on "${hierarchy.mountPoint}"`;
    await host.sleep(pauseMs);
  }
}
