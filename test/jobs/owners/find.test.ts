import { describe, expect, it } from 'vitest';
import { rootPath } from '../../../src/cgroup/path.js';
import type { Job } from '../../../src/jobs/job.js';
import { readNode, type SlurmNode } from '../../../src/jobs/node.js';
import { findOwners } from '../../../src/jobs/owners/find.js';
import { hasCode, SystemCallError } from '../../../src/machine/errors.js';
import type { FileStat, Host } from '../../../src/machine/host.js';
import { treeHost } from '../../support/small-trees.js';

const spool = '/var/spool/slurmd';
const directory = 0o040755n;
const script = 0o100700n;

type Files = Readonly<Record<string, readonly [mode: bigint, uid: number] | 'EACCES'>>;

/** A node of v2 whose spool holds these files. */
async function nodeWith(files: Files, changes: Partial<SlurmNode> = {}): Promise<SlurmNode> {
  const base = treeHost({ hierarchies: ['unified'], directories: ['unified/system.slice/slurmstepd.scope'] });
  const template = base.stat('/sys/fs/cgroup/unified');
  const stat = (path: string): FileStat | undefined => {
    const found = files[path.slice(spool.length + 1)];
    if (found === 'EACCES') throw new SystemCallError('look at', path, found);
    return found === undefined || template === undefined
      ? undefined
      : { ...template, mode: found[0], uid: BigInt(found[1]) };
  };
  const host: Host = { ...base, stat: (path) => (path.startsWith(spool) ? stat(path) : base.stat(path)) };
  const node = await readNode({ host, within: rootPath });
  return { ...node, spools: new Map([['node1', spool]]), ...changes };
}

const job = (jobId: number | undefined, more: Partial<Job> = {}): Job => ({
  ...(jobId === undefined ? {} : { jobId }),
  steps: [],
  cgroups: [],
  externMissingIn: [],
  ...more,
});

const usual: Files = { '': [directory, 0], job00007: [0o040750n, 0], 'job00007/slurm_script': [script, 1001] };

describe('findOwners()', () => {
  it('believes the path, then the script that slurmd stored', async () => {
    const node = await nodeWith(usual);
    expect(
      await findOwners([job(1, { uid: 5 }), job(7), job(8), job(undefined, { sluid: 'sEKNKTV3WPV500' })], { node }),
    ).toMatchObject([
      { jobId: 1, uid: 5, ownerFrom: 'path' },
      { jobId: 7, uid: 1001, ownerFrom: 'slurm_script' },
      job(8),
      job(undefined, { sluid: 'sEKNKTV3WPV500' }),
    ]);
  });

  it('writes job ids of more than five digits in full', async () => {
    const node = await nodeWith({ ...usual, job1234567: [directory, 0], 'job1234567/slurm_script': [script, 3] });
    expect((await findOwners([job(1_234_567)], { node }))[0]?.uid).toBe(3);
  });

  it.each<[string, Files]>([
    ['a spool that others can write', { ...usual, '': [0o040777n, 0] }],
    ['a spool that its group can write', { ...usual, '': [0o040775n, 0] }],
    ['a spool of another owner', { ...usual, '': [directory, 1001] }],
    ['a spool that is a link', { ...usual, '': [0o120777n, 0] }],
    ['a folder of the job of another owner', { ...usual, job00007: [0o040750n, 1001] }],
    ['a folder of the job that is a link', { ...usual, job00007: [0o120777n, 0] }],
    ['a folder of the job that others can write', { ...usual, job00007: [0o040777n, 0] }],
    ['a script that is a link', { ...usual, 'job00007/slurm_script': [0o120777n, 1001] }],
    ['a script that is a folder', { ...usual, 'job00007/slurm_script': [directory, 1001] }],
    ['no script', { ...usual, 'job00007/slurm_script': [0o010644n, 1001] }],
    ['no spool', {}],
  ])('believes nothing of %s', async (_what, files) => {
    const node = await nodeWith(files);
    expect(await findOwners([job(7)], { node })).toEqual([{ ...job(7), unknownWhy: expect.any(String) }]);
  });

  it('looks for a job into the spool of its own node', async () => {
    const named = { nodeName: undefined, spools: new Map([['b', spool]]) };
    const node = await nodeWith(usual, named);
    const jobs = [job(7, { nodeName: 'b' }), job(7, { nodeName: 'a' }), job(7)];
    const uids = (await findOwners(jobs, { node })).map(({ uid }) => uid);
    expect(uids).toEqual([1001, undefined, undefined]);
  });

  it('throws where the spool is there and cannot be read', async () => {
    for (const name of ['', 'job00007', 'job00007/slurm_script']) {
      const node = await nodeWith({ ...usual, [name]: 'EACCES' });
      await expect(findOwners([job(7)], { node })).rejects.toEqual(
        expect.toSatisfy((error) => hasCode(error, 'ERR_NOT_PERMITTED')),
      );
    }
  });
});
