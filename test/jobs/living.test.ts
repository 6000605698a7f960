import { describe, expect } from 'vitest';
import { cleanJob } from '../../src/cleanup/ending.js';
import { knowJobs } from '../../src/cleanup/strays/find.js';
import { isJobLiving } from '../../src/jobs/living.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { alice, inWorld, onKernels, stateOf, type World } from '../support/kernel-jobs.js';

onKernels((kernel) => {
  const lives = async (world: World, jobId: number, except?: number) =>
    isJobLiving(await world.node(), await world.job(jobId), {
      deadline: deadlineIn(world.host, 2000),
      ...(except === undefined ? {} : { except }),
    });

  describe('isJobLiving()', () => {
    inWorld(kernel, 'takes a process in all its hierarchies for life, and directories for none', async (world) => {
      await world.twoJobs();
      expect(await lives(world, 101)).toBe(false);
      expect((await knowJobs(await world.node())).owners).toEqual(new Set());
      const pid = await world.session();
      await world.jobAt(101, 'step_batch').create('task_7').add(pid);
      expect(await lives(world, 101)).toBe(true);
      expect(await lives(world, 101, pid)).toBe(false); // it does not keep its own other job alive
      expect((await knowJobs(await world.node())).owners).toEqual(new Set([alice]));
    });

    inWorld(kernel, 'counts what cannot be read as living', async (world) => {
      await world.twoJobs();
      const hidden = (path: string) => {
        if (path.includes('job_101')) throw new SystemCallError('read', path, 'EACCES');
      };
      const node = await world.node();
      const job = await world.job(101);
      const host: Host = {
        ...world.host,
        open: (path) => {
          hidden(path);
          return world.host.open(path);
        },
      };
      const blind = isJobLiving({ ...node, host }, job, { deadline: deadlineIn(world.host, 2000) });
      expect(await lives(world, 101)).toBe(false);
      expect(await blind).toBe(true);
    });

    if (kernel.name === 'v1')
      inWorld(kernel, 'lets a process in halves of two ended jobs be ended by the first clean', async (world) => {
        await world.twoJobs();
        const pid = await world.session();
        const half = (jobId: number, keys: readonly string[]) =>
          world
            .jobAt(jobId, 'step_batch')
            .cgroups.filter(({ hierarchy }) => keys.includes(hierarchy.key))
            .map((cgroup) => cgroup.add(pid));
        await Promise.all([...half(101, ['freezer']), ...half(102, ['memory'])]);
        const node = await world.node();
        expect(await lives(world, 102, pid)).toBe(false);
        const report = await cleanJob({ jobId: 101 }, { node, graceMs: 0, timeoutMs: 10_000 });
        expect(report.ended.map((one) => one.pid)).toEqual([pid]);
        expect(report.spared).toEqual([]);
        expect(['Z', 'X', undefined]).toContain(stateOf(pid)); // we are its parent, and may not have reaped it yet
      });
  });
});
