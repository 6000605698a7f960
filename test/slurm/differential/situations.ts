// The situations of the table: which jobs there are, in which order they started, and what was done to them. Each has a
// user of its own, so all begin at the same time on one cluster; `bob` and his one job are common to all.

import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { askStepd } from '../../../src/jobs/stepd/ask.js';
import { reachExternStepd } from '../../../src/jobs/stepd/extern.js';
import { socketOf } from '../../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { type Cluster, nextSecond, until } from '../cluster.js';
import type { Site } from './adopter.js';
import { accountOf } from './slurm-cgroups.js';
import { agentLine } from './source.js';

export type SituationName = string;

/** Users that every Debian with a Slurm has, so none need be made; bob is the first. */
const accounts = 'daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc _apt munge'.split(' ');
export const bob: string = accounts[0] ?? '';

/** A job of a situation, and the fifo of the agent in it. */
export interface StartedJob {
  readonly jobId: number;
  readonly fifo: string;
}

export interface Scene {
  readonly site: Site;
  readonly alice: string;
  /** By their names in the situation. */
  readonly jobs: ReadonlyMap<string, StartedJob>;
}

export interface Situation {
  readonly name: SituationName;
  /** The jobs of alice in the order of their submission. */
  readonly jobs: readonly string[];
  /** The order in which they start. Default: that of their submission. */
  readonly order?: readonly string[];
  /** The situation whose user and jobs it shares. */
  readonly of?: SituationName;
  /** Makes it what it is; gives what undoes that. */
  readonly arrange?: (scene: Scene) => Promise<() => Promise<void>>;
  /** At the beginning of each login of slurm-cgroups, where the situation changes meanwhile. */
  readonly meanwhile?: (scene: Scene) => void;
}

/** Every order in which three jobs can start, whatever their ids; the last one is the newest. */
export const orders: readonly (readonly [string, string, string])[] = [
  ['first', 'second', 'third'],
  ['first', 'third', 'second'],
  ['second', 'first', 'third'],
  ['second', 'third', 'first'],
  ['third', 'first', 'second'],
  ['third', 'second', 'first'],
];

export const situations: readonly Situation[] = [
  { name: 'no job', jobs: [] },
  { name: 'a job that is just starting', jobs: [], arrange: startHeld, meanwhile: letStart },
  { name: 'a job that has ended, its epilog running', jobs: ['ended'], arrange: endHeld },
  { name: 'one job', jobs: ['only'] },
  { name: 'two jobs', jobs: ['older', 'newer'] },
  ...orders.map((order) => ({
    name: `three jobs, started ${order.join(', ')}`,
    jobs: ['first', 'second', 'third'],
    order,
  })),
  { name: 'an srun in the older of two jobs', jobs: ['older', 'newer'], arrange: srunInOlder },
  { name: 'the slurmstepd of the job has been killed', jobs: ['orphaned'], arrange: killStepd },
  { name: 'a job that is ending', jobs: ['ending'], arrange: endSlowly },
  {
    name: 'one job of three runs; one is ending, the slurmstepd of one has been killed',
    jobs: ['running', 'orphaned', 'ending'],
    arrange: killAndEnd,
  },
  { name: 'the newer of two jobs is suspended', jobs: ['older', 'suspended'], arrange: suspend },
  // The last: an adopter that asks every slurmstepd of the node hangs from here on.
  { name: 'a stopped slurmstepd of another user', of: 'one job', jobs: [], arrange: stopBobs },
  { name: "a stopped slurmstepd of the user's own job", of: 'one job', jobs: [], arrange: stopOnly },
];

/** Keys of slurm.conf: a prolog and an epilog that wait while there is a file with the job's number. */
export function slowProlog(folder: string): Readonly<Record<string, string>> {
  const made = ['Prolog', 'Epilog'].map((name) => {
    const script = path.join(folder, name.toLowerCase());
    const waits = `[ -e ${heldBy(folder, name, '"$SLURM_JOB_ID"')} ] || exit 0; sleep 0.05`;
    const lines = ['#!/bin/sh', 'PATH=/usr/bin:/bin', `for i in $(seq 1200); do ${waits}; done`, 'exit 0'];
    fs.writeFileSync(script, `${lines.join('\n')}\n`, { mode: 0o755 });
    return [name, script] as const;
  });
  return Object.fromEntries(made);
}

function heldBy(folder: string, name: string, jobId: string | number): string {
  return `${path.join(folder, name.toLowerCase())}.${jobId}`;
}

/** The same site with a configuration that names a spool which is not there. */
export function withoutSpool(site: Site): Site {
  const conf = path.join(path.dirname(site.cluster.conf), 'slurm-without-spool.conf');
  const text = fs.readFileSync(site.cluster.conf, 'utf8');
  fs.writeFileSync(conf, text.replace(/^SlurmdSpoolDir=.*$/m, `SlurmdSpoolDir=${site.folder}/nowhere`));
  return { ...site, cluster: { ...site.cluster, conf } };
}

const clusterFolder = ({ cluster }: Site): string => path.dirname(cluster.spool);

/** Bob's job, and all situations with the users of their own. */
export async function begin(site: Site): Promise<{ bobs: StartedJob; scenes: ReadonlyMap<SituationName, Scene> }> {
  const own = situations.filter((one) => one.of === undefined);
  const bobs = start(site, bob, ["bob's"]);
  const scenes = await Promise.all(
    own.map(async (situation, index): Promise<readonly [SituationName, Scene]> => {
      const alice = accounts[index + 1];
      if (alice === undefined) throw new Error('there are more situations than users');
      return [situation.name, { site, alice, jobs: await start(site, alice, situation.jobs, situation.order) }];
    }),
  );
  const begun = new Map(scenes);
  for (const { name, of } of situations) {
    const scene = of === undefined ? undefined : begun.get(of);
    if (scene !== undefined) begun.set(name, scene);
  }
  return { bobs: (await bobs).get("bob's") ?? raise('bob has no job'), scenes: begun };
}

/** Submits jobs in one order and has them start in another, each in a second of its own: mtimes are compared so. */
async function start(
  site: Site,
  user: string,
  names: readonly string[],
  order: readonly string[] = names,
): Promise<ReadonlyMap<string, StartedJob>> {
  const jobs = new Map<string, StartedJob>();
  for (const name of names) jobs.set(name, await submitHeld(site, user));
  for (const [index, name] of order.entries()) {
    const { jobId } = jobs.get(name) ?? raise(`there is no job ${name}`);
    if (index > 0) await nextSecond();
    await site.cluster.run('scontrol', ['release', String(jobId)]);
    await site.cluster.running(jobId);
  }
  return jobs;
}

let fifos = 0;

async function submitHeld({ cluster, folder }: Site, user: string): Promise<StartedJob> {
  fifos += 1;
  const fifo = path.join(folder, `fifo-${fifos}`);
  await promisify(execFile)('mkfifo', ['-m', '644', fifo]);
  const wrap = `--wrap=${agentLine(folder, fifo)}`;
  const jobId = await cluster.run('sbatch', ['--parsable', '--hold', '-o', '/dev/null', '--chdir=/', wrap], user);
  return { jobId: Number(jobId), fifo };
}

function raise(why: string): never {
  throw new Error(why);
}

function only({ jobs }: Scene): StartedJob {
  const [job, ...others] = jobs.values();
  return job === undefined || others.length > 0 ? raise('the situation has not one job') : job;
}

/** As if it had that job alone. */
function just(scene: Scene, name: string): Scene {
  return { ...scene, jobs: new Map([[name, scene.jobs.get(name) ?? raise(`there is no job ${name}`)]]) };
}

async function killAndEnd(scene: Scene): Promise<() => Promise<void>> {
  await killStepd(just(scene, 'orphaned'));
  return endSlowly(just(scene, 'ending'));
}

const nothing = () => Promise.resolve();

/** Its prolog runs: it has no extern step yet. */
async function startHeld(scene: Scene): Promise<() => Promise<void>> {
  const { site } = scene;
  const job = await submitHeld(site, scene.alice);
  (scene.jobs as Map<string, StartedJob>).set('starting', job);
  const held = heldBy(clusterFolder(site), 'Prolog', job.jobId);
  fs.writeFileSync(held, '');
  await site.cluster.run('scontrol', ['release', String(job.jobId)]);
  await until('the job waits for its prolog', async () => (await stateOf(site.cluster, job.jobId)) === 'RUNNING');
  return async () => fs.rmSync(held, { force: true });
}

function letStart(scene: Scene): void {
  const held = heldBy(clusterFolder(scene.site), 'Prolog', only(scene).jobId);
  // Late enough for the login to have looked once, on a busy machine too.
  setTimeout(() => fs.rmSync(held, { force: true }), 2000);
}

async function endHeld(scene: Scene): Promise<() => Promise<void>> {
  const { cluster } = scene.site;
  const { jobId } = only(scene);
  const held = heldBy(clusterFolder(scene.site), 'Epilog', jobId);
  fs.writeFileSync(held, '');
  await cluster.run('scancel', [String(jobId)]);
  const socket = `${cluster.spool}/${cluster.nodeName}_${jobId}.4294967292`;
  await until('its extern step has ended', () => !fs.existsSync(socket));
  return async () => fs.rmSync(held, { force: true });
}

/**
 * A frozen process cannot be ended, so the extern step stays at its end: its slurmstepd lives and answers, and takes
 * nobody in any more.
 */
async function endSlowly(scene: Scene): Promise<() => Promise<void>> {
  const job = only(scene);
  const { site } = scene;
  const node = await readNode({ host, nodeName: site.cluster.nodeName, configFile: site.cluster.conf });
  const [found = raise('the job is not there')] = discoverJobs(node).filter(({ jobId }) => jobId === job.jobId);
  const held = path.join(externFreezer(scene, job), 'held');
  const write = (file: string, text: string) => fs.writeFileSync(path.join(held, file), text, { flag: 'r+' });
  fs.mkdirSync(held);
  const sleeper = spawn('/bin/sleep', ['120'], { cwd: '/', stdio: 'ignore' });
  const undo = async () => {
    write('freezer.state', 'THAWED');
    sleeper.kill('SIGKILL');
    await until('the held process is gone', () => fs.readFileSync(path.join(held, 'cgroup.procs'), 'utf8') === '');
    fs.rmdirSync(held);
  };
  try {
    write('cgroup.procs', String(sleeper.pid));
    write('freezer.state', 'FROZEN');
    await site.cluster.run('scancel', [String(job.jobId)]);
    await until('its extern step accepts no process any more', async () => {
      const reached = await reachExternStepd(node, found, deadlineIn(node.host, 5000));
      if (reached.outcome === 'ready') reached.stepd.close();
      return reached.outcome === 'ending';
    });
    return undo;
  } catch (error) {
    await undo();
    throw error;
  }
}

function externFreezer({ site, alice }: Scene, { jobId }: StartedJob): string {
  const { uid } = accountOf(alice) ?? raise(`there is no ${alice}`);
  return `/sys/fs/cgroup/freezer/slurm_${site.cluster.nodeName}/uid_${uid}/job_${jobId}/step_extern`;
}

async function stateOf(cluster: Cluster, jobId: number): Promise<string> {
  return (await cluster.run('squeue', ['-h', '-j', String(jobId), '-o', '%T'])).trim();
}

/** A new step changes the mtime of the job's directory, by which pam_slurm_adopt up to 25.11 goes on v1. */
async function srunInOlder(scene: Scene): Promise<() => Promise<void>> {
  const { jobId } = scene.jobs.get('older') ?? raise('there is no older job');
  await nextSecond();
  const words = ['--overlap', `--jobid=${jobId}`, '--ntasks=1', '--chdir=/', 'true'];
  await scene.site.cluster.run('srun', words, scene.alice);
  return nothing;
}

async function killStepd(scene: Scene): Promise<() => Promise<void>> {
  process.kill(await stepdOf(scene.site, only(scene).jobId), 'SIGKILL');
  await sleep(200);
  return nothing;
}

async function suspend(scene: Scene): Promise<() => Promise<void>> {
  const { cluster } = scene.site;
  const job = scene.jobs.get('suspended') ?? raise('there is no job to suspend');
  const { jobId } = job;
  const freezer = path.join(externFreezer(scene, job), 'freezer.state');
  // squeue says so before slurmd has done it.
  const is = (state: string) => () => fs.readFileSync(freezer, 'utf8').trim() === state;
  await cluster.run('scontrol', ['suspend', String(jobId)]);
  const undo = async () => {
    await cluster.run('scontrol', ['resume', String(jobId)]);
    await until('the job goes on', is('THAWED'));
  };
  try {
    await until('the job is suspended', is('FROZEN'));
    return undo;
  } catch (error) {
    await undo();
    throw error;
  }
}

async function stopBobs({ site }: Scene): Promise<() => Promise<void>> {
  const [jobId = ''] = (await site.cluster.run('squeue', ['-h', '-u', bob, '-o', '%A'])).trim().split('\n');
  return stopStepd(site, Number(jobId));
}

function stopOnly(scene: Scene): Promise<() => Promise<void>> {
  return stopStepd(scene.site, only(scene).jobId);
}

async function stopStepd(site: Site, jobId: number): Promise<() => Promise<void>> {
  const stepd = await stepdOf(site, jobId);
  process.kill(stepd, 'SIGSTOP');
  return async () => void process.kill(stepd, 'SIGCONT');
}

const host = liveHost();

async function stepdOf({ cluster: { spool, nodeName } }: Site, jobId: number): Promise<number> {
  const socket = socketOf(spool, { nodeName, jobId, stepId: 'extern' });
  const { answers } = await askStepd(socket, ['daemonPid'], { host, deadline: deadlineIn(host, 30_000) });
  return answers.daemonPid ?? raise(`the extern slurmstepd of job ${jobId} does not tell its pid`);
}
