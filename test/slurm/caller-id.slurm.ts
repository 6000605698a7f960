// Caller ID on a real Slurm: a process in a job connects over TCP, and the command names that job, though it is not the
// newest. What is answered here is held against Slurm's own `scontrol callerid` of the same connection.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseSshConnection } from '../../src/adopt/connection.js';
import { askSlurmd } from '../../src/jobs/caller/slurmd.js';
import { readNode } from '../../src/jobs/node.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { said } from '../support/callers.js';
import { families, Listener } from '../support/tcp-listener.js';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { command } from './command.js';

const [alice] = [1]; // the uid of users[0]

let cluster: Cluster;
const children: ChildProcess[] = [];
const listeners: Listener[] = [];

beforeAll(async () => {
  cluster = await startCluster();
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const listener of listeners.splice(0)) listener.close();
  for (const user of users) await cluster.run('scancel', ['-u', user]);
  await until('every job has ended', async () => (await cluster.run('squeue', ['-h'])).trim() === '');
});
afterAll(() => cluster?.stop());

async function listen(address: string): Promise<Listener> {
  const listener = await Listener.at(address);
  listeners.push(listener);
  return listener;
}

const connecting = (port: number, address: string) =>
  `require("net").connect(${port}, "${address}").on("error", () => {}); setTimeout(() => {}, 600000)`;

/** A job of that user whose batch script connects; its id, and the connection as sshd would tell it. */
async function callingJob(user: string, listener: Listener, address = '127.0.0.1') {
  const script = connecting(listener.port, address);
  const jobId = await cluster.submit(user, `exec ${process.execPath} -e '${script}'`);
  return { jobId, connection: (await listener.accept()).text };
}

/** A process of alice's outside every job. */
function session(file = '/bin/sleep', args: readonly string[] = ['600']): number {
  const child = spawn(file, args, { uid: alice, gid: alice, cwd: '/', stdio: 'ignore' });
  children.push(child);
  return child.pid ?? expect.unreachable();
}

interface Report {
  readonly action: string;
  readonly job?: { readonly jobId: number };
  readonly trace: readonly string[];
}

async function dryRun(pid: number, ...words: readonly string[]): Promise<Report> {
  const { code, stdout, stderr } = await command(cluster, 'adopt', String(pid), '--dry-run', '--json', ...words);
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
}

/** What Slurm's own program says: its answer, or its complaint. */
function scontrol(connection: string): Promise<string> {
  const found = parseSshConnection(connection);
  if ('why' in found) throw new Error(found.why);
  const { source, destination } = found.connection;
  const ends = [source, destination].flatMap(({ address, port }) => [address.text, String(port)]);
  return cluster
    .run('scontrol', ['callerid', ...ends, String(source.address.family)])
    .catch((error: { readonly stderr?: string }) => error.stderr ?? '');
}

describe('slurm-cgroups adopt --connection', () => {
  it.each(families)('names exactly the job that connected, though another is newer: $name', async (family) => {
    const listener = await listen(family.listen);
    const { jobId, connection } = await callingJob(users[0], listener, family.connect);
    const newest = await cluster.submit(users[0], 'sleep 600');
    const pid = session();
    const { job, trace } = await dryRun(pid, '--connection', connection);
    expect([job?.jobId, trace]).toEqual([jobId, expect.arrayContaining([`caller ID named job ${jobId}`])]);
    expect((await dryRun(pid)).job?.jobId).toBe(newest);
    // Slurm's slurmd listens on IPv6 only with CommunicationParameters=EnableIPv6: then it refuses, and it is answered here.
    const theirs = await scontrol(connection);
    if (family.name === 'IPv6') expect(theirs).toContain('Connection refused');
    else expect(theirs).toBe(`${jobId} ${cluster.nodeName}\n`);
  });

  it('from outside every job: the next rule, as with Slurm', async () => {
    const listener = await listen('127.0.0.1');
    await cluster.submit(users[0], 'sleep 600');
    const newest = await cluster.submit(users[0], 'sleep 600');
    const pid = session(process.execPath, ['-e', connecting(listener.port, '127.0.0.1')]);
    const { text } = await listener.accept();
    const { job, trace } = await dryRun(pid, '--connection', text);
    expect([job?.jobId, trace]).toEqual([newest, expect.arrayContaining(['caller ID named no job'])]);
    expect(await scontrol(text)).toContain('remote job id indeterminate');
  });

  it('from the job of another user: never that job, though Slurm names it', async () => {
    const listener = await listen('127.0.0.1');
    const { jobId, connection } = await callingJob(users[1], listener);
    await cluster.submit(users[0], 'sleep 600');
    const newest = await cluster.submit(users[0], 'sleep 600');
    const { job, trace } = await dryRun(session(), '--connection', connection);
    const line = `caller ID named job ${jobId}: it belongs to uid 2`;
    expect([job?.jobId, trace]).toEqual([newest, expect.arrayContaining([line])]);
    expect(await scontrol(connection)).toBe(`${jobId} ${cluster.nodeName}\n`);
  });

  it('adopts into it, and a job that has ended is named no more', async () => {
    const listener = await listen('127.0.0.1');
    const { jobId, connection } = await callingJob(users[0], listener);
    await cluster.submit(users[0], 'sleep 600');
    const newest = await cluster.submit(users[0], 'sleep 600');
    const pid = session();
    const adopted = await command(cluster, 'adopt', String(pid), '--connection', connection, '--json');
    expect([adopted.code, JSON.parse(adopted.stdout).job.jobId], adopted.stderr).toEqual([0, jobId]);
    expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/job_${jobId}/step_extern`);
    await cluster.run('scancel', [String(jobId)]);
    await until('it has ended', async () => !(await cluster.run('squeue', ['-h', '-o', '%i'])).includes(`${jobId}\n`));
    const { job, trace } = await dryRun(session(), '--connection', connection);
    expect([job?.jobId, trace]).toEqual([
      newest,
      expect.arrayContaining([expect.stringMatching(/^caller ID (is|named) /)]),
    ]);
  });

  it('asks with one job too, with single_job_skip_rpc=0', async () => {
    const listener = await listen('127.0.0.1');
    const { jobId, connection } = await callingJob(users[0], listener);
    const words = ['--connection', connection];
    expect((await dryRun(session(), ...words)).trace.join()).not.toContain('caller ID');
    const { trace } = await dryRun(session(), ...words, '--single-job-skip-rpc', '0');
    expect(trace).toContain(`caller ID named job ${jobId}`);
  });
});

describe('askSlurmd()', () => {
  const ask = async (text: string, change: { readonly timeoutMs?: number } = {}) => {
    const host = liveHost();
    const found = parseSshConnection(text);
    if ('why' in found) throw new Error(found.why);
    const node = await readNode({ host, nodeName: cluster.nodeName });
    const begun = host.now();
    const deadline = deadlineIn(host, change.timeoutMs ?? 60_000);
    const answer = await askSlurmd({ node, connection: found.connection, uid: alice, ownJobs: [], deadline });
    return { said: said(answer.answer), silent: answer.silent, tookMs: host.now() - begun };
  };

  it('reads what the real scontrol answers: the job, no job, and no slurmd', async () => {
    const listener = await listen('127.0.0.1');
    const { jobId, connection } = await callingJob(users[0], listener);
    expect(await ask(connection)).toMatchObject({ said: `job ${jobId} of somebody`, silent: false });
    expect(await ask('127.0.0.1 1 127.0.0.1 2')).toMatchObject({
      said: 'the slurmd at 127.0.0.1 knows no job of this connection',
      silent: false,
    });
    expect(await ask('::1 1 ::1 2')).toMatchObject({
      said: 'the slurmd at ::1 could not be asked: "Connection refused"',
      silent: false,
    });
  });

  it('waits for a slurmd that accepts and never answers no longer than it may', async () => {
    // A stopped one: the kernel accepts for it.
    const pid = Number(fs.readFileSync(path.join(path.dirname(path.dirname(cluster.conf)), 'slurmd.pid'), 'utf8'));
    process.kill(pid, 'SIGSTOP');
    try {
      const { said: why, silent, tookMs } = await ask('127.0.0.1 1 127.0.0.1 2', { timeoutMs: 2000 });
      expect([why, silent]).toEqual([expect.stringContaining('127.0.0.1 did not answer within'), true]);
      expect(tookMs).toBeLessThan(4000);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
});
