import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../../src/cgroup/path.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode, type SlurmNode } from '../../../src/jobs/node.js';
import {
  affectedBy,
  directoriesToWatch,
  hasHiddenSteps,
  stepDirectoryOf,
  type WatchedDirectory,
} from '../../../src/jobs/watch/directories.js';
import { treeHost } from '../../support/small-trees.js';

async function placesIn(hierarchies: readonly string[], directories: readonly string[], within = '/') {
  const node = await readNode({ host: treeHost({ hierarchies, directories }), within: cgroupPath(within) });
  return directoriesToWatch(node, cgroupPath(within)).map(({ kind, directory }) => `${kind} ${directory}`);
}

const root = '/sys/fs/cgroup';

describe('directoriesToWatch()', () => {
  it("v1: Slurm's directory and those of users, in each hierarchy that has them, nothing else", async () => {
    expect(
      await placesIn(
        ['freezer', 'memory', 'pids'],
        [
          'freezer/slurm/uid_1/job_1/step_0',
          'freezer/slurm/uid_2/job_2',
          'freezer/slurm/system',
          'memory/slurm/uid_1/job_1',
        ],
      ),
    ).toEqual([
      `top ${root}/freezer/slurm`,
      `user ${root}/freezer/slurm/uid_1`,
      `user ${root}/freezer/slurm/uid_2`,
      `top ${root}/memory/slurm`,
      `user ${root}/memory/slurm/uid_1`,
    ]);
  });

  it('v2: the one directory of the jobs', async () => {
    expect(await placesIn(['unified'], ['unified/system.slice/slurmstepd.scope/job_1/step_0'])).toEqual([
      `top ${root}/unified/system.slice/slurmstepd.scope`,
    ]);
  });

  it('above an empty one, which can be removed, also where it stands', async () => {
    expect(await placesIn(['freezer'], ['freezer/slurm'])).toEqual([
      `above ${root}/freezer`,
      `top ${root}/freezer/slurm`,
    ]);
  });

  it('where directories are named by node, also where they stand: another node can come', async () => {
    expect(await placesIn(['unified'], ['unified/system.slice/n1_slurmstepd.scope/job_1'])).toEqual([
      `above ${root}/unified/system.slice`,
      `top ${root}/unified/system.slice/n1_slurmstepd.scope`,
    ]);
  });

  it('without any: where it will stand, or the nearest that is there', async () => {
    expect(await placesIn(['freezer', 'unified'], ['unified/a'])).toEqual([
      `above ${root}/freezer`,
      `further ${root}/unified`,
    ]);
    expect(await placesIn(['freezer'], ['freezer/a'], '/a/b')).toEqual([`further ${root}/freezer/a`]);
  });

  it("v2 without any, in a container that sees its host's cgroups: below the folder of pid 1's cgroup, and below the root", async () => {
    const host = treeHost({
      hierarchies: ['unified'],
      directories: ['unified/kubepods/pod1/system.slice'],
      files: { '/proc/1/cgroup': '0::/kubepods/pod1/init\n' },
    });
    const read = await readNode({ host, within: cgroupPath('/') });
    const node: SlurmNode = { ...read, tops: [] };
    expect(directoriesToWatch(node).map(({ kind, directory }) => `${kind} ${directory}`)).toEqual([
      `above ${root}/unified/kubepods/pod1/system.slice`,
      `further ${root}/unified`,
    ]);
  });
});

describe('affectedBy()', () => {
  const place = (kind: WatchedDirectory['kind'], version: 1 | 2, uid?: number): WatchedDirectory => ({
    directory: '/d',
    kind,
    version,
    ...(uid === undefined ? {} : { uid }),
  });
  const user = { what: 'user', uid: 7 };

  it.each<[WatchedDirectory, string | undefined, object | undefined]>([
    [place('above', 1), 'slurm', { what: 'node' }],
    [place('above', 1), 'slurm_n1', { what: 'node' }],
    [place('above', 1), 'user.slice', undefined],
    [place('above', 2), 'n1_slurmstepd.scope', { what: 'node' }],
    [place('above', 2), 'cron.service', undefined],
    [place('above', 2), undefined, { what: 'node' }],
    [place('further', 2), 'system.slice', { what: 'node' }],
    [place('top', 1), 'uid_7', user],
    [place('top', 1), 'cgroup.procs', undefined],
    [place('top', 1), undefined, { what: 'all' }],
    [place('top', 2), 'job_7', { what: 'all' }],
    [place('top', 2), 'sEKNKTV3WPV500', { what: 'all' }],
    [place('top', 2), 'system', undefined],
    [place('user', 1, 7), 'job_1', user],
    [place('user', 1, 7), undefined, user],
    [place('user', 1, 7), 'tasks', undefined],
    [place('job', 1, 7), 'step_0', user],
    [place('job', 2), 'step_0', { what: 'all' }],
    [place('job', 1, 7), 'task_0', undefined],
  ])('%j: %s', (where, name, expected) => {
    expect(affectedBy(where, name)).toEqual(expected);
  });
});

describe('stepDirectoryOf()', () => {
  const host = treeHost({
    hierarchies: ['memory', 'freezer'],
    directories: [
      'memory/slurm/uid_7/job_1/step_0',
      'freezer/slurm/uid_7/job_1/step_0',
      'memory/slurm/uid_7/job_2/step_0',
      'freezer/slurm/uid_7/job_2',
    ],
  });

  it('is the freezer, where every step stands; steps that stand elsewhere alone are noticed', async () => {
    const jobs = discoverJobs(await readNode({ host, within: cgroupPath('/') }));
    expect(jobs.map(stepDirectoryOf)).toEqual(
      [1, 2].map((id) => ({ directory: `${root}/freezer/slurm/uid_7/job_${id}`, kind: 'job', version: 1, uid: 7 })),
    );
    expect(jobs.map(hasHiddenSteps)).toEqual([false, true]);
  });
});
