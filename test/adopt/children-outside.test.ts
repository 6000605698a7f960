import { describe, expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { childrenOutside } from '../../src/adopt/children-outside.js';
import { identityOf } from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import {
  alice,
  bob,
  childrenOf,
  descendantsOf,
  inWorld,
  onKernels,
  until,
  type World,
} from '../support/kernel-jobs.js';

onKernels((kernel) => {
  const outside = async (world: World, pid: number, ms = 20_000) =>
    childrenOutside(await world.node(), identityOf(world.host, pid), {
      job: await world.job(102),
      deadline: deadlineIn(world.host, ms),
    });

  describe('childrenOutside()', () => {
    inWorld(kernel, 'counts children and theirs that are not in the job in every hierarchy', async (world) => {
      await world.twoJobs();
      const life = world.lifetime;
      const pid = await world.shell(`(sleep ${life} & wait) & sleep ${life} & wait`);
      await until('three of them', () => descendantsOf(pid).length === 3);
      const family = descendantsOf(pid);
      const [node, job] = [await world.node(), await world.job(102)];
      await adopt(pid, job, { node });
      const found = await outside(world, pid);
      expect(found).toEqual({ count: 3, processes: expect.any(Array) });
      expect(found.processes.map((one) => one.pid).sort()).toEqual([...family].sort());
      for (const { uid, comm } of found.processes) expect([uid, ['sh', 'sleep'].includes(comm)]).toEqual([alice, true]);
      // In the job in one hierarchy only, where there are several: still outside.
      const [some, ...more] = world.jobAt(102, 'step_batch').cgroups;
      const [child = 0] = family;
      if (more.length > 0) await some?.add(child);
      expect((await outside(world, pid)).count).toBe(3);
      expect((await adopt(pid, job, { node, descendants: true })).outcome).toBe('adopted');
      expect(await outside(world, pid)).toEqual({ count: 0, processes: [] });
    });

    inWorld(kernel, 'names twenty of many, counts them all, and says where it had no time', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`i=0; while [ $i -lt 40 ]; do sleep ${world.lifetime} & i=$((i+1)); done; wait`);
      await until('forty children', () => childrenOf(pid).length === 40);
      const found = await outside(world, pid);
      expect([found.count, found.processes.length, found.unknown]).toEqual([40, 20, undefined]);
      expect((await outside(world, pid, 0)).unknown).toContain('no time');
    });

    inWorld(kernel, 'finds none of a process that has ended or is another by now', async (world) => {
      await world.twoJobs();
      await world.box.addJob({ jobId: 103, uid: bob });
      const pid = await world.shell(`sleep ${world.lifetime} & wait`);
      await until('a child', () => childrenOf(pid).length === 1);
      const node = await world.node();
      const about = { job: await world.job(102), deadline: deadlineIn(world.host, 20_000) };
      expect((await childrenOutside(node, { pid, startTime: 1n }, about)).count).toBe(0);
      expect((await childrenOutside(node, { pid: 4_194_303, startTime: 1n }, about)).count).toBe(0);
    });
  });
});
