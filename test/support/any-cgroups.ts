// Any names, paths and texts of cgroups that a kernel can give, for the properties of their parsers.

import fc from 'fast-check';
import { type CgroupPath, cgroupPath } from '../../src/cgroup/path.js';
import { decodeKernelText } from '../../src/machine/kernel-text.js';

/** What people and programs put into names to see what breaks. */
const oddNames = fc.constantFrom(
  'job 7', 'a:b', '0::', 'back\\slash', '\\040', 'tab\there', '\u001b[31mred', '\u202e', 'x (deleted)', ' (deleted)', '#', '-', ' - ', '...', ',', 'Zürich', '🚀', '\udcff', 'a\udc80b', '\ufffd', '__proto__', '7',
); // biome-ignore format: a list

/** Any bytes the kernel takes as a name: no slash, no NUL, no line break, not `.` or `..`. */
const anyBytes = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) => decodeKernelText(bytes.map((byte) => (byte === 0 || byte === 10 || byte === 47 ? 95 : byte))))
  .filter((name) => name !== '.' && name !== '..');

export const anyName: fc.Arbitrary<string> = fc.oneof(oddNames, anyBytes, fc.stringMatching(/^[a-z_]{1,8}[0-9]{0,5}$/));

export const anyPath: fc.Arbitrary<CgroupPath> = fc
  .record({ up: fc.nat({ max: 2 }), names: fc.array(anyName, { maxLength: 5 }) })
  .map(({ up, names }) => cgroupPath(`/${[...Array<string>(up).fill('..'), ...names].join('/')}`));

/** Without `/..`: what lies in the reader's own cgroup namespace. */
export const anyInnerPath: fc.Arbitrary<CgroupPath> = fc
  .array(anyName, { maxLength: 5 })
  .map((names) => cgroupPath(`/${names.join('/')}`));

const controllerNames = [
  'cpu',
  'cpuacct',
  'cpuset',
  'memory',
  'devices',
  'freezer',
  'blkio',
  'pids',
  'net_cls',
  'net_prio',
  'perf_event',
  'hugetlb',
  'rdma',
  'misc',
  'debug',
  'dmem',
];

/** Controllers of one v1 hierarchy: some, or a name, or both. */
export const anyControllers: fc.Arbitrary<readonly string[]> = fc
  .record({
    some: fc.subarray(controllerNames, { maxLength: 3 }),
    name: fc.option(fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/), { nil: undefined }),
  })
  .map(({ some, name }) => (name === undefined ? some : [...some, `name=${name}`]))
  .filter((controllers) => controllers.length > 0);

/** Any UTF-16 text, lone surrogates and control characters too, often of what these files are made of. */
export const anyText: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom(...'/:, -0123456789\n\\cgroup'),
      fc.nat({ max: 0xffff }).map((code) => String.fromCharCode(code)),
      fc.nat({ max: 0x7f }).map((code) => String.fromCharCode(code)),
    ),
    { maxLength: 60 },
  )
  .map((parts) => parts.join(''));
