// The Slurm of this guest, asked by its own programs: what the product says is held against these. Emulation makes
// everything ten to thirty times slower, so every wait has minutes.

import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { adoptSpec, runAdopt } from '../../../src/cli/commands/adopt.js';
import { cleanSpec, runClean } from '../../../src/cli/commands/clean.js';
import { doctorSpec, runDoctor } from '../../../src/cli/commands/doctor.js';
import { listSpec, runList } from '../../../src/cli/commands/list.js';
import { runStrays, straysSpec } from '../../../src/cli/commands/strays.js';
import { runVerify, verifySpec } from '../../../src/cli/commands/verify.js';
import { type CommandSpec, parseWords, type Words } from '../../../src/cli/spec.js';
import type { Output } from '../../../src/cli/terminal/output.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import type { OwnedJob } from '../../../src/jobs/job.js';
import { readNode, type SlurmNode } from '../../../src/jobs/node.js';
import { findOwners } from '../../../src/jobs/owners/find.js';
import { capture } from '../../support/captured-output.js';

/** Which machine this is. */
export interface InsideCell {
  readonly name: string;
  readonly slurm: string;
  readonly cgroup: 'v1' | 'v2' | 'hybrid';
  readonly boot: 'bare' | 'systemd';
  readonly nodes: number;
  readonly jobIdPaths: boolean;
  readonly ignoreSystemd: boolean;
  readonly configless: boolean;
  readonly accounting: boolean;
  /** Jobs have namespaces of this plugin. */
  readonly container?: string;
  /** Also what takes long, and differs by no more than the release. */
  readonly full: boolean;
}

export const cell: InsideCell = {
  ...{ name: '', slurm: '', cgroup: 'v2', boot: 'bare', nodes: 1, full: false },
  ...{ jobIdPaths: false, ignoreSystemd: false, configless: false, accounting: false },
  ...JSON.parse(process.env['MATRIX_CELL'] ?? '{}'),
};

/** From 26.05 on a job's directory on v2 has its SLUID for a name, unless cgroup.conf says otherwise. */
export const namedBySluid: boolean = cell.slurm === '26.05' && cell.cgroup === 'v2' && !cell.jobIdPaths;

/** The node most tests are about: where two share the machine, the first. */
export const nodeName: string = cell.nodes === 2 ? 'vm1' : 'vm';

export const uids = { alice: 1001, bob: 1002, carol: 1003 } as const;
export type User = keyof typeof uids;

/** For one step of Slurm, in ms. */
const patience = Number(process.env['PATIENCE'] ?? 150_000);

export async function run(program: string, args: readonly string[], user?: User): Promise<string> {
  const words = user === undefined ? [program, ...args] : ['runuser', '-u', user, '--', program, ...args];
  const [file = program, ...rest] = words;
  const { stdout } = await promisify(execFile)(file, rest, { cwd: '/tmp', timeout: patience });
  return stdout;
}

/** @throws Error with what `is` said last, when it stays false. */
export async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  // The wall clock is set back and forth here.
  for (const end = performance.now() + patience; ; ) {
    if (await is()) return;
    if (performance.now() > end) throw new Error(`Waited in vain until ${what}\n${await logs()}`);
    await new Promise((fulfil) => setTimeout(fulfil, 200));
  }
}

async function logs(): Promise<string> {
  const folder = '/var/log/lab';
  const ends = fs
    .readdirSync(folder)
    .map((name) => `--- ${name}\n${fs.readFileSync(`${folder}/${name}`, 'utf8').slice(-2000)}`);
  return [await run('squeue', ['-a']).catch(String), ...ends].join('\n');
}

/** A job as squeue has it. */
export interface QueuedJob {
  readonly jobId: number;
  readonly uid: number;
  readonly user: string;
  readonly name: string;
  readonly state: string;
  readonly nodes: string;
}

export async function queue(): Promise<readonly QueuedJob[]> {
  const text = await run('squeue', ['-h', '-a', '-o', '%A|%U|%u|%j|%T|%N']);
  return linesOf(text)
    .map((line) => line.trim().split('|'))
    .map(([jobId, uid, user = '', name = '', state = '', nodes = '']) => {
      return { jobId: Number(jobId), uid: Number(uid), user, name, state, nodes };
    });
}

/** A process as `scontrol listpids` has it. */
export interface ListedPid {
  readonly pid: number;
  readonly jobId: number;
  readonly stepId: string;
}

export async function listPids(jobId?: number, node: string = nodeName): Promise<readonly ListedPid[]> {
  const found = await pidsOf(jobId === undefined ? '*' : String(jobId), node);
  if (found !== undefined || jobId !== undefined) return found ?? [];
  // Of all jobs it lists nothing as long as one slurmstepd does not answer: one that ends, or that has died and left its
  // socket (measured, 24.11). The others' are listed job by job.
  const jobs = new Set((await queue()).map((one) => one.jobId));
  const each = await Promise.all([...jobs].map((one) => pidsOf(String(one), node)));
  return each.flatMap((pids) => pids ?? []);
}

/** `undefined`: nothing was listed, for a reason that stands in the log. */
async function pidsOf(which: string, node: string): Promise<readonly ListedPid[] | undefined> {
  try {
    return pidsIn(await run('scontrol', ['listpids', which, node]));
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { readonly stdout?: string; readonly stderr?: string };
    // It says 1 where a step of the job has no process, and lists the others all the same.
    if (stdout !== '') return pidsIn(stdout);
    stamp(`scontrol listpids ${which} of ${node} listed nothing: ${error} ${stderr}`);
    return undefined;
  }
}

function pidsIn(said: string): readonly ListedPid[] {
  return linesOf(said).flatMap((line) => {
    const [pid, job, stepId = ''] = line.trim().split(/\s+/);
    return /^\d+$/.test(pid ?? '') ? [{ pid: Number(pid), jobId: Number(job), stepId }] : [];
  });
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line.trim() !== '');
}

/** Its schedulers sleep until their next time: for an hour, where the clock was set back by one (measured, 24.11). */
export async function restartSlurmctld(): Promise<void> {
  if (cell.boot === 'systemd') {
    await run('systemctl', ['restart', 'slurmctld']);
  } else {
    const pid = Number(readOr('/run/slurmctld/slurmctld.pid'));
    process.kill(pid, 'SIGTERM');
    await until('slurmctld has ended', () => !isAlive(pid));
    await run('slurmctld', ['-f', `${cell.configless ? '/etc/slurm-ctld' : '/etc/slurm'}/slurm.conf`]);
  }
  await until('slurmctld answers', async () => (await run('scontrol', ['ping']).catch(() => '')).includes(' UP'));
}

export interface Submission {
  /** Of sbatch. */
  readonly args?: readonly string[];
  /** Steps that must run before the job counts as started, beside extern and batch. */
  readonly steps?: readonly string[];
  readonly on?: string;
}

/** Submits a batch job, and gives its id when all its steps run on the node. */
export async function submit(user: User, command: string, options: Submission = {}): Promise<number> {
  const { args = [], steps = [], on = nodeName } = options;
  const words = ['--parsable', '-o', '/dev/null', '--chdir=/tmp', '-w', on, ...args, `--wrap=${command}`];
  const jobId = Number.parseInt(await run('sbatch', words, user), 10);
  await until(`job ${jobId} runs`, () => {
    const running = stepdsOf(jobId).map(({ stepId }) => stepId);
    return ['extern', 'batch', ...steps].every((step) => running.includes(step)) && hasTask(jobId, 'batch');
  });
  return jobId;
}

/** The slurmstepds of a job by their titles: no user's process of these tests forges one. */
export function stepdsOf(jobId: number): readonly { readonly pid: number; readonly stepId: string }[] {
  return fs.readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const title = new RegExp(`^slurmstepd: \\[${jobId}\\.([^\\]]+)\\]`).exec(readOr(`/proc/${name}/cmdline`));
    return title?.[1] === undefined ? [] : [{ pid: Number(name), stepId: title[1] }];
  });
}

/** Its slurmstepd has a title before the batch script runs. */
function hasTask(jobId: number, stepId: string): boolean {
  const parents = stepdsOf(jobId)
    .filter((stepd) => stepd.stepId === stepId)
    .map(({ pid }) => pid);
  return parents.some((pid) => {
    const children = readOr(`/proc/${pid}/task/${pid}/children`).trim();
    return children.split(' ').some((child) => /^(?!slurmstepd)./.test(readOr(`/proc/${child}/comm`)));
  });
}

export function readOr(file: string, instead = ''): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return instead; // it ended meanwhile
  }
}

export function isAlive(pid: number): boolean {
  const stat = readOr(`/proc/${pid}/stat`);
  return stat !== '' && !/\) [ZX] /.test(stat);
}

export function commOf(pid: number): string {
  return readOr(`/proc/${pid}/comm`).trim();
}

/**
 * The name of the job's directory, as the kernel has it for its slurmstepd on v2, which is in no other.
 */
export function directoryNameOf(jobId: number): string {
  if (!namedBySluid) return `job_${jobId}`;
  const [stepd] = stepdsOf(jobId);
  const place = readOr(`/proc/${stepd?.pid}/cgroup`);
  return /\/(s[0-9A-Z]{13})\//.exec(place)?.[1] ?? expect.unreachable(`no directory of job ${jobId} in ${place}`);
}

/** Directories of that name, in all hierarchies. */
export async function directoriesOf(name: string): Promise<readonly string[]> {
  return linesOf(await run('find', ['/sys/fs/cgroup', '-type', 'd', '-name', name]));
}

export const node = (): Promise<SlurmNode> =>
  patiently(() => readNode({ timeoutMs: 30_000, ...(cell.nodes === 1 ? {} : { nodeName }) }));

/** Every job here, and whose it is. */
export async function owned(here?: SlurmNode): Promise<readonly OwnedJob[]> {
  const at = here ?? (await node());
  return findOwners(discoverJobs(at), { node: at });
}

/**
 * slurmd has some seconds to tell what it was started with, before anything is done: an emulated machine may take
 * longer to start the `cat` that reads it.
 */
export async function patiently<T>(act: () => Promise<T>): Promise<T> {
  for (let left = 5; ; left -= 1) {
    try {
      return await act();
    } catch (error) {
      if (left === 0 || !(error instanceof Error) || !error.message.includes('it does not answer within')) throw error;
    }
  }
}

/** What a command answered. */
export interface Said {
  readonly code: number;
  readonly text: string;
}

type CommandName = 'adopt' | 'clean' | 'doctor' | 'list' | 'strays' | 'verify';
type Runner = (words: Words, output: Output) => Promise<number>;

const commands: Readonly<Record<CommandName, readonly [CommandSpec, Runner]>> = {
  adopt: [adoptSpec, runAdopt],
  clean: [cleanSpec, runClean],
  doctor: [doctorSpec, runDoctor],
  list: [listSpec, runList],
  strays: [straysSpec, runStrays],
  verify: [verifySpec, runVerify],
};

/** A command in this process: a start of Node costs seconds in emulation. */
export async function command(name: CommandName, ...words: readonly string[]): Promise<Said> {
  const [spec, begin] = commands[name];
  return patiently(async () => {
    const output = capture();
    const code = await begin(parseWords(spec, words), output);
    return { code, text: output.text() };
  });
}

/** Of adopt, where it asks another node: scontrol alone takes seconds to start here. */
export const patientFlags = ['--callerid-timeout', '60', '--budget', '110'] as const;

/** With `--node` where two nodes share the machine. */
export function commandHere(name: CommandName, ...words: readonly string[]): Promise<Said> {
  return command(name, ...words, ...(cell.nodes === 2 ? ['--node', nodeName] : []));
}

/** The same job by job: pids of user processes by step. slurmstepd itself is listed here and there, by release. */
export type Tally = Readonly<Record<string, readonly number[]>>;

/** A report of doctor, again while the machine is too busy for what has a deadline, with its recording. */
export async function examined(file: string): Promise<Said> {
  for (let left = 9; ; left -= 1) {
    const said = await command('doctor', '--json', '--record', file, '--force');
    if (left === 0 || !/does not answer (?:in time|within)/.test(said.text)) return said;
  }
}

/** `JOB.STEP` to pids. */
export function tally(listed: readonly ListedPid[]): Tally {
  const steps: Record<string, number[]> = {};
  for (const { pid, jobId, stepId } of listed) {
    if (commOf(pid) === 'slurmstepd') continue;
    steps[`${jobId}.${stepId}`] = [...(steps[`${jobId}.${stepId}`] ?? []), pid].sort((a, b) => a - b);
  }
  return steps;
}

/** What `list --json` gives, as far as it is looked at here. */
export interface ListJson {
  readonly node: string | null;
  readonly notes: readonly string[];
  readonly jobs: readonly {
    readonly jobId: number | null;
    readonly sluid?: string;
    readonly uid?: number;
    readonly user?: string;
    readonly nodeName?: string;
    readonly newest: boolean | null;
    readonly steps: readonly {
      readonly stepId: string;
      readonly processes: readonly { readonly pid: number; readonly uid?: number; readonly comm?: string }[];
    }[];
  }[];
}

export function tallyOf({ jobs }: ListJson): Tally {
  return tally(
    jobs.flatMap(({ jobId, steps }) =>
      steps.flatMap(({ stepId, processes }) => processes.map(({ pid }) => ({ pid, jobId: jobId ?? -1, stepId }))),
    ),
  );
}

/** A user's name is getent's, which a busy machine may not tell in time: the uid counts. */
export function withoutNames({ jobs }: ListJson): unknown {
  return JSON.parse(JSON.stringify(jobs), (key, value: unknown) => (key === 'user' ? undefined : value));
}

/** Leaves outside when something was done, by the seconds this machine has been up: where a cell's time went. */
export function stamp(what: string): void {
  fs.appendFileSync('/lab/out/times', `${readOr('/proc/uptime').split(' ')[0]} ${what}\n`);
}

/** A shell of a user's that does what it is told, line by line. */
export interface Shell {
  readonly pid: number;
  /** What a command prints, and its exit code in a line of its own. */
  say(line: string): Promise<string>;
}

/** What a command begins with that runs in the network of one of two nodes. */
export const networkOf = { vm1: [], vm2: ['/usr/bin/nsenter', '--net=/run/netns/vm2'] } as const;

/** In no job, as an ssh session comes. It ends with the machine. */
export function shell(user: User, on: keyof typeof networkOf = 'vm1'): Shell {
  const as = ['/usr/bin/setpriv', `--reuid=${uids[user]}`, `--regid=${uids[user]}`, '--clear-groups'];
  const [file, ...words] = [...networkOf[on], ...as, '/bin/bash', '--norc'];
  const child = spawn(file ?? '', words, { cwd: '/', env: { PATH: '/usr/bin:/bin' }, detached: true });
  let heard = '';
  child.stdout.on('data', (text) => {
    heard += text;
  });
  const say = async (line: string) => {
    heard = '';
    child.stdin.write(`{ ${line}; } 2>&1; echo "code $?"\n`);
    await until(`a shell of ${user} has done: ${line}`, () => /^code \d+\n/m.test(heard) || !isAlive(child.pid ?? 0));
    return heard.trim();
  };
  return { pid: child.pid ?? expect.unreachable(), say };
}

/** Something of that user's that is in no job. It ends with the machine. */
export function session(user: User): number {
  const [uid, gid] = [uids[user], uids[user]];
  const child = spawn('/bin/sleep', ['3600'], { uid, gid, cwd: '/', stdio: 'ignore', detached: true });
  return child.pid ?? expect.unreachable();
}
