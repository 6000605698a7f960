import { describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { withSlurmLock } from '../../src/jobs/slurm-lock.js';
import { SlurmCgroupsError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';

const [hierarchy] = discoverHierarchies().all;
if (hierarchy === undefined) throw new Error('no hierarchy');
const host = liveHost();

describe('withSlurmLock()', () => {
  it('does it under the lock, and lets go', async () => {
    let done = 0;
    expect(await withSlurmLock(host, hierarchy, { timeoutMs: 2000 }, () => done++)).toBe('done');
    expect(await withSlurmLock(host, hierarchy, { timeoutMs: 2000 }, () => done++)).toBe('done');
    expect(done).toBe(2);
  });

  it('does nothing while somebody else holds it, and says so when the time is over', async () => {
    const unlock = (await host.libc())?.tryLock(hierarchy.mountPoint);
    try {
      expect(await withSlurmLock(host, hierarchy, { timeoutMs: 50 }, () => expect.unreachable())).toContain(
        "holds Slurm's lock",
      );
    } finally {
      unlock?.();
    }
  });

  it('does nothing without koffi', async () => {
    const bare: Host = { ...host, libc: async () => undefined };
    expect(await withSlurmLock(bare, hierarchy, { timeoutMs: 50 }, () => expect.unreachable())).toContain('koffi');
  });

  it('says why it failed, and takes what is gone as done', async () => {
    const failing = (code: 'ERR_CGROUP_BUSY' | 'ERR_CGROUP_GONE') =>
      withSlurmLock(host, hierarchy, { timeoutMs: 2000 }, () => {
        throw new SlurmCgroupsError(code, 'in the way');
      });
    expect(await failing('ERR_CGROUP_BUSY')).toBe('in the way');
    expect(await failing('ERR_CGROUP_GONE')).toBe('done');
  });
});
