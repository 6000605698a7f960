import { describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { limitsAt } from '../../src/cgroup/limits.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { nodeWith } from '../support/config-sandbox.js';
import { kernelTest } from '../support/test-cgroups.js';

const none = '9223372036854771712\n';
const v2 = '30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
const v1 = ['memory', 'cpu,cpuacct', 'cpuset', 'pids']
  .map((keys, at) => `${31 + at} 1 0:${27 + at} / /cg/${keys} rw - cgroup cgroup rw,${keys}\n`)
  .join('');

const limits = (
  mounts: string,
  files: Readonly<Record<string, string>>,
  places: readonly (readonly [string, string])[],
) => {
  const host = nodeWith({
    '/proc/self/mountinfo': { text: mounts },
    ...Object.fromEntries(Object.entries(files).map(([file, text]) => [file, { text }])),
  });
  return limitsAt(
    { host, hierarchies: discoverHierarchies({ host }) },
    places.map(([controllers, path]) => ({
      controllers: controllers === '' ? [] : controllers.split(','),
      path: cgroupPath(path),
    })),
  );
};

describe('limitsAt()', () => {
  it('is the tightest on the way up, on v2', () => {
    const files = {
      '/sys/fs/cgroup/job/step/memory.max': 'max\n',
      '/sys/fs/cgroup/job/memory.max': '1073741824\n',
      '/sys/fs/cgroup/job/step/cpu.max': '200000 100000\n',
      '/sys/fs/cgroup/job/cpu.max': 'max 100000\n',
      '/sys/fs/cgroup/job/step/cpuset.cpus.effective': '2-3\n',
      '/sys/fs/cgroup/job/step/pids.max': '7\n',
      '/sys/fs/cgroup/job/pids.max': '5\n',
    };
    expect(limits(v2, files, [['', '/job/step']])).toEqual({
      memoryBytes: 1_073_741_824,
      cpus: '2-3',
      cpuQuota: 2,
      pids: 5,
    });
  });

  it('asks v1 where the controller is there, else v2', () => {
    const files = {
      '/cg/memory/a/memory.limit_in_bytes': none,
      '/cg/memory/memory.limit_in_bytes': none,
      '/cg/cpu,cpuacct/b/cpu.cfs_quota_us': '150000\n',
      '/cg/cpu,cpuacct/b/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/c/pids.max': '9\n',
    };
    expect(
      limits(v2 + v1, files, [
        ['', '/c'],
        ['memory', '/a'],
        ['cpu,cpuacct', '/b'],
      ]),
    ).toEqual({ memoryBytes: 'max', cpuQuota: 1.5, pids: 9 });
  });

  it('leaves out what is not there', () => {
    expect(limits(v2, {}, [['', '/gone']])).toEqual({});
    expect(limits(v2, {}, [['freezer', '/x']])).toEqual({});
    expect(limits(v2, { '/sys/fs/cgroup/x/cpuset.cpus.effective': '\n' }, [['', '/x']])).toEqual({});
  });
});

kernelTest('limitsAt() reads what the kernel was told', ['pids', 'memory'], async (area) => {
  const [pids, memory] = ['pids', 'memory'].map((key) => area.at(key).create('limited'));
  if (pids === undefined || memory === undefined) throw new Error('no cgroup was made');
  area.host.write(`${pids.directory}/pids.max`, '41');
  area.host.write(`${memory.directory}/memory.limit_in_bytes`, String(64 << 20));
  const places = [pids.create('below'), memory.create('below')].map(({ hierarchy, path }) => ({
    controllers: hierarchy.controllers,
    path,
  }));
  const found = limitsAt(area, places);
  expect([found.pids, found.memoryBytes]).toEqual([41, 64 << 20]);
});
