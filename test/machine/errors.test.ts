import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ConfigError,
  hasCode,
  ifReadable,
  ifRecorded,
  ifThere,
  isGone,
  ParseError,
  quote,
  SlurmCgroupsError,
  SystemCallError,
  someOf,
} from '../../src/machine/errors.js';
import { anyText } from '../support/any-cgroups.js';

test.each([
  ['EACCES', 'ERR_NOT_PERMITTED'],
  ['EAGAIN', 'ERR_CGROUP_BUSY'],
  ['EBUSY', 'ERR_CGROUP_BUSY'],
  ['ENOTEMPTY', 'ERR_CGROUP_BUSY'],
  ['EEXIST', 'ERR_IO'],
  ['EINVAL', 'ERR_IO'],
  ['EIO', 'ERR_IO'],
  ['EISDIR', 'ERR_IO'],
  ['EMFILE', 'ERR_IO'],
  ['ENFILE', 'ERR_IO'],
  ['ENAMETOOLONG', 'ERR_IO'],
  ['ENOMEM', 'ERR_IO'],
  ['ELOOP', 'ERR_NOT_PERMITTED'],
  ['EPERM', 'ERR_NOT_PERMITTED'],
  ['ENODEV', 'ERR_CGROUP_GONE'],
  ['ENOENT', 'ERR_NOT_FOUND'],
  ['ENOTDIR', 'ERR_NOT_FOUND'],
  ['ENOSPC', 'ERR_CGROUP_REFUSED'],
  ['EOPNOTSUPP', 'ERR_NOT_SUPPORTED'],
  ['EROFS', 'ERR_READ_ONLY'],
  ['ESRCH', 'ERR_NO_SUCH_PROCESS'],
  ['EWHATEVER', 'ERR_IO'],
  ['constructor', 'ERR_IO'],
  ['__proto__', 'ERR_IO'],
])('SystemCallError() translates %s into %s', (errno, code) => {
  const error = new SystemCallError('write', '/sys/fs/cgroup/memory/slurm/cgroup.procs', errno);
  expect(error).toMatchObject({ code, errno, call: 'write', name: 'SystemCallError' });
  expect(error.subject).toEqual({ path: '/sys/fs/cgroup/memory/slurm/cgroup.procs' });
  expect(error.message).toMatch(/^Cannot write "\/sys\/fs\/cgroup\/memory\/slurm\/cgroup\.procs": ./);
  expect(error.message).not.toMatch(/undefined|\.$/);
});

test.each([
  ['/proc/4711', 'ERR_NO_SUCH_PROCESS', { pid: 4711 }],
  ['/proc/4711/stat', 'ERR_NO_SUCH_PROCESS', { pid: 4711 }],
  ['/proc/4711/task/4712/cgroup', 'ERR_NO_SUCH_PROCESS', { pid: 4711 }],
  ['/proc/self/stat', 'ERR_NO_SUCH_PROCESS', {}],
  ['/proc/47x11/stat', 'ERR_NOT_FOUND', {}],
  ['/proc/0/stat', 'ERR_NOT_FOUND', {}],
  ['/proc/filesystems', 'ERR_NOT_FOUND', {}],
  ['/etc/proc/4711/stat', 'ERR_NOT_FOUND', {}],
])('SystemCallError() knows what ENOENT means for %s', (path, code, subject) => {
  const error = new SystemCallError('read', path, 'ENOENT');
  expect(error.code).toBe(code);
  expect(error.subject).toEqual({ path, ...subject });
});

test('SystemCallError() knows EOPNOTSUPP by the name libuv gives it', () => {
  expect(new SystemCallError('write', '/x', 'ENOTSUP')).toMatchObject({
    code: 'ERR_NOT_SUPPORTED',
    errno: 'EOPNOTSUPP',
  });
});

test('ParseError and ConfigError have their codes, their subject and their names', () => {
  const cause = new Error('below');
  expect(new ParseError('Bad', { line: 3 })).toMatchObject({
    name: 'ParseError',
    code: 'ERR_PARSE',
    subject: { line: 3 },
  });
  expect(new ConfigError('Bad', { path: '/x' }, cause)).toMatchObject({
    name: 'ConfigError',
    code: 'ERR_CONFIG',
    cause,
  });
  expect('cause' in new SlurmCgroupsError('ERR_IO', 'Bad')).toBe(false);
});

test('hasCode() and isGone() know our errors only', () => {
  const foreign = Object.assign(new Error('no'), { code: 'ERR_NOT_FOUND' });
  expect(hasCode(foreign, 'ERR_NOT_FOUND')).toBe(false);
  expect(isGone(foreign)).toBe(false);
  expect(isGone(undefined)).toBe(false);
  expect(hasCode(new SystemCallError('read', '/x', 'EBUSY'), 'ERR_IO', 'ERR_CGROUP_BUSY')).toBe(true);
  for (const errno of ['ENOENT', 'ENOTDIR', 'ENODEV', 'ESRCH'])
    expect(isGone(new SystemCallError('read', '/x', errno))).toBe(true);
  for (const errno of ['EACCES', 'EIO', 'EMFILE']) expect(isGone(new SystemCallError('read', '/x', errno))).toBe(false);
});

test.each([
  ['job 7', '"job 7"'],
  ['a"b\\c', '"a\\"b\\\\c"'],
  ['a\nb\tc\0', '"a\\nb\\tc\\u0000"'],
  ['\u001b[2J', '"\\u001b[2J"'],
  ['\u009b31m', '"\\u009b31m"'],
  ['\u202etxt', '"\\u202etxt"'],
  ['\u061c\u00ad\u2066', '"\\u061c\\u00ad\\u2066"'],
  ['\udcff', '"\\udcff"'],
  ['\u{e0041}', '"\\udb40\\udc41"'],
  ['Zürich 🚀', '"Zürich 🚀"'],
])('quote() shows what could steer a terminal in %j', (name, shown) => {
  expect(quote(name)).toBe(shown);
});

test('quote() keeps every name readable back and nothing invisible', () => {
  fc.assert(
    fc.property(anyText, (name) => {
      expect(JSON.parse(quote(name))).toBe(name);
      expect(quote(name)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }),
  );
});

test('someOf() names the first few, and how many more there are', () => {
  expect(someOf(['a', 'b'])).toBe('a, b');
  expect(someOf(['a', 'b', 'c'], 1)).toBe('a and 2 more');
});

test.each([
  ['ifThere()', ifThere, ['ENOENT', 'ESRCH', 'ENODEV']],
  ['ifReadable()', ifReadable, ['ENOENT', 'ESRCH', 'ENODEV', 'EACCES', 'EIO', 'not recorded', 'not to be parsed']],
  ['ifRecorded()', ifRecorded, ['not recorded']],
])('%s gives what is there, undefined where it is not, and throws the rest', (_, look, passing) => {
  const errors: Readonly<Record<string, Error>> = {
    ...Object.fromEntries(
      ['ENOENT', 'ESRCH', 'ENODEV', 'EACCES', 'EIO'].map((errno) => [errno, new SystemCallError('read', '/x', errno)]),
    ),
    'not recorded': new SlurmCgroupsError('ERR_NOT_RECORDED', 'x'),
    'not to be parsed': new ParseError('x'),
    "a programmer's": new TypeError('x'),
  };
  expect(look(() => 7)).toBe(7);
  for (const [name, error] of Object.entries(errors)) {
    const failing = () =>
      look(() => {
        throw error;
      });
    if (passing.includes(name)) expect(failing()).toBeUndefined();
    else expect(failing).toThrow(error);
  }
});
