// A user who owns the directories of his job's steps (v1, Slurm up to 23.02), as the command meets what he makes there.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { stateOf, until } from '../support/kernel-jobs.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { addOwnJob, cgroupOf, nestAs, type OwnJob, shellAs } from '../support/own-steps.js';
import { runProgramFile, runProgramIn, startProgramFile } from '../support/program-run.js';

const [uid, other] = [64_815, 64_816];
const host = liveHost();
const perl = '/usr/bin/perl';
const untilDead = (pid: number) =>
  until(`process ${pid} has ended`, () => ['Z', 'X', undefined].includes(stateOf(pid)));

describe.skipIf(!canUseCgroups && mayBeSkipped)('A user who owns his steps (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
  });
  afterEach(() => sandbox.remove());

  /** On v2 no cgroup of a job is the user's. */
  const onV1 = (name: string, act: (job: OwnJob, context: TestContext) => Promise<void>) =>
    it(name, async (context) => {
      if (sandbox.version === 2) return context.skip('on v2 no cgroup of a job is the user’s');
      await act(await addOwnJob(sandbox, { jobId: 1, uid }), context);
    });
  const here = (...words: readonly string[]) => [...words, '--within', sandbox.within];
  const clean = (...words: readonly string[]) => {
    const ran = runProgramFile(...here('clean', ...words, '--grace', '0', '--json'));
    return { exitCode: ran.exitCode, report: JSON.parse(ran.stdout) };
  };

  onV1('cannot have a process spared by being in halves of two ended jobs', async (job) => {
    const second = await addOwnJob(sandbox, { jobId: 2, uid });
    const halves = [`${job.batch('freezer')}/x`, `${second.batch('memory')}/x`];
    shellAs(uid, 'mkdir "$@"', ...halves);
    const { pid } = await sandbox.startSleeper(uid);
    shellAs(uid, 'pid=$1; shift; for one in "$@"; do echo $pid > $one/cgroup.procs; done', String(pid), ...halves);
    expect(['freezer', 'memory'].map((one) => cgroupOf(pid, one))).toEqual([
      expect.stringMatching(/\/job_1\/step_batch\/x$/),
      expect.stringMatching(/\/job_2\/step_batch\/x$/),
    ]);
    const first = clean('1');
    expect([first.exitCode, first.report.spared, first.report.left]).toEqual([0, [], []]);
    expect(first.report.ended).toMatchObject([{ pid }]);
    const then = clean('2');
    expect([then.exitCode, then.report.spared, then.report.left]).toEqual([0, [], []]);
    await untilDead(pid);
  });

  onV1('cannot hold clean up by cgroups, one in the other, that are told to freeze', async (job) => {
    nestAs(uid, job.batch('freezer'), { levels: 150, name: 'n', freeze: true });
    const { pid } = await sandbox.startSleeper(uid);
    host.write(`${job.batch('freezer')}/n/n/cgroup.procs`, String(pid));
    const { exitCode, report } = clean('1', '--timeout', '30', '--force');
    expect([exitCode, report.survivors, report.left]).toEqual([0, [], []]);
    expect(report.ended).toMatchObject([{ pid }]);
  });

  onV1('costs list, adopt and clean no memory by a tree that is deeper than a path may be long', async (job) => {
    nestAs(uid, job.batch('freezer'), { levels: 300, name: 'n'.repeat(200) });
    const { pid } = await sandbox.startSleeper(uid);
    // Every path of that tree together is 9 MB, as UTF-16 twice that; each several times over was too much.
    const small = { nodeFlags: ['--max-old-space-size=64'] };
    const ran = [
      here('list', '--json'),
      here('adopt', String(pid), '--dry-run'),
      here('clean', '1', '--dry-run'),
      here('clean', '1', '--grace', '0', '--timeout', '30'),
    ].map((words) => runProgramIn(small, ...words));
    expect(ran.map(({ exitCode, stderr }) => [exitCode, stderr])).toEqual(ran.map(() => [0, '']));
    expect(fs.existsSync(job.batch('freezer'))).toBe(false);
  });

  onV1('cannot freeze a session, nor let its adoption fail, by a leaf that he made', async (job) => {
    const leaves = [`${job.extern('freezer')}/task_0`, `${job.extern('cpuset')}/task_0`];
    shellAs(uid, 'mkdir "$@"', ...leaves);
    const { pid } = await sandbox.startSleeper(uid);
    const ran = runProgramFile(...here('adopt', String(pid), '--job', '1', '--action-adopt-failure', 'deny', '--json'));
    expect([ran.exitCode, JSON.parse(ran.stdout).adoption]).toMatchObject([0, { outcome: 'adopted' }]);
    for (const controller of ['freezer', 'cpuset']) expect(cgroupOf(pid, controller)).toMatch(/\/job_1\/step_extern$/);
    shellAs(uid, 'echo FROZEN > $1/freezer.state', leaves[0] ?? '');
    host.signal(pid, 'SIGKILL');
    await untilDead(pid);
  });

  onV1('cannot hide a process by renaming its cgroups without a pause', async (job) => {
    // Many siblings: what was listed first has another name when it is looked into.
    const program = `my @at = @ARGV; my @b;
      for my $d (@at) {
        mkdir "$d/$_" or die for map({ "w$_" } 1 .. 100), "r0", "r0/x";
        for my $c ("$d/r0", "$d/r0/x") { for my $f ("cpuset.cpus", "cpuset.mems") {
          open I, "<", "$d/$f" or next; open O, ">", "$c/$f"; print O <I>; close O } }
        open P, ">", "$d/r0/x/cgroup.procs" and print P "0" and close P or die;
      }
      for (my $k = 0; ; $k++) { rename "$_/r$k", "$_/r" . ($k + 1) for @at }`;
    const args = ['-e', program, ...job.batches];
    const renamer = spawn(perl, args, { uid, gid: uid, cwd: '/', stdio: 'ignore', timeout: 100_000 });
    const exited = once(renamer, 'exit');
    try {
      const pid = renamer.pid ?? expect.unreachable();
      await until('it renames', () => (cgroupOf(pid, 'freezer') ?? '').match(/\/r[1-9]\d*\/x$/) !== null);
      const { report } = clean('1', '--timeout', '30');
      expect(report.ended).toMatchObject([{ pid, signal: 'SIGKILL' }]);
      expect(report.survivors).toEqual([]);
      await exited;
    } finally {
      renamer.kill('SIGKILL');
    }
  });

  onV1("cannot hold up another user's login, whose connection he began", async (job) => {
    nestAs(uid, job.batch('freezer'), { levels: 300, name: 'n'.repeat(200) });
    for (const jobId of [2, 3]) await sandbox.addJob({ jobId, uid: other });
    const session = await sandbox.startSleeper(other);
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const program = `require('net').connect(${port}, '127.0.0.1')`;
    const caller = spawn(process.execPath, ['-e', program], { uid, gid: uid, cwd: '/', stdio: 'ignore' });
    try {
      const [socket] = (await once(server, 'connection')) as [net.Socket];
      const connection = `127.0.0.1 ${socket.remotePort} 127.0.0.1 ${port}`;
      const words = ['adopt', String(session.pid), '--uid', String(other), '--connection', connection];
      const ran = runProgramFile(...here(...words, '--budget', '5', '--dry-run', '--json'));
      expect(ran.exitCode, ran.stderr).toBe(0);
      const { job: chosen, trace } = JSON.parse(ran.stdout);
      expect(chosen).toMatchObject({ jobId: 3, uid: other });
      expect(trace).toContainEqual(expect.stringMatching(/^caller ID /));
      socket.destroy();
    } finally {
      caller.kill('SIGKILL');
      server.close();
    }
  });

  onV1('cannot keep a process alive by freezing it again without a pause, from outside of the job', async (job) => {
    const own = `${job.batch('freezer')}/x`;
    shellAs(uid, 'mkdir "$@"', own);
    const { pid } = await sandbox.startSleeper(uid);
    shellAs(uid, 'echo $1 > $2/cgroup.procs', String(pid), own);
    const loop = 'open F, "+<", $ARGV[0] or die; syswrite F, "FROZEN" while 1';
    const options = { uid, gid: uid, cwd: '/', stdio: 'ignore', timeout: 100_000 } as const;
    const freezer = spawn(perl, ['-e', loop, `${own}/freezer.state`], options);
    const exited = once(freezer, 'exit');
    try {
      await until('it is frozen', () => host.read(`${own}/freezer.state`) === 'FROZEN\n');
      const { exitCode, report } = clean('1', '--timeout', '30');
      expect([exitCode, report.survivors, report.left]).toEqual([0, [], []]);
      expect(report.ended).toMatchObject([{ pid }]);
      await untilDead(pid);
    } finally {
      freezer.kill('SIGKILL');
      await exited;
    }
  });

  // In this process: no kernel from 5.13 on, and none of a distribution since, lets one be made (measured: EINVAL on 5.10).
  onV1('cannot make his job one that nobody can clean by a line break in the name of a cgroup', async (job) => {
    const { pid } = await sandbox.startSleeper(uid);
    host.write(`${job.batch('freezer')}/cgroup.procs`, String(pid));
    const isThere = (directory: string) => directory === job.batch('freezer');
    const odd: Host = {
      ...host,
      entries: (at) => {
        const entries = host.entries(at);
        return isThere(at) ? [...entries, { name: 'a\nb', kind: 'directory' as const }] : entries;
      },
      names: (at) => (isThere(at) ? [...host.names(at), 'a\nb'] : host.names(at)),
      stat: (at) => {
        const stat = host.stat(at);
        return stat !== undefined && isThere(at) ? { ...stat, nlink: stat.nlink + 1n } : stat;
      },
    };
    const node = { ...(await sandbox.node()), host: odd };
    const report = await cleanJob({ jobId: 1 }, { node, graceMs: 0, timeoutMs: 30_000 });
    expect([report.refused, report.survivors]).toEqual([undefined, []]);
    expect(report.ended).toMatchObject([{ pid }]);
  });

  it('two adoptions of one process into two jobs at once: it is wholly where one says so', async () => {
    for (const jobId of [11, 12]) await sandbox.startSleeper(uid, await sandbox.addJob({ jobId, uid }));
    for (let round = 0; round < 3; round++) {
      const { pid } = await sandbox.startSleeper(uid);
      const into = (job: string) => startProgramFile(...here('adopt', String(pid), '--job', job, '--json'));
      const both = await Promise.all([into('11'), into('12')]);
      const places = fs
        .readFileSync(`/proc/${pid}/cgroup`, 'utf8')
        .split('\n')
        .filter((line) => line.includes(sandbox.within));
      // One after the other, both may say so: then it is where the later one put it.
      const adopted = both.filter(({ exitCode }) => exitCode === 0).map((ran) => JSON.parse(ran.stdout).job.jobId);
      const [, jobId] = places[0]?.match(/\/job_(\d+)\/step_extern/) ?? [];
      expect(adopted).toContain(Number(jobId));
      expect(places.map((place) => place.includes(`/job_${jobId}/step_extern`))).toEqual(
        sandbox.controllers.map(() => true),
      );
    }
  });
});
