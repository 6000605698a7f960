// A whole login on the real kernel: decided, adopted, answered. The rules themselves are tested in test/policy.

import fs from 'node:fs';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import type { AdoptionResult } from '../../src/adopt/result.js';
import { admitSession, decideSession } from '../../src/adopt/session.js';
import { readNode } from '../../src/jobs/node.js';
import { hasCode } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { type AdoptionOptions, defaultOptions } from '../../src/policy/options.js';
import { loadRecording } from '../recordings/recordings.js';
import { ExternStep } from '../support/extern-step.js';
import {
  alice,
  bob,
  childrenOf,
  interrupted,
  inWorld,
  obeys,
  onKernels,
  stateOf,
  until,
  type World,
} from '../support/kernel-jobs.js';
import { Listener } from '../support/tcp-listener.js';

const options = (changes: Partial<AdoptionOptions> = {}): AdoptionOptions => ({
  ...defaultOptions,
  waitForJobMs: 0,
  ...changes,
});

/** Job 102 of alice has no extern step yet. */
async function startingJob(world: World): Promise<void> {
  await world.box.addJob({ jobId: 102, uid: alice });
  world.removeExtern(102);
}

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  describe('admitSession()', () => {
    inWorld(
      kernel,
      'adopts into the newest job and lets in, with a trace from the jobs to the proof',
      async (world) => {
        await world.twoJobs();
        const pid = await world.session();
        const admission = await admitSession({ uid: alice, pid }, { node: await world.node(), options: options() });
        expect(admission).toMatchObject({
          action: 'allow',
          reason: 'The session is in job 102',
          target: { kind: 'job', jobId: 102 },
          adoption: { outcome: 'adopted', moved: 'cgroup' },
        });
        expect(world.places(pid)).toEqual(world.leaves(102));
        expect(admission.trace[0]).toBe(`uid ${alice} has 2 jobs here: job 101, job 102`);
        const proof = admission.trace.indexOf('/proc shows it in job 102 in every hierarchy of the job');
        expect(proof).toBeGreaterThan(0);
        expect(admission.trace.slice(proof + 1)).toEqual(['adoption into job 102: adopted']);
        expect(admission).toMatchObject({ route: 'cgroup', uid: alice, decision: { action: 'adopt', rule: 'newest' } });
        expect(admission.process).toEqual({ pid, startTime: expect.stringMatching(/^\d+$/) });
        expect(admission.proof.map(({ path }) => path.slice(path.indexOf(world.box.within))).sort()).toEqual(
          Object.values(world.leaves(102)).sort(),
        );
        expect(Object.keys(admission.stagesMs).sort()).toEqual(['adoption', 'callerId', 'jobs', 'node']);
        expect(admission.totalMs).toBeGreaterThan(0);
        expect(JSON.parse(JSON.stringify(admission))).toEqual(admission);
      },
    );

    inWorld(kernel, 'adopts into the job that the request names, and into no other', async (world) => {
      await world.twoJobs();
      await world.box.addJob({ jobId: 103, uid: bob });
      const node = await world.node();
      const pid = await world.session();
      const admit = (jobId: number) =>
        admitSession({ uid: alice, pid, jobId }, { node, options: options({ actionAdoptFailure: 'allow' }) });
      expect(await admit(101)).toMatchObject({
        action: 'allow',
        rule: 'named',
        target: { kind: 'job', jobId: 101 },
        adoption: { outcome: 'adopted', moved: 'cgroup' },
      });
      expect(world.places(pid)).toEqual(world.leaves(101));
      expect(await admit(103)).toMatchObject({
        action: 'deny',
        rule: 'no-such-job',
        reason: v1 ? `uid ${alice} has no job 103 on this node` : `Job 103 belongs to uid ${bob}, not to uid ${alice}`,
      });
      world.freeze(102);
      expect(await admit(102)).toMatchObject({
        action: 'deny',
        rule: 'suspended',
        reason: 'Your job 102 on this node is suspended',
      });
      expect(world.places(pid)).toEqual(world.leaves(101));
    });

    inWorld(kernel, 'refuses a named job that is ending, and says what was tried', async (world) => {
      await world.twoJobs();
      await ExternStep.with(world, { state: 4 }, async (step) => {
        const pid = await world.session();
        const session = { node: await step.node(), options: options({ actionAdoptFailure: 'allow' }) };
        expect(await admitSession({ uid: alice, pid, jobId: 102 }, session)).toMatchObject({
          action: 'deny',
          rule: 'ending',
          reason: 'Job 102 accepts no session any more: it is ending',
          target: { jobId: 102 },
          route: 'none',
          proof: [],
          adoption: { outcome: 'untouched', ending: true, error: { code: 'ERR_STEPD' } },
        });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    });

    if (!v1) {
      inWorld(kernel, 'lets no session in for a job of an unknown owner whose slurmstepd is dead', async (world) => {
        await world.box.addJob({ jobId: 103, uid: bob });
        const node = await world.node();
        for (const spool of node.spools.values()) fs.rmSync(`${spool}/job00103`, { recursive: true }); // its script
        const pid = await world.session();
        const admit = () => admitSession({ uid: alice, pid }, { node, options: options() });
        expect(await admit()).toMatchObject({ action: 'deny', reason: 'You have no active jobs on this node' });
        await world.box.startSleeper(0, world.jobAt(103, 'step_extern', 'slurm'));
        expect(await admit()).toMatchObject({
          action: 'ignore',
          reason: 'Cannot tell whether you have a job on this node: the owner of job 103 is unknown',
        });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    }

    for (const add of [undefined, () => 'close' as const]) {
      inWorld(
        kernel,
        `can be answered before slurmstepd is told, and says what came of that (${add === undefined ? 'taken' : 'refused'})`,
        async (world) => {
          await world.twoJobs();
          await ExternStep.with(world, add === undefined ? {} : { add }, async (step) => {
            const pid = await world.session();
            const answered: AdoptionResult[] = [];
            const admission = await admitSession(
              { uid: alice, pid },
              { node: await step.node(), options: options(), onProven: (result) => answered.push(result) },
            );
            expect(answered).toEqual([expect.objectContaining({ outcome: 'adopted', accounting: 'none' })]);
            const accounting = add === undefined ? 'stepd' : 'refused';
            expect(admission).toMatchObject({ action: 'allow', adoption: { outcome: 'adopted', accounting } });
            expect(admission.provenMs).toBeLessThan(admission.totalMs);
            expect(admission.adoption?.error === undefined).toBe(add === undefined);
            expect(world.places(pid)).toEqual(world.leaves(102));
          });
        },
      );
    }

    inWorld(kernel, 'puts a session back in a later phase without counting it again', async (world) => {
      await world.twoJobs();
      await ExternStep.with(world, {}, async (step) => {
        const pid = await world.session();
        const session = { node: await step.node(), options: options() };
        await admitSession({ uid: alice, pid }, session);
        await world.outside.add(pid);
        step.asked.length = 0;
        const again = await admitSession({ uid: alice, pid }, { ...session, isCounted: true });
        expect(again).toMatchObject({ action: 'allow', adoption: { moved: 'cgroup', accounting: 'stepd' } });
        expect(step.asked).not.toContain(22);
        expect(world.places(pid)).toEqual(world.leaves(102));
      });
    });

    inWorld(
      kernel,
      'adopts into the job that the connection comes from, though it is not the newest',
      async (world) => {
        await world.twoJobs();
        const listener = await Listener.at('127.0.0.1');
        try {
          const script = `require('node:net').connect(${listener.port}, '127.0.0.1'); setTimeout(() => {}, ${world.lifetime}000)`;
          const caller = await world.start(process.execPath, ['-e', script], alice);
          const { text: connection } = await listener.accept();
          for (const cgroup of world.jobAt(101, ...(v1 ? ['step_batch'] : ['step_batch', 'user', 'task_0'])).cgroups)
            await cgroup.add(caller);
          const pid = await world.session();
          const session = { node: await world.node(), options: options() };
          const admission = await admitSession({ uid: alice, pid, connection }, session);
          expect(admission).toMatchObject({
            action: 'allow',
            target: { jobId: 101 },
            adoption: { outcome: 'adopted' },
          });
          expect(admission.trace).toContain('caller ID named job 101');
          expect(world.places(pid)).toEqual(world.leaves(101));
          // Cut off, it names none: the next rule applies.
          const cut = await decideSession({ uid: alice, pid, connection: connection.slice(0, -6) }, session);
          expect(cut.decision).toMatchObject({ action: 'adopt', target: { jobId: 102 } });
        } finally {
          listener.close();
        }
      },
    );

    // On v2 only its slurmstepd knows whose a job is: there it is another's, or of an unknown owner.
    if (v1)
      for (const actionUnknown of ['deny', 'allow', 'user'] as const)
        inWorld(kernel, `counts with action_unknown=${actionUnknown} only jobs that accept sessions`, async (world) => {
          await world.twoJobs();
          let state = 2;
          await ExternStep.with(world, { state: () => state }, async (step) => {
            const pid = await world.session();
            const session = { node: await step.node(), options: options({ actionUnknown }) };
            const admission = await admitSession({ uid: alice, pid }, session);
            expect(admission, admission.trace.join('\n')).toMatchObject({
              ...{ action: 'allow', target: { jobId: 102 }, adoption: { outcome: 'adopted' } },
            });
            expect(admission.trace[0]).toBe(`uid ${alice} has 1 job here: job 102; ending: job 101`);
            expect(world.places(pid)).toEqual(world.leaves(102));
            state = 4;
            expect(await admitSession({ uid: alice, pid: await world.session() }, session)).toMatchObject({
              action: 'deny',
              reason: 'You have no running job on this node any more, ending: job 101, job 102',
            });
          });
        });

    inWorld(kernel, 'refuses a user without jobs and moves nothing', async (world) => {
      await world.twoJobs();
      const pid = await world.session(bob);
      const admission = await admitSession({ uid: bob, pid }, { node: await world.node(), options: options() });
      expect(admission).toMatchObject({ action: 'deny', reason: 'You have no active jobs on this node' });
      expect(admission.adoption).toBeUndefined();
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });

    // Its directories outlive it; pam_slurm_adopt does not count it (test/slurm/differential). On v2 nothing else tells
    // whose job it is.
    for (const oddity of v1 ? (['absent', 'dead', { state: 4 }] as const) : ([{ state: 4 }] as const)) {
      inWorld(
        kernel,
        `refuses where the job is ending (${JSON.stringify(oddity)}), whatever is allowed on failure`,
        async (world) => {
          await world.box.addJob({ jobId: 102, uid: alice });
          const pid = await world.session();
          await ExternStep.with(world, oddity, async (step) => {
            const changes = { actionAdoptFailure: 'allow', waitForJobMs: 200 } as const;
            const session = { node: await step.node(), options: options(changes) };
            expect(await admitSession({ uid: alice, pid }, session)).toMatchObject({
              action: 'deny',
              reason: 'You have no running job on this node any more, ending: job 102',
            });
            expect(world.places(pid)).toEqual(world.everywhere('outside'));
          });
        },
      );
    }

    inWorld(kernel, 'refuses after 0.3 s where no job is about to start', async (world) => {
      await world.box.addJob({ jobId: 101, uid: bob });
      let waitedMs = 0;
      const sleep = async (ms: number) => {
        waitedMs += ms;
      };
      const node = await world.node({ ...world.host, sleep, now: () => waitedMs });
      const request = { uid: alice, pid: await world.session() };
      const admission = await admitSession(request, { node, options: options({ waitForJobMs: 3000 }) });
      expect(admission).toMatchObject({ action: 'deny', rule: 'no-jobs' });
      expect(waitedMs).toBe(300);
    });

    inWorld(kernel, 'waits for a job that is just starting', async (world) => {
      await world.box.addJob({ jobId: 101, uid: bob });
      await startingJob(world);
      const pid = await world.session();
      let waits = 0;
      const sleep = async () => {
        if (++waits === 2) world.makeExtern(102);
      };
      const node = await world.node({ ...world.host, sleep });
      const admission = await admitSession({ uid: alice, pid }, { node, options: options({ waitForJobMs: 3000 }) });
      expect(admission).toMatchObject({ action: 'allow', target: { jobId: 102 } });
      expect(waits).toBe(2);
    });

    inWorld(kernel, 'waits no longer than the options say, with a clock that stands still too', async (world) => {
      await startingJob(world);
      const pid = await world.session();
      let waitedMs = 0;
      const sleep = async (ms: number) => {
        waitedMs += ms;
      };
      const node = await world.node({ ...world.host, sleep, now: () => 0 });
      const admission = await admitSession({ uid: alice, pid }, { node, options: options({ waitForJobMs: 950 }) });
      expect(admission.action).toBe('deny');
      expect(waitedMs).toBe(950);
    });

    inWorld(kernel, 'stops waiting when it is told to', async (world) => {
      await startingJob(world);
      const stop = new AbortController();
      const sleep = async (_ms: number, signal?: AbortSignal) => {
        stop.abort(new Error('enough'));
        signal?.throwIfAborted();
      };
      const node = await world.node({ ...world.host, sleep });
      const session = { node, options: options({ waitForJobMs: 3000 }), signal: stop.signal };
      await expect(admitSession({ uid: alice, pid: await world.session() }, session)).rejects.toThrow('enough');
    });

    for (const actionSuspended of ['deny', 'allow', 'next'] as const) {
      inWorld(kernel, `of a suspended job answers action_suspended=${actionSuspended}`, async (world) => {
        await world.twoJobs();
        const pid = await world.session();
        world.freeze(102);
        const admission = await admitSession(
          { uid: alice, pid },
          { node: await world.node(), options: options({ actionSuspended }) },
        );
        if (actionSuspended === 'next') {
          expect(admission).toMatchObject({
            action: 'allow',
            target: { jobId: 101 },
            adoption: { outcome: 'adopted' },
          });
          expect(world.places(pid)).toEqual(world.leaves(101));
        } else {
          expect(admission.action).toBe(actionSuspended);
          expect(world.places(pid)).toEqual(world.everywhere('outside'));
        }
        await obeys(world, pid);
      });

      inWorld(
        kernel,
        `of a job suspended during the adoption answers action_suspended=${actionSuspended}`,
        async (world) => {
          await world.twoJobs();
          const pid = await world.session();
          const node = await world.node(interrupted(world.host, 1, () => world.freeze(102)));
          const admission = await admitSession({ uid: alice, pid }, { node, options: options({ actionSuspended }) });
          expect(admission.action).toBe(actionSuspended === 'next' ? 'allow' : actionSuspended);
          expect(world.places(pid)).toEqual(
            actionSuspended === 'next' ? world.leaves(101) : world.everywhere('outside'),
          );
          expect(admission.adoption?.outcome).toBe(actionSuspended === 'next' ? 'adopted' : 'suspended');
          await obeys(world, pid);
        },
      );
    }

    inWorld(kernel, 'keeps what was reached where a failure lets in, and undoes it where it refuses', async (world) => {
      await world.twoJobs();
      if (v1) {
        for (const { directory, hierarchy } of world.jobAt(102, 'step_extern').cgroups) {
          if (!hierarchy.controllers.includes('cpuset')) continue;
          fs.rmdirSync(directory);
          fs.mkdirSync(directory); // without cpus: it accepts no process
        }
      } else world.makeInvalid(102);
      const node = await world.node();
      const denied = await world.session();
      const deny = await admitSession(
        { uid: alice, pid: denied },
        { node, options: options({ actionAdoptFailure: 'deny' }) },
      );
      expect(deny).toMatchObject({ action: 'deny', adoption: { outcome: v1 ? 'undone' : 'untouched', moved: 'none' } });
      expect(world.places(denied)).toEqual(world.everywhere('outside'));
      const allowed = await world.session();
      const allow = await admitSession(
        { uid: alice, pid: allowed },
        { node, options: options({ actionAdoptFailure: 'allow' }) },
      );
      expect(allow).toMatchObject({ action: 'allow', adoption: { outcome: v1 ? 'partial' : 'untouched' } });
      if (v1) expect(world.places(allowed)).toEqual({ ...world.leaves(102), cpuset: `${world.box.within}/outside` });
      const told = await world.session();
      await admitSession({ uid: alice, pid: told }, { node, options: options(), onFailure: 'undo' });
      expect(world.places(told)).toEqual(world.everywhere('outside'));
    });

    for (const actionAdoptFailure of ['allow', 'deny'] as const) {
      inWorld(kernel, `answers action_adopt_failure=${actionAdoptFailure} where a leaf needs stepd`, async (world) => {
        await world.twoJobs();
        for (const { directory } of world.jobAt(102, 'step_extern', ...(v1 ? [] : ['user'])).cgroups) {
          if (fs.existsSync(`${directory}/task_0`)) fs.mkdirSync(`${directory}/task_1`);
        }
        const pid = await world.session();
        const admission = await admitSession(
          { uid: alice, pid },
          { node: await world.node(), options: options({ actionAdoptFailure }) },
        );
        expect(admission).toMatchObject({
          action: actionAdoptFailure,
          adoption: { outcome: 'untouched', moved: 'none', error: { code: 'ERR_NOT_SUPPORTED' } },
        });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    }

    inWorld(kernel, 'goes by action_unknown=user into the user’s own cgroup on v1, and not on v2', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const admission = await admitSession(
        { uid: alice, pid },
        { node: await world.node(), options: options({ actionUnknown: 'user' }) },
      );
      if (v1)
        expect(admission).toMatchObject({
          action: 'allow',
          target: { kind: 'user' },
          adoption: { outcome: 'adopted' },
        });
      else expect(admission).toMatchObject({ action: 'ignore' });
      expect(world.places(pid)).toEqual(world.everywhere(v1 ? `slurm/uid_${alice}` : 'outside'));
    });

    inWorld(kernel, 'does nothing with mode=observe', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const admission = await admitSession(
        { uid: alice, pid },
        { node: await world.node(), options: options({ mode: 'observe' }) },
      );
      expect(admission.action).toBe('ignore');
      expect(admission.adoption).toBeUndefined();
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });

    inWorld(kernel, 'takes children along where it is asked to', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`sleep ${world.lifetime} & wait`);
      await until('a child', () => childrenOf(pid).length === 1);
      await admitSession({ uid: alice, pid }, { node: await world.node(), options: options(), descendants: true });
      for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'throws for a process that is gone, protected or another user’s', async (world) => {
      await world.twoJobs();
      const node = await world.node();
      const rejects = (pid: number, code: Parameters<typeof hasCode>[1]) =>
        expect(admitSession({ uid: alice, pid }, { node, options: options() })).rejects.toSatisfy((error) =>
          hasCode(error, code),
        );
      await rejects(1, 'ERR_PROTECTED');
      await rejects(await world.session(bob), 'ERR_PROTECTED');
      const pid = await world.session();
      world.host.signal(pid, 'SIGKILL');
      await until('it is gone', () => stateOf(pid) === undefined);
      await rejects(pid, 'ERR_NO_SUCH_PROCESS');
    });
  });
});

describe('decideSession()', () => {
  it('keeps what it is told and asks for the rest', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-24.11-v1')) });
    const session = { node, options: options() };
    const named = await decideSession({ uid: 1001 }, session, { callerId: { known: { jobId: 3 } } });
    expect(named.decision).toMatchObject({ action: 'adopt', rule: 'caller-id', target: { jobId: 3 } });
    const unasked = await decideSession({ uid: 1001 }, session);
    expect(unasked.decision).toMatchObject({ action: 'adopt', rule: 'newest' });
    expect(Object.keys(unasked.facts).sort()).toEqual(['callerId', 'jobs', 'node', 'states']);
  });

  it('is over with the budget, however long it takes each time to ask whose jobs there are', async () => {
    const played = recordedHost(loadRecording('slurm-24.11-v2'));
    let clock = 0;
    let asked = 0;
    /** Each look at the scope takes a second, as with a slurmstepd that does not answer. */
    const slow =
      <T>(look: (where: string) => T) =>
      (where: string) => {
        if (where.endsWith('slurmstepd.scope')) {
          clock += 1000;
          asked += 1;
        }
        return look(where);
      };
    const host: Host = {
      ...played,
      now: () => clock,
      sleep: (ms) => {
        clock += ms;
        return Promise.resolve();
      },
      names: slow(played.names),
      entries: slow(played.entries),
    };
    const node = await readNode({ host, nodeName: 'vm' });
    clock = 0;
    asked = 0;
    const { decision } = await decideSession({ uid: 1777 }, { node, options: options({ waitForJobMs: 3000 }) });
    expect(decision).toMatchObject({ action: 'ignore', rule: 'jobs-unknown' });
    expect(asked).toBeGreaterThan(1);
    // The last look has no deadline here, which a slurmstepd has.
    expect(clock).toBeLessThan(defaultOptions.budgetMs + 1000);
  });
});
