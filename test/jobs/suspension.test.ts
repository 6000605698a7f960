import fs from 'node:fs';
import { describe, expect } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { isSuspended } from '../../src/jobs/suspension.js';
import { verify } from '../../src/jobs/verification.js';
import { ParseError, SystemCallError } from '../../src/machine/errors.js';
import { inWorld, onKernels, type World } from '../support/kernel-jobs.js';

onKernels((kernel) => {
  const [file, frozen, thawed] =
    kernel.name === 'v1' ? ['freezer.state', 'FROZEN', 'THAWED'] : ['cgroup.freeze', '1', '0'];
  /** As `scontrol suspend` does. */
  const tell = (world: World, step: string, word: string) => {
    const names = kernel.name === 'v1' ? [step] : [step, 'user'];
    for (const { directory } of world.jobAt(102, ...names).cgroups)
      if (fs.existsSync(`${directory}/${file}`)) fs.writeFileSync(`${directory}/${file}`, word);
  };

  describe('isSuspended()', () => {
    inWorld(kernel, 'goes by the extern step, else by all steps', async (world) => {
      await world.twoJobs();
      const node = await world.node();
      const [first, second] = discoverJobs(node);
      if (first === undefined || second === undefined) throw new Error('no jobs');
      const both = () => [isSuspended(node, first), isSuspended(node, second)];
      expect(both()).toEqual([false, false]);
      try {
        tell(world, 'step_batch', frozen);
        expect(both()).toEqual([false, false]); // a user could do that to a step of their own
        tell(world, 'step_extern', frozen);
        expect(both()).toEqual([false, true]);
        const steps = second.steps.filter(({ stepId }) => stepId === 'batch');
        expect(isSuspended(node, { steps })).toBe(true);
        expect(isSuspended(node, { steps: [] })).toBe(false);
      } finally {
        for (const step of ['step_batch', 'step_extern']) tell(world, step, thawed);
      }
    });

    inWorld(
      kernel,
      'does not know where the kernel does not let it look, and throws what is no answer',
      async (world) => {
        await world.twoJobs();
        const [job] = discoverJobs(await world.node());
        if (job === undefined) throw new Error('no job');
        const refusing = async (error: Error) =>
          world.node({
            ...world.host,
            read: (path) => {
              if (/freezer|cgroup\.events/.test(path.slice(path.lastIndexOf('/')))) throw error;
              return world.host.read(path);
            },
          });
        expect(isSuspended(await refusing(new SystemCallError('read', 'x', 'EACCES')), job)).toBeUndefined();
        const error = new ParseError('x');
        const node = await refusing(error);
        expect(() => isSuspended(node, job)).toThrow(error);
      },
    );
  });

  describe('verify()', () => {
    inWorld(kernel, 'says that the job of a process is suspended', async (world) => {
      await world.twoJobs();
      const { pid } = await world.box.startSleeper(
        64_811,
        world.jobAt(102, ...(kernel.name === 'v1' ? ['step_batch'] : ['step_batch', 'user', 'task_0'])),
      );
      const node = await world.node();
      expect((await verify(pid, { node })).suspended).toBe(false);
      try {
        tell(world, 'step_batch', frozen);
        expect((await verify(pid, { node })).suspended).toBe(true);
      } finally {
        tell(world, 'step_batch', thawed);
      }
      expect(await verify(await world.session(), { node })).not.toHaveProperty('suspended');
    });
  });
});
