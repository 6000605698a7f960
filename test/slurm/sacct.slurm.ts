// What Slurm counts of an adopted session: its CPU time stands in the extern step, once, however often it was told.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
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
const burnSeconds = 3;

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

/** Waits for a line, uses so much CPU time, and is ended by that. */
function burner(): ChildProcess {
  const script = `read go; ulimit -t ${burnSeconds}; while :; do :; done`;
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
      // As long as its step is not through, that is called CANCELLED with its job, and has no use.
      return /\.extern\|COMPLETED/.test(said);
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

/** Lets a session do its work, ends the job, and gives what was counted. */
async function burnt(session: ChildProcess, jobId: number): Promise<Readonly<Record<string, number>>> {
  const ended = new Promise((fulfil) => session.once('exit', fulfil));
  session.stdin?.write('go\n');
  await ended;
  await cluster.run('scancel', [String(jobId)]);
  return countedOf(jobId);
}

/** `[DD-[HH:]]MM:SS[.mmm]` */
function secondsOf(time: string): number {
  const [clock = '', days = '0'] = time.split('-').reverse();
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0) + Number(days) * 86_400;
}

it.each<readonly [string, (pid: number, jobId: number) => Promise<void>]>([
  ['once', async () => {}],
  [
    'again, where it is already',
    async (pid, jobId) => {
      const { node, job } = await jobHere(jobId);
      expect(await adopt(pid, job, { node })).toMatchObject({ outcome: 'adopted', moved: 'none' });
    },
  ],
  [
    'again, as in the session phase of a login, after pam_systemd moved it away',
    async (pid, jobId) => {
      const { node, job } = await jobHere(jobId);
      for (const { mountPoint } of node.hierarchies.all) fs.writeFileSync(`${mountPoint}/cgroup.procs`, String(pid));
      const again = await adopt(pid, job, { node, isCounted: true });
      expect(again).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    },
  ],
])('an adopted session is counted in the extern step of its job, once: adopted %s', async (_how, then) => {
  const jobId = await cluster.submit(user, 'sleep 600');
  const session = burner();
  const pid = session.pid ?? expect.unreachable();
  const { node, job } = await jobHere(jobId);
  expect(await adopt(pid, job, { node })).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
  await then(pid, jobId);
  const { extern = 0, batch = 0 } = await burnt(session, jobId);
  // The kernel ends it within a second after its limit.
  expect(extern).toBeGreaterThan(burnSeconds * 0.9);
  expect(extern).toBeLessThan(burnSeconds * 1.6);
  expect(batch).toBeLessThan(1);
});

it('Slurm counts twice what its slurmstepd was told of twice: so it is told once', async () => {
  const jobId = await cluster.submit(user, 'sleep 600');
  const session = burner();
  const pid = session.pid ?? expect.unreachable();
  const { node, job } = await jobHere(jobId);
  for (const isCounted of [undefined, false])
    expect(await adopt(pid, job, { node, ...(isCounted === undefined ? {} : { isCounted }) })).toMatchObject({
      outcome: 'adopted',
      accounting: 'stepd',
    });
  const { extern = 0 } = await burnt(session, jobId);
  expect(extern).toBeGreaterThan(burnSeconds * 1.8);
});

it('a session outside of every job is counted nowhere', async () => {
  const jobId = await cluster.submit(user, 'sleep 600');
  const { extern = 0, batch = 0 } = await burnt(burner(), jobId);
  expect(extern + batch).toBeLessThan(1);
});
