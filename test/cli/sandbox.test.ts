import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { removeLeftovers, Sandbox } from '../../src/cli/sandbox.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';

const uid = 64_734;

function left(name: string): readonly string[] {
  return discoverHierarchies()
    .all.map((hierarchy) => `${hierarchy.mountPoint}/${name}`)
    .concat(`/run/slurm-cgroups/${name}`)
    .filter((path) => fs.existsSync(path));
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('Sandbox (needs root and cgroups)', () => {
  it('lays out jobs as Slurm does and leaves nothing behind', async () => {
    const sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test-a');
    const name = sandbox.within.slice(1);
    try {
      const batch = await sandbox.addJob({ jobId: 3, uid });
      const sleeper = await sandbox.startSleeper(uid, batch);
      const [job] = discoverJobs(await sandbox.node());
      expect(job).toMatchObject({ jobId: 3, externMissingIn: [], steps: [{ stepId: 'extern' }, { stepId: 'batch' }] });
      expect((await batch.procs()).map((one) => one.pid)).toEqual([sleeper.pid]);
      expect(left(name).length).toBeGreaterThan(1);
    } finally {
      await sandbox.remove();
    }
    expect(left(name)).toEqual([]);
  });

  it('removeLeftovers() leaves the sandboxes of the living alone', async () => {
    const sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test-b');
    try {
      expect(await removeLeftovers(liveHost(), 'slurm-cgroups-test-b')).toEqual([]);
      expect(left(sandbox.within.slice(1)).length).toBeGreaterThan(1);
    } finally {
      await sandbox.remove();
    }
  });
});
