import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rootPath } from '../../src/cgroup/path.js';
import { cgroupOf, discoverJobs } from '../../src/jobs/discovery.js';
import { readNode } from '../../src/jobs/node.js';
import { hasCode, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording, recordingNames, respelled } from '../recordings/recordings.js';
import { mountPoint, type Tree, treeHost } from '../support/small-trees.js';

const nodeOf = (host: Host) => readNode({ host, within: rootPath });
const jobsOf = async (tree: Tree) => discoverJobs(await nodeOf(treeHost(tree)));

const v2 = 'unified/system.slice/slurmstepd.scope';

describe('discoverJobs()', () => {
  it('merges one job over hierarchies that hold different parts of it', async () => {
    const [job, ...others] = await jobsOf({
      hierarchies: ['memory', 'freezer', 'cpuset'],
      directories: [
        'memory/slurm/uid_7/job_3/step_0/task_0',
        'freezer/slurm/uid_7/job_3/step_extern',
        'cpuset/slurm/uid_7',
      ],
    });
    expect(others).toEqual([]);
    expect(job).toMatchObject({ jobId: 3, uid: 7, externMissingIn: ['memory', 'cpuset'] });
    expect(job?.cgroups.map(({ hierarchy }) => hierarchy)).toEqual(['memory', 'freezer']);
    expect(job?.steps.map(({ stepId, cgroups }) => [stepId, cgroups.map(({ hierarchy }) => hierarchy)])).toEqual([
      ['extern', ['freezer']],
      ['0', ['memory']],
    ]);
    expect(job?.extern?.cgroups.map(({ path }) => path)).toEqual([
      `${mountPoint}/freezer/slurm/uid_7/job_3/step_extern`,
    ]);
  });

  it('reads one job alone, if only that is wanted', async () => {
    const sluid = 'sEKNKTV3WPV500';
    const host = treeHost({
      hierarchies: ['unified'],
      directories: [`${v2}/job_3/step_extern`, `${v2}/job_4/step_0`, `${v2}/${sluid}/step_extern`],
    });
    const listed: string[] = [];
    const names = (path: string) => {
      listed.push(path.slice(path.lastIndexOf('/') + 1));
      return host.names(path);
    };
    const node = await nodeOf({ ...host, names });
    listed.length = 0;
    expect(discoverJobs(node, { only: { jobId: 4 } }).map(({ jobId }) => jobId)).toEqual([4]);
    expect(listed).toEqual(['slurmstepd.scope', 'job_4']);
    expect(discoverJobs(node, { only: { sluid } })).toMatchObject([{ sluid }]);
    expect(discoverJobs(node, { only: { jobId: 5 } })).toEqual([]);
  });

  it('keeps equal ids of different users and of different nodes apart', async () => {
    const jobs = await jobsOf({
      hierarchies: ['memory'],
      directories: ['memory/slurm_a/uid_7/job_3', 'memory/slurm_a/uid_8/job_3', 'memory/slurm_b/uid_7/job_3'],
    });
    expect(jobs.map(({ nodeName, uid, jobId }) => [nodeName, uid, jobId])).toEqual([
      ['a', 7, 3],
      ['a', 8, 3],
      ['b', 7, 3],
    ]);
  });

  it('never takes a forged name for a job', async () => {
    const forged = [
      'job_0',
      'job_007',
      'job_4294967294',
      'job_4294967295',
      'job_1x',
      'job_',
      'sEKNKTV3WPV50I',
      'sEKNKTV3WPV50',
      'job 1',
      'system',
    ];
    const jobs = await jobsOf({
      hierarchies: ['memory', 'unified'],
      directories: [
        ...forged.flatMap((name) => [`memory/slurm/uid_1001/${name}/step_extern`, `${v2}/${name}/step_extern`]),
        'memory/slurm/uid_x/job_1/step_extern',
        'memory/slurm/uid_01/job_1/step_extern',
        'memory/slurm/uid_4294967295/job_1/step_extern',
        'memory/slurm/job_1/step_extern',
        'memory/slurm/uid_1001/sEKNKTV3WPV500/step_extern',
        'memory/slurm/uid_1001/deeper/job_1/step_extern',
        'unified/user.slice/user-1001.slice/user@1001.service/slurmstepd.scope/job_1/step_extern',
        'unified/user.slice/user-1001.slice/user@1001.service/system.slice/slurmstepd.scope/job_1/step_extern',
        `${v2}/slurmd/job_1/step_extern`,
        `${v2}/uid_1001/job_1/step_extern`,
      ],
    });
    // The one name with the form of a SLUID stands in a tree of v1, where none is.
    expect(jobs.map(({ jobId, sluid, uid }) => ({ jobId, sluid, uid }))).toEqual([]);
  });

  it('never takes a tree that is not root’s', async () => {
    const jobs = await jobsOf({
      hierarchies: ['memory', 'unified'],
      directories: ['memory/slurm/uid_1/job_1/step_extern', `${v2}/job_1/step_extern`],
      owners: { 'memory/slurm': 1, [v2]: 1 },
    });
    expect(jobs).toEqual([]);
  });

  it('keeps odd step names as they are and takes `step_` for none', async () => {
    const names = [
      '0',
      '0+1',
      '10',
      '2',
      'batch',
      'extern',
      'interactive',
      'EXTERN',
      '4294967292',
      'a b',
      ' (deleted)',
      '\udcff',
      'x'.repeat(200),
    ];
    const [job] = await jobsOf({
      hierarchies: ['unified'],
      directories: [...names.map((name) => `${v2}/job_1/step_${name}`), `${v2}/job_1/step_`, `${v2}/job_1/xstep_1`],
    });
    const stepIds = job?.steps.map(({ stepId }) => stepId) ?? [];
    expect(stepIds.slice(0, 8)).toEqual(['extern', 'batch', 'interactive', '0', '0+1', '2', '10', '4294967292']);
    expect([...stepIds].sort()).toEqual([...names].sort());
  });

  it('reads nothing but uid_<U> for one uid on v1', async () => {
    const tree: Tree = {
      hierarchies: ['memory', 'freezer'],
      directories: [1, 2, 3].flatMap((uid) =>
        ['memory', 'freezer'].map((one) => `${one}/slurm/uid_${uid}/job_${uid}0/step_extern`),
      ),
    };
    const read: string[] = [];
    const host = treeHost(tree);
    const node = await nodeOf(host);
    const names = (path: string) => {
      read.push(path);
      return host.names(path);
    };
    const watched = { ...node, host: { ...host, names } };
    expect(discoverJobs(watched, { uid: 2 }).map(({ jobId }) => jobId)).toEqual([20]);
    expect(read.length).toBeGreaterThan(0);
    expect(read.filter((path) => !path.includes('/slurm/uid_2'))).toEqual([]);
    expect(discoverJobs(watched, { uid: 9 })).toEqual([]);
  });

  it('reads the times of jobs only where they are asked for', async () => {
    const node = await nodeOf(
      treeHost({
        hierarchies: ['memory'],
        directories: ['memory/slurm/uid_1/job_1'],
        times: { 'memory/slurm/uid_1/job_1': 5n },
      }),
    );
    expect(discoverJobs(node).map(({ cgroups }) => cgroups[0]?.mtimeNs)).toEqual([undefined]);
    expect(discoverJobs(node, { jobTimes: true }).map(({ cgroups }) => cgroups[0]?.mtimeNs)).toEqual([5n]);
  });

  it('leaves out what vanishes while it is read', async () => {
    const host = treeHost({
      hierarchies: ['memory', 'freezer'],
      directories: ['memory', 'freezer'].flatMap((one) =>
        [1, 2].map((id) => `${one}/slurm/uid_1/job_${id}/step_extern`),
      ),
    });
    const node = await nodeOf(host);
    /** Everything below `gone` vanishes after the directory above was listed. */
    const without = (gone: RegExp) =>
      discoverJobs({
        ...node,
        host: {
          ...host,
          names: (path) => {
            if (gone.test(path)) throw new SystemCallError('list', path, 'ENOENT');
            return host.names(path);
          },
          stat: (path) => (gone.test(path) ? undefined : host.stat(path)),
        },
      });
    expect(without(/uid_1/)).toEqual([]);
    expect(without(/job_1/).map(({ jobId }) => jobId)).toEqual([2]);
    expect(without(/memory.*job_1/).map(({ jobId, cgroups }) => [jobId, cgroups.length])).toEqual([
      [1, 1],
      [2, 2],
    ]);
    const [job] = without(/memory.*job_1\/step_extern/);
    expect(job).toMatchObject({ jobId: 1, externMissingIn: ['memory'] });
    expect(job?.steps[0]?.cgroups.length).toBe(1);
  });

  it.each(['EACCES', 'EIO', 'EMFILE'])(
    'throws where a tree cannot be read (%s): unreadable is not empty',
    async (errno) => {
      const host = treeHost({ hierarchies: ['memory'], directories: ['memory/slurm/uid_1/job_1/step_extern'] });
      const node = await nodeOf(host);
      for (const at of ['slurm', 'uid_1', 'job_1']) {
        const names = (path: string) => {
          if (path.endsWith(at)) throw new SystemCallError('list', path, errno);
          return host.names(path);
        };
        const act = () => discoverJobs({ ...node, host: { ...host, names } });
        expect(act).toThrow(
          expect.toSatisfy((error) => hasCode(error, errno === 'EACCES' ? 'ERR_NOT_PERMITTED' : 'ERR_IO')),
        );
      }
    },
  );

  it('is independent of the order of listings', async () => {
    const texts = [...recordingNames.map(loadRecording), respelled('slurm-26.05-v1'), respelled('slurm-24.11-v2')];
    const nodes = await Promise.all(texts.map(async (text) => readNode({ host: recordedHost(text) })));
    const inOrder = nodes.map((node) => discoverJobs(node, { jobTimes: true }));
    await fc.assert(
      fc.asyncProperty(fc.nat(texts.length - 1), fc.integer({ min: 1, max: 0x7fff_ffff }), async (at, seed) => {
        const base = nodes[at]?.host;
        if (base === undefined) return;
        const host: Host = {
          ...base,
          names: (path) => shuffled(base.names(path), seed),
          entries: (path) => shuffled(base.entries(path), seed),
        };
        const node = await readNode({ host });
        expect(discoverJobs(node, { jobTimes: true })).toEqual(inOrder[at]);
      }),
      { numRuns: 60 },
    );
  });
});

/** The same items in an order that `seed` gives (a linear congruential generator, Numerical Recipes). */
function shuffled<T>(items: readonly T[], seed: number): readonly T[] {
  let state = seed;
  return items
    .map((item) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return { item, key: state };
    })
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

describe('cgroupOf()', () => {
  it.each(['slurm-22.05-v1', 'slurm-24.11-v2'])(
    'leads from each directory of a job to its cgroup (%s)',
    async (name) => {
      const node = await readNode({ host: recordedHost(loadRecording(name)) });
      const all = discoverJobs(node).flatMap((job) => [...job.cgroups, ...job.steps.flatMap((step) => step.cgroups)]);
      expect(all.length).toBeGreaterThan(10);
      for (const one of all) {
        const cgroup = cgroupOf(node, one);
        expect([cgroup?.directory, cgroup?.hierarchy.key]).toEqual([one.path, one.hierarchy]);
      }
    },
  );

  it('knows none in a hierarchy that is not mounted', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
    expect(cgroupOf(node, { hierarchy: 'rdma', controllers: ['rdma'], path: '/sys/fs/cgroup/rdma/x' })).toBeUndefined();
  });
});
