// The namespace of mounts that job_container/tmpfs makes, joined by sessions of a real sshd. Not a part of the tests that
// run by themselves: with this plugin slurmstepd of 22.05 dies now and then while it starts. That of
// 24.11 and 26.05 does not: two cells of the matrix have it (test/matrix/inside/spaces.ts).
// BY_HAND=1 npm run test:slurm -- pam-namespaces

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { keepLoginLog } from '../support/login-log.js';
import { type Cluster, until, users } from './cluster.js';
import { PamSite } from './pam-site.js';
import type { SshServerOptions } from './ssh-server.js';

const [alice] = users;
let site: PamSite;
let cluster: Cluster;

beforeAll(async () => {
  site = await PamSite.start({ JobContainerType: 'job_container/tmpfs' }, async ({ folder: its }) => {
    fs.mkdirSync(path.join(its, 'containers'), { mode: 0o755 });
    const conf = `AutoBasePath=true\nBasePath=${its}/containers\n`;
    fs.writeFileSync(path.join(its, 'etc/job_container.conf'), conf);
    return {};
  });
  cluster = site.cluster;
});
afterEach(() => site.clear());
afterAll(() => cluster?.stop());
afterAll(keepLoginLog());

const serve = (options: readonly string[] = [], more: Partial<SshServerOptions> = {}) =>
  site.serve({ pam: site.stack(['action_adopt_failure=deny', 'budget=60s', ...options]), ...more });

/** Without our session line. */
const accountOnly = (options: readonly string[]) =>
  site.stack(['action_adopt_failure=deny', 'budget=60s', ...options]).slice(0, -1);

describe('the namespace of mounts of a job (job_container/tmpfs)', () => {
  const look = ['ls /tmp'];
  /**
   * A job that has written into its own /tmp. With this plugin slurmstepd of 22.05 dies now and then while it starts (one
   * in three on an idle machine, measured; without it never): slurmctld holds the job, and it is let go again.
   */
  const submit = async () => {
    const name = `scg-inside-${randomBytes(4).toString('hex')}`;
    const words = ['--parsable', '-o', '/dev/null', '--chdir=/', `--wrap=touch /tmp/${name}; sleep 600`];
    const jobId = Number(await cluster.run('sbatch', words, alice));
    const step = `${cluster.spool}/${cluster.nodeName}_${jobId}.4294967291`;
    await until('the job runs', async () => {
      const reason = await cluster.run('squeue', ['-h', '-o', '%r']);
      if (reason.includes('held')) await cluster.run('scontrol', ['release', String(jobId)]);
      return fs.existsSync(step);
    });
    return { jobId, name };
  };

  it('is joined: the session sees the /tmp of its job, in every kind of session', async () => {
    const { name } = await submit();
    const server = await serve();
    await until('the job has its file', async () => (await server.ssh(alice, look)).stdout.includes(name));
    expect(fs.existsSync(`/tmp/${name}`)).toBe(false); // not the machine's
    const control = ['-o', 'ControlMaster=auto', '-o', `ControlPath=${site.folder}/c`, '-o', 'ControlPersist=20'];
    for (let time = 0; time < 2; time++) expect((await server.ssh(alice, look, control)).stdout).toContain(name);
    await server.run('ssh', ['-O', 'exit', '-o', `ControlPath=${site.folder}/c`, '127.0.0.1']);
    const sftp = ['sftp', [...server.words(alice, ['-b', '-'], '-P'), '127.0.0.1'], 'ls /tmp\n'] as const;
    expect((await server.run(...sftp)).stdout).toContain(name);
    // As it does.
    const other = await (await site.serveOther()).ssh(alice, look);
    expect([other.code, other.stdout.includes(name)]).toEqual([0, true]);
  });

  it('is left alone with join_container=false, and joined in the account phase with join_container=account', async () => {
    const { name } = await submit();
    const joined = await serve();
    await until('the job has its file', async () => (await joined.ssh(alice, look)).stdout.includes(name));
    const apart = await (await serve(['join_container=false'])).ssh(alice, look);
    expect([apart.code, apart.stdout.includes(name)]).toEqual([0, false]);
    const without = await (await serve([], { pam: accountOnly([]) })).ssh(alice, look);
    expect([without.code, without.stdout.includes(name)]).toEqual([0, false]);
    const atOnce = await (await serve([], { pam: accountOnly(['join_container=account']) })).ssh(alice, look);
    expect([atOnce.code, atOnce.stdout.includes(name)]).toEqual([0, true]);
  });
});
