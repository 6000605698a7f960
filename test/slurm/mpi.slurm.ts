// MPI over ssh, as it is started outside of the scheduler: Open MPI's rsh launcher and MPICH's Hydra begin in one of two
// jobs of a user on two nodes, and every rank must be in the job that launched it, on either node.

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { launch, launchers, logsOf, type MpiSite, placesOf, ranksOf, startSshds } from './mpi-nodes.js';

const [user] = users;
const naps = { 'Open MPI': [7301, 7302], Hydra: [7311, 7312] } as const;

let cluster: Cluster;
/** Of the cluster, which goes with it. */
let folder = '';
let site: MpiSite;
let endSshds: (() => void) | undefined;

beforeAll(async () => {
  cluster = await startCluster({}, undefined, 2);
  folder = path.dirname(path.dirname(cluster.conf));
  site = { folder: path.join(folder, 'etc'), nodes: cluster.pair ?? [], user: { name: user, uid: 1 } };
  endSshds = await startSshds(site);
});
afterAll(async () => {
  endSshds?.();
  await cluster?.stop();
});

const logs = () => `${logsOf(site)}\n${fs.readFileSync(`${folder}/launched`, 'utf8').slice(-3000)}`;

it.each(launchers)('every rank of %s is in the job that launched it, on either node', async (name) => {
  const [here, there] = site.nodes.map(({ nodeName }) => nodeName);
  const args = ['-N2', '--ntasks-per-node=1', '-o', `${folder}/launched`, '--open-mode=append'];
  fs.writeFileSync(`${folder}/launched`, '', { mode: 0o666 });
  fs.chmodSync(`${folder}/launched`, 0o666);
  // Both jobs are there before one launches: caller ID alone tells them apart.
  const start = path.join(folder, `start-${name === 'Hydra' ? 'h' : 'o'}`);
  const script = (nap: number) => `until [ -e ${start} ]; do sleep 0.2; done; ${launch(name, nap, site)}`;
  const jobs: number[] = [];
  for (const nap of naps[name]) jobs.push(await cluster.submit(user, script(nap), args));
  const externs = jobs.map((jobId) => `${path.dirname(cluster.spool)}/${there}/${there}_${jobId}.4294967292`);
  await until('both jobs run on both nodes', () => externs.every((file) => fs.existsSync(file)));
  fs.writeFileSync(start, '');
  for (const [at, nap] of naps[name].entries()) {
    await until(
      () => `four ranks of ${name} run: ${logs()}`,
      () => ranksOf(nap).length === 4,
    );
    const places = ranksOf(nap).flatMap(placesOf).sort();
    const job = `job_${jobs[at]}`;
    const expected = [`${here} ${job} step_batch`, `${there} ${job} step_extern`];
    expect(places, logs()).toEqual([...expected, ...expected].sort());
  }
  // They end with their job, and only they.
  const [first = 0, second = 0] = naps[name];
  await cluster.run('scancel', [String(jobs[0])]);
  await until('the ranks of the first job have ended', () => ranksOf(first).length === 0);
  expect(ranksOf(second)).toHaveLength(4);
  await cluster.run('scancel', [String(jobs[1])]);
  await until('the ranks of the second job have ended', () => ranksOf(second).length === 0);
});
