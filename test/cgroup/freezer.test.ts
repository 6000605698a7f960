import fs from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { frozenAt } from '../../src/cgroup/freezer.js';
import type { Hierarchy } from '../../src/cgroup/hierarchies.js';
import { cgroupPath, rootPath } from '../../src/cgroup/path.js';
import { SystemCallError } from '../../src/machine/errors.js';
import { liveHost } from '../../src/machine/live-host.js';
import { kernelTest } from '../support/test-cgroups.js';

const v1: Hierarchy = {
  key: 'freezer',
  version: 1,
  mountPoint: '/sys/fs/cgroup/freezer',
  root: rootPath,
  controllers: ['freezer'],
  readOnly: false,
};
const v2: Hierarchy = {
  key: 'unified',
  version: 2,
  mountPoint: '/sys/fs/cgroup',
  root: rootPath,
  controllers: [],
  readOnly: false,
};

/** Answers frozenAt() where only these files are there; other reads are ENOENT. */
function frozenIn(hierarchy: Hierarchy, path: string, files: Readonly<Record<string, string>>): string | undefined {
  const host = {
    ...liveHost(),
    read: (where: string) => {
      const text = files[where];
      if (text === undefined) throw new SystemCallError('read', where, 'ENOENT');
      return text;
    },
  };
  return frozenAt(host, new Cgroup(host, hierarchy, cgroupPath(path)));
}

const [job1, job2] = ['/sys/fs/cgroup/freezer/slurm/job_7', '/sys/fs/cgroup/slurm/job_7'];

test.each<[string, Hierarchy, Readonly<Record<string, string>>, string | undefined]>([
  ['thawed on v1', v1, { [`${job1}/freezer.state`]: 'THAWED\n' }, undefined],
  ['frozen on v1', v1, { [`${job1}/freezer.state`]: 'FROZEN\n' }, job1],
  ['being frozen on v1', v1, { [`${job1}/freezer.state`]: 'FREEZING\n' }, job1],
  [
    'an ancestor on v1',
    v1,
    { [`${job1}/freezer.state`]: 'THAWED\n', '/sys/fs/cgroup/freezer/slurm/freezer.state': 'FREEZING\n' },
    '/sys/fs/cgroup/freezer/slurm',
  ],
  [
    'an ancestor that is told to freeze on v1, without walking the tree below it',
    v1,
    { [`${job1}/freezer.state`]: 'THAWED\n', '/sys/fs/cgroup/freezer/slurm/freezer.self_freezing': '1\n' },
    '/sys/fs/cgroup/freezer/slurm',
  ],
  [
    'an ancestor that is not told to on v1, whose state is not asked',
    v1,
    {
      [`${job1}/freezer.state`]: 'THAWED\n',
      '/sys/fs/cgroup/freezer/slurm/freezer.self_freezing': '0\n',
      '/sys/fs/cgroup/freezer/slurm/freezer.state': 'not to be read\n',
    },
    undefined,
  ],
  ['thawed on v2', v2, { [`${job2}/cgroup.freeze`]: '0\n' }, undefined],
  ['frozen on v2', v2, { [`${job2}/cgroup.freeze`]: '1\n' }, job2],
  [
    'an ancestor on v2',
    v2,
    { [`${job2}/cgroup.freeze`]: '0\n', '/sys/fs/cgroup/slurm/cgroup.freeze': '1\n' },
    '/sys/fs/cgroup/slurm',
  ],
  ['a kernel without cgroup.freeze', v2, {}, undefined],
  ['a cgroup that is gone', v1, {}, undefined],
  [
    'a hierarchy without the freezer',
    { ...v1, controllers: ['memory'] },
    { [`${job1}/freezer.state`]: 'FROZEN\n' },
    undefined,
  ],
])('frozenAt() answers for %s', (_, hierarchy, files, place) => {
  expect(frozenIn(hierarchy, '/slurm/job_7', files)).toBe(place);
});

test('frozenAt() looks up to what the mount of a container shows', () => {
  const mount = { ...v1, root: cgroupPath('/docker/1') };
  expect(frozenIn(mount, '/docker/1/a', { '/sys/fs/cgroup/freezer/freezer.state': 'FROZEN\n' })).toBe(
    '/sys/fs/cgroup/freezer',
  );
  expect(frozenIn(mount, '/docker/1/a', { '/sys/fs/cgroup/freezer/a/freezer.state': 'THAWED\n' })).toBeUndefined();
});

test('frozenAt() passes on what it could not read: unknown is never "thawed"', () => {
  const host = {
    ...liveHost(),
    read: (where: string) => {
      throw new SystemCallError('read', where, 'EIO');
    },
  };
  expect(() => frozenAt(host, new Cgroup(host, v1, cgroupPath('/slurm')))).toThrow(
    expect.objectContaining({ errno: 'EIO' }),
  );
});

kernelTest('frozenAt() sees a frozen v1 cgroup, from below too, and not from beside', ['freezer'], async (area) => {
  const job = area.at('freezer').create('job');
  const [step, other] = [job.create('step'), area.at('freezer').create('other')];
  await area.sleeper(step);
  expect([job, step].map((one) => frozenAt(area.host, one))).toEqual([undefined, undefined]);
  fs.writeFileSync(`${job.directory}/freezer.state`, 'FROZEN');
  while (fs.readFileSync(`${job.directory}/freezer.state`, 'utf8') !== 'FROZEN\n') await pause(5);
  expect(frozenAt(area.host, job)).toBe(job.directory);
  // v1 says it of everything below as well: the nearest is the cgroup itself.
  expect(frozenAt(area.host, step)).toBe(step.directory);
  expect(frozenAt(area.host, other)).toBeUndefined();
  expect(frozenAt(area.host, area.at('freezer'))).toBeUndefined();
  fs.writeFileSync(`${job.directory}/freezer.state`, 'THAWED');
  expect(frozenAt(area.host, step)).toBeUndefined();
});

kernelTest('frozenAt() sees a frozen v2 cgroup, from below too, and an empty one', ['unified'], async (area) => {
  const job = area.at('unified').create('job');
  const step = job.create('step');
  expect(frozenAt(area.host, step)).toBeUndefined();
  fs.writeFileSync(`${job.directory}/cgroup.freeze`, '1');
  expect(frozenAt(area.host, job)).toBe(job.directory);
  expect(frozenAt(area.host, step)).toBe(job.directory);
  fs.writeFileSync(`${job.directory}/cgroup.freeze`, '0');
  expect(frozenAt(area.host, step)).toBeUndefined();
  job.create('gone').remove();
  expect(frozenAt(area.host, new Cgroup(area.host, job.hierarchy, cgroupPath(`${job.path}/gone`)))).toBeUndefined();
});
