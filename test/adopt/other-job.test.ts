import { describe, expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { otherJobKeeping } from '../../src/adopt/other-job.js';
import { admitSession, decideSession } from '../../src/adopt/session.js';
import { withProcess } from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { hasCode } from '../../src/machine/errors.js';
import { defaultOptions } from '../../src/policy/options.js';
import { alice, childrenOf, inWorld, onKernels, until, type World } from '../support/kernel-jobs.js';

const isProtected = expect.toSatisfy((error: unknown) => hasCode(error, 'ERR_PROTECTED'));

onKernels((kernel) => {
  /** Puts a process somewhere in a job, in every hierarchy. */
  const put = (world: World, pid: number, jobId: number) => {
    const leaf = world.jobAt(jobId, 'step_batch', `task_7`);
    const set = leaf.cgroups.length > 0 ? leaf : world.jobAt(jobId, 'step_batch').create('task_7');
    return set.add(pid);
  };
  const keeping = async (world: World, pid: number, target: number) => {
    const node = await world.node();
    return withProcess(world.host, pid, (held) =>
      otherJobKeeping(node, held, { target: { jobId: target }, deadline: deadlineIn(world.host, 10_000) }),
    );
  };

  describe('adopt() of a process in another job', () => {
    inWorld(kernel, 'refuses where that job lives, and moves it with force, which is said', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      await put(world, pid, 101);
      expect(await keeping(world, pid, 102)).toBeUndefined(); // it alone does not keep the job alive
      const other = await world.session();
      await put(world, other, 101);
      expect(await keeping(world, pid, 102)).toBe('job 101');
      expect(await keeping(world, pid, 101)).toBeUndefined();
      const before = world.places(pid);
      const [node, job] = [await world.node(), await world.job(102)];
      await expect(adopt(pid, job, { node })).rejects.toThrow(
        `Process ${pid} (sleep) is not moved: it is in job 101, which still runs; --force takes it out of that job`,
      );
      const session = { node, options: { ...defaultOptions, waitForJobMs: 0 } };
      await expect(admitSession({ pid, uid: alice, jobId: 102 }, session)).rejects.toEqual(isProtected);
      expect(world.places(pid)).toEqual(before);
      // To decide is no move: the dry run of the command asks for itself.
      expect((await decideSession({ uid: alice, jobId: 102 }, session)).decision.action).toBe('adopt');
      const record = await admitSession({ pid, uid: alice, jobId: 102 }, { ...session, force: true });
      expect(record).toMatchObject({ action: 'allow', adoption: { outcome: 'adopted' } });
      expect(record.trace).toContain(`process ${pid} is taken out of job 101, which still runs: force`);
      expect(world.places(pid)).toEqual(world.leaves(102));
      expect(await keeping(world, other, 101)).toBeUndefined();
    });

    inWorld(kernel, 'moves it where that job has ended, without a word', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      await put(world, pid, 101);
      const result = await adopt(pid, await world.job(102), { node: await world.node() });
      expect(result.outcome).toBe('adopted');
      expect(result.trace.filter((line) => line.includes('taken out'))).toEqual([]);
    });

    inWorld(kernel, 'leaves its children there, too, unless it is forced', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`);
      await until('two children', () => childrenOf(pid).length === 2);
      const children = childrenOf(pid);
      for (const one of children) await put(world, one, 101);
      const before = children.map((one) => world.places(one));
      const [node, job] = [await world.node(), await world.job(102)];
      const result = await adopt(pid, job, { node, descendants: true });
      expect([result.outcome, result.descendants]).toEqual(['adopted', []]);
      for (const one of children)
        expect(result.trace).toContainEqual(
          expect.stringMatching(
            new RegExp(`^child process ${one} \\(\\w+\\) stays where it is: it is in job 101, which still runs`),
          ),
        );
      expect(children.map((one) => world.places(one))).toEqual(before);
      const forced = await adopt(pid, job, { node, descendants: true, force: true });
      expect(forced.descendants.map((one) => one.pid).sort()).toEqual([...children].sort());
      for (const one of children) expect(world.places(one)).toEqual(world.leaves(102));
    });

    if (kernel.name === 'v1')
      inWorld(kernel, 'asks for each job that it is in, hierarchy by hierarchy', async (world) => {
        await world.twoJobs();
        await world.box.addJob({ jobId: 103, uid: alice });
        const pid = await world.session();
        for (const [jobId, key] of [
          [101, 'freezer'],
          [102, 'memory'],
        ] as const)
          for (const cgroup of world.jobAt(jobId, 'step_batch').cgroups)
            if (cgroup.hierarchy.key === key) await cgroup.add(pid);
        await put(world, await world.session(), 102);
        expect(await keeping(world, pid, 103)).toBe('job 102');
        expect(await keeping(world, pid, 102)).toBeUndefined();
      });
  });
});
