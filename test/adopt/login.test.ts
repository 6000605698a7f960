// Both phases of a login on the real kernel, as the module asks for them. The module itself, sshd and Slurm are met by
// the tests on real Slurm.

import fs from 'node:fs';
import { expect, it } from 'vitest';
import { answerLogin, type LoginOptions, leftOf } from '../../src/adopt/login.js';
import type { LoginReply, LoginRequest } from '../../src/adopt/login-protocol.js';
import { identityOf } from '../../src/cgroup/process.js';
import { readNode } from '../../src/jobs/node.js';
import { uptimeMs } from '../../src/machine/clock.js';
import { hasCode } from '../../src/machine/errors.js';
import { recordedHost } from '../../src/machine/recording.js';
import { type AdoptionOptions, defaultOptions } from '../../src/policy/options.js';
import { loadRecording } from '../recordings/recordings.js';
import { ExternStep, spoolConfiguration } from '../support/extern-step.js';
import { alice, bob, interrupted, inWorld, onKernels, stateOf, until, type World } from '../support/kernel-jobs.js';

const minute = 60_000;

const requestOf = (world: World, pid: number, changes: Partial<LoginRequest> = {}): LoginRequest => ({
  phase: 'account',
  deadlineMs: uptimeMs(world.host) + minute,
  user: 'alice',
  uid: alice,
  pid,
  startTime: identityOf(world.host, pid).startTime,
  threads: 1,
  service: 'sshd',
  options: [],
  isCounted: false,
  ...changes,
});

const loginOn = async (world: World, changes: Partial<AdoptionOptions> = {}): Promise<LoginOptions> => ({
  node: await world.node(),
  options: { ...defaultOptions, waitForJobMs: 0, budgetMs: minute, ...changes },
  messages: {},
});

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';
  const places = (reply: LoginReply) =>
    Object.fromEntries(reply.cgroups.map(({ controllers, path }) => [controllers.join(','), path]));

  inWorld(kernel, 'answerLogin() adopts, and says where the session is and was', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    const { reply, record } = await answerLogin(requestOf(world, pid), await loginOn(world));
    expect(reply).toMatchObject({
      action: 'allow',
      reason: 'The session is in job 102',
      process: identityOf(world.host, pid),
      jobId: 102,
      isCounted: false,
      messages: ['This session is in job 102: it has its limits, and ends with it'],
    });
    expect(reply.log.map(({ severity, line }) => `${severity} ${line}`)).toEqual([
      '6 Connection by user alice: allow: The session is in job 102',
      `6 Process ${pid} adopted into job 102`,
    ]);
    expect(record?.target).toMatchObject({ jobId: 102 });
    expect(world.places(pid)).toEqual(world.leaves(102));
    const standing = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n');
    for (const { controllers, path } of reply.cgroups)
      expect(standing.some((line) => line.endsWith(`:${controllers.join(',')}:${path}`))).toBe(true);
    expect(Object.keys(places(reply)).length).toBe(v1 ? world.box.controllers.length : 1);
    // The cgroups that it came from, as directories of this machine.
    const outside = reply.from.filter((directory) => directory.includes(world.box.within));
    expect(outside.length).toBeGreaterThan(0);
    for (const directory of reply.from) expect(fs.existsSync(`${directory}/cgroup.procs`)).toBe(true);
  });

  inWorld(kernel, 'answerLogin() puts a session back that was moved between the phases', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    await answerLogin(requestOf(world, pid, {}), await loginOn(world, { rank: 'newest' }));
    expect(world.places(pid)).toEqual(world.leaves(102));
    await world.outside.add(pid);
    const session = requestOf(world, pid, { phase: 'session', jobId: 101, isCounted: true });
    const { reply, record } = await answerLogin(session, await loginOn(world));
    expect(reply).toMatchObject({ action: 'allow', jobId: 101, isCounted: true });
    expect(record?.adoption).toMatchObject({ outcome: 'adopted', moved: 'cgroup' });
    expect(world.places(pid)).toEqual(world.leaves(101));
  });

  inWorld(kernel, 'answerLogin() in the session phase lets action_adopt_failure decide', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    const request = requestOf(world, pid, { phase: 'session', jobId: 103 });
    expect((await answerLogin(request, await loginOn(world, { actionAdoptFailure: 'deny' }))).reply).toMatchObject({
      action: 'deny',
      cgroups: [],
    });
    const { reply, record } = await answerLogin(request, await loginOn(world, { actionAdoptFailure: 'allow' }));
    expect([reply.action, record.action]).toEqual(['allow', 'allow']); // what is written down is what was answered
    expect(record.trace.at(-1)).toBe('session phase: action_adopt_failure=allow');
    expect(reply.jobId).toBeUndefined();
    expect(reply.messages[0]).toContain('this session is in no job');
    expect(world.places(pid)).toEqual(world.everywhere('outside'));
  });

  inWorld(kernel, 'answerLogin() refuses with the words of the site', async (world) => {
    await world.box.addJob({ jobId: 103, uid: bob });
    const pid = await world.session();
    const login = await loginOn(world);
    const { reply } = await answerLogin(requestOf(world, pid), login);
    expect(reply).toMatchObject({
      action: 'deny',
      messages: ['Access denied by pam_slurm_cgroups: you have no active jobs on this node'],
    });
    const site = { ...login, messages: { 'no-jobs': 'Get a job first.' } };
    expect((await answerLogin(requestOf(world, pid), site)).reply.messages).toEqual(['Get a job first.']);
  });

  inWorld(kernel, 'answerLogin() refuses a job whose epilog runs', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    const files = [101, 102].map((jobId) => `/run/slurm-cgroups/ending/${jobId}`);
    const login = await loginOn(world);
    const stat = world.host.stat;
    const host = { ...world.host, stat: (path: string) => (files.includes(path) ? stat('/') : stat(path)) };
    const node = { ...login.node, host };
    const { reply } = await answerLogin(requestOf(world, pid), { ...login, node });
    expect(reply).toMatchObject({ action: 'deny' });
    expect(world.places(pid)).toEqual(world.everywhere('outside'));
  });

  inWorld(kernel, 'answerLogin() adopts root’s program that asks for itself, and Slurm’s never', async (world) => {
    await world.twoJobs();
    const login = await world.start(world.copy('/bin/sleep', 'login'), [world.lifetime], 0);
    const asked = await answerLogin(
      requestOf(world, login, { service: 'login' }),
      await loginOn(world, { service: '*' }),
    );
    expect(asked.reply).toMatchObject({ action: 'allow', jobId: 102 });
    expect(world.places(login)).toEqual(world.leaves(102));
    const slurmd = await world.start(world.copy('/bin/sleep', 'slurmd'), [world.lifetime], 0);
    await world.outside.add(slurmd);
    const refused = await answerLogin(
      requestOf(world, slurmd, { service: 'x' }),
      await loginOn(world, { service: '*', actionAdoptFailure: 'deny' }),
    );
    expect(refused.reply).toMatchObject({ action: 'deny', reason: expect.stringContaining('is slurmd') });
    expect(world.places(slurmd)).toEqual(world.everywhere('outside'));
  });

  inWorld(kernel, 'answerLogin() lets nobody in for a process that has ended', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    const request = requestOf(world, pid);
    world.host.signal(pid, 'SIGKILL');
    await until('it is gone', () => stateOf(pid) === undefined);
    const { reply, record } = await answerLogin(request, await loginOn(world, { actionAdoptFailure: 'allow' }));
    expect(reply).toMatchObject({ action: 'deny', cgroups: [] });
    expect(record).toMatchObject({ action: 'deny', rule: 'adopt-failure', route: 'none', proof: [] });
  });

  inWorld(
    kernel,
    'answerLogin() sets the oom_score_adj of a session that is adopted, and of no other',
    async (world) => {
      await world.twoJobs();
      const [pid, other] = [await world.session(), await world.session(bob)];
      const login = await loginOn(world, { sessionOomAdj: 321, actionAdoptFailure: 'allow' });
      expect((await answerLogin(requestOf(world, pid), login)).reply.jobId).toBe(102);
      const adjOf = (one: number) => fs.readFileSync(`/proc/${one}/oom_score_adj`, 'utf8').trim();
      expect(adjOf(pid)).toBe('321');
      const before = adjOf(other);
      await answerLogin(requestOf(world, other), login);
      expect(adjOf(other)).toBe(before);
    },
  );

  inWorld(
    kernel,
    'answerLogin() says that a session is only partly in its job, and in none for the module',
    async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const login = await loginOn(world, { actionAdoptFailure: 'allow' });
      let writes = 0;
      const failing = interrupted(world.host, world.box.controllers.length, () => {
        writes++;
        world.freeze(102);
      });
      const { reply, record } = await answerLogin(requestOf(world, pid), {
        ...login,
        node: await world.node(failing),
        options: { ...login.options, actionSuspended: 'allow' },
      });
      expect(writes).toBe(1);
      // Frozen meanwhile: it was taken back, whole; a part of a job is never told as the job.
      expect(record.adoption?.outcome).not.toBe('adopted');
      expect(reply).toMatchObject({ action: 'allow', cgroups: [], from: [] });
      expect(reply.jobId).toBeUndefined();
      expect(reply.messages[0]).toMatch(/this session is (?:only partly in its job|in no job)$/);
    },
  );

  inWorld(kernel, 'answerLogin() does nothing after its deadline', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    const request = requestOf(world, pid, { deadlineMs: uptimeMs(world.host) });
    expect(leftOf(world.host, request)).toBe(0);
    await expect(answerLogin(request, await loginOn(world))).rejects.toSatisfy((error) =>
      hasCode(error, 'ERR_TIMEOUT'),
    );
    expect(world.places(pid)).toEqual(world.everywhere('outside'));
  });

  inWorld(kernel, 'answerLogin() leaves a program (sudo) in the job of its user in which it is', async (world) => {
    await world.twoJobs();
    const pid = await world.session();
    for (const one of [pid, await world.session()])
      await answerLogin(requestOf(world, one, { phase: 'session', jobId: 101 }), await loginOn(world));
    const login = await loginOn(world, { service: '*' });
    const { reply, record } = await answerLogin(requestOf(world, pid, { service: 'sudo' }), login);
    expect(reply).toMatchObject({ action: 'allow', reason: 'This session is in job 101 already', jobId: 101 });
    expect([record.rule, record.adoption, reply.messages]).toEqual(['already', undefined, []]);
    expect(world.places(pid)).toEqual(world.leaves(101)); // the newest is 102
    // Another user's session (sudo -u bob) is not at home there, and is not taken out of it either.
    await world.box.addJob({ jobId: 103, uid: bob });
    const other = await answerLogin(requestOf(world, pid, { service: 'sudo', user: 'bob', uid: bob }), login);
    expect(other.record.rule).not.toBe('already');
    expect(world.places(pid)).toEqual(world.leaves(101));
  });

  inWorld(kernel, 'answerLogin() says what the session takes over from its job', async (world) => {
    await world.twoJobs();
    await ExternStep.with(world, { x11: 42, server: 44 }, async (step) => {
      const login = await loginOn(world, { joinContainer: 'account' });
      const configuration = { ...spoolConfiguration, prologFlags: ['x11'], namespaceType: 'namespace/linux' };
      const node = { ...(await step.node()), configuration };
      const { reply, record } = await answerLogin(requestOf(world, await world.session()), { ...login, node });
      expect(reply).toMatchObject({
        display: 'localhost:42.0',
        stepd: { version: 44 << 8, path: expect.stringMatching(/\/node1_102\.4294967292$/) },
        namespaces: ['account'],
      });
      expect(record.stagesMs.setting).toBeGreaterThan(0);
    });
  });

  inWorld(kernel, 'answerLogin() lets in what is counted by slurmstepd once, not twice', async (world) => {
    await world.twoJobs();
    await ExternStep.with(world, {}, async (step) => {
      const pid = await world.session();
      const login = { ...(await loginOn(world)), node: await step.node() };
      const { reply } = await answerLogin(requestOf(world, pid), login);
      expect(reply).toMatchObject({ action: 'allow', jobId: 102, isCounted: true });
      const again = requestOf(world, pid, { phase: 'session', jobId: 102, isCounted: true });
      const { reply: second, record } = await answerLogin(again, login);
      expect(second).toMatchObject({ action: 'allow', jobId: 102, isCounted: true });
      expect(record?.adoption).toMatchObject({ moved: 'none' });
    });
  });
});

it('answerLogin() leaves other services to other modules, and root', async () => {
  const host = recordedHost(loadRecording('slurm-22.05-v1'));
  const node = await readNode({ host });
  const request: LoginRequest = {
    ...{ phase: 'account', deadlineMs: Number.MAX_SAFE_INTEGER, user: 'alice', uid: 1001, pid: 4_000_000 },
    ...{ startTime: 1n, threads: 1, service: 'cron', options: [], isCounted: false },
  };
  const login = { node, options: defaultOptions, messages: {} };
  expect((await answerLogin(request, login)).reply).toMatchObject({ action: 'ignore' });
  expect((await answerLogin({ ...request, service: 'sshd', uid: 0 }, login)).reply).toMatchObject({ action: 'ignore' });
});
