import fs from 'node:fs';
import { describe, expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { closeRoute, findRoute, routeForChildren } from '../../src/adopt/route.js';
import { Move } from '../../src/cgroup/move.js';
import { withProcess } from '../../src/cgroup/process.js';
import { externGoals } from '../../src/jobs/leaves.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import { hasCode } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import { ExternStep, type Oddities, spoolConfiguration } from '../support/extern-step.js';
import { inWorld, onKernels, type World } from '../support/kernel-jobs.js';

const NODEID = 21;

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  /** Beside Slurm's own task another: up to 23.02 of the user's making. */
  const addTask = (world: World, name: string) => {
    const parents = v1
      ? world.jobAt(102, 'step_extern').cgroups.filter((one) => fs.existsSync(`${one.directory}/task_0`))
      : world.jobAt(102, 'step_extern', 'user').cgroups;
    for (const { directory } of parents) fs.mkdirSync(`${directory}/${name}`);
  };

  const inStep = (
    name: string,
    oddities: Oddities | 'absent',
    act: (step: ExternStep, world: World) => Promise<void>,
  ) =>
    inWorld(kernel, name, async (world) => {
      await world.twoJobs();
      await ExternStep.with(world, oddities, (step) => act(step, world));
    });

  /** The route, and what was said of it; nothing of it stays open. */
  const routeOf = async (step: ExternStep, world: World, more: Partial<SlurmNode> = {}) => {
    const host = failingHost(world.host);
    const said: string[] = [];
    const node = { ...(await step.node(host)), ...more };
    const route = await findRoute(node, await world.job(102), { stepdTimeoutMs: 500, say: (line) => said.push(line) });
    closeRoute(route);
    expect(host.openDirectories()).toBe(0);
    return { route, said };
  };

  describe('findRoute()', () => {
    inStep('goes by the cgroups where every leaf is there, and tells slurmstepd later', {}, async (step, world) => {
      const { route, said } = await routeOf(step, world);
      expect(route).toMatchObject({ by: 'cgroup', counted: { stepd: expect.anything(), job: { jobId: 102 } } });
      expect(said).toEqual([]);
    });

    inStep('is slurmstepd’s where a leaf is missing', {}, async (step, world) => {
      step.removeLeaf();
      expect((await routeOf(step, world)).route.by).toBe('stepd');
    });

    inStep('is none where the step is ending', { state: 4 }, async (step, world) => {
      expect((await routeOf(step, world)).route).toMatchObject({ by: 'none', why: { code: 'ERR_STEPD' } });
    });

    for (const isSilent of [true, false]) {
      inStep(
        `knows whether it makes sense to ask again (${isSilent})`,
        isSilent ? { silent: true } : { standsOutside: true },
        async (step, world) => {
          const { route, said } = await routeOf(step, world);
          const counted = route.by === 'cgroup' ? route.counted : expect.unreachable();
          expect(counted?.stepd).toBeUndefined();
          expect(counted?.unasked === undefined).toBe(isSilent);
          expect(said).toEqual([expect.stringMatching(/^by its cgroups alone: /)]);
        },
      );
    }

    inStep('closes all it has where it throws', { silent: true }, async (step, world) => {
      step.removeLeaf();
      const host = failingHost(world.host);
      const found = findRoute(await step.node(host), await world.job(102), { stepdTimeoutMs: 100, say: () => {} });
      await expect(found).rejects.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED'));
      expect(host.openDirectories()).toBe(0);
    });

    for (const [parameters, first] of [
      [['ulimit_pam_adopt'], 'LaunchParameters=ulimit_pam_adopt (/etc/slurm/slurm.conf:3)'],
      [['use_interactive_step', 'Ulimit_Pam_Adopt'], 'LaunchParameters=ulimit_pam_adopt (/etc/slurm/slurm.conf:3)'],
      [['use_interactive_step'], undefined],
    ] as const) {
      inStep(`puts slurmstepd first with LaunchParameters=${parameters}: ${first}`, {}, async (step, world) => {
        const configuration = {
          ...spoolConfiguration,
          launchParameters: parameters,
          places: new Map([['launchParameters', { file: '/etc/slurm/slurm.conf', line: 3 }]]),
        };
        const { route } = await routeOf(step, world, { configuration });
        expect(route.by === 'cgroup' ? route.counted?.first : expect.unreachable()).toBe(first);
      });
    }
  });

  describe('adopt() where the extern step has several tasks', () => {
    for (const nodeId of [0, 1]) {
      inStep(`takes the one that slurmstepd names (${nodeId})`, { nodeId, add: () => 0 }, async (step, world) => {
        addTask(world, 'task_1');
        const pid = await world.session();
        const result = await adopt(pid, await world.job(102), { node: await step.node() });
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
        const leaves = Object.entries(world.leaves(102)).map(([key, at]) => [
          key,
          at.replace('task_0', `task_${nodeId}`),
        ]);
        expect(world.places(pid)).toEqual(Object.fromEntries(leaves));
        expect(step.asked.slice(1, 4)).toEqual([9, 5, NODEID]);
        expect(result.trace[0]).toBe(`of task_0, task_1, slurmstepd names task_${nodeId}`);
      });
    }

    inStep('has slurmstepd move it where none is the one', { nodeId: 7 }, async (step, world) => {
      addTask(world, 'task_1');
      const pid = await world.session();
      const result = await adopt(pid, await world.job(102), { node: await step.node() });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'stepd', accounting: 'stepd' });
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    for (const oddities of [{ silent: true }, { standsOutside: true }]) {
      inStep(`refuses where slurmstepd does not tell (${Object.keys(oddities)})`, oddities, async (step, world) => {
        addTask(world, 'task_1');
        const pid = await world.session();
        const act = adopt(pid, await world.job(102), { node: await step.node(), stepdTimeoutMs: 100 });
        await expect(act).rejects.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED'));
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    }
  });

  describe('routeForChildren()', () => {
    inStep('leads to where the process is, and nowhere once it is elsewhere', {}, async (step, world) => {
      const host = failingHost(world.host);
      const [node, job, pid] = [await step.node(), await world.job(102), await world.session()];
      await withProcess(world.host, pid, async (held) => {
        const move = Move.follow(world.host, held, externGoals(node, job));
        step.take(pid);
        move.observe(() => true);
        const route = routeForChildren(host, move);
        expect(route.targets.map(({ cgroup }) => cgroup.path)).toEqual(move.cgroups.map(({ path }) => path));
        expect(host.openDirectories()).toBe(route.targets.length);
        closeRoute(route);
        await world.outside.add(pid);
        expect(() => routeForChildren(host, move)).toThrow(expect.objectContaining({ code: 'ERR_CGROUP_GONE' }));
        expect(host.openDirectories()).toBe(0);
        move.close();
      });
    });
  });
});
