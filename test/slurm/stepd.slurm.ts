// slurmstepd asked through its socket, the real one: every question against what the kernel and Slurm say, and what
// it is like when it is stopped, dead, ending, or asked by a crowd.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { askStepd, askSteps, openStepd } from '../../src/jobs/stepd/ask.js';
import type { StepdConnection } from '../../src/jobs/stepd/connection.js';
import type { StepdQuestion } from '../../src/jobs/stepd/protocol.js';
import { listeningSockets, type StepSocket, socketOf, socketsInSpool } from '../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { int32s } from '../support/stepd-server.js';
import { type Cluster, startCluster, until, users } from './cluster.js';

const host = liveHost();
// Long, for a busy machine: only who is stopped lets them pass.
const longMs = 30_000;
const inTime = () => deadlineIn(host, longMs);
const all: readonly StepdQuestion[] = ['uid', 'state', 'daemonPid', 'nodeId', 'x11Display', 'sluid'];
const uids = [1, 2];

let cluster: Cluster;
let jobs: readonly number[];
const children: ChildProcess[] = [];
const stopped = new Set<number>();

beforeAll(async () => {
  cluster = await startCluster();
  jobs = [await cluster.submit(users[0], 'sleep 3600'), await cluster.submit(users[1], 'sleep 3600 & sleep 3600')];
});
afterEach(() => {
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  stopped.clear();
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await cluster?.stop();
});

function externOf(jobId: number): StepSocket {
  return socketOf(cluster.spool, { nodeName: cluster.nodeName, jobId, stepId: 'extern' });
}

async function connectTo(socket: StepSocket): Promise<StepdConnection> {
  const opened = await openStepd(socket, { host, deadline: inTime() });
  return opened.outcome === 'answered' ? opened.value : expect.unreachable(opened.error.message);
}

async function stop(socket: StepSocket): Promise<number> {
  const { answers } = await askStepd(socket, ['daemonPid'], { host, deadline: inTime() });
  const pid = answers.daemonPid ?? expect.unreachable();
  process.kill(pid, 'SIGSTOP');
  stopped.add(pid);
  await until('slurmstepd is stopped', () => /State:\tT/.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8')));
  return pid;
}

/** A process of that uid that outlives this test. */
function sleeper(uid: number): number {
  const child = spawn('/bin/sleep', ['120'], { uid, gid: uid, cwd: '/', stdio: 'ignore' });
  children.push(child);
  return child.pid ?? expect.unreachable();
}

/** Says numbers to the extern step of a job as another user, and gives the numbers in `bytes` of what comes back. */
function speak(uid: number, jobId: number, numbers: readonly number[], bytes: number): readonly number[] {
  const { folder, name } = externOf(jobId);
  const script = `
    const [path, bytes, ...numbers] = process.argv.slice(1);
    const socket = require('node:net').connect(path);
    socket.end(Buffer.from(new Int32Array(numbers.map(Number)).buffer));
    let got = Buffer.alloc(0);
    socket.on('data', (more) => { got = Buffer.concat([got, more]); });
    socket.on('close', () => process.stdout.write(JSON.stringify(
      [...new Int32Array(new Uint8Array(got.subarray(0, Math.min(Number(bytes), got.length))).buffer)])));`;
  const args = ['-e', script, `${folder}/${name}`, String(bytes), ...numbers.map(String)];
  return JSON.parse(execFileSync(process.execPath, args, { uid, gid: uid, cwd: '/', encoding: 'utf8' }));
}

/** What Slurm says: the pids of a step on this node. */
async function pidsBySlurm({ jobId, stepId }: StepSocket): Promise<readonly number[]> {
  const text = await cluster.run('scontrol', ['listpids', String(jobId), cluster.nodeName]);
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/));
  return lines
    .filter(([, job, step]) => job === String(jobId) && step === stepId)
    .map(([pid]) => Number(pid))
    .filter((pid) => pid > 0);
}

const cgroupOf = (pid: number) => fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');

describe('askStepd()', () => {
  it('gets from every step what the kernel and Slurm say', async () => {
    const sockets = socketsInSpool(host, cluster.spool);
    expect(sockets.map(({ jobId, stepId }) => [jobId, stepId])).toEqual(
      jobs.flatMap((jobId) => [
        [jobId, 'batch'],
        [jobId, 'extern'],
      ]),
    );
    const version = /(\d+)\.(\d+)\./.exec(await cluster.run('slurmd', ['-V'])) ?? expect.unreachable();
    for (const socket of sockets) {
      const processes = socket.stepId === 'extern' ? 1 : socket.jobId === jobs[0] ? 2 : 3;
      // The script of a batch step starts after its socket.
      await expect.poll(async () => (await pidsBySlurm(socket)).length, { timeout: 60_000 }).toBe(processes);
      const { answers, failures, serverVersion } = await askStepd(socket, all, { host, deadline: inTime() });
      const place = `/slurm_${cluster.nodeName}/uid_${uids[jobs.indexOf(socket.jobId)]}/job_${socket.jobId}`;
      expect(answers).toMatchObject({
        uid: uids[jobs.indexOf(socket.jobId)],
        state: 'running',
        nodeId: 0,
        x11Display: {},
      });
      expect(failures.map(({ failure, request }) => [failure, request])).toEqual([['unsupported', 'sluid']]);
      if (version[1] === '22') expect(serverVersion).toBe(38 << 8);
      const stepd = answers.daemonPid ?? expect.unreachable();
      expect(fs.readFileSync(`/proc/${stepd}/cmdline`, 'utf8')).toContain(
        `slurmstepd: [${socket.jobId}.${socket.stepId}]`,
      );
      expect(cgroupOf(stepd)).toContain(place);
      for (const pid of await pidsBySlurm(socket)) expect(cgroupOf(pid)).toContain(`${place}/step_${socket.stepId}`);
    }
  });

  it('finds the same sockets in /proc/net/unix, without any configuration', () => {
    const { sockets } = listeningSockets(host, { nodeName: cluster.nodeName });
    expect(sockets).toEqual(socketsInSpool(host, cluster.spool));
  });

  it('knows a step that is not there', async () => {
    const { failures } = await askStepd(externOf(4_000_000), ['uid'], { host, deadline: inTime() });
    expect(failures.map(({ failure }) => failure)).toEqual(['absent']);
  });

  it('spends its deadline once on a stopped slurmstepd, and the others answer meanwhile', async () => {
    const socket = externOf(jobs[0] ?? 0);
    const pid = await stop(socket);
    const begun = host.now();
    const { failures } = await askStepd(socket, all, { host, deadline: deadlineIn(host, 1000) });
    expect(failures.map(({ failure }) => failure)).toEqual(['silent']);
    expect(host.now() - begun).toBeGreaterThan(990);
    expect(host.now() - begun).toBeLessThan(all.length * 1000);
    const reports = await askSteps(socketsInSpool(host, cluster.spool), ['uid'], {
      host,
      deadline: deadlineIn(host, 60_000),
      eachTimeoutMs: 3000,
    });
    expect(reports.map(({ answers }) => answers.uid)).toEqual([1, undefined, 2, 2]);
    process.kill(pid, 'SIGCONT');
    expect((await askStepd(socket, ['uid'], { host, deadline: inTime() })).answers).toEqual({ uid: 1 });
  });

  it('gives up a conversation in which slurmstepd is stopped, once for all', async () => {
    const socket = externOf(jobs[0] ?? 0);
    const stepd = await connectTo(socket);
    expect(await stepd.ask('state', inTime())).toEqual({ outcome: 'answered', value: 'running' });
    await stop(socket);
    const begun = host.now();
    expect(await stepd.ask('state', deadlineIn(host, 200))).toMatchObject({ outcome: 'silent' });
    expect(await stepd.ask('uid', inTime())).toMatchObject({ outcome: 'silent' });
    expect(host.now() - begun).toBeLessThan(longMs);
    stepd.close();
  });

  it('is answered in a crowd, also one that waits before a full queue', async () => {
    const socket = externOf(jobs[1] ?? 0);
    const pid = await stop(socket);
    // 33 connections wait in its queue (listen(32)); the others get EAGAIN until there is room.
    const crowd = Promise.all(
      Array.from({ length: 60 }, () => askStepd(socket, ['uid'], { host, deadline: inTime() })),
    );
    await host.sleep(200);
    process.kill(pid, 'SIGCONT');
    expect((await crowd).map(({ answers }) => answers.uid)).toEqual(Array.from({ length: 60 }, () => 2));
  });
});

describe('a slurmstepd', () => {
  it('answers while its job is suspended, and says that it runs', async () => {
    const [jobId = 0] = jobs;
    await cluster.run('scontrol', ['suspend', String(jobId)]);
    try {
      const { answers } = await askStepd(externOf(jobId), ['uid', 'state'], { host, deadline: inTime() });
      expect(answers).toEqual({ uid: 1, state: 'running' });
    } finally {
      await cluster.run('scontrol', ['resume', String(jobId)]);
    }
  });

  it.each([
    ['its own', 38 << 8, 38 << 8],
    ['two before', 36 << 8, 38 << 8],
    ['three before', 35 << 8, -1],
    ['the newest', 46 << 8, 38 << 8],
    ['the largest', 0x7fff_ffff, 38 << 8],
    ['0', 0, -1],
  ])('of 22.05 that is offered %s answers so', async (_what, offered, answer) => {
    const { serverVersion } = await askStepd(externOf(jobs[0] ?? 0), ['uid'], { host, deadline: inTime() });
    if (serverVersion !== 38 << 8) return; // another release has other limits
    const spool = host.open(cluster.spool);
    const connection = await spool.connect(externOf(jobs[0] ?? 0).name, inTime().wait());
    connection.send(int32s(offered));
    expect(await connection.receive(4, inTime().wait())).toEqual(int32s(answer));
    connection.close();
    spool.close();
  });

  it('tells all users the owner, the state and the processes, and adds no process for others', async () => {
    const pid = sleeper(1);
    const [, uid, state, count] = speak(2, jobs[0] ?? 0, [46 << 8, 20, 5, 15], 20);
    expect([uid, state]).toEqual([1, 2]);
    expect(count).toBeGreaterThanOrEqual(1);
    expect([[-1], []]).toContainEqual(speak(2, jobs[0] ?? 0, [46 << 8, 22, pid], 8).slice(1)); // from 25.11 on it closes
    expect(cgroupOf(pid)).not.toContain('job_');
  });
});

describe('StepdConnection.addPid()', () => {
  it('has a process taken into the extern step, which /proc proves', async () => {
    const pid = sleeper(1);
    const stepd = await connectTo(externOf(jobs[0] ?? 0));
    expect(await stepd.addPid(pid, inTime())).toEqual({ outcome: 'answered', value: 'accepted' });
    const places = cgroupOf(pid)
      .split('\n')
      .filter((line) => line.includes(`/job_${jobs[0]}/step_extern`));
    expect(places.length).toBeGreaterThanOrEqual(4);
    expect(await pidsBySlurm(externOf(jobs[0] ?? 0))).toContain(pid);
    expect(await stepd.addPid(pid, inTime())).toMatchObject({ outcome: 'answered' }); // twice is as once
    stepd.close();
  });

  it('learns of a process that is gone after four seconds, on v1: Slurm tries each second', async () => {
    const child = spawn('/bin/true', { stdio: 'ignore' });
    const pid = child.pid ?? expect.unreachable();
    await new Promise((fulfil) => child.once('exit', fulfil));
    const stepd = await connectTo(externOf(jobs[0] ?? 0));
    const begun = host.now();
    expect(await stepd.addPid(pid, inTime())).toMatchObject({ outcome: 'refused' });
    expect(host.now() - begun).toBeGreaterThan(3000);
    expect(await stepd.ask('state', inTime())).toEqual({ outcome: 'answered', value: 'running' });
    stepd.close();
  });

  it('is refused by a batch step', async () => {
    const pid = sleeper(1);
    const stepd = await connectTo({ ...externOf(jobs[0] ?? 0), name: `${cluster.nodeName}_${jobs[0]}.4294967291` });
    expect(await stepd.addPid(pid, inTime())).toMatchObject({ outcome: 'refused', error: { request: 'addPid' } });
    expect(cgroupOf(pid)).not.toContain('job_');
    stepd.close();
  });
});

describe('the end of a job', () => {
  it('leaves a socket on which nothing listens where slurmstepd is killed', async () => {
    const socket = externOf(await cluster.submit(users[0], 'sleep 3600'));
    const { answers } = await askStepd(socket, ['daemonPid'], { host, deadline: inTime() });
    process.kill(answers.daemonPid ?? expect.unreachable(), 'SIGKILL');
    const failures = async () =>
      (await askStepd(socket, ['uid'], { host, deadline: inTime() })).failures.map(({ failure }) => failure);
    await expect.poll(failures, { timeout: 60_000 }).not.toEqual([]);
    expect([['dead'], ['refused'], ['absent']]).toContainEqual(await failures());
    expect(
      listeningSockets(host, { jobId: socket.jobId, nodeName: cluster.nodeName, stepId: 'extern' }).sockets,
    ).toEqual([]);
  });

  it('is a refusal in the conversation, or `ending`, and then no socket', async () => {
    const socket = externOf(await cluster.submit(users[0], 'sleep 3600'));
    const stepd = await connectTo(socket);
    await cluster.run('scancel', [String(socket.jobId)]);
    const seen = new Set<string>();
    await until('its socket is gone', async () => {
      const state = await stepd.ask('state', inTime());
      seen.add(state.outcome === 'answered' ? state.value : state.outcome);
      return (await askStepd(socket, ['uid'], { host, deadline: inTime() })).failures[0]?.failure === 'absent';
    });
    for (const state of seen) expect(['running', 'ending', 'refused']).toContain(state);
    stepd.close();
  });
});

it('measures a round trip', async () => {
  const socket = externOf(jobs[0] ?? 0);
  const median = async (act: () => Promise<unknown>) => {
    const times: number[] = [];
    for (let round = 0; round < 100; round++) {
      const begun = host.now();
      await act();
      times.push(host.now() - begun);
    }
    return times.sort((a, b) => a - b)[50] ?? 0;
  };
  const whole = await median(() => askStepd(socket, ['uid'], { host, deadline: inTime() }));
  const stepd = await connectTo(socket);
  const asked = await median(() => stepd.ask('uid', inTime()));
  const pid = sleeper(1);
  const added = await median(() => stepd.addPid(pid, inTime()));
  stepd.close();
  console.log(
    `median of 100: connect, uid, close ${whole.toFixed(2)} ms; uid on an open connection ${asked.toFixed(2)} ms; ` +
      `adding a process that is there already ${added.toFixed(2)} ms`,
  );
  expect(whole).toBeLessThan(500);
});
