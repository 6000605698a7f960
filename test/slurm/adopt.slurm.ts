// Adoption on a real Slurm, by the command as a person runs it: proven by what Slurm itself lists, and by /proc.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import type { Job } from '../../src/jobs/job.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { askStepd } from '../../src/jobs/stepd/ask.js';
import { reachExternStepd } from '../../src/jobs/stepd/extern.js';
import { socketOf } from '../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type Cluster, startCluster, until, users } from './cluster.js';

const host = liveHost();
const [alice, bob] = [1, 2]; // the uids of `users`

let cluster: Cluster;
const children: ChildProcess[] = [];
const stopped = new Set<number>();
/** Jobs whose slurmstepd was killed: Slurm leaves their cgroups behind (measured). */
const orphaned = new Set<number>();

beforeAll(async () => {
  cluster = await startCluster();
});
afterEach(async () => {
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  stopped.clear();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const user of users) await cluster.run('scancel', ['-u', user]);
  await until('every job has ended', async () => (await cluster.run('squeue', ['-h'])).trim() === '');
  await until('no job has a cgroup', async () =>
    discoverJobs(await nodeNow()).every(({ jobId }) => jobId !== undefined && orphaned.has(jobId)),
  );
});
afterAll(() => cluster?.stop());

const nodeNow = () => readNode({ host, nodeName: cluster.nodeName, configFile: cluster.conf });

function jobIn(node: SlurmNode, jobId: number): Job {
  return discoverJobs(node).find((one) => one.jobId === jobId) ?? expect.unreachable(`there is no job ${jobId}`);
}

/** Something of that user that is in no job. */
function session(uid: number): number {
  const child = spawn('/bin/sleep', ['120'], { uid, gid: uid, cwd: '/', stdio: 'ignore' });
  children.push(child);
  return child.pid ?? expect.unreachable();
}

interface Said {
  readonly code: number;
  readonly report: {
    readonly action?: string;
    readonly reason?: string;
    readonly job?: { readonly jobId: number };
    readonly adoption?: Awaited<ReturnType<typeof adopt>>;
  };
  readonly stderr: string;
  readonly tookMs: number;
}

/** `slurm-cgroups adopt`, with slurmd's own configuration: it finds the node by the slurmd that runs. */
async function command(...words: readonly string[]): Promise<Said> {
  const program = path.resolve(import.meta.dirname, '../../dist/bin/slurm-cgroups.js');
  const begun = performance.now();
  return new Promise((fulfil) => {
    execFile(
      process.execPath,
      [program, 'adopt', ...words, '--node', cluster.nodeName, '--json'],
      { env: {}, cwd: '/', timeout: 120_000 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        fulfil({ code, report: stdout === '' ? {} : JSON.parse(stdout), stderr, tookMs: performance.now() - begun });
      },
    );
  });
}

const linesOf = (pid: number) => fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');

/** Slurm's own hierarchies in which the process is in the extern step of that job. */
function hierarchiesOf(pid: number, jobId: number): readonly string[] {
  const place = new RegExp(`:([^:]+):/slurm_${cluster.nodeName}/uid_\\d+/job_${jobId}/step_extern(/task_0)?$`);
  return linesOf(pid)
    .flatMap((line) => place.exec(line)?.[1] ?? [])
    .sort();
}

function hierarchiesWith(jobId: number, uid: number): readonly string[] {
  return fs
    .readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(':')[1] ?? [])
    .filter(
      (key) => key !== '' && fs.existsSync(`/sys/fs/cgroup/${key}/slurm_${cluster.nodeName}/uid_${uid}/job_${jobId}`),
    )
    .sort();
}

/** What Slurm says: the pids of a job's extern step on this node. */
async function listedInExtern(jobId: number): Promise<readonly number[]> {
  const text = await cluster.run('scontrol', ['listpids', String(jobId), cluster.nodeName]);
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, job, step]) => job === String(jobId) && step === 'extern')
    .map(([pid]) => Number(pid));
}

const externOf = (jobId: number) => socketOf(cluster.spool, { nodeName: cluster.nodeName, jobId, stepId: 'extern' });

async function stepdOf(jobId: number): Promise<number> {
  const { answers } = await askStepd(externOf(jobId), ['daemonPid'], { host, deadline: deadlineIn(host, 30_000) });
  return answers.daemonPid ?? expect.unreachable();
}

describe('slurm-cgroups adopt', () => {
  it('puts a process into the only job of its user, as Slurm and /proc say', async () => {
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const pid = session(alice);
    const { code, report, stderr } = await command(String(pid));
    expect([code, report.action, report.job?.jobId], stderr).toEqual([0, 'adopt', jobId]);
    expect(report.adoption).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    expect(hierarchiesOf(pid, jobId)).toEqual(hierarchiesWith(jobId, alice));
    expect(hierarchiesOf(pid, jobId).length).toBeGreaterThanOrEqual(4);
    expect(await listedInExtern(jobId)).toContain(pid);
    // And it ends with the job.
    await cluster.run('scancel', [String(jobId)]);
    await until('it has ended with its job', () => children.every((child) => child.signalCode !== null));
  });

  it('takes a process out of another job while that runs with --force alone', async () => {
    const first = await cluster.submit(users[0], 'sleep 3600');
    const pid = session(alice);
    expect((await command(String(pid))).code).toBe(0);
    const second = await cluster.submit(users[0], 'sleep 3600');
    const words = [String(pid), '--job', String(second)];
    for (const more of [[], ['--dry-run']]) {
      const refused = await command(...words, ...more);
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining(`it is in job ${first}, which still runs`),
      ]);
    }
    expect(hierarchiesOf(pid, first)).toEqual(hierarchiesWith(first, alice));
    const { code, report, stderr } = await command(...words, '--force');
    expect([code, report.adoption?.outcome], stderr).toEqual([0, 'adopted']);
    expect(hierarchiesOf(pid, second)).toEqual(hierarchiesWith(second, alice));
  });

  it('puts it into the newest of two, never into that of another user', async () => {
    const older = await cluster.submit(users[0], 'sleep 3600');
    const newer = await cluster.submit(users[0], 'sleep 3600');
    const others = await cluster.submit(users[1], 'sleep 3600');
    const pid = session(alice);
    const { code, report, stderr } = await command(String(pid));
    expect([code, report.job?.jobId], stderr).toEqual([0, newer]);
    expect(await listedInExtern(newer)).toContain(pid);
    expect(await listedInExtern(older)).not.toContain(pid);
    const named = await command(String(session(alice)), '--job', String(others));
    expect([named.code, named.stderr]).toEqual([1, expect.stringContaining(`has no job ${others}`)]);
    const first = session(alice);
    expect((await command(String(first), '--job', String(older))).code).toBe(0);
    expect(await listedInExtern(older)).toContain(first);
  });

  it('is not held up by a stopped slurmstepd: of a stranger at all, of the own job once', async () => {
    const strangers = await cluster.submit(users[1], 'sleep 3600');
    const own = await cluster.submit(users[0], 'sleep 3600');
    const usual = await command(String(session(alice)), '--dry-run');
    expect(usual.code, usual.stderr).toBe(0);
    for (const jobId of [strangers, own]) {
      const stepd = await stepdOf(jobId);
      process.kill(stepd, 'SIGSTOP');
      stopped.add(stepd);
      const pid = session(alice);
      const { code, report, stderr, tookMs } = await command(String(pid));
      expect([code, report.job?.jobId], stderr).toEqual([0, own]);
      expect(hierarchiesOf(pid, own)).toEqual(hierarchiesWith(own, alice));
      expect(tookMs).toBeLessThan(30_000); // pam_slurm_adopt still hangs after a minute (measured)
      const isAlone = report.adoption?.trace.some((line) => line.startsWith('by its cgroups alone: '));
      expect(isAlone).toBe(jobId === own);
    }
    // It waits two seconds for the stopped one, or as long as the budget is.
    const into = ['--job', String(own)];
    const [usually, shortly] = [
      await command(String(session(alice)), ...into),
      await command(String(session(alice)), ...into, '--budget', '200ms'),
    ];
    expect([usually.code, shortly.code], shortly.stderr).toEqual([0, 0]);
    expect(shortly.tookMs).toBeLessThan(usually.tookMs);
  });

  it('moves no process into a job that is ending', async () => {
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const node = await nodeNow();
    const job = jobIn(node, jobId);
    const pid = session(alice);
    const before = linesOf(pid);
    await cluster.run('scancel', [String(jobId)]);
    const outcomes = new Set<string>();
    await until('its extern step refuses', async () => {
      const reached = await reachExternStepd(node, job, deadlineIn(node.host, 5000));
      outcomes.add(reached.outcome);
      if (reached.outcome === 'ready') reached.stepd.close();
      return reached.outcome === 'ending';
    });
    expect(await adopt(pid, job, { node }).catch(({ code }) => ({ outcome: code }))).toMatchObject({
      outcome: expect.stringMatching(/^(untouched|ERR_CGROUP_GONE)$/),
    });
    expect(linesOf(pid)).toEqual(before);
    for (const outcome of outcomes) expect(['ready', 'ending', 'unasked']).toContain(outcome);
  });

  it('moves no process into a job whose slurmstepd has died', async () => {
    await cluster.submit(users[1], 'sleep 3600');
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const node = await nodeNow();
    const job = jobIn(node, jobId);
    const pid = session(alice);
    const before = linesOf(pid);
    orphaned.add(jobId);
    process.kill(await stepdOf(jobId), 'SIGKILL');
    const reached = () => reachExternStepd(node, job, deadlineIn(node.host, 5000));
    await until('nothing listens there', async () => (await reached()).outcome === 'ending');
    expect(await adopt(pid, job, { node })).toMatchObject({ outcome: 'untouched', error: { code: 'ERR_STEPD' } });
    expect(linesOf(pid)).toEqual(before);
  });

  it('moves no process into a suspended job, whose slurmstepd says that it runs', async () => {
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const freezer = `/sys/fs/cgroup/freezer/slurm_${cluster.nodeName}/uid_${alice}/job_${jobId}/step_extern/freezer.state`;
    await cluster.run('scontrol', ['suspend', String(jobId)]);
    await until('it is suspended', () => fs.readFileSync(freezer, 'utf8').trim() === 'FROZEN');
    const pid = session(alice);
    const before = linesOf(pid);
    const { code, report } = await command(String(pid), '--job', String(jobId));
    expect([code, report.action, report.reason, report.adoption]).toEqual([
      1,
      'deny',
      `Your job ${jobId} on this node is suspended`,
      undefined,
    ]);
    expect(linesOf(pid)).toEqual(before);
    await cluster.run('scontrol', ['resume', String(jobId)]);
    await until('it goes on', () => fs.readFileSync(freezer, 'utf8').trim() === 'THAWED');
    expect((await command(String(pid), '--job', String(jobId))).code).toBe(0);
  });

  it('lets slurmstepd move where a leaf cannot be told, and Slurm counts it', async () => {
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const node = await nodeNow();
    const found = jobIn(node, jobId);
    // As a job of 25.05 and later is before its first adoption: its step is not seen in memory.
    const extern = { cgroups: (found.extern?.cgroups ?? []).filter(({ hierarchy }) => hierarchy !== 'memory') };
    const job = { ...found, extern, externMissingIn: ['memory'] };
    const pid = session(alice);
    const result = await adopt(pid, job, { node, timeoutMs: 20_000, stepdTimeoutMs: 10_000 });
    expect(result).toMatchObject({ outcome: 'adopted', moved: 'stepd', accounting: 'stepd' });
    expect(result.hierarchies.map(({ controllers }) => controllers.join()).sort()).toEqual(
      hierarchiesWith(jobId, alice),
    );
    expect(hierarchiesOf(pid, jobId)).toEqual(hierarchiesWith(jobId, alice));
    expect(await listedInExtern(jobId)).toContain(pid);
  });

  it('accepts no process of another user, by slurmstepd neither', async () => {
    const jobId = await cluster.submit(users[0], 'sleep 3600');
    const node = await nodeNow();
    const found = jobIn(node, jobId);
    const pid = session(bob);
    const before = linesOf(pid);
    const job = { ...found, externMissingIn: ['memory'] };
    await expect(adopt(pid, job, { node })).rejects.toMatchObject({ code: 'ERR_PROTECTED' });
    expect(linesOf(pid)).toEqual(before);
  });
});
