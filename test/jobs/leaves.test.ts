import fs from 'node:fs';
import { describe, expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { closeTargets, holdExternLeaves, holdUserCgroups } from '../../src/jobs/leaves.js';
import { hasCode } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { alice, interrupted, inWorld, onKernels, type World } from '../support/kernel-jobs.js';

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  /** Directories that hold the tasks of job 102: one in memory and one in cpuacct on v1, the user side on v2. */
  const parentsOfTasks = (world: World) =>
    v1
      ? world.jobAt(102, 'step_extern').cgroups.filter((one) => fs.existsSync(`${one.directory}/task_0`))
      : world.jobAt(102, 'step_extern', 'user').cgroups;

  const heldPaths = async (world: World) => {
    const leaves = holdExternLeaves(await world.node(), await world.job(102));
    const targets = leaves.outcome === 'held' ? leaves.targets : expect.unreachable(leaves.why);
    closeTargets(targets);
    return Object.fromEntries(targets.map(({ cgroup }) => [cgroup.hierarchy.key, cgroup.path as string]));
  };

  /** Neither a process moves nor a directory stays open. */
  const refuses = async (world: World, code: Parameters<typeof hasCode>[1], words: RegExp) => {
    const pid = await world.session();
    const job = await world.job(102);
    const host = failingHost(world.host);
    const error = await adopt(pid, job, { node: await world.node(host) }).catch((thrown: unknown) => thrown);
    expect(error).toSatisfy((thrown: unknown) => hasCode(thrown, code));
    expect(String(error)).toMatch(words);
    expect(host.calls.filter(({ call }) => call === 'write')).toEqual([]);
    expect(host.openDirectories()).toBe(0);
    expect(world.places(pid)).toEqual(world.everywhere('outside'));
  };

  describe('holdExternLeaves()', () => {
    inWorld(kernel, 'holds the only task where there is one, else the step on v1', async (world) => {
      await world.twoJobs();
      expect(await heldPaths(world)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'takes the task whatever its number, and task_special beside it for none', async (world) => {
      await world.twoJobs();
      for (const { directory } of parentsOfTasks(world)) {
        fs.rmdirSync(`${directory}/task_0`);
        for (const name of ['task_7', 'task_special', 'task_x', 'mine']) fs.mkdirSync(`${directory}/${name}`);
      }
      const leaves = Object.entries(world.leaves(102)).map(([key, place]) => [key, place.replace('task_0', 'task_7')]);
      expect(await heldPaths(world)).toEqual(Object.fromEntries(leaves));
    });

    inWorld(kernel, 'without a numbered task takes task_special on v2 and the step on v1', async (world) => {
      await world.twoJobs();
      for (const { directory } of parentsOfTasks(world)) {
        fs.rmdirSync(`${directory}/task_0`);
        fs.mkdirSync(`${directory}/task_special`);
      }
      const special = v1 ? '' : '/task_special';
      const leaves = Object.entries(world.leaves(102)).map(([key, place]) => [key, place.replace('/task_0', special)]);
      expect(await heldPaths(world)).toEqual(Object.fromEntries(leaves));
    });

    inWorld(kernel, 'passes over what the user made: they could freeze it, or let an adoption fail', async (world) => {
      await world.twoJobs();
      const made = (directory: string) => {
        fs.mkdirSync(directory);
        for (const file of ['cgroup.procs', ...(v1 ? ['tasks'] : [])])
          fs.chownSync(`${directory}/${file}`, alice, alice);
        fs.chownSync(directory, alice, alice);
      };
      for (const { directory } of world.jobAt(102, 'step_extern').cgroups) {
        const parent = v1 ? directory : `${directory}/user`;
        made(`${parent}/task_3`);
        if (!fs.existsSync(`${parent}/task_0`)) made(`${parent}/task_0`);
        if (!fs.existsSync(`${parent}/task_special`)) made(`${parent}/task_special`);
      }
      expect(await heldPaths(world)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'does not hold what a user put in the place of a task while it was looked at', async (world) => {
      await world.twoJobs();
      const [parent] = parentsOfTasks(world);
      const task = `${parent?.directory}/task_0`;
      const host: Host = {
        ...world.host,
        open: (path) => {
          if (path === task) fs.chownSync(`${task}/cgroup.procs`, alice, alice);
          return world.host.open(path);
        },
      };
      const node = await world.node(host);
      const job = await world.job(102);
      expect(() => holdExternLeaves(node, job)).toThrow(/is gone: its job is ending/);
    });

    inWorld(kernel, 'refuses several tasks: only stepd can tell which', async (world) => {
      await world.twoJobs();
      for (const { directory } of parentsOfTasks(world).slice(-1)) fs.mkdirSync(`${directory}/task_1`);
      await refuses(world, 'ERR_NOT_SUPPORTED', /has several tasks \(task_0, task_1\), which needs stepd/);
    });

    inWorld(kernel, 'takes of several tasks the one of that number, or names them', async (world) => {
      await world.twoJobs();
      for (const { directory } of parentsOfTasks(world)) fs.mkdirSync(`${directory}/task_1`);
      const [node, job] = [await world.node(), await world.job(102)];
      const leaves = holdExternLeaves(node, job, 1);
      const targets = leaves.outcome === 'held' ? leaves.targets : expect.unreachable(leaves.why);
      closeTargets(targets);
      const expected = Object.entries(world.leaves(102)).map(([key, at]) => [key, at.replace('task_0', 'task_1')]);
      expect(Object.fromEntries(targets.map(({ cgroup }) => [cgroup.hierarchy.key, cgroup.path as string]))).toEqual(
        Object.fromEntries(expected),
      );
      for (const nodeId of [undefined, 7])
        expect(holdExternLeaves(node, job, nodeId)).toMatchObject({
          outcome: 'needs-stepd',
          among: ['task_0', 'task_1'],
        });
    });

    inWorld(kernel, 'refuses where a leaf is missing: only stepd may make it', async (world) => {
      await world.twoJobs();
      for (const { directory, hierarchy } of parentsOfTasks(world).slice(-1)) {
        fs.rmdirSync(`${directory}/task_0`);
        if (hierarchy.version === 1) fs.rmdirSync(directory);
      }
      await refuses(
        world,
        'ERR_NOT_SUPPORTED',
        v1 ? /no extern step in memory yet, which needs stepd/ : /no task yet, which needs stepd/,
      );
      expect(fs.existsSync(`${parentsOfTasks(world).at(-1)?.directory}/task_special`)).toBe(false);
    });

    inWorld(kernel, 'refuses a job without an extern step', async (world) => {
      await world.twoJobs();
      world.removeExtern(102);
      await refuses(world, 'ERR_NOT_SUPPORTED', /it has no extern step here/);
    });

    for (const again of [false, true]) {
      inWorld(
        kernel,
        `refuses a step that was removed${again ? ' and made again' : ''} since it was listed`,
        async (world) => {
          await world.twoJobs();
          const [pid, job] = [await world.session(), await world.job(102)];
          world.removeExtern(102);
          if (again) world.makeExtern(102);
          const host = failingHost(world.host);
          await expect(adopt(pid, job, { node: await world.node(host) })).rejects.toSatisfy((error) =>
            hasCode(error, 'ERR_CGROUP_GONE'),
          );
          expect(host.openDirectories()).toBe(0);
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
          if (again)
            expect((await adopt(pid, await world.job(102), { node: await world.node() })).outcome).toBe('adopted');
        },
      );

      inWorld(
        kernel,
        `never reaches a step that is removed${again ? ' and made again' : ''} after its leaves are held`,
        async (world) => {
          await world.twoJobs();
          const [pid, job] = [await world.session(), await world.job(102)];
          const change = () => {
            world.removeExtern(102);
            if (again) world.makeExtern(102);
          };
          const result = await adopt(pid, job, { node: await world.node(interrupted(world.host, 1, change)) });
          expect(result).toMatchObject({ outcome: 'untouched', moved: 'none', error: { code: 'ERR_CGROUP_GONE' } });
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
        },
      );
    }

    inWorld(kernel, 'refuses a job of which one hierarchy alone was made anew', async (world) => {
      await world.twoJobs();
      const [pid, job] = [await world.session(), await world.job(102)];
      const step = world.jobAt(102, 'step_extern').cgroups.at(-1);
      if (step === undefined) throw new Error('no step');
      for (const one of [...(await step.descendants())].reverse()) fs.rmdirSync(one.directory);
      fs.rmdirSync(step.directory);
      for (const name of v1 ? [''] : ['', '/slurm', '/user', '/user/task_0']) fs.mkdirSync(`${step.directory}${name}`);
      await expect(adopt(pid, job, { node: await world.node() })).rejects.toSatisfy((error) =>
        hasCode(error, 'ERR_CGROUP_GONE'),
      );
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });
  });

  describe('holdUserCgroups()', () => {
    if (!v1) {
      inWorld(kernel, 'says that v2 has none', async (world) => {
        await world.twoJobs();
        const node = await world.node();
        expect(() => holdUserCgroups(node, alice)).toThrow(
          expect.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED')),
        );
      });
      return;
    }

    inWorld(kernel, 'holds uid_U in every hierarchy that has it', async (world) => {
      await world.twoJobs();
      const targets = holdUserCgroups(await world.node(), alice);
      closeTargets(targets);
      expect(targets.map(({ cgroup }) => cgroup.hierarchy.key)).toEqual(world.box.controllers);
      expect(new Set(targets.map(({ cgroup }) => cgroup.path))).toEqual(
        new Set([`${world.box.within}/slurm/uid_${alice}`]),
      );
    });

    inWorld(kernel, 'refuses to choose between the cgroups of two nodes', async (world) => {
      await world.twoJobs();
      world.at().create('slurm_b').create(`uid_${alice}`);
      const node = await world.node();
      expect(() => holdUserCgroups(node, alice)).toThrow(
        expect.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED')),
      );
    });
  });
});
