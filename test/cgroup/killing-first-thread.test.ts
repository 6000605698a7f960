import { describe, expect } from 'vitest';
import { killMembers } from '../../src/cgroup/killing.js';
import { firstThreadEnded, untilFirstThreadEnded } from '../support/first-thread-ended.js';
import { alice, inWorld, onKernels, stateOf, until } from '../support/kernel-jobs.js';

// On v2 cgroup.kill passes such a process by.
onKernels((kernel) => {
  describe('killMembers() of a process whose first thread has ended', () => {
    inWorld(kernel, 'ends it, and others with it', async (world, context) => {
      await world.twoJobs();
      const leaf = world.jobAt(102, ...(kernel.name === 'v1' ? ['step_batch'] : ['step_batch', 'user', 'task_0']));
      const { line } = firstThreadEnded(alice, context);
      const { pid, exited } = await world.box.startScript(0, `exec ${line}`, leaf);
      const sleeper = await world.box.startSleeper(alice, leaf);
      await untilFirstThreadEnded(pid);
      const report = await killMembers(world.host, world.jobAt(102).cgroups, { timeoutMs: 30_000 });
      expect(report.remaining).toEqual([]);
      expect(report.ended.map((one) => one.pid).sort()).toEqual([pid, sleeper.pid].sort());
      await exited;
      await until('it is gone', () => stateOf(pid) === undefined);
    });
  });
});
