import fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hierarchyKey, type Membership, parseMemberships, parseProcCgroup } from '../../src/cgroup/membership.js';
import { ParseError } from '../../src/machine/errors.js';
import { decodeKernelText } from '../../src/machine/kernel-text.js';
import { anyControllers, anyPath, anyText } from '../support/any-cgroups.js';

/** Membership in short: `[id, controllers, path]`, and `true` behind it where it is deleted. */
const short = (text: string) =>
  parseMemberships(text).map(({ hierarchyId, controllers, path, deleted }) => [
    hierarchyId,
    controllers.join(),
    path,
    ...(deleted ? [true] : []),
  ]);

describe('parseMemberships() reads', () => {
  test('slurmstepd of Slurm 24.11 on v1, in its own place in each hierarchy', () => {
    const text =
      '13:name=systemd:/\n12:misc:/\n11:rdma:/\n10:hugetlb:/\n9:perf_event:/\n8:net_cls,net_prio:/\n7:pids:/\n6:blkio:/\n' +
      '5:freezer:/slurm_vm/uid_1001/job_1\n4:devices:/slurm_vm/uid_1001/job_1/step_extern\n3:memory:/\n2:cpu,cpuacct:/\n' +
      '1:cpuset:/slurm_vm/uid_1001/job_1/step_extern\n';
    expect(short(text)).toEqual([
      [13, 'name=systemd', '/'],
      [12, 'misc', '/'],
      [11, 'rdma', '/'],
      [10, 'hugetlb', '/'],
      [9, 'perf_event', '/'],
      [8, 'net_cls,net_prio', '/'],
      [7, 'pids', '/'],
      [6, 'blkio', '/'],
      [5, 'freezer', '/slurm_vm/uid_1001/job_1'],
      [4, 'devices', '/slurm_vm/uid_1001/job_1/step_extern'],
      [3, 'memory', '/'],
      [2, 'cpu,cpuacct', '/'],
      [1, 'cpuset', '/slurm_vm/uid_1001/job_1/step_extern'],
    ]);
  });

  test.each<[string, string, readonly unknown[]]>([
    [
      'slurmd of Slurm 26.05 on v2',
      '0::/system.slice/slurmd.service/slurmd\n',
      [0, '', '/system.slice/slurmd.service/slurmd'],
    ],
    ['the hybrid line of v2', '0::/init.scope\n', [0, '', '/init.scope']],
    [
      'docker with the cgroupfs driver',
      '4:memory:/docker/0123456789abcdef\n',
      [4, 'memory', '/docker/0123456789abcdef'],
    ],
    [
      'docker with the systemd driver',
      '0::/system.slice/docker-0123.scope\n',
      [0, '', '/system.slice/docker-0123.scope'],
    ],
    [
      'rootless podman',
      '0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-0123.scope/container\n',
      [0, '', '/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-0123.scope/container'],
    ],
    [
      'kubernetes on containerd',
      '3:cpu,cpuacct:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-01.scope\n',
      [
        3,
        'cpu,cpuacct',
        '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-01.scope',
      ],
    ],
    ['a cgroup namespace', '0::/../../slurm/job_7\n', [0, '', '/../../slurm/job_7']],
    ['the parent of a cgroup namespace', '7:pids:/..\n', [7, 'pids', '/..']],
    ['a named hierarchy', '1:name=systemd:/user.slice/user-0.slice\n', [1, 'name=systemd', '/user.slice/user-0.slice']],
    ['a named one with dots and dashes', '1:name=a.b-c_d:/\n', [1, 'name=a.b-c_d', '/']],
    ['a named one with a controller', '5:freezer,name=slurm:/\n', [5, 'freezer,name=slurm', '/']],
    ['a removed cgroup', '0::/slurm/job_7 (deleted)\n', [0, '', '/slurm/job_7', true]],
    ['a removed cgroup of that very name', '0::/x (deleted) (deleted)\n', [0, '', '/x (deleted)', true]],
    ['a cgroup whose whole name is " (deleted)"', '0::/job_7/ (deleted)\n', [0, '', '/job_7/ (deleted)']],
    ['the same at the top', '0::/ (deleted)\n', [0, '', '/ (deleted)']],
    ['the same, removed', '0::/job_7/ (deleted) (deleted)\n', [0, '', '/job_7/ (deleted)', true]],
    ['(deleted) without its blank', '0::/job_7(deleted)\n', [0, '', '/job_7(deleted)']],
    ['a path with blanks', '3:memory:/a b/ c /d\n', [3, 'memory', '/a b/ c /d']],
    ['a path with backslashes and what looks like an escape', '3:memory:/a\\040b/\\\n', [3, 'memory', '/a\\040b/\\']],
    ['a path with terminal escapes', '3:memory:/\u001b]0;x\u0007\r\n', [3, 'memory', '/\u001b]0;x\u0007\r']],
    ['a path with bytes that are not UTF-8', '3:memory:/\udcff\udcfe\n', [3, 'memory', '/\udcff\udcfe']],
    ['the largest number', '4294967295:memory:/\n', [4294967295, 'memory', '/']],
    ['a name of 255 characters', `0::/${'x'.repeat(255)}\n`, [0, '', `/${'x'.repeat(255)}`]],
  ])('%s', (_, text, expected) => {
    expect(short(text)).toEqual([expected]);
  });
});

test('parseMemberships() keeps colons in a path', () => {
  expect(short('4:memory:/a:b/4:memory:/c\n')).toEqual([[4, 'memory', '/a:b/4:memory:/c']]);
  expect(short('0::/::\n')).toEqual([[0, '', '/::']]);
});

test('parseMemberships() of a path that the kernel cut gives the last cgroup whose name is whole', () => {
  const place = (path: string) => parseMemberships(`3:freezer:${path}\n`)[0]?.path;
  const above = `/job${'/x'.repeat(2000)}`; // 4004 bytes
  expect(place(`${above}/${'y'.repeat(89)}`)).toBe(`${above}/${'y'.repeat(89)}`);
  for (const end of [`/${'y'.repeat(90)}`, `/${'y'.repeat(89)}/`, `/${'y'.repeat(88)}/.`, `/${'y'.repeat(87)}/..`]) {
    expect(Buffer.byteLength(above + end)).toBe(4095);
    const parent = above + end.slice(0, end.lastIndexOf('/'));
    expect(place(above + end)).toBe(parent);
    expect(parseMemberships(`3:freezer:${above}${end} (deleted)\n`)[0]).toMatchObject({ path: parent });
  }
  expect(place(`${above}/${'ü'.repeat(44)}\udcc3\udcbc`)).toBe(above);
});

test('parseMemberships() of nothing is nothing (a zombie on an old kernel)', () => {
  expect(parseMemberships('')).toEqual([]);
});

test.each<[string, string, number]>([
  ['a text cut off in a path', '4:memory:/slurm/uid_10', 1],
  ['a text cut off in the second line', '4:memory:/\n3:cpu:/slurm', 2],
  ['a text cut off in a number', '4:memory:/\n3', 2],
  ['an empty line', '4:memory:/\n\n3:cpu:/\n', 2],
  ['a line without a path', '4:memory:\n', 1],
  ['a relative path', '4:memory:slurm\n', 1],
  ['a line without controllers', '4:/slurm\n', 1],
  ['a negative number', '-1:memory:/\n', 1],
  ['a number that is none', 'x:memory:/\n', 1],
  ['a huge number', '99999999999:memory:/\n', 1],
  ['an empty part', '4:memory:/a//b\n', 1],
  ['a trailing slash', '0::/\n4:memory:/a/\n', 2],
  ['a dot part', '4:memory:/a/./b\n', 1],
  ['NUL bytes', '\0\0\0\0\n', 1],
  ['NUL in a path', '4:memory:/a\0b\n', 1],
  ['an ELF header', '\u007fELF\u0002\u0001\u0001\n', 1],
  ['a line of comment', '# pid 1\n4:memory:/\n', 1],
  ['line ends of Windows before the path', '4:memory\r\n', 1],
])('parseMemberships() refuses %s and names the line', (_, text, line) => {
  const parse = () => parseMemberships(text);
  expect(parse).toThrow(ParseError);
  expect(parse).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line } }));
});

test('parseMemberships() says the refused line in a form that steers no terminal', () => {
  expect(() => parseMemberships('\u001b[2J\u202e\n')).toThrow(/^[\x20-\x7e]*$/);
  expect(() => parseMemberships(`${'x'.repeat(10_000)}\n`)).toThrow(/^.{1,300}$/);
});

test('parseMemberships() reads every process of this machine', () => {
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let text: string;
    try {
      text = decodeKernelText(fs.readFileSync(`/proc/${pid}/cgroup`));
    } catch {
      continue; // it ended meanwhile
    }
    expect(format(parseMemberships(text))).toBe(text);
  }
});

function format(memberships: readonly Membership[]): string {
  return memberships
    .map((one) => `${one.hierarchyId}:${one.controllers.join(',')}:${one.path}${one.deleted ? ' (deleted)' : ''}\n`)
    .join('');
}

/** The kernel writes the same for a removed cgroup and for a living one of such a name: these are left out. */
const anyMembership: fc.Arbitrary<Membership> = fc
  .record({
    hierarchyId: fc.nat(),
    controllers: anyControllers,
    path: anyPath,
    deleted: fc.boolean(),
    unified: fc.boolean(),
  })
  .map(({ unified, ...one }) => (unified ? { ...one, hierarchyId: 0, controllers: [] } : one))
  .filter(({ path, deleted }) => (deleted ? !path.endsWith('/') : !/[^/] \(deleted\)$/.test(path)));

test('parseMemberships() reads back what was formatted', () => {
  fc.assert(
    fc.property(fc.array(anyMembership, { maxLength: 16 }), (memberships) => {
      expect(parseMemberships(format(memberships))).toEqual(memberships);
    }),
    { numRuns: 300 },
  );
});

test('parseMemberships() gives memberships or a ParseError with its line for any text', () => {
  const lines = fc.array(
    fc.oneof(
      anyText,
      anyMembership.map((one) => format([one]).trimEnd()),
    ),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        anyText,
        lines.map((all) => all.join('\n')),
      ),
      (text) => {
        try {
          for (const { path } of parseMemberships(text)) expect(path[0]).toBe('/');
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
          expect(error).toMatchObject({ subject: { line: expect.any(Number) } });
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('parseMemberships() of any text that was cut refuses or gives the lines before', () => {
  fc.assert(
    fc.property(fc.array(anyMembership, { minLength: 1, maxLength: 6 }), fc.nat(), (memberships, at) => {
      const text = format(memberships);
      const cut = text.slice(0, at % text.length);
      if (cut === '' || cut.endsWith('\n'))
        expect(parseMemberships(cut)).toEqual(memberships.slice(0, cut.split('\n').length - 1));
      else expect(() => parseMemberships(cut)).toThrow(ParseError);
    }),
  );
});

describe('parseProcCgroup() reads text as people paste it:', () => {
  const lines = ['4:memory:/slurm/uid_1000/job_7', '1:name=systemd:/a b ', '0::/init.scope'];
  const expected = parseMemberships(`${lines.join('\n')}\n`);

  test.each<[string, string]>([
    ['as the kernel wrote it', `${lines.join('\n')}\n`],
    ['trimmed', lines.join('\n')],
    ['with an empty line at the end', `${lines.join('\n')}\n\n`],
    ['with blanks at the end', `${lines.join('\n')}\n    \n\t`],
    ['with line ends of Windows', `${lines.join('\r\n')}\r\n`],
    ['with line ends of Windows, trimmed', lines.join('\r\n')],
    ['with line ends of Windows and an empty line', `${lines.join('\r\n')}\r\n\r\n`],
  ])('%s', (_, text) => {
    expect(parseProcCgroup(text)).toEqual(expected);
  });

  test('one line, and nothing', () => {
    expect(parseProcCgroup('0::/job_7')).toEqual(parseMemberships('0::/job_7\n'));
    expect(parseProcCgroup('0::/job_7\r\n')).toEqual(parseMemberships('0::/job_7\n'));
    for (const text of ['', '\n', ' \r\n\r\n']) expect(parseProcCgroup(text)).toEqual([]);
  });

  test('a carriage return in one name of several is part of it', () => {
    expect(parseProcCgroup('3:memory:/a\r\n0::/b\n').map(({ path }) => path)).toEqual(['/a\r', '/b']);
  });

  test.each<[string, string, number]>([
    ['an empty line between others', '4:memory:/\n\n3:cpu:/', 2],
    ['the same from Windows', '4:memory:/\r\n\r\n3:cpu:/\r\n', 2],
    ['a text cut off before its path', '4:memory:/\n3:cpu', 2],
    ['another text', 'no cgroup\r\n', 1],
  ])('but refuses %s', (_, text, line) => {
    expect(() => parseProcCgroup(text)).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line } }));
  });

  test('any memberships, however they were pasted', () => {
    const clean = anyMembership.filter(({ path }) => !path.endsWith('\r'));
    fc.assert(
      fc.property(
        fc.array(clean, { maxLength: 6 }),
        fc.constantFrom('\n', '\r\n'),
        fc.constantFrom('', '\n', '\n\n', '\n\r\n', '\n \n'),
        (memberships, lineEnd, end) => {
          const text = (format(memberships).slice(0, -1) + end).replace(/\r?\n/g, lineEnd);
          expect(parseProcCgroup(text)).toEqual(memberships);
        },
      ),
    );
  });
});

test.each<[readonly string[], string]>([
  [[], 'unified'],
  [['memory'], 'memory'],
  [['name=systemd'], 'name=systemd'],
  [['cpu', 'cpuacct'], 'cpu,cpuacct'],
  [['cpuacct', 'cpu'], 'cpu,cpuacct'],
  [['net_prio', 'net_cls'], 'net_cls,net_prio'],
])('hierarchyKey() of %j is %s', (controllers, key) => {
  expect(hierarchyKey(controllers)).toBe(key);
});

test('hierarchyKey() leaves its argument as it was', () => {
  const controllers = ['cpuacct', 'cpu'];
  hierarchyKey(controllers);
  expect(controllers).toEqual(['cpuacct', 'cpu']);
});
