// adopt() where every leaf is there and slurmstepd is told of the process afterwards: whatever it says, does or leaves
// undone, the process is proven in the job, or where it was, or the result says exactly where it is.

import fs from 'node:fs';
import { describe, expect } from 'vitest';
import { type AdoptOptions, adopt } from '../../src/adopt/adoption.js';
import type { AdoptionResult } from '../../src/adopt/result.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import type { Host } from '../../src/machine/host.js';
import { ExternStep, type Oddities, spoolConfiguration } from '../support/extern-step.js';
import {
  alice,
  bob,
  childrenOf,
  inWorld,
  obeys,
  onKernels,
  stateOf,
  until,
  type World,
} from '../support/kernel-jobs.js';
import { Puppets } from '../support/puppets.js';

const ADD = 22;
const long = { stepdTimeoutMs: 20_000, timeoutMs: 20_000 };
type Add = NonNullable<Oddities['add']>;

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  interface Session {
    readonly pid: number;
    readonly into: (
      options?: Partial<AdoptOptions>,
      configured?: SlurmNode['configuration'],
    ) => Promise<AdoptionResult>;
  }

  /** Job 102 beside its slurmstepd, and a session outside. */
  const inStep = (
    name: string,
    oddities: Oddities,
    act: (step: ExternStep, session: Session, world: World) => Promise<void>,
    start: (world: World) => Promise<number> = (world) => world.session(),
  ) =>
    inWorld(kernel, name, async (world) => {
      await world.twoJobs();
      await ExternStep.with(world, oddities, async (step) => {
        const pid = await start(world);
        const into: Session['into'] = async (options = {}, configuration = spoolConfiguration) =>
          adopt(pid, await world.job(102), {
            node: { ...(await step.node()), configuration },
            ...long,
            ...options,
          });
        await act(step, { pid, into }, world);
      });
    });

  // Found by the search of every interleaving (test/interleavings): `v1 adopt slurmstepd 119 pid-to-same-job`.
  describe('a pid that is given away before slurmstepd reads it', () => {
    let puppets: Puppets;
    let heir: number | undefined;
    const lists = (set: CgroupSet) => set.cgroups.map(({ directory }) => `${directory}/cgroup.procs`);
    const giveAway: Add = (pid, step) => {
      puppets.end([pid]);
      heir = puppets.start({ uid: bob, name: 'heir', places: lists(step.world.outside), pid });
      step.take(pid);
      return 0;
    };
    const session = async (world: World) => {
      puppets = new Puppets();
      const pid = puppets.start({ uid: alice, name: 'session', places: lists(world.outside) });
      if (pid === undefined) throw new Error('No session');
      return pid;
    };
    for (const [name, hasLeaf, ends] of [
      ['moves its new owner, which is put back and reported', true, ['undone', 'cgroup']],
      ['is put back too where slurmstepd is the one that moves', false, ['untouched', 'stepd']],
    ] as const) {
      inStep(
        name,
        { add: giveAway },
        async (step, { pid, into }, world) => {
          try {
            if (!hasLeaf) step.removeLeaf();
            const { outcome, route, error } = await into();
            expect([outcome, route, error?.code, heir]).toEqual([...ends, 'ERR_NO_SUCH_PROCESS', pid]);
            expect(error?.message).toContain(`Process ${pid} has ended, and its pid is that of heir (uid ${bob}) now`);
            for (const place of Object.values(world.places(pid))) expect(place).not.toContain('job_102');
          } finally {
            puppets.end([pid]);
            puppets.close();
          }
        },
        session,
      );
    }
  });

  const adds = ({ asked }: ExternStep) => asked.filter((number) => number === ADD).length;
  /** Where a process is put that slurmstepd moves on within its step. */
  const special = (world: World): Readonly<Record<string, string>> => {
    const [parent] = world.jobAt(102, 'step_extern', ...(v1 ? [] : ['user'])).cgroups;
    return { [parent?.hierarchy.key ?? '?']: `${parent?.path}/task_special` };
  };
  const moveOn: Add = (pid, { world }) => {
    const [parent] = world.jobAt(102, 'step_extern', ...(v1 ? [] : ['user'])).cgroups;
    fs.mkdirSync(`${parent?.directory}/task_special`);
    fs.writeFileSync(`${parent?.directory}/task_special/cgroup.procs`, String(pid));
    return 0;
  };
  const moveOut: Add = (pid, { world }) => {
    for (const { directory } of world.outside.cgroups) fs.writeFileSync(`${directory}/cgroup.procs`, String(pid));
    return 0;
  };
  /** Where no other process stands. */
  const wayBack = (world: World) =>
    world.outside.cgroups.find(({ hierarchy }) => !v1 || hierarchy.key === 'freezer') ?? expect.unreachable();
  const killIt: Add = (pid) => {
    kernel.host.signal(pid, 'SIGKILL');
    while (!['Z', undefined].includes(stateOf(pid)));
    return 0;
  };

  describe('adopt() tells slurmstepd', () => {
    const places: unknown[] = [];
    inStep(
      'once the process is in the job',
      {
        add: (pid, { world }) => {
          places.push(world.places(pid));
          return 0;
        },
      },
      async (step, { pid, into }, world) => {
        const result = await into();
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
        expect([result.error, result.uncountedWhy]).toEqual([undefined, undefined]);
        expect(step.asked.slice(1)).toEqual([9, 5, ADD, pid]);
        expect(places).toEqual([world.leaves(102)]);
        expect(result.trace.slice(-2)).toEqual([
          '/proc shows it in job 102 in every hierarchy of the job',
          'slurmstepd has accepted it: Slurm counts its use',
        ]);
      },
    );

    inStep('and reports where it has moved the process on', { add: moveOn }, async (_step, { pid, into }, world) => {
      const result = await into();
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
      const now = { ...world.leaves(102), ...special(world) };
      expect(world.places(pid)).toEqual(now);
      for (const { controllers, path } of result.hierarchies)
        expect(path.endsWith(now[controllers.join() || 'unified'] ?? '?')).toBe(true);
    });

    for (const onFailure of ['undo', 'keep'] as const) {
      inStep(
        `and looks where the process is afterwards (${onFailure})`,
        { add: moveOut },
        async (_step, { pid, into }, world) => {
          const result = await into({ onFailure });
          expect(result).toMatchObject({ accounting: 'stepd', error: { code: 'ERR_CGROUP_REFUSED' } });
          expect(['untouched', 'undone']).toContain(result.outcome);
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
        },
      );
    }

    inStep(
      'and moves it back where the job was frozen meanwhile',
      {
        add: (_pid, { world }) => {
          world.freeze(102);
          return 0;
        },
      },
      async (_step, { pid, into }, world) => {
        const result = await into();
        expect(result).toMatchObject({ outcome: 'suspended', moved: 'none', accounting: 'stepd' });
        expect(result.trace.at(-1)).toBe('slurmstepd had accepted it, and may go on counting it');
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
        await obeys(world, pid);
      },
    );

    inStep('and says where the process ended meanwhile', { add: killIt }, async (_step, { into }) => {
      const result = await into();
      expect(result).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
      expect(result.trace.at(-1)).toMatch(/^process \d+ has ended$/);
    });

    inStep(
      'of the process alone: its children are counted with it',
      {},
      async (step, { pid, into }, world) => {
        await until('two children', () => childrenOf(pid).length === 2);
        expect(await into({ descendants: true })).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
        expect(step.asked.slice(1)).toEqual([9, 5, ADD, pid]);
        for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.leaves(102));
      },
      (world) => world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`),
    );

    inStep('not again where it was in the job before, unless that is wanted', {}, async (step, { into }) => {
      await into();
      const again = await into();
      expect(again).toMatchObject({ outcome: 'adopted', moved: 'none', accounting: 'none' });
      expect([again.uncountedWhy, again.trace.at(-1)]).toEqual([
        'it was already in the job',
        'slurmstepd is not told again: it would count the process twice',
      ]);
      expect(adds(step)).toBe(1);
      expect(await into({ isCounted: false })).toMatchObject({ moved: 'none', accounting: 'stepd' });
      expect(adds(step)).toBe(2);
    });

    inStep('again where it was moved out of the job', {}, async (step, { pid, into }, world) => {
      await into();
      await world.outside.add(pid); // as pam_systemd does between account and session phase
      expect(await into()).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
      expect(adds(step)).toBe(2);
      await world.outside.add(pid);
      // Who knows that it is counted has it put back only.
      const known = await into({ isCounted: true });
      expect(known).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
      expect(adds(step)).toBe(2);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    inStep('and says who moved what was there before', { add: moveOn }, async (_step, { pid, into }, world) => {
      for (const cgroup of world.jobAt(102).cgroups) {
        const leaf = Object.entries(world.leaves(102)).find(([key]) => key === cgroup.hierarchy.key)?.[1] ?? '?';
        fs.writeFileSync(`${cgroup.directory}${leaf.slice(cgroup.path.length)}/cgroup.procs`, String(pid));
      }
      expect(await into({ isCounted: false })).toMatchObject({ outcome: 'adopted', moved: 'stepd' });
    });
  });

  describe('adopt() where slurmstepd accepts no process', () => {
    const refusals: readonly (readonly [string, Add])[] = [
      ['says no', () => -1],
      ['closes without an answer', () => 'close'],
    ];
    for (const [what, add] of refusals) {
      for (const onFailure of ['undo', 'keep'] as const) {
        inStep(`puts it back: it ${what} (${onFailure})`, { add }, async (step, { pid, into }, world) => {
          const result = await into({ onFailure });
          expect(result).toMatchObject({
            ...{ outcome: 'undone', moved: 'none', accounting: 'refused' },
            error: { code: 'ERR_STEPD', failure: 'refused' },
          });
          expect(new Set(result.hierarchies.map(({ outcome }) => outcome))).toEqual(new Set(['undone']));
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
          expect(adds(step)).toBe(1);
          await obeys(world, pid);
        });
      }
    }

    inStep(
      'puts its children back too',
      { add: () => -1 },
      async (_step, { pid, into }, world) => {
        await until('two children', () => childrenOf(pid).length === 2);
        const result = await into({ descendants: true });
        expect(result).toMatchObject({ outcome: 'undone', accounting: 'refused' });
        expect(result.descendants.map(({ outcome }) => outcome)).toEqual(['undone', 'undone']);
        for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.everywhere('outside'));
      },
      (world) => world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`),
    );

    inStep(
      'says exactly what remains where the way back is gone',
      {
        add: (_pid, { world }) => {
          fs.rmdirSync(wayBack(world).directory);
          return -1;
        },
      },
      async (_step, { pid, into }, world) => {
        const { key } = wayBack(world).hierarchy;
        const result = await into();
        expect(result).toMatchObject({ outcome: 'partial', moved: 'cgroup', accounting: 'refused' });
        for (const { controllers, outcome, error } of result.hierarchies) {
          const isIt = (controllers.join() || 'unified') === key;
          expect([outcome, error?.code]).toEqual(isIt ? ['remains', 'ERR_CGROUP_GONE'] : ['undone', undefined]);
        }
        expect(world.places(pid)).toEqual({ ...world.everywhere('outside'), [key]: world.leaves(102)[key] });
      },
    );

    inStep(
      'takes no refusal amiss of a process that has ended',
      {
        add: (pid, step) => {
          killIt(pid, step);
          return -1;
        },
      },
      async (_step, { into }) => {
        const result = await into();
        expect(result).toMatchObject({ outcome: 'adopted', accounting: 'none', uncountedWhy: 'it has ended' });
        expect(result.error).toBeUndefined();
      },
    );
  });

  describe('adopt() where slurmstepd accepts no process, and this one ends right after', () => {
    for (const isAnswered of [false, true]) {
      inWorld(kernel, `says so ${isAnswered ? 'once it was answered' : 'and nothing remains'}`, async (world) => {
        await world.twoJobs();
        await ExternStep.with(world, { add: () => -1 }, async (step) => {
          const pid = await world.session();
          let isKilled = false;
          const host: Host = {
            ...world.host,
            open: (where) => {
              const held = world.host.open(where);
              const read = (name: string) => {
                const text = held.read(name);
                if (name === 'stat' && where === `/proc/${pid}` && adds(step) > 0 && !isKilled) {
                  isKilled = true;
                  killIt(pid, step);
                }
                return text;
              };
              return { ...held, read };
            },
          };
          const result = await adopt(pid, await world.job(102), {
            ...{ node: await step.node(host), ...long },
            ...(isAnswered && { onProven: () => {} }),
          });
          expect(isKilled).toBe(true);
          expect(result).toMatchObject({
            ...{ outcome: isAnswered ? 'adopted' : 'undone', accounting: 'refused' },
            error: { failure: 'refused' },
          });
        });
      });
    }
  });

  describe('adopt() where slurmstepd does not answer', () => {
    inStep(
      'says that it is not counted, and may be yet',
      { add: () => 'nothing' },
      async (step, { pid, into }, world) => {
        const begun = Date.now();
        const result = await into({ timeoutMs: 3000 });
        expect(Date.now() - begun).toBeLessThan(30_000);
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none' });
        expect([result.error, result.uncountedWhy]).toEqual([
          undefined,
          expect.stringMatching(/it does not answer in time$/),
        ]);
        expect(result.trace.slice(-2)).toEqual([
          expect.stringMatching(/^limited by the job, but not counted: .* it does not answer in time$/),
          `slurmstepd was told to accept process ${pid} and may still do so, even if the pid is another process's by then`,
        ]);
        expect(adds(step)).toBe(1); // what it was told it has not forgotten
        expect(world.places(pid)).toEqual(world.leaves(102));
      },
    );

    inStep(
      'tells it on a fresh connection, where it was silent at first',
      { silent: 'first' },
      async (step, session, world) => {
        const result = await session.into({ stepdTimeoutMs: 300 });
        expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
        expect(adds(step)).toBe(1);
        expect(world.places(session.pid)).toEqual(world.leaves(102));
      },
    );

    inStep('has not told it anything where it stays silent', { silent: true }, async (step, { pid, into }, world) => {
      const result = await into({ stepdTimeoutMs: 150 });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none' });
      expect(result.trace.at(-1)).toMatch(/^limited by the job, but not counted: .* it does not answer in time$/);
      expect(step.asked).toEqual([]);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    let told = 0;
    inStep(
      'tells it once more, on a fresh connection, where what it said makes no sense',
      { add: () => (++told === 1 ? 77 : 0) },
      async (step, { into }) => {
        expect(await into()).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
        expect(adds(step)).toBe(2);
      },
    );

    inStep('gives up one that makes no sense twice', { add: () => 77 }, async (step, { pid, into }, world) => {
      const result = await into();
      expect(result).toMatchObject({ outcome: 'adopted', accounting: 'none' });
      expect(result.trace.at(-1)).toContain('may still do so');
      expect(adds(step)).toBe(2);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    let state = 2;
    inStep(
      'puts it back where its step is ending on the fresh connection',
      {
        state: () => state,
        add: () => {
          state = 4;
          return 77;
        },
      },
      async (step, { pid, into }, world) => {
        expect(await into()).toMatchObject({ outcome: 'undone', accounting: 'refused', error: { code: 'ERR_STEPD' } });
        expect(adds(step)).toBe(1);
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      },
    );
  });

  describe('adopt() with onProven', () => {
    /** What was answered, and how often slurmstepd had been told by then. */
    const answering = (step: ExternStep, answers: (readonly [AdoptionResult, number])[]) => ({
      onProven: (result: AdoptionResult) => void answers.push([result, adds(step)]),
    });

    inStep('answers once, before slurmstepd is told', {}, async (step, { into }) => {
      const answers: (readonly [AdoptionResult, number])[] = [];
      const result = await into(answering(step, answers));
      expect(answers).toEqual([[expect.objectContaining({ outcome: 'adopted', accounting: 'none' }), 0]]);
      expect(answers[0]?.[0].trace).toHaveLength(2);
      expect(result).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
    });

    for (const onFailure of ['undo', 'keep'] as const) {
      inStep(
        `puts nothing back after it, and says why the session is to be ended (${onFailure})`,
        { add: () => 'close' },
        async (step, { pid, into }, world) => {
          const answers: (readonly [AdoptionResult, number])[] = [];
          const result = await into({ ...answering(step, answers), onFailure });
          expect(answers).toHaveLength(1);
          expect(result).toMatchObject({
            ...{ outcome: 'adopted', moved: 'cgroup', accounting: 'refused' },
            ...{ error: { code: 'ERR_STEPD', failure: 'refused' }, uncountedWhy: expect.any(String) },
          });
          expect(world.places(pid)).toEqual(world.leaves(102));
        },
      );
    }

    inStep('says where it is after all', { add: moveOut }, async (step, { pid, into }, world) => {
      const result = await into(answering(step, []));
      expect(result).toMatchObject({ outcome: 'partial', error: { code: 'ERR_CGROUP_REFUSED' } });
      expect(new Set(result.hierarchies.map(({ outcome }) => outcome))).toEqual(new Set(['failed']));
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });

    inStep(
      'leaves it in a job that is suspended after it',
      {
        add: (_pid, { world }) => {
          world.freeze(102);
          return 0;
        },
      },
      async (step, { pid, into }, world) => {
        expect(await into(answering(step, []))).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
        expect(world.places(pid)).toEqual(world.leaves(102));
      },
    );

    inStep('tells no slurmstepd of a process that has ended by then', {}, async (step, { pid, into }) => {
      const result = await into({ onProven: () => void killIt(pid, step) });
      expect(result).toMatchObject({ outcome: 'adopted', accounting: 'none', uncountedWhy: 'it has ended' });
      expect(adds(step)).toBe(0);
    });

    inStep('throws what it throws, and leaves it in the job', {}, async (_step, { pid, into }, world) => {
      const error = new Error('enough');
      const onProven = () => {
        throw error;
      };
      await expect(into({ onProven })).rejects.toBe(error);
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    const limits: NonNullable<SlurmNode['configuration']> = {
      ...spoolConfiguration,
      launchParameters: ['enable_nss_slurm', 'ULIMIT_PAM_ADOPT'],
      places: new Map([['launchParameters', { file: '/etc/slurm/slurm.conf', line: 12 }]]),
    };
    inStep('is not called where ulimit_pam_adopt is set', {}, async (step, { into }) => {
      const answers: (readonly [AdoptionResult, number])[] = [];
      const result = await into(answering(step, answers), limits);
      expect(result).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
      expect(answers).toEqual([]);
      expect(result.trace).toContain(
        'slurmstepd is told before the answer: LaunchParameters=ulimit_pam_adopt (/etc/slurm/slurm.conf:12)',
      );
    });

    inStep('is not called there by a refusal either, which undoes', { add: () => -1 }, async (step, session, world) => {
      const answers: (readonly [AdoptionResult, number])[] = [];
      const result = await session.into(answering(step, answers), limits);
      expect([result.outcome, answers]).toEqual(['undone', []]);
      expect(world.places(session.pid)).toEqual(world.everywhere('outside'));
    });

    inStep('is not called where slurmstepd moves the process', {}, async (step, { into }) => {
      step.removeLeaf();
      const answers: (readonly [AdoptionResult, number])[] = [];
      expect(await into(answering(step, answers))).toMatchObject({ outcome: 'adopted', moved: 'stepd' });
      expect(answers).toEqual([]);
    });
  });
});
