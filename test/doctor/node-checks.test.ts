import { describe, expect, it } from 'vitest';
import { fail } from '../../src/doctor/check.js';
import { nodeChecks } from '../../src/doctor/node-checks.js';
import { readNode } from '../../src/jobs/node.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';
import { nodeWith } from '../support/config-sandbox.js';

async function checksOf(text: string, change: (host: Host) => Host = (host) => host) {
  const node = await readNode({ host: change(recordedHost(text)) });
  const checks = await nodeChecks(node, { isPart: false });
  return new Map(checks.map((one) => [one.name, one]));
}

describe('nodeChecks()', () => {
  it.each(recordingNames)('finds nothing wrong with the real node %s', async (name) => {
    const checks = await checksOf(loadRecording(name));
    expect([...checks.values()].filter(({ outcome }) => outcome === 'fail')).toEqual([]);
    expect(checks.get('PrologFlags')?.detail).toMatch(/^contain \(\/etc\/slurm\/slurm\.conf:\d+\)$/);
    expect(checks.get('layout')?.outcome).toBe('ok');
  });

  const changed =
    (from: string, to: string) =>
    (host: Host): Host => ({
      ...host,
      read: (file) => host.read(file).replace(from, to),
    });
  const v2 = loadRecording('slurm-26.05-v2');

  it.each([
    ['cgroup.conf for another version', 'CgroupPlugin=cgroup/v2', 'CgroupPlugin=cgroup/v1', 'CgroupPlugin'],
    ['no Contain', 'PrologFlags=contain', 'PrologFlags=alloc', 'PrologFlags'],
    [
      'a read-only mount',
      'rw,nosuid,nodev,noexec,relatime shared',
      'ro,nosuid,nodev,noexec,relatime shared',
      'cgroups',
    ],
  ])('fails on %s', async (_, from, to, name) => {
    const before = await checksOf(v2);
    expect(before.get(name)?.outcome).toBe('ok');
    const after = (await checksOf(v2, changed(from, to))).get(name);
    expect(after).toMatchObject({ outcome: 'fail', remedy: expect.stringMatching(/^.+$/) });
  });

  const slurmd = (state: string) => ({
    '/proc/300/stat': { text: `300 (slurmd) ${state} 1 ${'0 '.repeat(48)}\n` },
    '/proc/300/status': { text: 'Name:\tslurmd\nTgid:\t300\nPid:\t300\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n' },
    '/proc/300/exe': { link: '/usr/sbin/slurmd' },
    '/usr/sbin/slurmd': { text: 'ELF', mode: 0o755 },
    '/proc/stat': { text: 'btime 1\n' },
  });
  const described = async (files: Parameters<typeof nodeWith>[0], configFile?: string) => {
    const mountinfo = { text: '34 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n' };
    const host = nodeWith({
      '/proc/self/mountinfo': mountinfo,
      '/sys/fs/cgroup': {},
      '/proc/sys/kernel/hostname': { text: 'n1\n' },
      ...files,
    });
    const node = await readNode({ host, ...(configFile === undefined ? {} : { configFile }) });
    return new Map((await nodeChecks(node, { isPart: false })).map((one) => [one.name, one]));
  };

  it.each([
    ['S', 'ok', 'running'],
    ['T', 'fail', 'process 300 is stopped'],
    ['t', 'fail', 'process 300 is stopped'],
  ])('looks at the state of slurmd: %s', async (state, outcome, detail) => {
    expect((await described(slurmd(state))).get('slurmd')).toMatchObject({
      outcome,
      detail: expect.stringContaining(detail),
    });
  });

  it('warns where slurmd reads another configuration than everything else', async () => {
    const files = (own: string) => ({
      '/etc/slurm/slurm.conf': { text: 'ClusterName=a\n' },
      '/opt/slurm/slurm.conf': { text: own },
      '/opt/slurm/cgroup.conf': { text: '' },
    });
    const other = await described(files('ClusterName=b\n'), '/opt/slurm/slurm.conf');
    expect(other.get('configuration')).toMatchObject({
      outcome: 'warn',
      detail: expect.stringContaining('slurmd reads /opt/slurm/slurm.conf, but /etc/slurm/slurm.conf'),
    });
    const same = await described(files('ClusterName=a\n'), '/opt/slurm/slurm.conf');
    expect(same.get('configuration')?.outcome).toBe('ok');
  });

  it('looks at the rest where the configuration cannot be read, and says why it cannot', async () => {
    const node = await readNode({ host: recordedHost(v2) });
    const unread = fail('Cannot trust it', 'chown root');
    const checks = await nodeChecks({ ...node, configuration: undefined }, { isPart: false, unread });
    expect(checks.find(({ name }) => name === 'configuration')).toEqual({ name: 'configuration', ...unread });
    expect(checks.some(({ name }) => name === 'PrologFlags')).toBe(false);
    expect(checks.find(({ name }) => name === 'node name')?.outcome).toBe('ok');
  });
});
