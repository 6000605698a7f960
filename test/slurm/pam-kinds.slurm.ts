// Sessions of other kinds through the PAM module in a real sshd: who accepted the connection, what it is used for, and
// whether it is one of TCP at all.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, until, users } from './cluster.js';
import { landingIn, landingOf } from './differential/adopter.js';
import { commandOf, inJob, jobOf, PamSite, where } from './pam-site.js';
import { below } from './session-processes.js';
import type { SshServer } from './ssh-server.js';

const root = path.resolve(import.meta.dirname, '../..');
const [alice] = users;
const uid = 1;
let site: PamSite;
let cluster: Cluster;

beforeAll(async () => {
  site = await PamSite.start();
  cluster = site.cluster;
});
afterEach(() => site.clear());
afterAll(() => cluster?.stop());

const strict = ['budget=60s', 'action_adopt_failure=deny', 'action_generic_failure=deny'];

/** The processes of a connection are all in the job, and what accepted it is not. */
async function expectInJob(server: SshServer, jobId: number): Promise<void> {
  const listed = await site.listed(jobId);
  const ofUser = below(server).filter((one) => one.uid === uid);
  expect(ofUser.length, server.log).toBeGreaterThan(0);
  for (const { pid } of ofUser) {
    expect(landingOf(pid), commandOf(pid)).toMatchObject({ place: 'job', job: `job_${jobId}` });
    expect(listed).toContain(pid);
  }
  expect(landingOf(server.pid)).toMatchObject({ place: 'outside' });
}

describe('a connection that sshd did not accept itself', () => {
  it.each(['inetd', 'socket'] as const)('%s: its session is in the job, and the listener is not', async (listens) => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({ listens, pam: site.stack(strict) });
    const { code, stdout } = await server.ssh(alice, where);
    expect([code, jobOf(stdout)], server.log).toEqual([0, inJob(jobId)]);
    const session = await server.open(alice, ['echo; exec cat']);
    await expectInJob(server, jobId);
    await session.close();
  });

  it('over pipes, without TCP: the caller is the session', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({ pam: site.stack(strict) });
    const sshd = `/usr/sbin/sshd -i -E ${server.folder}/log-of-pipes -f ${server.folder}/sshd_config`;
    const proxy = `ProxyCommand=nsenter -t ${server.pid} -m ${sshd}`;
    const { code, stdout, stderr } = await server.ssh(alice, where, ['-o', proxy]);
    const log = () => fs.readFileSync(path.join(server.folder, 'log-of-pipes'), 'utf8');
    expect([code, jobOf(stdout)], `${stderr}\n${log()}`).toEqual([0, inJob(jobId)]);
    expect(log()).toMatch(/UNKNOWN port 65535/);
  });
});

it('rsync: what it starts here is in the job', async () => {
  const jobId = await cluster.submit(alice, 'sleep 600');
  const server = await site.serve({ pam: site.stack(strict) });
  const [source, place] = [path.join(server.folder, 'source'), path.join(server.folder, 'place')];
  fs.writeFileSync(source, 'copied');
  fs.writeFileSync(place, '');
  fs.chmodSync(place, 0o666);
  const ssh = ['ssh', ...server.words(alice)].join(' ');
  const started = `cat /proc/self/cgroup >${place}; rsync`;
  const words = ['-e', ssh, `--rsync-path=${started}`, `127.0.0.1:${source}`, `${source}.copy`];
  const { code, stderr } = await server.run('rsync', words);
  expect([code, fs.readFileSync(`${source}.copy`, 'utf8')], `${stderr}\n${server.log}`).toEqual([0, 'copied']);
  expect(landingIn(fs.readFileSync(place, 'utf8'))).toMatchObject({ place: 'job', job: `job_${jobId}` });
});

describe('a connection without a command', () => {
  it('ssh -N -L: its process is in the job before it forwards anything', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({ pam: site.stack(strict) });
    const echo = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    await new Promise((fulfil) => echo.once('listening', fulfil));
    const { port } = echo.address() as net.AddressInfo;
    const local = path.join(server.folder, 'forwarded');
    try {
      const client = server.start(alice, [], ['-N', '-L', `${local}:127.0.0.1:${port}`]);
      await until('it forwards', () => fs.existsSync(local) || client.exitCode !== null);
      const socket = net.connect(local);
      socket.write('hello');
      const [answer] = await new Promise<unknown[]>((fulfil) => socket.once('data', (...words) => fulfil(words)));
      expect(String(answer)).toBe('hello');
      await expectInJob(server, jobId);
      socket.destroy();
    } finally {
      echo.close();
    }
  });

  it('ssh -W: the same, and without a job there is no way through', async () => {
    const server = await site.serve({ pam: site.stack([...strict, 'wait_for_job=0']) });
    const echo = net.createServer((socket) => socket.end('through')).listen(0, '127.0.0.1');
    await new Promise((fulfil) => echo.once('listening', fulfil));
    const { port } = echo.address() as net.AddressInfo;
    const through = () => server.ssh(alice, [], ['-W', `127.0.0.1:${port}`]);
    try {
      expect(await through()).toMatchObject({
        code: 255,
        stdout: '',
        stderr: expect.stringContaining('Access denied'),
      });
      await cluster.submit(alice, 'sleep 600');
      expect(await through()).toMatchObject({ code: 0, stdout: 'through' });
    } finally {
      echo.close();
    }
  });
});

describe('a session of a person', () => {
  /** `node7$ echo $SLURM_JOB_ID` and what follows: what is typed there, and what is answered, with `N` for each number and the names of this test. */
  function shownByReadme(): { readonly typed: readonly string[]; readonly answers: readonly string[] } {
    const text = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
    const [, block = ''] = /A session then.*?```console\n(.*?)```/s.exec(text) ?? [];
    const lines = block.split('\n').filter((line) => line !== '');
    const typed = lines.flatMap((line) => /^node7\$ (.*)$/.exec(line)?.[1] ?? []);
    return { typed, answers: lines.filter((line) => !/^\w+\$ /.test(line)).map(numberless) };
  }
  const numberless = (line: string) =>
    line.replaceAll(/\d+/g, 'N').replace('(bash)', '(sh)').replace(` of ${alice} `, ' of alice ');

  it('is as README.md shows it', async () => {
    const { typed, answers } = shownByReadme();
    expect([typed.length, answers.length]).toEqual([2, 4]);
    // What its user can read, whoever owns the clone.
    const bin = path.join(site.folder, 'bin');
    for (const one of ['dist', 'node_modules/commander'])
      fs.cpSync(path.join(root, one), path.join(site.folder, one), { recursive: true });
    fs.mkdirSync(bin, { mode: 0o755 });
    const command = `#!${process.execPath}\nimport ${JSON.stringify(path.join(site.folder, 'dist/bin/slurm-cgroups.js'))};\n`;
    fs.writeFileSync(path.join(bin, 'slurm-cgroups.mjs'), command, { mode: 0o755 });
    fs.symlinkSync('slurm-cgroups.mjs', path.join(bin, 'slurm-cgroups'));
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await site.serve({ pam: site.stack([...strict, 'wait_for_job=0']) });
    const input = [`PATH=${bin}:$PATH`, ...typed, 'exit', ''].join('\n');
    const { code, stdout } = await server.run('ssh', [...server.words(alice, ['-tt']), '127.0.0.1'], input);
    const said = stdout
      .replaceAll('\r', '')
      .split('\n')
      .map((line) => line.replace(/^(?:\$ )+/, '')); // its prompt
    expect(code, stdout).toBe(0);
    expect(said, stdout).toContain(String(jobId));
    expect(said.map(numberless)).toEqual(expect.arrayContaining(answers.slice(0, 3)));
    await cluster.run('scancel', [String(jobId)]);
    await until('it has ended', async () => (await cluster.run('squeue', ['-h'])).trim() === '');
    const refused = await server.ssh(alice, []);
    expect([refused.code, refused.stderr]).toEqual([255, expect.stringContaining(answers[3] ?? '?')]);
  });
});
