import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../../src/cgroup/path.js';
import { readNode, type SlurmNode } from '../../../src/jobs/node.js';
import { JobIndex } from '../../../src/jobs/watch/index-of-jobs.js';
import type { Host } from '../../../src/machine/host.js';
import { type Tree, treeHost } from '../../support/small-trees.js';

/** A node whose tree is another at each look: `show` says which. */
async function changing(
  first: Tree,
  clock: () => number = () => 0,
): Promise<{ node: SlurmNode; show: (tree: Tree) => void }> {
  let now = treeHost(first);
  const host: Host = {
    ...now,
    names: (path) => now.names(path),
    stat: (path) => now.stat(path),
    now: clock,
  };
  const node = await readNode({ host, within: cgroupPath('/') });
  return {
    node,
    show: (tree) => {
      now = treeHost(tree);
    },
  };
}

const v1 = (...directories: readonly string[]): Tree => ({
  hierarchies: ['freezer'],
  directories: ['freezer/slurm', ...directories.map((one) => `freezer/slurm/${one}`)],
});

async function look(index: JobIndex, node: SlurmNode, users: ReadonlySet<number> | 'all') {
  return (await index.look(node, users)).map((change) => `${change.event} ${change.jobId}`);
}

describe('JobIndex', () => {
  it('looks at the users it is told to, and leaves the others as they were', async () => {
    const { node, show } = await changing(v1('uid_1/job_1/step_0', 'uid_2/job_2/step_0'));
    const index = new JobIndex(false);
    expect(await look(index, node, 'all')).toEqual(['added 1', 'added 2']);
    show(v1());
    expect(await look(index, node, new Set([2]))).toEqual(['removed 2']);
    expect(index.jobs.map(({ jobId }) => jobId)).toEqual([1]);
    expect(await look(index, node, new Set([1, 3]))).toEqual(['removed 1']);
    expect(await look(index, node, 'all')).toEqual([]);
  });

  it('v2: one look is for all users; unknown owners are asked for again, less and less often', async () => {
    let time = 0;
    const tree: Tree = {
      hierarchies: ['unified'],
      directories: ['unified/system.slice/slurmstepd.scope/job_3/step_0'],
    };
    const { node } = await changing(tree, () => time);
    const index = new JobIndex(false);
    expect(await look(index, node, new Set([1]))).toEqual(['added 3']);
    expect(index.isUnsettled).toBe(true);
    for (time of [50, 100, 250, 1e6]) expect(await look(index, node, 'all')).toEqual([]);
  });

  it('what cannot be read is not "none"', async () => {
    const { node } = await changing(v1('uid_1/job_1/step_0'));
    const index = new JobIndex(false);
    await index.look(node, 'all');
    await expect(index.look({ ...node, unreadable: ['Cannot list it'] }, 'all')).rejects.toMatchObject({
      code: 'ERR_IO',
    });
    expect(index.jobs).toHaveLength(1);
  });
});
