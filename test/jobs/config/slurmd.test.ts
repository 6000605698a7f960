import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  findSlurmds,
  programName,
  SeveralSlurmds,
  type SlurmdProcess,
  slurmdOf,
  slurmdWords,
} from '../../../src/jobs/config/slurmd.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { configFiles } from '../../../src/machine/guarded-files.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { afterwards, isRoot, needsRoot, nodeWith, trustedFolder } from '../../support/config-sandbox.js';

describe('slurmdWords()', () => {
  test.each([
    ['slurmd', '', { configless: false }],
    [
      'slurmd -D -s',
      'PATH=/bin SLURM_CONF=/a/slurm.conf',
      { file: '/a/slurm.conf', toldBy: 'SLURM_CONF of slurmd', configless: false },
    ],
    [
      'slurmd -f /b/slurm.conf',
      'SLURM_CONF=/a/slurm.conf',
      { file: '/b/slurm.conf', toldBy: 'slurmd -f', configless: false },
    ],
    ['slurmd -Dvvf/b/slurm.conf', '', { file: '/b/slurm.conf', toldBy: 'slurmd -f', configless: false }],
    ['slurmd -f /a -f /b', '', { file: '/b', toldBy: 'slurmd -f', configless: false }],
    ['slurmd -L -f -N n1', '', { nodeName: 'n1', configless: false }],
    ['slurmd -Nn2 -n -5', '', { nodeName: 'n2', configless: false }],
    ['slurmd -Ff/x', '', { configless: false }],
    ['slurmd -- -f /b', '', { configless: false }],
    ['slurmd --conf -f -f /b', '', { file: '/b', toldBy: 'slurmd -f', configless: false }],
    ['slurmd --conf=x=y -f /b', '', { file: '/b', toldBy: 'slurmd -f', configless: false }],
    ['slurmd --systemd --conf-server ctl:6817', '', { configless: true }],
    ['slurmd --conf-s=ctl -f /b', 'SLURM_CONF=/a', { configless: true }],
    ['slurmd', 'SLURM_CONF_SERVER=ctl SLURM_CONF=/a', { configless: true }],
    [
      'slurmd --conf-server ctl',
      'SLURMD_RECONF_CONF_CACHE=/var/spool/slurmd/conf-cache',
      {
        file: '/var/spool/slurmd/conf-cache/slurm.conf',
        toldBy: 'the configuration cache of slurmd',
        configless: true,
      },
    ],
    ['slurmd -f', '', { configless: false }],
    ['', '', { configless: false }],
  ])('%j with %j', (args, environment, words) => {
    expect(slurmdWords(args.split(' '), environment.split(' '))).toEqual(words);
  });
});

describe('slurmdOf()', () => {
  const n1: SlurmdProcess = { pid: 10, nodeName: 'n1', file: '/a', configless: false };
  const n2: SlurmdProcess = { pid: 11, nodeName: 'n2', file: '/b', configless: false };
  test('takes the one of the node, or any where all read the same', () => {
    expect(slurmdOf([], 'n1')).toBeUndefined();
    expect(slurmdOf([n1, n2], 'n2')).toBe(n2);
    expect(slurmdOf([n1], 'other')).toBe(n1);
    expect(slurmdOf([n1, { ...n2, file: '/a' }], undefined)).toBe(n1);
  });
  test('does not guess', () => {
    const message = 'slurmd 10 reads "/a", slurmd 11 the default file; name the node or the file';
    expect(() => slurmdOf([n1, { pid: 11, configless: false }], undefined)).toThrow(message);
    const nodeNames = (slurmds: readonly SlurmdProcess[]) => {
      try {
        return slurmdOf(slurmds, 'other');
      } catch (error) {
        return error instanceof SeveralSlurmds ? error.nodeNames : expect.unreachable();
      }
    };
    expect(nodeNames([n1, n2])).toEqual(['n1', 'n2']);
    expect(nodeNames([n1, { pid: 11, configless: false }])).toBeUndefined();
  });
});

test.each([
  ['/usr/sbin/slurmstepd', 'slurmstepd'],
  ['/usr/sbin/slurmstepd-wlm', 'slurmstepd'],
  ['/usr/sbin/slurmd-wlm', 'slurmd'],
  ['/opt/slurm/24.11/sbin/slurmd', 'slurmd'],
  ['/opt/slurm/24.11/sbin/slurmd (deleted)', 'slurmd'],
  ['/usr/sbin/sshd', 'sshd'],
  ['/usr/lib/openssh/sshd-session', 'sshd-session'],
  ['/usr/bin/slurmstepdx', 'slurmstepdx'],
  ['slurmd-', 'slurmd-'],
])('programName() of %s is %s', (file, name) => {
  expect(programName(file)).toBe(name);
});

test('findSlurmds() says that a recording does not tell', async () => {
  const host = nodeWith({});
  const found = await findSlurmds(host, configFiles(host, deadlineIn(host, 0)));
  expect(found).toMatchObject({ slurmds: [], notes: [expect.stringContaining('a recording')] });
});

describe.skipIf(!isRoot)(`findSlurmds() on the machine (${needsRoot})`, () => {
  interface Start {
    readonly args?: readonly string[];
    readonly uid?: number;
    readonly owner?: number;
    readonly env?: Record<string, string>;
  }

  /** A program called slurmd that waits: a copy of bash, whose further arguments mean nothing to it. */
  const startSlurmd = async ({ args = [], uid = 0, owner = 0, env = {} }: Start) => {
    const program = path.join(trustedFolder(), 'slurmd');
    fs.copyFileSync('/bin/bash', program);
    fs.chownSync(program, owner, 0);
    const child = spawn(program, ['-c', 'echo up; read x', ...args], { env, uid, stdio: ['pipe', 'pipe', 'ignore'] });
    afterwards(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    return { program, pid: child.pid ?? 0 };
  };
  const find = async (pid: number) => {
    const host = liveHost();
    const found = await findSlurmds(host, configFiles(host, deadlineIn(host, 5000)));
    return found.slurmds.find((one) => one.pid === pid);
  };

  test('reads command line and environment of a slurmd', async () => {
    const { pid } = await startSlurmd({ args: ['-f', '/a/slurm.conf', '-N', 'n1'], env: { SLURM_CONF: '/b' } });
    expect(await find(pid)).toEqual({
      pid,
      nodeName: 'n1',
      file: '/a/slurm.conf',
      toldBy: 'slurmd -f',
      configless: false,
    });
    const other = await startSlurmd({ env: { SLURM_CONF: '/b/slurm.conf' } });
    expect(await find(other.pid)).toMatchObject({ file: '/b/slurm.conf', toldBy: 'SLURM_CONF of slurmd' });
  });

  test('still knows one whose program was removed by an update', async () => {
    const { pid, program } = await startSlurmd({ args: ['-f', '/a/slurm.conf'] });
    fs.rmSync(program);
    expect(await find(pid)).toMatchObject({ file: '/a/slurm.conf' });
  });

  test("is not deceived by a user's slurmd, nor by a program that is not root's", async () => {
    const user = await startSlurmd({ args: ['-f', '/evil'], uid: 65534 });
    const program = await startSlurmd({ args: ['-f', '/evil'], owner: 65534 });
    expect(await find(user.pid)).toBeUndefined();
    expect(await find(program.pid)).toBeUndefined();
  });

  test('does not wait for one whose command line cannot be read', async () => {
    await startSlurmd({});
    const live = liveHost();
    const run: typeof live.run = (program, args, options) =>
      program === '/bin/cat' ? new Promise(() => {}) : live.run(program, args, options);
    const host = { ...live, run };
    await expect(findSlurmds(host, configFiles(host, deadlineIn(host, 300)))).rejects.toThrow(
      'does not answer within 300 ms',
    );
  });
});
