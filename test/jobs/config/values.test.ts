import { describe, expect, test } from 'vitest';
import type { LoadedConfig } from '../../../src/jobs/config/includes.js';
import { settingsOf } from '../../../src/jobs/config/values.js';

const file = '/etc/slurm/x.conf';
const config = (values: Readonly<Record<string, string>>): LoadedConfig => ({
  settings: new Map(
    Object.entries(values).map(([key, value], index) => [
      key.toLowerCase(),
      { value, place: { file, line: index + 1 } },
    ]),
  ),
  nodes: [],
  files: [file],
  leftOut: [],
  notes: [],
});
const slurm = (values: Readonly<Record<string, string>>) => settingsOf(config(values), undefined);
const cgroup = (values: Readonly<Record<string, string>>) => settingsOf(config({}), config(values));

describe('settingsOf()', () => {
  test('leaves out what is not set', () => {
    expect(Object.entries(slurm({})).filter(([, value]) => value !== undefined)).toEqual([
      ['files', [file]],
      ['nodes', []],
      ['places', new Map()],
    ]);
  });

  test('takes lists apart', () => {
    expect(slurm({ PrologFlags: 'Contain, X11,' }).prologFlags).toEqual(['contain', 'x11']);
    expect(slurm({ TaskPlugin: 'task/cgroup,task/affinity' }).taskPlugin).toEqual(['task/cgroup', 'task/affinity']);
    expect(slurm({ TaskPlugin: 'affinity,cgroup' }).taskPlugin).toEqual(['task/affinity', 'task/cgroup']);
    expect(slurm({ LaunchParameters: '' }).launchParameters).toEqual([]);
  });

  test.each([
    ['yes', true],
    ['UP', true],
    ['True', true],
    ['1', true],
    ['no', false],
    ['down', false],
    ['FALSE', false],
    ['0', false],
  ])('%s is %s', (word, value) => {
    expect(cgroup({ ConstrainRAMSpace: word }).constrainRamSpace).toBe(value);
  });

  test('takes one slash from the end of a folder', () => {
    expect(cgroup({ CgroupMountpoint: '/cgroup/' }).cgroupMountpoint).toBe('/cgroup');
    expect(cgroup({ CgroupMountpoint: '/' }).cgroupMountpoint).toBe('/');
  });

  test('gives the place of each field by its name', () => {
    expect(slurm({ SlurmUser: 'slurm', ClusterName: 'lab' }).places).toEqual(
      new Map([
        ['clusterName', { file, line: 2 }],
        ['slurmUser', { file, line: 1 }],
      ]),
    );
  });

  test.each([
    ['ConstrainCores', 'maybe', '"maybe" for constrainCores is neither yes nor no'],
    ['CgroupMountpoint', 'sys/fs/cgroup', 'is no absolute path'],
    ['CgroupMountpoint', '', 'is no absolute path'],
    ['CgroupSlice', '../x.slice', 'leads upwards'],
    ['CgroupPrepend', '/a/../../b', 'leads upwards'],
    ['CgroupSlice', 'a\x1b[31m', 'holds characters that are not text'],
    ['CgroupPlugin', 'a\udcff', 'holds characters that are not text'],
  ])('refuses %s=%j with its place', (key, value, why) => {
    const error = { code: 'ERR_CONFIG', subject: { path: file, line: 1 }, message: expect.stringContaining(why) };
    expect(() => cgroup({ [key]: value })).toThrow(expect.objectContaining(error));
  });
});
