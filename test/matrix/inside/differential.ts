// pam_slurm_adopt and slurm-cgroups side by side on this guest's Slurm: the rows of test/slurm/differential for it.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { expect, it } from 'vitest';
import { type Cluster, nextSecond } from '../../slurm/cluster.js';
import type { Login, Site } from '../../slurm/differential/adopter.js';
import { sidesOn } from '../../slurm/differential/adopters.js';
import { compareRow, tableHead } from '../../slurm/differential/comparison.js';
import { type Row, titleOf } from '../../slurm/differential/rows.js';
import { rowsInGuest } from '../../slurm/differential/rows-in-guests.js';
import { accountOf, deadPid } from '../../slurm/differential/slurm-cgroups.js';
import { agentLine, jobSource, Outside, type Source } from '../../slurm/differential/source.js';
import { moduleFolder, moduleHere } from './module.js';
import { cell, directoriesOf, directoryNameOf, node, nodeName, readOr, run, stepdsOf, submit, until } from './slurm.js';

/** Not below /tmp: a job may have one of its own, and a login that joins its namespace of mounts has it too. */
const folder = '/run/lab-differential';

/** What a job's script runs in the background so that connections can begin in that job. */
export function agent(name: string): string {
  fs.mkdirSync(folder, { recursive: true, mode: 0o755 });
  execFileSync('mkfifo', ['-m', '644', fifoOf(name)]);
  return `${agentLine(folder, fifoOf(name))} &`;
}

/** A word of a shell's line. */
const fifoOf = (name: string) => path.join(folder, `fifo-${name.replaceAll(/\W/g, '')}`);

/** Job ids, of jobs that run. */
export interface Jobs {
  readonly first: number;
  readonly second: number;
  readonly "bob's": number;
}

/** A test for each row of this guest; `jobs` are asked for once they run, and run on afterwards. */
export function compareAdopters(jobs: () => Jobs): void {
  const outside = new Outside();
  const situations = new Map<string, Row[]>();
  for (const row of rowsInGuest(cell)) {
    const sharing = situations.get(row.situation) ?? [];
    situations.set(row.situation, [...sharing, row]);
  }
  for (const [situation, rows] of situations)
    it(`pam_slurm_adopt and slurm-cgroups, ${situation}: ${rows.map(titleOf).join('; ')}`, async () => {
      const scene: Scene = new Map(Object.entries(jobs()));
      const undo = (await arrangements[situation]?.(scene)) ?? (async () => {});
      const failures: unknown[] = [];
      try {
        // Each is compared, also when another fails: a guest costs a minute.
        for (const row of rows) await compare(row, scene, outside).catch((error: unknown) => failures.push(error));
      } finally {
        outside.close();
        await undo();
      }
      expect(failures.map(String)).toEqual([]);
    });
}

type Scene = Map<string, number>;

async function compare(row: Row, jobs: Scene, outside: Source): Promise<void> {
  const site = { ...(await siteHere()), hangsAfterMs: row.by === 'ssh' ? 60_000 : 8000 };
  const login: Login = {
    user: row.user ?? 'alice',
    service: row.service ?? 'sshd',
    // Ours alone: emulated, a login may take longer than one does elsewhere.
    options: [...(row.options ?? []), 'callerid_timeout=20s', 'budget=30s'],
    ...(row.from === undefined ? {} : { from: row.from === 'outside' ? outside : jobSource(fifoOf(row.from)) }),
    ...(row.mapped === undefined ? {} : { mapped: row.mapped }),
    ...(row.process === undefined ? {} : { pid: await deadPid() }),
  };
  const sides = (await sidesOn(site))(row, accountOf(login.user)?.uid ?? -1);
  const directories = new Map([...jobs].map(([name, jobId]) => [name, directoryNameOf(jobId)]));
  try {
    await compareRow(row, sides, login, { directories, hierarchies: cell.cgroup === 'v2' ? 1 : 3 }, record);
  } finally {
    await sides.there.close();
    await sides.here.close();
  }
}

/** Left outside, beside the times of the cell. */
function record(line: string): void {
  const file = '/lab/out/differential.md';
  if (!fs.existsSync(file)) fs.writeFileSync(file, tableHead);
  fs.appendFileSync(file, `${line}\n`);
}

let known: Site | undefined;

export async function siteHere(): Promise<Site> {
  if (known !== undefined) return known;
  const { configuration, spools } = await node();
  const cluster: Cluster = {
    nodeName,
    spool: spools.get(nodeName) ?? expect.unreachable('the spool is not known'),
    conf: configuration?.file ?? expect.unreachable('the configuration is not known'),
    run,
    submit: () => expect.unreachable('a cell submits by itself'),
    running: () => expect.unreachable('a cell waits by itself'),
    stop: () => Promise.resolve(),
  };
  known = { cluster, folder, sshdModule: { module: moduleHere(), folder: moduleFolder } };
  return known;
}

const jobOf = (jobs: Scene, name: string) => jobs.get(name) ?? expect.unreachable(`there is no job ${name}`);

type Undo = () => Promise<void>;

/** What a situation has besides the two jobs and bob's. */
const arrangements: Readonly<Record<string, (jobs: Scene) => Promise<Undo>>> = {
  /** A new step changes the time of the job's directory, by which pam_slurm_adopt goes on v1. */
  'an srun in the older of two jobs': async (jobs) => {
    await nextSecond();
    await run('srun', ['--overlap', `--jobid=${jobOf(jobs, 'first')}`, '--ntasks=1', '--chdir=/', 'true'], 'alice');
    return async () => {};
  },
  /** From 23.11 on these times are not stored: a look makes them (FACTS 3). Slurm's times are whole seconds. */
  'an ls of the older of two jobs': async (jobs) => {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '2\n');
    for (const name of ['second', 'first']) {
      await nextSecond();
      const directories = await directoriesOf(directoryNameOf(jobOf(jobs, name)));
      await run('ls', ['-ld', ...directories], 'carol');
    }
    return async () => {};
  },
  'four jobs': async (jobs) => {
    const more = [await submit('alice', 'sleep 3606'), await submit('alice', 'sleep 3607')];
    for (const [index, jobId] of more.entries()) jobs.set(['third', 'fourth'][index] ?? '', jobId);
    return async () => {
      await run('scancel', more.map(String));
      await until('these two have ended', () => more.every((jobId) => stepdsOf(jobId).length === 0));
    };
  },
  'the only job is suspended': async (jobs) => {
    const jobId = jobOf(jobs, "bob's");
    const files = await freezersOf(jobId);
    const undo = async () => {
      await run('scontrol', ['resume', String(jobId)]);
      await until('the job goes on', () => !files.some(isFrozen));
    };
    await run('scontrol', ['suspend', String(jobId)]);
    try {
      // squeue says so before slurmd has done it.
      await until('the job is suspended', () => files.some(isFrozen));
    } catch (error) {
      await undo();
      throw error;
    }
    return undo;
  },
  'a stopped slurmstepd of another user': async (jobs) => {
    const extern = stepdsOf(jobOf(jobs, "bob's")).find(({ stepId }) => stepId === 'extern');
    const pid = extern?.pid ?? expect.unreachable('bob has no extern step');
    process.kill(pid, 'SIGSTOP');
    return async () => void process.kill(pid, 'SIGCONT');
  },
};

/** Of the extern step: v1's freezer.state, v2's cgroup.events. */
async function freezersOf(jobId: number): Promise<readonly string[]> {
  const directories = await directoriesOf(directoryNameOf(jobId));
  return directories
    .flatMap((job) =>
      ['freezer.state', 'cgroup.events', 'user/cgroup.events'].map((name) => `${job}/step_extern/${name}`),
    )
    .filter((file) => fs.existsSync(file));
}

function isFrozen(file: string): boolean {
  return /^(?:FROZEN|frozen 1)$/m.test(readOr(file));
}
