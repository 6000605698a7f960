import { describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { isUntold, membershipsOf } from '../../src/cgroup/membership-fallback.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { ParseError, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { treeHost } from '../support/small-trees.js';

const tree = treeHost({
  hierarchies: ['freezer', 'memory'],
  directories: ['freezer/slurm/uid_1/job_1/deep'],
  files: {
    '/sys/fs/cgroup/freezer/slurm/uid_1/job_1/deep/cgroup.procs': '10\n',
    '/sys/fs/cgroup/freezer/slurm/uid_1/job_1/deep/tasks': '10\n11\n',
    '/proc/self/cgroup': '5:memory:/\n4:freezer:/\n',
  },
});
const answering = (answer: () => string): Host => ({
  ...tree,
  read: (path) => (/^\/proc\/\d+\//.test(path) ? answer() : tree.read(path)),
});
const refusing = (errno: string) =>
  answering(() => {
    throw new SystemCallError('read', '/proc/10/cgroup', errno);
  });
const at = (host: Host) => {
  const freezer = discoverHierarchies({ host }).get('freezer');
  if (freezer === undefined) throw new Error('no freezer');
  return new Cgroup(host, freezer, cgroupPath('/slurm/uid_1/job_1/deep'));
};
const inFreezer = [{ hierarchyId: 4, controllers: ['freezer'], path: '/slurm/uid_1/job_1/deep', deleted: false }];

describe('membershipsOf()', () => {
  it('are what the kernel tells', () => {
    const host = answering(() => '4:freezer:/a\n');
    expect(membershipsOf(host, { pid: 10 }, at(host))).toMatchObject([{ path: '/a' }]);
  });

  it.each<[string, Host]>([
    ['the path is too long', refusing('ENAMETOOLONG')],
    ['a name has a line break', answering(() => '4:freezer:/a\nb\n')],
  ])('are the one in whose list it is, where %s', (_, host) => {
    expect(membershipsOf(host, { pid: 10 }, at(host))).toEqual(inFreezer);
    expect(membershipsOf(host, { pid: 10, tid: 11 }, at(host))).toEqual(inFreezer);
    expect(membershipsOf(host, { pid: 11 }, at(host))).toEqual([]);
    expect(membershipsOf(host, { pid: 10, tid: 12 }, at(host))).toEqual([]);
  });

  it('are no guess where the kernel refuses for another reason', () => {
    for (const errno of ['EACCES', 'EIO', 'ESRCH']) {
      const host = refusing(errno);
      expect(() => membershipsOf(host, { pid: 10 }, at(host))).toThrow(expect.objectContaining({ errno }));
    }
  });
});

it('isUntold() is what a user can bring about, and nothing else', () => {
  expect(isUntold(new SystemCallError('read', '/proc/10/cgroup', 'ENAMETOOLONG'))).toBe(true);
  expect(isUntold(new ParseError('x'))).toBe(true);
  expect(isUntold(new SystemCallError('read', '/proc/10/cgroup', 'EIO'))).toBe(false);
  expect(isUntold(new Error('x'))).toBe(false);
});
