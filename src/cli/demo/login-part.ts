// The last part of the demo: ssh logs in through a real sshd with the PAM module, into the job of its user; a user without
// a job is refused; and the session that is open ends with its job.

import { SlurmCgroupsError } from '../../machine/errors.js';
import type { RunResult } from '../../machine/host.js';
import type { Sandbox } from '../sandbox.js';
import { type Output, visible } from '../terminal/output.js';
import { missingForSshd } from './programs.js';
import { DemoSshd } from './sshd.js';
import type { DemoUser } from './sshd-files.js';

/** How the demo tells its story. */
export interface Teller {
  readonly output: Output;
  readonly signal: AbortSignal;
  /** Begins a part; ends the demo where a signal has come. */
  step(title: string): Promise<void>;
  /** Each prints the command as it would be typed, runs it, and gives its exit code. */
  list(...words: readonly string[]): Promise<number>;
  clean(...words: readonly string[]): Promise<number>;
}

/** Whose session goes where. */
export interface LoginStory {
  readonly uid: number;
  /** The only job of that user. */
  readonly jobId: number;
}

const what = 'ssh through a real sshd with the PAM module';
/** Of a record: what a person reads first. */
const inShort = ['user', 'service', 'action', 'reason', 'totalMs'];
/** An ssh whose server has gone ends at once. */
const endingMs = 10_000;

/** One line: what the demo leaves out, and why. */
export function leftOut(why: string): string {
  return `Left out: ${what}: ${visible(why)}.`;
}

/**
 * Tells it, or says in one line what it leaves out and why.
 *
 * @throws SlurmCgroupsError ERR_CGROUP_REFUSED where a session is not where it belongs.
 */
export async function tellLogin(sandbox: Sandbox, { uid, jobId }: LoginStory, teller: Teller): Promise<void> {
  const { output } = teller;
  const { host, within } = sandbox;
  const missing = await missingForSshd(host);
  if (missing !== undefined) {
    output.print('', leftOut(missing));
    return;
  }
  const [user, other]: readonly [DemoUser, DemoUser] = [
    { name: 'demo-user', uid },
    { name: 'other-user', uid: uid + 1 },
  ];
  await teller.step(`A login over ssh, through a real sshd with the PAM module: uid ${uid} is ${user.name} there`);
  const sshd = await started(sandbox, [user, other], teller);
  if (sshd === undefined) return;
  output.print(
    `sshd listens on 127.0.0.1 port ${sshd.port}, in a mount namespace of its own: this machine's /etc stays as it is.`,
    'ssh reads that port and a key from a configuration of its own (-F).',
  );
  const command = 'cat /proc/self/cgroup';
  showSsh(output, user, command);
  const session = await sshd.ssh(user, command);
  printAnswer(output, session);
  await host.sleep(0, teller.signal);
  const inJob = session.stdout
    .split('\n')
    .filter((line) => line.includes(`${within}/`) && line.includes(`/job_${jobId}/step_extern`));
  if (session.exitCode !== 0 || inJob.length !== sandbox.controllers.length)
    throw new SlurmCgroupsError('ERR_CGROUP_REFUSED', `The demo failed: the ssh session is not in job ${jobId}`);
  output.print(`Its line in the log, in part: ${visible(someFields(sshd.lastLogin(), inShort))}`);

  await teller.step('A user without a job here is refused, and reads why');
  showSsh(output, other, command);
  const refused = await sshd.ssh(other, command);
  printAnswer(output, refused);
  await host.sleep(0, teller.signal);
  if (refused.exitCode !== 255 || refused.stdout !== '')
    throw new SlurmCgroupsError('ERR_CGROUP_REFUSED', `The demo failed: ${other.name} was not refused`);

  await teller.step(`Job ${jobId} ends, and with it the ssh session that is open`);
  const staying = 'echo "SLURM_JOB_ID=$SLURM_JOB_ID"; exec cat';
  output.print(output.style('bold', `$ ssh ${user.name}@127.0.0.1 '${staying}' &`));
  const open = await sshd.open(user, staying, teller.signal);
  const before = open.printed();
  printLines(output, before);
  await teller.list('--job', String(jobId), '--within', within);
  const cleaned = await teller.clean(String(jobId), '--grace', '1', '--within', within);
  const endMs = host.now() + endingMs;
  while (!open.hasEnded() && host.now() < endMs) await host.sleep(10, teller.signal);
  printLines(output, open.printed().slice(before.length));
  await host.sleep(0, teller.signal);
  if (cleaned !== 0 || !open.hasEnded() || !before.includes(`=${jobId}`))
    throw new SlurmCgroupsError(
      'ERR_CGROUP_REFUSED',
      `The demo failed: the open session has not ended with job ${jobId}`,
    );
  output.print('The open session has ended with its job.');
}

/** What a machine does not allow is no failure of the demo. */
async function started(
  sandbox: Sandbox,
  users: readonly DemoUser[],
  { output, signal }: Teller,
): Promise<DemoSshd | undefined> {
  try {
    return await DemoSshd.start(sandbox, users, signal);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError) || error.code !== 'ERR_NOT_SUPPORTED') throw error;
    output.print(leftOut(error.message));
    return undefined;
  }
}

function showSsh(output: Output, { name }: DemoUser, command: string): void {
  output.print(output.style('bold', `$ ssh ${name}@127.0.0.1 ${command}`));
}

function printAnswer(output: Output, { exitCode, stdout, stderr }: RunResult): void {
  printLines(output, `${stdout}${stderr}`);
  if (exitCode !== 0) output.print(output.style('dim', `(exit code ${exitCode ?? 'unknown'})`));
}

function printLines(output: Output, text: string): void {
  const lines = text.split(/\r?\n/).filter((line) => line !== '');
  output.print(...lines.map(visible));
}

function someFields(line: string, fields: readonly string[]): string {
  const record: unknown = JSON.parse(line);
  if (typeof record !== 'object' || record === null) return line;
  return JSON.stringify(Object.fromEntries(fields.map((field) => [field, Reflect.get(record, field)])));
}
