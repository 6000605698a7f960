// A user who holds Slurm's lock on a hierarchy, as any user can: flock(1) on its mount point.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Hierarchy } from '../../src/cgroup/hierarchies.js';
import type { CgroupPath } from '../../src/cgroup/path.js';
import type { SlurmNode } from '../../src/jobs/node.js';

/** Nothing that a killed test left behind holds it longer: other tests wait for it. */
const lifetimeSeconds = 5;

/** Holds the lock on each of the directories as uid 65000, until `release`, or for `seconds`. */
export async function holdLocks(
  directories: readonly string[],
  seconds: number = lifetimeSeconds,
): Promise<{ readonly release: () => Promise<void> }> {
  const children = directories.map((directory) =>
    spawn('/usr/bin/flock', ['-x', '-F', directory, '/bin/sh', '-c', `echo held; exec /bin/sleep ${seconds}`], {
      uid: 65_000,
      gid: 65_000,
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  );
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  const release = async (): Promise<void> => {
    await Promise.all(
      children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
      }),
    );
  };
  return { release };
}

/**
 * The hierarchy as a mount of that cgroup alone would show it. Its lock is then a directory of the test's own: the
 * machine's is one for all, and held by the tests beside this one.
 */
export function mountedAt(hierarchy: Hierarchy, within: CgroupPath): Hierarchy {
  return { ...hierarchy, mountPoint: `${hierarchy.mountPoint}${within}`, root: within };
}

/** A node of a sandbox, with locks of its own. */
export function withOwnLocks(node: SlurmNode, within: CgroupPath): SlurmNode {
  const all = node.hierarchies.all.map((one) => mountedAt(one, within));
  return {
    ...node,
    hierarchies: { ...node.hierarchies, all },
    tops: node.tops.map((top) => ({ ...top, hierarchy: mountedAt(top.hierarchy, within) })),
  };
}
