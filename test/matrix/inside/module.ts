// The PAM module in this guest: built outside, copied to a folder of root's alone, and real logins through it, by the
// OpenSSH of its release.

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { Cluster } from '../../slurm/cluster.js';
import { landingIn } from '../../slurm/differential/adopter.js';
import { moduleWords } from '../../slurm/differential/pam-module.js';
import { SshServer } from '../../slurm/ssh-server.js';
import { cell, commOf, directoryNameOf, listPids, until } from './slurm.js';

/** Root's alone, as is all above it. */
export const moduleFolder = '/run/lab-module';

export function moduleHere(): string {
  const module = path.join(moduleFolder, 'pam_slurm_cgroups.so');
  if (!fs.existsSync(module)) {
    fs.mkdirSync(moduleFolder, { recursive: true, mode: 0o755 });
    fs.copyFileSync('/lab/in/pam_slurm_cgroups.so', module);
  }
  return module;
}

/** bob has one job, carol none. */
export function describeModuleLogins(cluster: () => Promise<Cluster>, bobs: () => number): void {
  it('a real sshd with the PAM module: a session is in its job, and counted once; without a job it is refused', async () => {
    const site = { cluster: await cluster(), folder: moduleFolder, module: moduleHere() };
    const words = moduleWords(site, ['budget=50s', 'action_adopt_failure=deny', 'action_generic_failure=deny']);
    const pam = [
      'auth required pam_permit.so',
      'account required pam_permit.so',
      `account required ${words}`,
      ...['session required pam_permit.so', `session required ${words}`],
    ];
    const server = await SshServer.start({ folder: moduleFolder, users: ['bob', 'carol'], pam });
    try {
      const look = 'cat /proc/self/cgroup; echo "job=$SLURM_JOB_ID"';
      const { code, stdout, stderr } = await server.ssh('bob', [look]);
      expect([code, landingIn(stdout)], `${stderr}\n${server.log}`).toEqual([
        0,
        expect.objectContaining({ place: 'job', job: directoryNameOf(bobs()) }),
      ]);
      expect(stdout).toContain(`job=${bobs()}\n`);
      // By Slurm's own list: the sshd of a session that goes on.
      const before = (await listPids()).filter((one) => one.jobId === bobs() && one.stepId === 'extern').length;
      server.start('bob', ['exec sleep 3617']);
      const ofJob = async () => (await listPids()).filter((one) => one.jobId === bobs() && one.stepId === 'extern');
      const found = async () => (await ofJob()).filter(({ pid }) => wordsOf(pid).includes('3617'));
      for (let left = 200; left > 0 && (await found()).length === 0; left--)
        await new Promise((fulfil) => setTimeout(fulfil, 200));
      const [session, ...more] = await found();
      expect([more.length, (await ofJob()).length > before]).toEqual([0, true]);
      // Joined where jobs have mounts of their own. Else it has those of its sshd.
      const mounts = mountsOf(cell.container ? await taskOf(bobs()) : server.pid);
      expect(mountsOf(session?.pid ?? 0), server.log).toBe(mounts);

      const refused = await server.ssh('carol', ['true']);
      expect([refused.code, refused.stderr]).toEqual([
        255,
        expect.stringContaining('you have no active jobs on this node'),
      ]);
    } finally {
      await server.close();
    }
  });
}

/** Its namespace of mounts. */
export function mountsOf(pid: number): string {
  return fs.readlinkSync(`/proc/${pid}/ns/mnt`);
}

/** What the job's script sleeps by. */
export async function taskOf(jobId: number): Promise<number> {
  let task: number | undefined;
  await until(`the task of job ${jobId} is listed`, async () => {
    const batch = (await listPids(jobId)).filter(({ stepId }) => stepId === 'batch');
    task = batch.map(({ pid }) => pid).find((pid) => commOf(pid) === 'sleep');
    return task !== undefined;
  });
  return task ?? expect.unreachable();
}

function wordsOf(pid: number): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
