// What the tests of the PAM module in a real sshd share: a Slurm with the module, its PAM stack, a command that says
// where its session is, and Slurm's own word on it.

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { type Landing, landingIn } from './differential/adopter.js';
import { buildPamModule, moduleWords } from './differential/pam-module.js';
import { locate, moduleFolders } from './differential/pam-stack.js';
import { SshServer, type SshServerOptions } from './ssh-server.js';

/** Prints where the session is, and what the module has set. */
export const where: readonly string[] = ['cat /proc/self/cgroup; echo "job=$SLURM_JOB_ID"'];

/** A login is answered within its budget; the rest is ssh on a busy machine. */
export const sessionBoundMs = 30_000;

export interface SessionPlace extends Landing {
  /** SLURM_JOB_ID */
  readonly variable: string | undefined;
}

/** By what `where` has printed. */
export function jobOf(stdout: string): SessionPlace {
  return { ...landingIn(stdout), variable: /job=(.*)/.exec(stdout)?.[1] };
}

export function inJob(jobId: number): unknown {
  return expect.objectContaining({ place: 'job', job: `job_${jobId}`, variable: String(jobId) });
}

export class PamSite {
  readonly cluster: Cluster;
  /** Root's, readable for all; it goes with the cluster. */
  readonly folder: string;
  readonly #module: string;
  readonly #servers: SshServer[] = [];

  private constructor(its: { readonly cluster: Cluster; readonly folder: string; readonly module: string }) {
    this.cluster = its.cluster;
    this.folder = its.folder;
    this.#module = its.module;
  }

  static async start(...given: Parameters<typeof startCluster>): Promise<PamSite> {
    const cluster = await startCluster(...given);
    try {
      const folder = path.join(path.dirname(cluster.spool), 'pam');
      fs.mkdirSync(folder, { mode: 0o755 });
      return new PamSite({ cluster, folder, module: await buildPamModule(folder) });
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** A stack as of a site: the account phase decides, and the session phase is the last module. */
  stack(
    options: readonly string[],
    before: { readonly account?: readonly string[]; readonly session?: readonly string[] } = {},
  ): readonly string[] {
    const words = moduleWords({ cluster: this.cluster, folder: this.folder, module: this.#module }, options);
    return [
      'auth required pam_permit.so',
      'account required pam_permit.so', // as pam_unix: where ours is not concerned somebody has to answer
      ...(before.account ?? []),
      `account required ${words}`,
      ...(before.session ?? []),
      'session required pam_permit.so',
      `session required ${words}`,
    ];
  }

  /** The same sshd with pam_slurm_adopt. */
  async serveOther(): Promise<SshServer> {
    const other = locate('pam_slurm_adopt.so', moduleFolders) ?? expect.unreachable('no pam_slurm_adopt.so');
    const account = `account required ${other} nodename=${this.cluster.nodeName} action_adopt_failure=deny`;
    const pam = ['auth required pam_permit.so', 'session required pam_permit.so', account];
    return this.serve({ pam, env: { SLURM_CONF: this.cluster.conf } });
  }

  async serve(options: Partial<SshServerOptions> = {}): Promise<SshServer> {
    const server = await SshServer.start({ folder: this.folder, users, pam: this.stack([]), ...options });
    this.#servers.push(server);
    return server;
  }

  /** After each test: no server and no job is left. */
  async clear(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.close();
    for (const user of users) await this.cluster.run('scancel', ['-u', user]);
    await until('every job has ended', async () => (await this.cluster.run('squeue', ['-h'])).trim() === '');
  }

  /** The processes of its extern step, by Slurm's own listing. */
  async listed(jobId: number): Promise<readonly number[]> {
    return (await this.cluster.run('scontrol', ['listpids', String(jobId)]))
      .split('\n')
      .filter((line) => /\sextern\s/.test(line))
      .map((line) => Number(line.trim().split(/\s+/)[0]));
  }

  /** A folder of the job, or of a step of it, in a v1 hierarchy. */
  cgroup(controller: string, its: { readonly uid: number; readonly jobId: number }, step = ''): string {
    return path.join(
      `/sys/fs/cgroup/${controller}/slurm_${this.cluster.nodeName}/uid_${its.uid}/job_${its.jobId}`,
      step,
    );
  }

  /** Suspends a job and waits until its extern step is frozen. */
  async suspend(its: { readonly uid: number; readonly jobId: number }): Promise<void> {
    await this.cluster.run('scontrol', ['suspend', String(its.jobId)]);
    const freezer = `${this.cgroup('freezer', its, 'step_extern')}/freezer.state`;
    await until('it is suspended', () => fs.readFileSync(freezer, 'utf8').trim() === 'FROZEN');
  }

  async resume(jobId: number): Promise<void> {
    await this.cluster.run('scontrol', ['resume', String(jobId)]);
  }
}

export function commandOf(pid: number): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** The slurmstepd of the extern step, by its command line: on a lab of our own nobody forges it. */
export function stepdOf(jobId: number): number {
  const found = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .find((pid) => commandOf(Number(pid)).startsWith(`slurmstepd: [${jobId}.extern]`));
  return Number(found ?? expect.unreachable(`no slurmstepd of job ${jobId}`));
}
