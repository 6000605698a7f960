// The namespace of mounts that job_container/tmpfs makes, joined by sessions of a real sshd. Not a part of the tests that
// run by themselves: with this plugin slurmstepd of 22.05 dies now and then while it starts. BY_HAND=1 npm run test:slurm -- pam-namespaces

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { keepLoginLog } from '../support/login-log.js';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { buildPamModule, moduleWords } from './differential/pam-module.js';
import { locate, moduleFolders } from './differential/pam-stack.js';
import { SshServer } from './ssh-server.js';

const [alice] = users;
let cluster: Cluster;
let folder: string;
let module: string;
const servers: SshServer[] = [];

/** A Slurm for the tests of one group. */
const onCluster = (...given: Parameters<typeof startCluster>) => {
  beforeAll(async () => {
    cluster = await startCluster(...given);
    folder = path.join(path.dirname(cluster.spool), 'pam');
    fs.mkdirSync(folder, { mode: 0o755 });
    module = await buildPamModule(folder);
  });
  afterAll(() => cluster?.stop());
};
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
  await cluster.run('scancel', ['-u', alice]);
  await until('every job has ended', async () => (await cluster.run('squeue', ['-h'])).trim() === '');
});
afterAll(keepLoginLog());

const serve = async ({
  options = [],
  config = [],
  session = true,
}: {
  readonly options?: readonly string[];
  readonly config?: readonly string[];
  readonly session?: boolean;
} = {}): Promise<SshServer> => {
  const words = moduleWords({ cluster, folder, module }, ['action_adopt_failure=deny', 'budget=60s', ...options]);
  const pam = [
    'auth required pam_permit.so',
    'account required pam_permit.so',
    `account required ${words}`,
    'session required pam_permit.so',
    ...(session ? [`session required ${words}`] : []),
  ];
  const server = await SshServer.start({ folder, users, pam, config });
  servers.push(server);
  return server;
};

/** The same sshd with pam_slurm_adopt. */
const serveOther = async (): Promise<SshServer> => {
  const pam = ['auth required pam_permit.so', 'session required pam_permit.so'];
  const other = locate('pam_slurm_adopt.so', moduleFolders) ?? expect.unreachable('no pam_slurm_adopt.so');
  const account = `account required ${other} nodename=${cluster.nodeName} action_adopt_failure=deny`;
  const server = await SshServer.start({ folder, users, pam: [...pam, account], env: { SLURM_CONF: cluster.conf } });
  servers.push(server);
  return server;
};

describe('the namespace of mounts of a job (job_container/tmpfs)', () => {
  const look = ['ls /tmp'];
  onCluster({ JobContainerType: 'job_container/tmpfs' }, async ({ folder: its }) => {
    fs.mkdirSync(path.join(its, 'containers'), { mode: 0o755 });
    const conf = `AutoBasePath=true\nBasePath=${its}/containers\n`;
    fs.writeFileSync(path.join(its, 'etc/job_container.conf'), conf);
    return {};
  });
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
    const control = ['-o', 'ControlMaster=auto', '-o', `ControlPath=${folder}/c`, '-o', 'ControlPersist=20'];
    for (let time = 0; time < 2; time++) expect((await server.ssh(alice, look, control)).stdout).toContain(name);
    await server.run('ssh', ['-O', 'exit', '-o', `ControlPath=${folder}/c`, '127.0.0.1']);
    const sftp = ['sftp', [...server.words(alice, ['-b', '-'], '-P'), '127.0.0.1'], 'ls /tmp\n'] as const;
    expect((await server.run(...sftp)).stdout).toContain(name);
    // As it does.
    const other = await (await serveOther()).ssh(alice, look);
    expect([other.code, other.stdout.includes(name)]).toEqual([0, true]);
  });

  it('is left alone with join_container=false, and joined in the account phase with join_container=account', async () => {
    const { name } = await submit();
    const joined = await serve();
    await until('the job has its file', async () => (await joined.ssh(alice, look)).stdout.includes(name));
    const apart = await (await serve({ options: ['join_container=false'] })).ssh(alice, look);
    expect([apart.code, apart.stdout.includes(name)]).toEqual([0, false]);
    const without = await (await serve({ session: false })).ssh(alice, look);
    expect([without.code, without.stdout.includes(name)]).toEqual([0, false]);
    const atOnce = await (await serve({ options: ['join_container=account'], session: false })).ssh(alice, look);
    expect([atOnce.code, atOnce.stdout.includes(name)]).toEqual([0, true]);
  });
});
