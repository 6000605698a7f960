// What Slurm counts of an adopted session: its CPU time stands in the extern step, once, however often it was told.

import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { liveHost } from '../../src/cgroup/host.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { readNode } from '../../src/jobs/node.js';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { accounting } from './database.js';

const host = liveHost();
const [user] = users;
const uid = 1;
const burnSeconds = 4;

let cluster: Cluster;
const children: ChildProcess[] = [];

beforeAll(async () => {
  cluster = await startCluster({}, accounting);
  await until('slurmctld is known to slurmdbd', async () => /\|\d+$/m.test(await clusters()));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => cluster?.stop());

const clusters = () => cluster.run('sacctmgr', ['-nP', 'show', 'cluster', 'format=Cluster,ControlPort']);

/** Waits for a line, then uses a CPU for some seconds, and ends. */
function burner(): ChildProcess {
  const script = `read go; end=$(($(date +%s%N) + ${burnSeconds}000000000)); while [ $(date +%s%N) -lt $end ]; do i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; done`;
  const child = spawn('/bin/sh', ['-c', script], { uid, gid: uid, cwd: '/', stdio: ['pipe', 'ignore', 'ignore'] });
  children.push(child);
  return child;
}

async function jobHere(jobId: number) {
  const node = await readNode({ host, nodeName: cluster.nodeName, configFile: cluster.conf });
  const job = discoverJobs(node, { uid }).find((one) => one.jobId === jobId);
  return { node, job: job ?? expect.unreachable(`job ${jobId} is not here`) };
}

/** Seconds of CPU of each step, once the job has ended in the database. */
async function countedOf(jobId: number): Promise<Readonly<Record<string, number>>> {
  let said = '';
  await until(
    () => `sacct has the end of job ${jobId}: ${said}`,
    async () => {
      const format = ['-nP', '-j', String(jobId), '--format=JobID,State,TotalCPU'];
      said = await cluster.run('sacct', format);
      return /\.extern\|/.test(said) && !/RUNNING|PENDING/.test(said);
    },
  );
  const steps = said
    .trim()
    .split('\n')
    .map((line) => line.split('|'));
  return Object.fromEntries(
    steps.map(([name = '', , time = '']) => [name.replace(/^\d+\.?/, '') || 'job', secondsOf(time)]),
  );
}

/** `[DD-[HH:]]MM:SS[.mmm]` */
function secondsOf(time: string): number {
  const [clock = '', days = '0'] = time.split('-').reverse();
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0) + Number(days) * 86_400;
}

it.each([
  ['once', 1],
  ['twice, as by the account and the session phase of a login', 2],
])('an adopted session is counted in the extern step of its job, once: adopted %s', async (_how, times) => {
  const jobId = await cluster.submit(user, 'sleep 600');
  const session = burner();
  const pid = session.pid ?? expect.unreachable();
  for (let left = times; left > 0; left -= 1) {
    const { node, job } = await jobHere(jobId);
    expect(await adopt(pid, job, { node })).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
  }
  const ended = new Promise((fulfil) => session.once('exit', fulfil));
  session.stdin?.write('go\n');
  await ended;
  await cluster.run('scancel', [String(jobId)]);
  const { extern = 0, batch = 0 } = await countedOf(jobId);
  expect(extern).toBeGreaterThan(burnSeconds * 0.5);
  expect(extern).toBeLessThan(burnSeconds * 1.5);
  expect(batch).toBeLessThan(1);
});

it('a session outside of every job is counted nowhere', async () => {
  const jobId = await cluster.submit(user, 'sleep 600');
  const session = burner();
  const ended = new Promise((fulfil) => session.once('exit', fulfil));
  session.stdin?.write('go\n');
  await ended;
  await cluster.run('scancel', [String(jobId)]);
  const { extern = 0, batch = 0 } = await countedOf(jobId);
  expect(extern + batch).toBeLessThan(1);
});
