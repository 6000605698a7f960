import { describe, expect, it } from 'vitest';
import { fail } from '../../src/doctor/check.js';
import { nodeChecks } from '../../src/doctor/node-checks.js';
import { readNode } from '../../src/jobs/node.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';

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

  it('looks at the rest where the configuration cannot be read, and says why it cannot', async () => {
    const node = await readNode({ host: recordedHost(v2) });
    const unread = fail('Cannot trust it', 'chown root');
    const checks = await nodeChecks({ ...node, configuration: undefined }, { isPart: false, unread });
    expect(checks.find(({ name }) => name === 'configuration')).toEqual({ name: 'configuration', ...unread });
    expect(checks.some(({ name }) => name === 'PrologFlags')).toBe(false);
    expect(checks.find(({ name }) => name === 'node name')?.outcome).toBe('ok');
  });
});
