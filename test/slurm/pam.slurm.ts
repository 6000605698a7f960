// The PAM module in a real sshd on a real Slurm: real ssh logs in, and Slurm itself says where the session is.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readAdoptions } from '../../src/jobs/adoptions.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { keepLoginLog } from '../support/login-log.js';
import { type Cluster, until, users } from './cluster.js';
import { landingIn } from './differential/adopter.js';
import { commandOf, inJob, jobOf, PamSite, sessionBoundMs, stepdOf, where } from './pam-site.js';

const [alice, bob] = users;
let site: PamSite;
let cluster: Cluster;

beforeAll(async () => {
  site = await PamSite.start();
  cluster = site.cluster;
});
afterEach(() => site.clear());
afterAll(() => cluster?.stop());
afterAll(keepLoginLog());

const notes = () => fs.readdirSync('/run/slurm-cgroups/logins');

describe('ssh through the PAM module', () => {
  it('puts a session into the job, says so to a person, and leaves nothing', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve();
    const before = notesBefore();
    const { code, stdout, stderr } = await server.ssh(alice, where);
    expect([code, jobOf(stdout)], server.log).toEqual([0, inJob(jobId)]);
    expect(jobOf(stdout).hierarchies.length).toBeGreaterThanOrEqual(4);
    expect(stderr).not.toContain('job'); // a program's session is not talked to
    const onTerminal = await server.ssh(alice, where, ['-tt']);
    expect(jobOf(onTerminal.stdout.replaceAll('\r', ''))).toEqual(inJob(jobId));
    await until('no note is left', () => notes().every((name) => before.includes(name)));
  });

  it('is counted by Slurm once', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve();
    server.start(alice, ['exec sleep 333']);
    const listed = () => site.listed(jobId);
    await until('the session is listed', async () => (await listed()).some((pid) => commandOf(pid).includes('333')));
    expect((await listed()).filter((pid) => commandOf(pid).includes('333'))).toHaveLength(1);
  });

  it('notes its audit session, which pam_loginuid sets after the account phase', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({ pam: site.stack([], { session: ['session required pam_loginuid.so'] }) });
    const { code, stdout } = await server.ssh(alice, ['cat /proc/self/sessionid; echo; cat /proc/self/loginuid']);
    const [session, user] = stdout.split('\n').map(Number);
    expect([code, user], server.log).toEqual([0, 1]);
    const { sessions } = await readAdoptions(liveHost(), { jobId }, deadlineIn(liveHost(), 60_000));
    expect(sessions).toContainEqual(
      expect.objectContaining({ uid: 1, state: 'adopted', auditSession: session }), // the kernel gives no number twice
    );
  });

  it('refuses a user without a job, and says why', async () => {
    await cluster.submit(bob, 'sleep 600');
    const server = await site.serve({ pam: site.stack(['wait_for_job=0']) });
    const { code, stderr } = await server.ssh(alice, where);
    expect(code).toBe(255);
    expect(stderr).toContain('Access denied by pam_slurm_cgroups: you have no active jobs on this node');
    expect((await server.ssh(bob, where)).code).toBe(0);
  });

  it('adopts the monitor with keyboard-interactive, where PAM runs in a child of it', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const config = ['AuthenticationMethods keyboard-interactive', 'KbdInteractiveAuthentication yes'];
    const server = await site.serve({ config });
    const { code, stdout } = await server.ssh(alice, where, [
      '-o',
      'BatchMode=no',
      '-o',
      'PreferredAuthentications=keyboard-interactive',
    ]);
    expect([code, jobOf(stdout)], server.log).toEqual([0, inJob(jobId)]);
  });

  it('puts every kind of session there: sftp, scp, several over one connection', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve();
    const sftp = await server.run(
      'sftp',
      [...server.words(alice, ['-b', '-'], '-P'), '127.0.0.1'],
      'get /proc/self/cgroup -\n',
    );
    expect(sftp.code, sftp.stderr).not.toBe(255);
    const copy = path.join(site.folder, 'copied');
    const scp = await server.run('scp', [...server.words(alice, ['-q'], '-P'), '127.0.0.1:/proc/self/cgroup', copy]);
    expect(scp.code, scp.stderr).toBe(0);
    expect(landingIn(fs.readFileSync(copy, 'utf8'))).toMatchObject({ place: 'job', job: `job_${jobId}` });
    const control = path.join(site.folder, 'control');
    const shared = ['-o', 'ControlMaster=auto', '-o', `ControlPath=${control}`, '-o', 'ControlPersist=20'];
    for (let time = 0; time < 3; time++)
      expect(jobOf((await server.ssh(alice, where, shared)).stdout)).toEqual(inJob(jobId));
    await server.run('ssh', ['-O', 'exit', '-o', `ControlPath=${control}`, '127.0.0.1']);
  });

  it('takes the newest of several jobs, or the one that the connection comes from', async () => {
    const first = await cluster.submit(alice, 'sleep 600');
    const second = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve();
    expect(jobOf((await server.ssh(alice, where)).stdout)).toEqual(inJob(second));
    expect(first).not.toBe(second);
    const strict = await site.serve({ pam: site.stack(['action_unknown=deny']) });
    const { code, stderr } = await strict.ssh(alice, where);
    expect(code).toBe(255);
    expect(stderr).toContain('you have 2 jobs on this node');
  });

  it('puts the session back that another module has moved', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const mover = path.join(site.folder, 'mover');
    const elsewhere = `/sys/fs/cgroup/memory/${cluster.nodeName}-elsewhere`;
    fs.mkdirSync(elsewhere);
    try {
      fs.writeFileSync(mover, `#!/bin/sh\necho "$PPID" >${elsewhere}/cgroup.procs\n`, { mode: 0o755 });
      const moved = await site.serve({
        pam: site.stack([], { session: [`session required pam_exec.so quiet ${mover}`] }),
      });
      const { code, stdout } = await moved.ssh(alice, where);
      expect([code, jobOf(stdout)], moved.log).toEqual([0, inJob(jobId)]);
      expect(stdout).not.toContain('elsewhere');
      // Without our session phase it stays where it was moved to.
      const pam = site.stack([], { session: [`session required pam_exec.so quiet ${mover}`] }).slice(0, -1); // no session phase
      expect((await (await site.serve({ pam })).ssh(alice, where)).stdout).toContain('elsewhere');
    } finally {
      await until('nobody is there', () => fs.readFileSync(`${elsewhere}/cgroup.procs`, 'utf8') === '');
      fs.rmdirSync(elsewhere);
    }
  });

  it('answers in its budget while slurmd and slurmstepd are stopped, and lets root in', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const stepd = stepdOf(jobId);
    const server = await site.serve({
      pam: site.stack(['budget=4s', 'action_adopt_failure=deny', 'action_generic_failure=deny']),
    });
    process.kill(stepd, 'SIGSTOP');
    try {
      const begun = performance.now();
      const { code } = await server.ssh(alice, where);
      expect(performance.now() - begun).toBeLessThan(sessionBoundMs);
      expect([0, 255]).toContain(code);
      expect((await server.ssh('root', ['true'])).code, server.log).toBe(0);
    } finally {
      process.kill(stepd, 'SIGCONT');
    }
    expect(jobOf((await server.ssh(alice, where)).stdout)).toEqual(inJob(jobId));
  });

  it('does not hang in a suspended job: it refuses and names it', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve();
    await cluster.run('scontrol', ['suspend', String(jobId)]);
    const freezer = `/sys/fs/cgroup/freezer/slurm_${cluster.nodeName}/uid_1/job_${jobId}/step_extern/freezer.state`;
    await until('it is suspended', () => fs.readFileSync(freezer, 'utf8').trim() === 'FROZEN');
    const { code, stderr } = await server.ssh(alice, where);
    await cluster.run('scontrol', ['resume', String(jobId)]);
    expect([code, stderr]).toEqual([255, expect.stringContaining(`your job ${jobId} on this node is suspended`)]);
    expect(jobOf((await server.ssh(alice, where)).stdout)).toEqual(inJob(jobId));
  });

  it('lets twenty at once in, each into the job', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({
      pam: site.stack(['budget=60s', 'action_adopt_failure=deny', 'action_generic_failure=deny']),
    });
    const answers = await Promise.all(Array.from({ length: 20 }, () => server.ssh(alice, where)));
    for (const { code, stdout, stderr } of answers) expect([code, jobOf(stdout)], stderr).toEqual([0, inJob(jobId)]);
  });
});

function notesBefore(): readonly string[] {
  try {
    return notes();
  } catch {
    return [];
  }
}
