// MPI over ssh on two nodes with cgroup v2, as test/slurm/mpi.slurm.ts has it on v1: two jobs of bob's launch at the same
// time, and every rank is in the job that launched it. The jobs do what they are told to, so that others may use them.

import fs from 'node:fs';
import process from 'node:process';
import { beforeAll, expect, it } from 'vitest';
import { launch, launchers, logsOf, type MpiSite, placesOf, ranksOf, startSshds } from '../../slurm/mpi-nodes.js';
import {
  commOf,
  directoryNameOf,
  listPids,
  networkOf,
  patientFlags,
  readOr,
  run,
  stepdsOf,
  uids,
  until,
} from './slurm.js';

const folder = '/run/mpi';
const site: MpiSite = {
  folder,
  nodes: (['vm1', 'vm2'] as const).map((nodeName, at) => ({
    nodeName,
    addresses: { 4: `198.18.0.${at + 1}`, 6: `fd73:6c75::${at + 1}` },
    within: networkOf[nodeName],
  })),
  user: { name: 'bob', uid: uids.bob },
  flags: patientFlags,
};
/** How long ranks sleep: a number for each job, by which they are known. */
const naps = { 'Open MPI': [7301, 7302], Hydra: [7311, 7312] } as const;
const orders: readonly [string, string] = [`${folder}/orders-1`, `${folder}/orders-2`];

/** Through which bob's two jobs are told what to do. */
export async function makeOrders(): Promise<readonly [string, string]> {
  fs.mkdirSync(folder, { mode: 0o755 });
  await run('mkfifo', ['-m', '600', ...orders]);
  await run('chown', ['bob:', ...orders]);
  return orders;
}

/** The script of a job that runs every line it is sent. */
export function obeying(file: string): string {
  return `exec 3<>${file}; while read -r order <&3; do eval "$order" & done`;
}

export function testMpi(jobs: () => readonly number[]): void {
  beforeAll(async () => {
    await startSshds(site);
  });
  const logs = () => [logsOf(site), ...jobs().map((jobId) => readOr(`/tmp/said-${jobId}`))].join('\n');

  for (const name of launchers)
    it(`every rank of ${name} is in the job that launched it, on either node`, async () => {
      // Both at once: caller ID alone tells them apart.
      for (const [at, file] of orders.entries())
        fs.appendFileSync(file, `${launch(name, naps[name][at] ?? 0, site)}\n`);
      for (const [at, jobId] of jobs().entries()) {
        const nap = naps[name][at] ?? 0;
        await until(`four ranks of ${name} run`, () => ranksOf(nap).length === 4).catch((error: unknown) => {
          throw new Error(`${logs()}\n${error}`);
        });
        const job = directoryNameOf(jobId);
        // Open MPI 5 gives one of four to the node where its job has one CPU, and the others to the other (measured).
        const places = new Set(ranksOf(nap).flatMap(placesOf));
        expect(places, logs()).toEqual(new Set([`vm1 ${job} step_batch`, `vm2 ${job} step_extern`]));
      }
    });

  it('ranks end with their job, and only they', async () => {
    const [kept = 0, ended = 0] = jobs();
    const counts = (at: number) => launchers.map((name) => ranksOf(naps[name][at] ?? 0).length);
    await run('scancel', [String(ended)]);
    await until('the ranks of the job have ended', () => counts(1).every((count) => count === 0));
    expect(counts(0)).toEqual([4, 4]);
    // While slurmstepds are ending, listpids may list nothing at all (measured).
    await until('so have its steps', () => stepdsOf(ended).length === 0);
    // The job goes on without them: what they leave on its other node is nothing.
    for (const { pid } of await listPids(kept, 'vm1'))
      if (/^(?:mpirun|prterun|mpiexec)/.test(commOf(pid))) process.kill(pid, 'SIGTERM');
    const isLeft = ({ pid }: { readonly pid: number }) => /^(?:sshd|prted|hydra)/.test(commOf(pid));
    await until('MPI has left the other node', async () => !(await listPids(kept, 'vm2')).some(isLeft));
    expect(counts(0)).toEqual([0, 0]);
  });
}
