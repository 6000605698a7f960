// adopt() beside a slurmstepd that answers, refuses, is silent, lies, or has died: on the real kernel, with a server of
// this process in its place.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect } from 'vitest';
import { type AdoptOptions, adopt } from '../../../src/adopt/adoption.js';
import { reachExternStepd } from '../../../src/jobs/stepd/extern.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { hasCode, SystemCallError } from '../../../src/machine/errors.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { ExternStep, type Oddities } from '../../support/extern-step.js';
import {
  childrenOf,
  descendantsOf,
  interrupted,
  inWorld,
  obeys,
  onKernels,
  stateOf,
  until,
  type World,
} from '../../support/kernel-jobs.js';
import { descriptors } from '../../support/test-cgroups.js';

const ADD = 22;
/** What may lie where a slurmstepd should listen. */
const strangers: readonly (readonly [what: string, instead: NonNullable<Oddities['instead']>, why: RegExp])[] = [
  [
    'garbage',
    (at, { serve }) => serve(path.basename(at), (socket) => void socket.end('HTTP/1.1 400 Bad\r\n\r\n')),
    /its answer makes no sense|it talks without being asked/,
  ],
  [
    'an endless answer',
    (at, { serve }) =>
      serve(path.basename(at), (socket) => {
        const more = () => {
          while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 1)));
        };
        socket.on('drain', more);
        more();
      }),
    /its answer makes no sense|it talks without being asked/,
  ],
  [
    'half an answer',
    (at, { serve }) => serve(path.basename(at), (socket) => void socket.write(Buffer.from([0, 45]))),
    /it does not answer in time$/,
  ],
  ['a directory', (at) => fs.mkdirSync(at), /it is no socket$/],
  ['a FIFO', (at) => void spawnSync('mkfifo', [at]), /it is no socket$/],
  [
    'a link to the socket of another job',
    async (at, { serve }) => {
      await serve('elsewhere', () => expect.unreachable());
      fs.symlinkSync('elsewhere', at);
    },
    /it is no socket$/,
  ],
];
const long = { stepdTimeoutMs: 20_000, timeoutMs: 20_000 };

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  /** Job 102 beside its slurmstepd, and a session outside. */
  const inStep = (
    name: string,
    oddities: Parameters<typeof ExternStep.with>[1],
    act: (
      step: ExternStep,
      session: { readonly pid: number; into: (options?: Partial<AdoptOptions>) => ReturnType<typeof adopt> },
      world: World,
    ) => Promise<void>,
  ) =>
    inWorld(kernel, name, async (world) => {
      await world.twoJobs();
      await ExternStep.with(world, oddities, async (step) => {
        const pid = await world.session();
        const into = async (options: Partial<AdoptOptions> = {}) =>
          adopt(pid, await world.job(102), { node: await step.node(), ...long, ...options });
        await act(step, { pid, into }, world);
      });
    });

  const outcomesOf = ({ hierarchies }: Awaited<ReturnType<typeof adopt>>) => hierarchies.map(({ outcome }) => outcome);

  describe('adopt() where a leaf is missing', () => {
    inStep('has slurmstepd make it and move the process, and proves it', {}, async (step, { pid, into }, world) => {
      step.removeLeaf();
      const result = await into();
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'stepd', accounting: 'stepd' });
      expect(result.error).toBeUndefined();
      expect(world.places(pid)).toEqual(world.leaves(102));
      expect(outcomesOf(result)).toEqual(world.box.controllers.map(() => 'moved'));
      for (const { controllers, path } of result.hierarchies)
        expect(path.endsWith(world.leaves(102)[controllers.join() || 'unified'] ?? '?')).toBe(true);
      expect(step.asked.slice(1)).toEqual([9, 5, ADD, pid]); // slurmstepd's own pid, its state, and only then
      expect(result.trace).toEqual([
        expect.stringMatching(
          v1 ? /^through slurmstepd: it has no extern step in memory/ : /^through slurmstepd: .* no task yet$/,
        ),
        `process ${pid} came from ${world.box.within}/outside`,
        '/proc shows it in job 102 in every hierarchy of the job',
      ]);
    });

    inStep('moves by cgroup as soon as the leaf is there', {}, async (step, { pid, into }, world) => {
      step.removeLeaf();
      await into();
      step.asked.length = 0;
      expect(await into()).toMatchObject({ outcome: 'adopted', moved: 'none', accounting: 'none' });
      expect(step.asked).not.toContain(ADD);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    inStep('moves the children behind it by cgroup, and tells slurmstepd of none', {}, async (step, _, world) => {
      step.removeLeaf();
      const pid = await world.shell(`(sleep ${world.lifetime} & wait) & sleep ${world.lifetime} & wait`);
      await until('two children and a grandchild', () => descendantsOf(pid).length === 3);
      const open = descriptors();
      const result = await adopt(pid, await world.job(102), { node: await step.node(), ...long, descendants: true });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'stepd', accounting: 'stepd' });
      expect(result.descendants.map((one) => one.outcome)).toEqual(['adopted', 'adopted', 'adopted']);
      for (const one of [pid, ...descendantsOf(pid)]) expect(world.places(one)).toEqual(world.leaves(102));
      expect(step.asked.filter((_, at) => step.asked[at - 1] === ADD)).toEqual([pid]);
      await step.idle();
      expect(descriptors()).toEqual(open);
    });

    inStep('puts the children back with it where one of them is refused', {}, async (step, _, world) => {
      step.removeLeaf();
      const pid = await world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`);
      await until('two children', () => childrenOf(pid).length === 2);
      const { length } = world.box.controllers;
      const refused = () => {
        throw new SystemCallError('write', 'cgroup.procs', 'EPERM');
      };
      // Of the session itself nothing is written here: it is the second child's first.
      const host = interrupted(world.host, length + 1, refused);
      const open = descriptors();
      const result = await adopt(pid, await world.job(102), {
        ...{ node: await step.node(host), ...long, descendants: true },
      });
      expect(result).toMatchObject({ outcome: 'undone', accounting: 'stepd', error: { code: 'ERR_NOT_PERMITTED' } });
      for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.everywhere('outside'));
      await step.idle();
      expect(descriptors()).toEqual(open);
    });

    const noes: readonly (readonly [string, NonNullable<Oddities['add']>])[] = [
      ['says no', () => -1],
      ['closes without an answer', () => 'close'],
      [
        'moves it and says no',
        (pid, step) => {
          step.take(pid);
          return -1;
        },
      ],
    ];
    for (const [what, add] of noes) {
      inStep(`is undone exactly where slurmstepd ${what}`, { add }, async (step, { pid, into }, world) => {
        step.removeLeaf();
        const moves = what === 'moves it and says no';
        expect(await into()).toMatchObject({
          outcome: moves ? 'undone' : 'untouched',
          moved: 'none',
          accounting: 'refused',
          error: { code: 'ERR_STEPD', failure: 'refused' },
        });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
        await obeys(world, pid);
      });
    }

    inStep(
      'believes /proc where slurmstepd says yes and moves nothing',
      { add: () => 0 },
      async (step, { pid, into }, world) => {
        step.removeLeaf();
        const result = await into();
        expect(result).toMatchObject({ outcome: 'untouched', moved: 'none', error: { code: 'ERR_CGROUP_REFUSED' } });
        expect(new Set(outcomesOf(result))).toEqual(new Set(['failed']));
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      },
    );

    if (v1) {
      const inAllButMemory: NonNullable<Oddities['add']> = (pid, step) => {
        step.take(pid, ({ hierarchy }) => !hierarchy.controllers.includes('memory'));
        return 0;
      };
      inStep(
        'is undone where slurmstepd moves it in some hierarchies only, or kept if that is wanted',
        { add: inAllButMemory },
        async (step, { pid, into }, world) => {
          step.removeLeaf();
          const undone = await into();
          const error = { code: 'ERR_CGROUP_REFUSED' };
          expect(undone).toMatchObject({ outcome: 'undone', moved: 'none', accounting: 'stepd', error });
          expect(undone.trace.at(-1)).toMatch(/and may go on counting it$/);
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
          expect(await into({ onFailure: 'keep' })).toMatchObject({ outcome: 'partial', moved: 'stepd', error });
          expect(world.places(pid)).toEqual({ ...world.everywhere('outside'), ...world.leaves(102) });
        },
      );

      inStep('asks for no more than the hierarchies that the job has', {}, async (step, { pid, into }, world) => {
        step.removeLeaf();
        const memory = world.jobAt(102).cgroups.filter(({ hierarchy }) => hierarchy.controllers.includes('memory'));
        for (const { directory } of memory) {
          for (const name of ['step_batch/task_0', 'step_batch', '']) fs.rmdirSync(`${directory}/${name}`);
        }
        const result = await into();
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'stepd' });
        expect(result.hierarchies.some(({ controllers }) => controllers.includes('memory'))).toBe(false);
        expect(world.places(pid)).toEqual({ ...world.everywhere('outside'), ...world.leaves(102) });
      });
    }

    const intoAnother: NonNullable<Oddities['add']> = (pid, { world }) => {
      for (const { directory } of world.jobAt(101, 'step_extern').cgroups) {
        const leaf = ['user/task_0', 'task_0', '.'].find((name) => fs.existsSync(`${directory}/${name}`));
        fs.writeFileSync(`${directory}/${leaf}/cgroup.procs`, String(pid));
      }
      return 0;
    };
    inStep(
      'takes it back where slurmstepd puts it into another job',
      { add: intoAnother },
      async (step, { pid, into }, world) => {
        step.removeLeaf();
        expect(await into()).toMatchObject({ outcome: 'undone', error: { code: 'ERR_CGROUP_REFUSED' } });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      },
    );

    inStep(
      'gives up a slurmstepd that is silent, and says that it may still do it',
      { add: () => 'nothing' },
      async (step, { pid, into }, world) => {
        step.removeLeaf();
        const result = await into({ timeoutMs: 200 });
        expect(result).toMatchObject({
          outcome: 'untouched',
          moved: 'none',
          accounting: 'none',
          error: { failure: 'silent' },
        });
        expect(result.trace.join()).toContain('may still do so');
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      },
    );

    inStep(
      'takes what /proc shows for an answer that does not come',
      {
        add: (pid, step) => {
          step.take(pid);
          return 'nothing';
        },
      },
      async (step, { pid, into }, world) => {
        step.removeLeaf();
        expect(await into({ timeoutMs: 500 })).toMatchObject({
          outcome: 'adopted',
          moved: 'stepd',
          accounting: 'none',
        });
        expect(world.places(pid)).toEqual(world.leaves(102));
      },
    );

    inStep(
      'says that the process has ended while slurmstepd took it in',
      {
        add: (pid) => {
          kernel.host.signal(pid, 'SIGKILL');
          while (!['Z', undefined].includes(stateOf(pid)));
          return 0;
        },
      },
      async (step, { pid, into }) => {
        step.removeLeaf();
        const result = await into();
        const error = { code: 'ERR_NO_SUCH_PROCESS' };
        expect(result).toMatchObject({ outcome: 'untouched', moved: 'none', error });
        expect(['Z', undefined]).toContain(stateOf(pid));
      },
    );

    inStep('moves no process into a frozen job', {}, async (step, { pid, into }, world) => {
      step.removeLeaf();
      world.freeze(102);
      expect(await into()).toMatchObject({ outcome: 'suspended', moved: 'none', error: { code: 'ERR_FROZEN' } });
      expect(step.asked).not.toContain(ADD); // its state says running: only the kernel tells
      world.thaw(102);
      await obeys(world, pid);
    });

    inWorld(kernel, 'moves it back where the job is frozen while slurmstepd takes it in', async (world) => {
      await world.twoJobs();
      const add: NonNullable<Oddities['add']> = (pid, step) => {
        step.take(pid);
        world.freeze(102);
        return 0;
      };
      await ExternStep.with(world, { add }, async (step) => {
        step.removeLeaf();
        const pid = await world.session();
        const result = await adopt(pid, await world.job(102), { node: await step.node(), ...long });
        expect(result).toMatchObject({ outcome: 'suspended', moved: 'none' });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
        await obeys(world, pid);
      });
    });

    for (const oddities of [{ silent: true }, { standsOutside: true }]) {
      inStep(
        `refuses where slurmstepd cannot be asked (${Object.keys(oddities)})`,
        oddities,
        async (step, { pid, into }, world) => {
          step.removeLeaf();
          await expect(into({ stepdTimeoutMs: 100 })).rejects.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED'));
          expect(step.asked).not.toContain(ADD);
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
        },
      );
    }

    for (const [what, instead] of strangers) {
      inStep(`moves no process beside ${what}`, { instead }, async (step, { pid, into }, world) => {
        step.removeLeaf();
        await expect(into({ stepdTimeoutMs: 2000 })).rejects.toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED'));
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    }
  });

  describe('adopt() where every leaf is there', () => {
    inStep('asks whether the step is ending, writes itself, and tells it', {}, async (step, { pid, into }, world) => {
      const result = await into();
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
      expect(result.trace).toHaveLength(3);
      expect(step.asked.slice(1)).toEqual([9, 5, ADD, pid]);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    for (const oddities of [{ state: 4 }, { state: 3 }, 'absent', 'dead'] as const) {
      inStep(
        `moves no process into a step that is ending (${JSON.stringify(oddities)})`,
        oddities,
        async (_step, { pid, into }, world) => {
          const result = await into();
          expect(result).toMatchObject({ outcome: 'untouched', moved: 'none', accounting: 'none', hierarchies: [] });
          expect(result.ending).toBe(true);
          expect(result.error?.message).toMatch(/^No process is moved into job 102: /);
          expect(result.error?.code).toBe('ERR_STEPD');
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
        },
      );
    }

    inStep(
      'goes by the cgroups alone beside a silent one, after its deadline',
      { silent: true },
      async (_step, { pid, into }, world) => {
        const result = await into({ stepdTimeoutMs: 100 });
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none' });
        expect(result.trace[0]).toMatch(
          /^by its cgroups alone: Cannot ask slurmstepd at .*: it does not answer in time$/,
        );
        expect(world.places(pid)).toEqual(world.leaves(102));
      },
    );

    inStep(
      'goes by the cgroups alone where what answers is another job’s',
      { standsOutside: true },
      async (_step, { into }) => {
        const { outcome, trace } = await into();
        expect([outcome, trace[0]]).toEqual(['adopted', expect.stringMatching(/is not the slurmstepd of job 102$/)]);
      },
    );

    for (const [what, instead, why] of strangers) {
      inStep(`goes by the cgroups alone beside ${what}`, { instead }, async (_step, { pid, into }, world) => {
        const result = await into({ stepdTimeoutMs: 2000 });
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none' });
        expect(result.trace[0]).toMatch(/^by its cgroups alone: Cannot ask slurmstepd at [^\n]*$/);
        expect(result.trace[0]).toMatch(why);
        expect(world.places(pid)).toEqual(world.leaves(102));
      });
    }

    inStep('stops where it is told to', { silent: true }, async (_step, { pid, into }, world) => {
      const [stop, reason] = [new AbortController(), new Error('enough')];
      setTimeout(() => stop.abort(reason), 50);
      await expect(into({ signal: stop.signal })).rejects.toBe(reason);
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });
  });

  describe('reachExternStepd()', () => {
    inStep('asks no slurmstepd about a job whose id is not known', {}, async (step, _session, world) => {
      const { jobId, ...nameless } = await world.job(102);
      expect(jobId).toBe(102);
      expect(await reachExternStepd(await step.node(), nameless, deadlineIn(liveHost(), 1000))).toEqual({
        outcome: 'unasked',
        why: 'the id of the job is not known',
      });
      expect(step.asked).toEqual([]);
    });
  });
});
