// Whose jobs are here, on a real Slurm: v1 says it itself, so that no slurmstepd is asked; and the same slurmstepds, asked as
// on v2, say what Slurm says.

import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { askOwners } from '../../src/jobs/owners/asked.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { askStepd } from '../../src/jobs/stepd/ask.js';
import { socketOf } from '../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type Cluster, startCluster, users } from './cluster.js';

const slowly = () => ({ deadline: deadlineIn(liveHost(), 60_000), eachTimeoutMs: 30_000 });

let cluster: Cluster;
let jobIds: readonly number[];
const stopped = new Set<number>();

beforeAll(async () => {
  cluster = await startCluster();
  jobIds = [
    await cluster.submit(users[0], 'sleep 3600'),
    await cluster.submit(users[1], 'srun --overlap sleep 3600'),
    await cluster.submit(users[1], 'sleep 3600', ['--array=7']),
  ];
});
afterEach(() => {
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  stopped.clear();
});
afterAll(() => cluster?.stop());

const nodeNow = (host: Host = liveHost()) => readNode({ host, nodeName: cluster.nodeName, configFile: cluster.conf });

/** The jobs of this cluster as Slurm has them. */
async function jobsBySlurm(): Promise<readonly (readonly [number, number])[]> {
  const lines = (await cluster.run('squeue', ['-h', '-t', 'running', '-O', 'JobID:20,UserName:20'])).trim().split('\n');
  return lines
    .map((line) => line.trim().split(/\s+/))
    .map(([jobId, user]) => [Number(jobId), user === users[0] ? 1 : 2] as const)
    .sort(([a], [b]) => a - b);
}

/** The same jobs as if no path told whose they are. */
const ownerless = (node: SlurmNode) => discoverJobs(node).map(({ uid, ...job }) => job);

/** Gives the name of its socket. */
async function stopExternOf(jobId: number): Promise<string> {
  const socket = socketOf(cluster.spool, { nodeName: cluster.nodeName, jobId, stepId: 'extern' });
  const { answers } = await askStepd(socket, ['daemonPid'], {
    host: liveHost(),
    deadline: deadlineIn(liveHost(), 30_000),
  });
  const pid = answers.daemonPid ?? expect.unreachable();
  process.kill(pid, 'SIGSTOP');
  stopped.add(pid);
  return socket.name;
}

describe('findOwners()', () => {
  it('has every job of Slurm with its owner by its path, and connects to no slurmstepd', async () => {
    const host = liveHost();
    const refusing = (where: string) => {
      throw new Error(`connects to ${where}`);
    };
    const watched: Host = {
      ...host,
      open: (where) => ({ ...host.open(where), connect: async (name) => refusing(`${where}/${name}`) }),
    };
    const node = await nodeNow(watched);
    const jobs = await findOwners(discoverJobs(node), { node });
    expect(jobs.map(({ jobId, uid, ownerFrom }) => [jobId, uid, ownerFrom])).toEqual(
      (await jobsBySlurm()).map(([jobId, uid]) => [jobId, uid, 'path']),
    );
    expect(jobs.map(({ jobId }) => jobId)).toEqual([...jobIds].sort((a, b) => a - b));
  });

  it('finds the owner of a batch job in its script where no path names one, and asks no slurmstepd', async () => {
    const node = await nodeNow();
    const jobs = await findOwners(ownerless(node), { node });
    expect(jobs.map(({ jobId, uid, ownerFrom }) => [jobId, uid, ownerFrom])).toEqual(
      (await jobsBySlurm()).map(([jobId, uid]) => [jobId, uid, 'slurm_script']),
    );
  });
});

describe('askOwners()', () => {
  it('is told by each slurmstepd, an array job too, whose job it is', async () => {
    const node = await nodeNow();
    const answers = await askOwners(ownerless(node), { node, ...slowly() });
    expect(answers).toEqual((await jobsBySlurm()).map(([jobId, uid]) => ({ jobId, uid })));
  });

  it('finds them without any configuration', async () => {
    const node = { ...(await nodeNow()), spools: new Map<string, string>(), configuration: undefined };
    const answers = await askOwners(ownerless(node), { node, ...slowly() });
    expect(answers).toEqual((await jobsBySlurm()).map(([jobId, uid]) => ({ jobId, uid })));
  });

  it('tells jobs without an id by where their slurmstepds stand', async () => {
    const node = await nodeNow();
    const nameless = ownerless(node).map(({ jobId, ...job }) => job);
    expect(await askOwners(nameless, { node, ...slowly() })).toEqual(
      (await jobsBySlurm()).map(([jobId, uid]) => ({ jobId, uid })),
    );
  });

  it('spends its deadline once on a stopped slurmstepd, whose other steps answer, and the other jobs', async () => {
    const connected: string[] = [];
    const host = liveHost();
    const counting: Host = {
      ...host,
      open: (where) => {
        const held = host.open(where);
        return {
          ...held,
          connect: (name, wait) => {
            connected.push(name);
            return held.connect(name, wait);
          },
        };
      },
    };
    const node = await nodeNow(counting);
    const [first = 0] = jobIds;
    const name = await stopExternOf(first);
    const begun = performance.now();
    const answers = await askOwners(ownerless(node), { node, ...slowly(), eachTimeoutMs: 4000 });
    expect(performance.now() - begun).toBeGreaterThan(3900);
    expect(connected.filter((one) => one === name)).toEqual([name]);
    expect(answers).toEqual((await jobsBySlurm()).map(([jobId, uid]) => ({ jobId, uid })));
  });
});
