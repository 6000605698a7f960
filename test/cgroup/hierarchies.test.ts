import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cgroupAt, directoryOf, discoverHierarchies, hierarchyOf } from '../../src/cgroup/hierarchies.js';
import { hierarchyKey, parseProcCgroup } from '../../src/cgroup/membership.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { ParseError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { anyInnerPath, anyPath } from '../support/any-cgroups.js';

function nodeWith(mountinfo: string): Host {
  const header = { recording: 'slurm-cgroups', version: 1, self: { pid: 4711, uid: 0 } };
  return recordedHost(
    [header, { read: '/proc/self/mountinfo', text: mountinfo }].map((line) => JSON.stringify(line)).join('\n'),
  );
}

const lines = {
  tmpfs: '30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n',
  memory: '31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n',
  cpu: '32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n',
  systemd: '33 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n',
  hybrid: '34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n',
  unified: '35 22 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
};

describe('discoverHierarchies()', () => {
  test.each([
    ['legacy', lines.tmpfs + lines.memory + lines.cpu, ['memory', 'cpu,cpuacct']],
    ['hybrid', lines.tmpfs + lines.memory + lines.systemd + lines.hybrid, ['memory', 'name=systemd', 'unified']],
    ['unified', lines.unified, ['unified']],
  ])('tells %s nodes', (mode, text, keys) => {
    const found = discoverHierarchies({ host: nodeWith(text) });
    expect(found.mode).toBe(mode);
    expect(found.all.map(({ key }) => key)).toEqual(keys);
  });

  test('finds by controller, by key and by name; an absent controller is undefined', () => {
    const found = discoverHierarchies({
      host: nodeWith(lines.tmpfs + lines.memory + lines.cpu + lines.systemd + lines.hybrid),
    });
    expect(found.get('cpuacct')?.mountPoint).toBe('/sys/fs/cgroup/cpu,cpuacct');
    expect(found.get('cpu,cpuacct')).toBe(found.get('cpu'));
    expect(found.get('name=systemd')?.mountPoint).toBe('/sys/fs/cgroup/systemd');
    expect(found.get('unified')?.version).toBe(2);
    expect(found.get('freezer')).toBeUndefined();
    expect(found.get('constructor')).toBeUndefined();
  });

  test.each<[string, string, string | undefined, string]>([
    [
      'the usual root',
      '36 22 0:28 / /cgroup/memory rw - cgroup cgroup rw,memory\n',
      undefined,
      '/sys/fs/cgroup/memory',
    ],
    ['CgroupMountpoint', '36 22 0:28 / /cgroup/memory rw - cgroup cgroup rw,memory\n', '/cgroup', '/cgroup/memory'],
    [
      'CgroupMountpoint with a slash behind it',
      '36 22 0:28 / /cgroup/memory rw - cgroup cgroup rw,memory\n',
      '/cgroup/',
      '/cgroup/memory',
    ],
    [
      'not a folder of a like name',
      '36 22 0:28 / /sys/fs/cgroup2/memory rw - cgroup cgroup rw,memory\n',
      undefined,
      '/sys/fs/cgroup/memory',
    ],
    ['the usual root of everything', '36 22 0:28 /x /mem rw - cgroup cgroup rw,memory\n', '/', '/sys/fs/cgroup/memory'],
    [
      'the one that shows more',
      '36 22 0:28 /docker/1 /sys/fs/cgroup/m2 rw - cgroup cgroup rw,memory\n',
      undefined,
      '/sys/fs/cgroup/memory',
    ],
    [
      'the writable one',
      '36 22 0:28 / /sys/fs/cgroup/m2 ro - cgroup cgroup rw,memory\n',
      undefined,
      '/sys/fs/cgroup/memory',
    ],
  ])('prefers, where a hierarchy is mounted twice: %s', (_, other, cgroupMountpoint, mountPoint) => {
    for (const text of [lines.tmpfs + lines.memory + other, lines.tmpfs + other + lines.memory]) {
      const options = cgroupMountpoint === undefined ? {} : { cgroupMountpoint };
      const found = discoverHierarchies({ host: nodeWith(text), ...options });
      expect(found.all.map((one) => one.mountPoint)).toEqual([mountPoint]);
    }
  });

  test('takes the only mount there is, wherever it is', () => {
    const found = discoverHierarchies({ host: nodeWith('36 22 0:28 / /cgroup/memory rw - cgroup cgroup rw,memory\n') });
    expect(found.get('memory')?.mountPoint).toBe('/cgroup/memory');
  });

  test('takes the mount that can be seen where one lies over another', () => {
    const over = '36 31 0:28 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n';
    expect(discoverHierarchies({ host: nodeWith(lines.tmpfs + lines.memory + over) }).get('memory')).toMatchObject({
      root: '/docker/1',
      readOnly: true,
    });
    // Two mounts beside each other at one point, which old kernels allow: the later one is seen.
    const beside = '36 30 0:28 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';
    expect(discoverHierarchies({ host: nodeWith(lines.tmpfs + lines.memory + beside) }).get('memory')?.root).toBe(
      '/docker/1',
    );
  });

  test('of a node without cgroups is ERR_NO_CGROUPS', () => {
    expect(() => discoverHierarchies({ host: nodeWith('22 1 8:1 / / rw - ext4 /dev/sda1 rw\n') })).toThrow(
      expect.objectContaining({ code: 'ERR_NO_CGROUPS' }),
    );
    expect(() => discoverHierarchies({ host: nodeWith('') })).toThrow(
      expect.objectContaining({ code: 'ERR_NO_CGROUPS' }),
    );
  });

  test('of a damaged table is a ParseError', () => {
    expect(() => discoverHierarchies({ host: nodeWith(lines.memory.slice(0, -1)) })).toThrow(ParseError);
  });

  test('of this machine finds a directory for every membership of this process', (context) => {
    const host = liveHost();
    let found: ReturnType<typeof discoverHierarchies>;
    try {
      found = discoverHierarchies();
    } catch {
      return context.skip('no cgroups are mounted here');
    }
    for (const membership of parseProcCgroup(host.read('/proc/self/cgroup'))) {
      const hierarchy = hierarchyOf(found, membership);
      if (hierarchy === undefined) continue;
      expect(hierarchy.key).toBe(hierarchyKey(membership.controllers));
      const directory = directoryOf(hierarchy, membership.path);
      if (directory !== undefined)
        expect(host.read(`${directory}/cgroup.procs`).split('\n')).toContain(String(host.self().pid));
    }
  });
});

test('hierarchyOf() finds co-mounted controllers in whichever order /proc names them', () => {
  const found = discoverHierarchies({ host: nodeWith(lines.tmpfs + lines.cpu + lines.systemd + lines.hybrid) });
  const of = (text: string) => parseProcCgroup(text).map((one) => hierarchyOf(found, one)?.mountPoint);
  expect(of('2:cpuacct,cpu:/a\n1:name=systemd:/\n0::/\n5:memory:/\n2:cpu:/\n')).toEqual([
    '/sys/fs/cgroup/cpu,cpuacct',
    '/sys/fs/cgroup/systemd',
    '/sys/fs/cgroup/unified',
    undefined,
    undefined,
  ]);
});

test.each<[string, string, string, string | undefined]>([
  ['/sys/fs/cgroup/memory', '/', '/slurm/uid_1000', '/sys/fs/cgroup/memory/slurm/uid_1000'],
  ['/sys/fs/cgroup/memory', '/', '/', '/sys/fs/cgroup/memory'],
  ['/', '/', '/a', '/a'],
  ['/m', '/docker/1', '/docker/1', '/m'],
  ['/m', '/docker/1', '/docker/1/a', '/m/a'],
  ['/m', '/docker/1', '/docker/12/a', undefined],
  ['/m', '/docker/1', '/docker', undefined],
  ['/m', '/docker/1', '/', undefined],
  ['/m', '/', '/../a', undefined],
  ['/m', '/..', '/../a', '/m/a'],
  ['/m', '/..', '/..', '/m'],
  ['/m', '/..', '/a', undefined],
  ['/m', '/..', '/../..', undefined],
  ['/m', '/../..', '/../../a/b', '/m/a/b'],
  ['/m', '/a', '/a/../b', undefined],
  ['/m x', '/', '/a b:c', '/m x/a b:c'],
])('directoryOf() the mount %s of root %s: %s lies at %s', (mountPoint, root, cgroup, directory) => {
  expect(directoryOf({ mountPoint, root: cgroupPath(root) }, cgroupPath(cgroup))).toBe(directory);
});

test('directoryOf() never leads out of the mount', () => {
  fc.assert(
    fc.property(anyPath, anyPath, anyPath, (mountPoint, root, cgroup) => {
      const directory = directoryOf({ mountPoint, root }, cgroup);
      if (directory === undefined) return;
      expect(path.posix.relative(path.posix.normalize(mountPoint), path.posix.normalize(directory))).not.toMatch(
        /^\.\.(\/|$)/,
      );
    }),
    { numRuns: 300 },
  );
});

test('cgroupAt() is directoryOf() the other way round', () => {
  const anyMountPoint = fc.oneof(anyInnerPath, fc.constant('/'));
  const place = fc.record({ mountPoint: anyMountPoint, root: anyPath, below: anyInnerPath });
  fc.assert(
    fc.property(place, ({ mountPoint, root, below }) => {
      const cgroup = cgroupPath(root === '/' ? below : below === '/' ? root : `${root}${below}`);
      const directory = directoryOf({ mountPoint, root }, cgroup);
      expect(directory).toBeDefined();
      expect(cgroupAt({ mountPoint, root }, directory ?? '')).toBe(cgroup);
    }),
    { numRuns: 300 },
  );
});
