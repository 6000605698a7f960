// Nodes of other sites, described in a few lines: which node and which tree they are, and what is not known on them.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type NodeFile, recordingOf } from '../../support/config-sandbox.js';
import { runProgramFile } from '../../support/program-run.js';

let file: string;
beforeEach(() => {
  file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-nodes-')), 'node.jsonl');
});
afterEach(() => fs.rmSync(path.dirname(file), { recursive: true }));

type Files = Readonly<Record<string, NodeFile>>;

function run(files: Files, ...words: readonly string[]) {
  fs.writeFileSync(file, recordingOf(files));
  return runProgramFile(...words, '--from', file);
}

const process = (pid: number, cgroup: string, uid = 1000): Files => ({
  [`/proc/${pid}`]: { uid },
  [`/proc/${pid}/cgroup`]: { text: cgroup },
  [`/proc/${pid}/comm`]: { text: 'sleep\n' },
  [`/proc/${pid}/stat`]: { text: `${pid} (sleep) S 1 ${'0 '.repeat(17)}1000 ${'0 '.repeat(30)}\n` },
  [`/proc/${pid}/status`]: {
    text: `Name:\tsleep\nTgid:\t${pid}\nPid:\t${pid}\nPPid:\t1\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nGid:\t0\t0\t0\t0\nThreads:\t1\n`,
  },
  [`/proc/${pid}/exe`]: { link: '/usr/bin/sleep' },
  [`/proc/${pid}/task/${pid}`]: {},
});

const text = (value: string): NodeFile => ({ text: value });
const base: Files = {
  '/proc/sys/kernel/hostname': text('node1\n'),
  '/proc/uptime': text('50000.0 100000.0\n'),
  '/proc/net/unix': text('Num\n'),
  '/etc/passwd': text('root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n'),
  '/etc/slurm/slurm.conf': text('PrologFlags=Contain\nNodeName=node[1-4]\n'),
  '/etc/slurm/cgroup.conf': text(''),
  '/var/spool/slurmd/cred_state': text(''),
};
const v2: Files = { ...base, '/proc/self/mountinfo': text('34 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n') };
const socket = '/var/spool/slurmd/node1_5.4294967292';

describe('A slurmstepd listens, and no cgroup of its job is found', () => {
  const listening: Files = {
    ...v2,
    ...process(90, '0::/system.slice/sshd.service\n'),
    '/sys/fs/cgroup/system.slice/sshd.service/cgroup.procs': text('90\n'),
    [socket]: { text: '', mode: 0o777 },
    '/proc/net/unix': text(`Num\n0000: 00000002 00000000 00010000 0001 01 9 ${socket}\n`),
  };
  const note = 'slurmstepd of job 5 listens here, but no cgroup of it was found';

  it('adopt does not call that no job', () => {
    const { stdout } = run(listening, 'adopt', '90', '--dry-run');
    expect(stdout).toContain(note);
    expect(stdout).toMatch(/^ignore/);
    expect(stdout).not.toMatch(/no active jobs|has no jobs/);
  });

  it('list, verify and clean say so', () => {
    expect(run(listening, 'list').stdout).toContain(`note: ${note}`);
    expect(run(listening, 'list', '--job', '5').stderr).toContain(note);
    expect(run(listening, 'verify', '90').stdout).toContain(`${note}: whether this process is in it is not known`);
    const clean = run(listening, 'clean', '5', '--dry-run');
    expect(clean.exitCode).toBe(1);
    expect(clean.stdout).toContain(`Cannot tell what belongs to job 5: ${note}`);
  });

  it('doctor fails the layout, and names no empty node', () => {
    const { stdout } = run(listening, 'doctor');
    expect(stdout).toContain(note);
    expect(stdout).not.toMatch(/no job (?:is|has run)/);
  });

  it('a socket that a crash left behind is no job', () => {
    const { stdout } = run({ ...listening, '/proc/net/unix': text('Num\n') }, 'adopt', '90', '--dry-run');
    expect(stdout).toContain('deny: You have no active jobs on this node');
  });
});

describe('A node that was just booted', () => {
  it('has no job, and that is known: v1 without a directory of Slurm', () => {
    const mounts = ['memory', 'freezer', 'name=systemd']
      .map(
        (name, at) => `${40 + at} 31 0:${40 + at} / /sys/fs/cgroup/${name.slice(-7)} rw - cgroup cgroup rw,${name}\n`,
      )
      .join('');
    const files = {
      ...base,
      ...process(90, '3:name=systemd:/system.slice/sshd.service\n2:memory:/\n1:freezer:/\n'),
      '/proc/self/mountinfo': text(mounts),
      '/sys/fs/cgroup/memory/x': {},
      '/sys/fs/cgroup/freezer/x': {},
      '/sys/fs/cgroup/systemd/x': {},
    };
    expect(run(files, 'adopt', '90', '--dry-run').stdout).toContain('deny: You have no active jobs on this node');
    expect(run(files, 'list').exitCode).toBe(0);
  });
});

describe('A configuration that is not trusted', () => {
  const place = '/sys/fs/cgroup/system.slice/slurmstepd.scope/job_5';
  const files: Files = {
    ...v2,
    ...process(77, '0::/system.slice/slurmstepd.scope/job_5/step_0/user/task_0\n'),
    [`${place}/step_extern/user/task_0/cgroup.procs`]: text(''),
    [`${place}/step_0/user/task_0/cgroup.procs`]: text('77\n'),
    '/etc/slurm/slurm.conf': { text: 'NodeName=node1\n', uid: 1000 },
  };

  it('stops neither list nor verify, which say so', () => {
    const list = run(files, 'list');
    expect([list.exitCode, list.stderr]).toEqual([0, '']);
    expect(list.stdout).toContain('job 5');
    expect(list.stdout).toContain('note: Cannot trust "/etc/slurm/slurm.conf"');
    const verify = run(files, 'verify', '77', '--job', '5');
    expect(verify.exitCode).toBe(0);
    expect(verify.stdout).toContain('note: Cannot trust "/etc/slurm/slurm.conf"');
  });

  it('stops adopt', () => {
    expect(run(files, 'adopt', '77', '--dry-run').exitCode).toBe(2);
  });
});

describe('strays, beside containers', () => {
  const idle = (cgroup: string, uid: number, uidMap: string): Files => ({
    ...v2,
    ...process(1, '0::/init.scope\n', 0),
    ...process(90, `0::${cgroup}\n`, uid),
    '/proc/90/uid_map': text(uidMap),
    '/sys/fs/cgroup/system.slice/slurmstepd.scope/system/cgroup.procs': text(''),
  });
  const host = '         0          0 4294967295\n';
  it.each([
    ['a pod', '/kubepods.slice/kubepods-pod0.slice/cri-1.scope', 65532, host, 0],
    [
      'nspawn -U',
      '/machine.slice/systemd-nspawn@c.service/payload',
      1878982657,
      '         0 1878982656      65536\n',
      0,
    ],
    ['a remapped Docker container', '/system.slice/docker-1.scope', 101000, '         0     100000      65536\n', 0],
    ['a session', '/system.slice/sshd.service', 1000, host, 1],
    [
      'rootless podman',
      '/user.slice/user-1005.slice/session-3.scope',
      165535,
      '         0       1005          1\n         1     100000      65536\n',
      1,
    ],
    [
      "a user's own range",
      '/user.slice/user-1005.slice/session-3.scope',
      101000,
      '         0     100000      65536\n',
      1,
    ],
  ])('%s', (_, cgroup, uid, uidMap, exitCode) => {
    expect(run(idle(cgroup, uid, uidMap), 'strays').exitCode).toBe(exitCode);
  });
});
