import { describe, expect, it } from 'vitest';
import { removeTrees } from '../../src/cgroup/removal.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';

const host = liveHost();

describe.skipIf(!canUseCgroups && mayBeSkipped)('removeTrees() (needs root and cgroups)', () => {
  it('removes children before parents, and says what is still in use', async () => {
    const sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    try {
      const leaf = await sandbox.addJob({ jobId: 1, uid: 64_742 });
      const sleeper = await sandbox.startSleeper(64_742, leaf);
      const busy = await removeTrees(host, leaf.cgroups, { timeoutMs: 20 });
      expect(busy.removed).toEqual([]);
      expect(busy.left.map((one) => one.path)).toEqual(leaf.cgroups.map((one) => one.directory));
      host.signal(sleeper.pid, 'SIGKILL');
      const done = await removeTrees(host, leaf.cgroups, { timeoutMs: 5000 });
      // The dying leave one hierarchy after the other: which is free first is chance.
      expect([done.left, [...done.removed].sort()]).toEqual([[], leaf.cgroups.map((one) => one.directory).sort()]);
      expect(await removeTrees(host, leaf.cgroups, { timeoutMs: 0 })).toEqual({ removed: [], left: [] });
    } finally {
      await sandbox.remove();
    }
  });

  it('leaves what the caller spares, and waits no longer than the caller hopes', async () => {
    const sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    try {
      const leaf = await sandbox.addJob({ jobId: 1, uid: 64_742 });
      const [first] = leaf.cgroups;
      const spared = await removeTrees(host, leaf.cgroups, {
        timeoutMs: 5000,
        spare: (top) => (top === first ? 'is spared' : undefined),
      });
      expect(spared.left).toEqual([{ path: first?.directory, why: 'is spared' }]);
      expect(spared.removed).toHaveLength(leaf.cgroups.length - 1);
      const sleeper = await sandbox.startSleeper(64_742);
      if (first !== undefined) host.write(`${first.directory}/cgroup.procs`, String(sleeper.pid));
      const before = host.now();
      const busy = await removeTrees(host, leaf.cgroups, { timeoutMs: 60_000, isHopeless: () => true });
      expect([busy.removed, busy.left.map((one) => one.path)]).toEqual([[], [first?.directory]]);
      expect(host.now() - before).toBeLessThan(30_000);
    } finally {
      await sandbox.remove();
    }
  });

  it('removes a tree of 2,000', async () => {
    const sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    try {
      const [leaf] = (await sandbox.addJob({ jobId: 1, uid: 64_742 })).cgroups;
      if (leaf === undefined) throw new Error('no cgroup');
      for (let a = 0; a < 40; a++) {
        const child = leaf.create(`a${a}`);
        for (let b = 0; b < 49; b++) child.create(`b${b}`);
      }
      const { removed, left } = await removeTrees(host, [leaf], { timeoutMs: 20_000 });
      expect([removed.length, left, removed.at(-1)]).toEqual([2001, [], leaf.directory]);
    } finally {
      await sandbox.remove();
    }
  });
});
