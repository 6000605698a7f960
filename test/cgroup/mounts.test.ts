import fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CgroupMount, parseCgroupMounts, parseMountInfo } from '../../src/cgroup/mounts.js';
import { ParseError } from '../../src/machine/errors.js';
import { decodeKernelText } from '../../src/machine/kernel-text.js';
import { anyControllers, anyPath, anyText } from '../support/any-cgroups.js';

/** Mount in short: version, mount point, root, controllers, and `ro` where it is. */
const short = (text: string) =>
  parseCgroupMounts(text).map((one) =>
    [`v${one.version}`, one.mountPoint, one.root, one.controllers.join() || '-', ...(one.readOnly ? ['ro'] : [])].join(
      ' ',
    ),
  );

describe('parseCgroupMounts() reads', () => {
  test('a node of Slurm 24.11 on v1, with co-mounted controllers', () => {
    const text = `37 32 0:32 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,inode64
38 37 0:33 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
39 37 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 37 0:35 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
42 37 0:37 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
45 37 0:40 / /sys/fs/cgroup/net_cls,net_prio rw,relatime - cgroup cgroup rw,net_cls,net_prio
50 37 0:45 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
`;
    expect(short(text)).toEqual([
      'v1 /sys/fs/cgroup/cpuset / cpuset',
      'v1 /sys/fs/cgroup/cpu,cpuacct / cpu,cpuacct',
      'v1 /sys/fs/cgroup/memory / memory',
      'v1 /sys/fs/cgroup/freezer / freezer',
      'v1 /sys/fs/cgroup/net_cls,net_prio / net_cls,net_prio',
      'v1 /sys/fs/cgroup/systemd / name=systemd',
    ]);
  });

  test('systemd in hybrid mode (Debian 10)', () => {
    const text = `24 18 0:20 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
25 24 0:21 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
26 24 0:22 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
`;
    expect(short(text)).toEqual([
      'v2 /sys/fs/cgroup/unified / -',
      'v1 /sys/fs/cgroup/systemd / name=systemd',
      'v1 /sys/fs/cgroup/cpu,cpuacct / cpu,cpuacct',
    ]);
  });

  test.each([
    [
      'a unified node (Debian 13)',
      '42 36 0:35 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:6 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot,memory_hugetlb_accounting',
      'v2 /sys/fs/cgroup / -',
    ],
    [
      'a docker container on v1',
      '1190 1187 0:31 /docker/0123 /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,memory',
      'v1 /sys/fs/cgroup/memory /docker/0123 memory ro',
    ],
    [
      'a container on v2',
      '980 975 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate',
      'v2 /sys/fs/cgroup / - ro',
    ],
    [
      'a host mount seen from a cgroup namespace',
      '980 975 0:28 /../.. /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw',
      'v2 /sys/fs/cgroup /../.. -',
    ],
    [
      'a read-only file system',
      '38 37 0:33 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup ro,cpuset',
      'v1 /sys/fs/cgroup/cpuset / cpuset ro',
    ],
    [
      'CgroupMountpoint=/cgroup of RHEL 6',
      '20 19 0:20 / /cgroup/freezer rw,relatime - cgroup none rw,freezer',
      'v1 /cgroup/freezer / freezer',
    ],
    [
      'a named hierarchy with release agent (RHEL 7)',
      '24 23 0:20 / /sys/fs/cgroup/systemd rw,nosuid shared:8 - cgroup cgroup rw,xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd',
      'v1 /sys/fs/cgroup/systemd / name=systemd',
    ],
    [
      'SELinux, labelled',
      '33 24 0:29 / /sys/fs/cgroup/pids rw shared:17 - cgroup cgroup rw,seclabel,pids',
      'v1 /sys/fs/cgroup/pids / pids',
    ],
    [
      'SELinux, with a context whose categories hold commas',
      '33 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,context="system_u:object_r:cgroup_t:s0:c1,c22,c333",pids',
      'v1 /sys/fs/cgroup/pids / pids',
    ],
    [
      'clone_children and cpuset_v2_mode',
      '1 2 0:3 / /c rw - cgroup c rw,cpuset,noprefix,clone_children,cpuset_v2_mode',
      'v1 /c / cpuset',
    ],
    ['favordynmods', '1 2 0:3 / /c rw - cgroup c rw,favordynmods,memory', 'v1 /c / memory'],
    ['the debug controller', '1 2 0:3 / /c rw - cgroup c rw,debug', 'v1 /c / debug'],
    ['a name and a controller', '1 2 0:3 / /c rw - cgroup c rw,freezer,name=slurm', 'v1 /c / freezer,name=slurm'],
    [
      'several optional fields',
      '1 2 0:3 / /c rw shared:1 master:2 propagate_from:3 unbindable - cgroup2 c rw',
      'v2 /c / -',
    ],
    ['an empty source', '1 2 0:3 / /c rw - cgroup  rw,memory', 'v1 /c / memory'],
    ['a source that is a dash', '1 2 0:3 / /c rw - cgroup - rw,memory', 'v1 /c / memory'],
    ['blanks, tabs, line breaks and backslashes', '1 2 0:3 /a\\040b\\011c\\012 /m\\134p\\043 rw - cgroup2 c rw', null],
    [
      'a mount point with colons and terminal escapes',
      '1 2 0:3 /a:b /m:\u001b[31m rw - cgroup2 c rw',
      'v2 /m:\u001b[31m /a:b -',
    ],
    ['bytes that are not UTF-8', '1 2 0:3 /\udcff /m\udcfe rw - cgroup2 c rw', 'v2 /m\udcfe /\udcff -'],
    ['the root of everything', '1 2 0:3 / / rw - cgroup2 c rw', 'v2 / / -'],
  ])('%s', (_, line, expected) => {
    if (expected === null)
      expect(() => parseCgroupMounts(`${line}\n`)).toThrow(ParseError); // no cgroup has a line break in its name
    else expect(short(`${line}\n`)).toEqual([expected]);
  });
});

test('parseCgroupMounts() decodes octal escapes, also those that look like more', () => {
  const text = '1 2 0:3 /a\\040b\\134040 /m\\011p\\012q\\043\\134 rw - cgroup2 c rw\n';
  expect(parseCgroupMounts(text)).toMatchObject([{ root: '/a b\\040', mountPoint: '/m\tp\nq#\\' }]);
});

test('parseCgroupMounts() passes over other file systems, whatever they are called', () => {
  const text = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 0:6 / /mnt/cgroup\\040-\\040cgroup rw - fuse.cgroup cgroup rw,memory
25 22 0:7 / /mnt/x rw - nfs cgroup2:/export rw
26 22 0:8 net:[4026532000] /run/netns/a rw - nsfs nsfs rw
27 22 0:9 / /mnt/cgroup3 rw - cgroup3 cgroup rw,memory
28 22 0:10 / /mnt/gone//deleted rw - tmpfs tmpfs rw
`;
  expect(parseCgroupMounts(text)).toEqual([]);
  expect(parseCgroupMounts('')).toEqual([]);
});

test('parseCgroupMounts() leaves out what another mount hides', () => {
  const tmpfs = '30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n';
  const memory = '31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';
  const root = '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n';
  const here = 'v1 /sys/fs/cgroup/memory / memory';
  expect(short(root + tmpfs + memory)).toEqual([here]);
  // The order of the lines says nothing: after switch_root the root file system is often mounted later.
  expect(short(tmpfs + memory + root)).toEqual([here]);
  // Over the very point, by another cgroup mount and by something else.
  expect(
    short(`${root}${tmpfs}${memory}32 31 0:29 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n`),
  ).toEqual(['v1 /sys/fs/cgroup/memory /docker/1 memory ro']);
  expect(short(`${root}${tmpfs}${memory}32 31 0:50 / /sys/fs/cgroup/memory rw - tmpfs none rw\n`)).toEqual([]);
  // Over a folder above: on the tmpfs itself, and on the folder that holds the tmpfs.
  expect(short(`${root}${tmpfs}${memory}33 30 0:35 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n`)).toEqual([
    'v2 /sys/fs/cgroup / -',
  ]);
  expect(short(`${root}${tmpfs}${memory}33 22 0:51 / /sys/fs rw - tmpfs none rw\n`)).toEqual([]);
  // Beside it, and below it, nothing is hidden.
  expect(short(`${root}${tmpfs}${memory}33 30 0:51 / /sys/fs/cgroup/mem rw - tmpfs none rw\n`)).toEqual([here]);
  expect(short(`${root}${tmpfs}${memory}33 31 0:51 / /sys/fs/cgroup/memory/slurm rw - tmpfs none rw\n`)).toEqual([
    here,
  ]);
});

test.each<[string, string, number]>([
  ['a text cut off in a line', '38 37 0:33 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cp', 1],
  ['a text cut off in the second line', '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n38 37 0:33 / /sys', 2],
  ['a line without a separator', '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n38 37 0:33 / /sys rw cgroup cgroup rw\n', 2],
  ['an empty line', '\n', 1],
  ['too few fields', '38 37 / - cgroup cgroup rw,cpuset\n', 1],
  ['no super options', '38 37 0:33 / /c rw - cgroup cgroup\n', 1],
  ['a relative mount point', '38 37 0:33 / c rw - cgroup2 cgroup rw\n', 1],
  ['a root that is no path', '38 37 0:33 c /c rw - cgroup2 cgroup rw\n', 1],
  ['NUL bytes', '\0\0\0\n', 1],
  ['an ELF header', '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\u007fELF\u0002\udcff\n', 2],
])('parseCgroupMounts() refuses %s and names the line', (_, text, line) => {
  const parse = () => parseCgroupMounts(text);
  expect(parse).toThrow(ParseError);
  expect(parse).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line } }));
});

test('parseCgroupMounts() reads the table of this machine', () => {
  const text = decodeKernelText(fs.readFileSync('/proc/self/mountinfo'));
  const types = text.split('\n').filter((line) => / - cgroup2? /.test(line));
  expect(parseCgroupMounts(text).length).toBeLessThanOrEqual(types.length);
  for (const mount of parseCgroupMounts(text)) expect(fs.statSync(mount.mountPoint).isDirectory()).toBe(true);
});

/** As fs/seq_file.c writes names: blank, tab, line break, backslash (and `#`) as three octal digits. */
function mangle(name: string): string {
  return name.replace(/[ \t\n\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

function format(mounts: readonly CgroupMount[]): string {
  return mounts
    .map(({ version, mountPoint, root, controllers, readOnly }, at) => {
      const type = version === 1 ? 'cgroup' : 'cgroup2';
      const options = [readOnly ? 'ro' : 'rw', 'relatime'].join();
      return `${at + 30} 22 0:${at + 27} ${mangle(root)} ${mangle(mountPoint)} ${options} shared:${at} - ${type} ${type} ${['rw', ...controllers].join()}\n`;
    })
    .join('');
}

const anyMount: fc.Arbitrary<CgroupMount> = fc
  .record({
    version: fc.constantFrom(1, 2),
    mountPoint: anyPath,
    root: anyPath,
    controllers: anyControllers,
    readOnly: fc.boolean(),
  })
  .map((mount) => (mount.version === 2 ? { ...mount, controllers: [] } : mount));

/** Side by side: none of them hides another. */
const anyMounts = fc
  .array(anyMount, { maxLength: 12 })
  .map((mounts) =>
    mounts.map((mount, at) => ({ ...mount, mountPoint: `/${at}${mount.mountPoint === '/' ? '' : mount.mountPoint}` })),
  );

test('parseCgroupMounts() reads back what was formatted', () => {
  fc.assert(
    fc.property(anyMounts, (mounts) => {
      expect(parseCgroupMounts(format(mounts))).toEqual(mounts);
    }),
    { numRuns: 300 },
  );
});

test('parseCgroupMounts() gives mounts or a ParseError with its line for any text', () => {
  const lines = fc.array(
    fc.oneof(
      anyText,
      anyMounts.map((mounts) => format(mounts).trimEnd()),
    ),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        anyText,
        lines.map((all) => `${all.join('\n')}\n`),
      ),
      (text) => {
        try {
          for (const { mountPoint } of parseCgroupMounts(text)) expect(mountPoint[0]).toBe('/');
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
          expect(error).toMatchObject({ subject: { line: expect.any(Number) } });
        }
      },
    ),
    { numRuns: 300 },
  );
});

test.each<[string, (text: string) => string]>([
  ['as the kernel wrote it', (text) => text],
  ['trimmed', (text) => text.trimEnd()],
  ['with an empty line at the end', (text) => `${text}\n`],
  ['with line ends of Windows', (text) => text.replaceAll('\n', '\r\n')],
  ['with line ends of Windows, trimmed', (text) => text.replaceAll('\n', '\r\n').trimEnd()],
  ['with line ends of Windows and an empty line', (text) => `${text}\n`.replaceAll('\n', '\r\n')],
])('parseMountInfo() reads text as people paste it: %s', (_, pasted) => {
  fc.assert(
    fc.property(anyMounts, (mounts) => {
      expect(parseMountInfo(pasted(format(mounts)))).toEqual(mounts);
    }),
    { numRuns: 50 },
  );
});

test('parseMountInfo() refuses an empty line between others, and names the line', () => {
  const line = '36 35 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw';
  for (const end of ['\n', '\r\n']) {
    const parse = () => parseMountInfo([line, '', line].join(end));
    expect(parse).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line: 2 } }));
  }
});
