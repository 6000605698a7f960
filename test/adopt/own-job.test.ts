import { expect } from 'vitest';
import { ownJobAround } from '../../src/adopt/own-job.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { holdProcess } from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { alice, bob, inWorld, onKernels, type World } from '../support/kernel-jobs.js';

const around = async (world: World, pid: number, uid: number): Promise<number | undefined> => {
  const held = holdProcess(world.host, pid);
  try {
    const job = await ownJobAround(await world.node(), held, { uid, deadline: deadlineIn(world.host, 20_000) });
    return job?.jobId;
  } finally {
    held.close();
  }
};

/** Where Slurm puts a task of a step. */
const leafOf = (world: World, jobId: number, step: string): CgroupSet => {
  if (world.kernel.name === 'v2') return world.jobAt(jobId, step, 'user', 'task_0');
  const tasks = world.jobAt(jobId, step, 'task_0').cgroups;
  const plain = world
    .jobAt(jobId, step)
    .cgroups.filter((one) => !tasks.some(({ hierarchy }) => hierarchy.key === one.hierarchy.key));
  return new CgroupSet(world.host, [...plain, ...tasks]);
};

onKernels((kernel) => {
  inWorld(
    kernel,
    'ownJobAround() gives the living job of that user, in whatever step the process is',
    async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      expect(await around(world, pid, alice)).toBeUndefined(); // in no job
      for (const step of ['step_batch', 'step_extern']) {
        await leafOf(world, 101, step).add(pid);
        expect(await around(world, pid, alice)).toBeUndefined(); // alone in it: the job has ended
        const other = await world.session();
        await leafOf(world, 101, step).add(other);
        expect(await around(world, pid, alice)).toBe(101);
        expect(await around(world, pid, bob)).toBeUndefined();
        await world.outside.add(other);
      }
    },
  );

  if (kernel.name === 'v1')
    inWorld(kernel, 'ownJobAround() takes no half of a job for it', async (world) => {
      await world.twoJobs();
      const [pid, other] = [await world.session(), await world.session()];
      await leafOf(world, 101, 'step_batch').add(other);
      for (const cgroup of leafOf(world, 101, 'step_batch').cgroups)
        if (cgroup.hierarchy.controllers.includes('freezer')) await cgroup.add(pid);
      expect(await around(world, pid, alice)).toBeUndefined();
    });
});
