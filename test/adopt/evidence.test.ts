import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type FactSource, withFact } from '../../src/adopt/evidence.js';
import { SystemCallError } from '../../src/cgroup/errors.js';
import type { Host } from '../../src/cgroup/host.js';
import { rootPath } from '../../src/cgroup/path.js';
import { recordedHost } from '../../src/cgroup/recording.js';
import { readNode } from '../../src/jobs/node.js';
import { defaultOptions } from '../../src/policy/options.js';
import { type Tree, treeHost } from '../jobs/trees.js';
import { loadRecording } from '../recordings/recordings.js';
import { alice, inWorld, onKernels } from './kernel.js';

async function sourceOf(host: Host): Promise<FactSource> {
  return { node: await readNode({ host }), request: { uid: 1001 }, options: defaultOptions };
}

const tree = async (one: Tree, changes: Partial<FactSource> = {}): Promise<FactSource> => {
  const node = await readNode({ host: treeHost(one), within: rootPath });
  return { node, request: { uid: 1001 }, options: defaultOptions, ...changes };
};

describe('withFact()', () => {
  it('keeps what was known and adds one fact', async () => {
    const source = await sourceOf(recordedHost(loadRecording('slurm-24.11-v1')));
    const facts = await withFact({ callerId: { known: 'none' } }, 'node', source);
    expect(facts).toEqual({
      callerId: { known: 'none' },
      node: { known: { isSlurmNode: true, nodeName: 'vm', cgroupVersion: 1 } },
    });
  });

  it('of the node: is none of Slurm’s without its cgroups and its spool', async () => {
    const source = await tree({ hierarchies: ['memory', 'unified'], directories: [] });
    expect((await withFact({}, 'node', source)).node).toMatchObject({ known: { isSlurmNode: false } });
  });

  it('of the node: is unknown where several share the machine, and names them', async () => {
    const source = await sourceOf(recordedHost(loadRecording('slurm-24.11-v2-two-nodes')));
    expect((await withFact({}, 'node', source)).node).toEqual({
      unknown: 'several nodes of Slurm share this machine: vm1, vm2',
    });
    const bare = await tree({ hierarchies: ['memory'], directories: ['memory/slurm_a', 'memory/slurm_b'] });
    expect((await withFact({}, 'node', bare)).node).toEqual({
      unknown: 'several nodes of Slurm share this machine: a, b',
    });
  });

  it('of the node: is unknown where nothing tells its name', async () => {
    const host = treeHost({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    const read = (path: string) => {
      if (path.endsWith('/hostname')) throw new SystemCallError('read', path, 'EACCES');
      return host.read(path);
    };
    const node = await readNode({ host: { ...host, read }, within: rootPath });
    const fact = (await withFact({}, 'node', { node, request: { uid: 1 }, options: defaultOptions })).node;
    expect(fact).toEqual({
      unknown: expect.stringMatching(/^nothing here tells its name; .*hostname.*permission denied/),
    });
  });

  it('of the node: tells the version of the cgroups that Slurm uses', async () => {
    const source = await tree({
      hierarchies: ['memory', 'unified'],
      directories: ['unified/system.slice/slurmstepd.scope'],
    });
    expect((await withFact({}, 'node', source)).node).toMatchObject({ known: { cgroupVersion: 2 } });
  });

  it('of the jobs: those of that uid, and those whose owner is unknown', async () => {
    const v1 = await tree({
      hierarchies: ['memory'],
      directories: ['memory/slurm/uid_1001/job_1/step_extern', 'memory/slurm/uid_7/job_2/step_extern'],
    });
    expect(await withFact({}, 'jobs', v1)).toMatchObject({ jobs: { known: [{ jobId: 1 }] }, states: [] });
    const v2 = await sourceOf(recordedHost(loadRecording('slurm-24.11-v2')));
    const { jobs } = await withFact({}, 'jobs', v2);
    const known = jobs !== undefined && 'known' in jobs ? jobs.known : [];
    expect(known.map(({ jobId, uid }) => [jobId, uid])).toEqual([
      [1, 1001],
      [3, 1001],
      [4, 1001],
      [5, undefined],
    ]);
  });

  it('of the jobs: one without an extern step is starting', async () => {
    const source = await tree({
      hierarchies: ['memory'],
      directories: ['memory/slurm/uid_1001/job_1/step_batch', 'memory/slurm/uid_1001/job_2/step_extern'],
    });
    expect((await withFact({}, 'jobs', source)).states).toMatchObject([{ job: { jobId: 1 }, state: 'starting' }]);
  });

  it('of the jobs: unknown, never none, where they cannot be read', async () => {
    for (const errno of ['EACCES', 'EIO', 'EMFILE']) {
      const host = treeHost({ hierarchies: ['memory'], directories: ['memory/slurm/uid_1001/job_1/step_extern'] });
      const names = (path: string) => {
        if (path.endsWith('uid_1001')) throw new SystemCallError('list', path, errno);
        return host.names(path);
      };
      const source = await tree({ hierarchies: ['memory'], directories: ['memory/slurm'] });
      const node = { ...source.node, host: { ...host, names } };
      expect(await withFact({}, 'jobs', { ...source, node })).toEqual({
        jobs: { unknown: expect.stringContaining('uid_1001') },
      });
    }
  });

  it.each(['newest', 'pam_slurm_adopt-20.02'] as const)(
    'of the jobs: with rank %s reads what that rank needs',
    async (rank) => {
      const path = 'memory/slurm/uid_1001/job_1';
      const source = await tree(
        { hierarchies: ['memory'], directories: [`${path}/step_extern`], times: { [path]: 7n } },
        { options: { ...defaultOptions, rank } },
      );
      const { jobs } = await withFact({}, 'jobs', source);
      const [job] = jobs !== undefined && 'known' in jobs ? jobs.known : [];
      expect(job?.cgroups[0]?.mtimeNs).toBe(rank === 'newest' ? undefined : 7n);
    },
  );

  it('of caller ID and of a choice: unknown, as long as nobody gives one', async () => {
    const source = await tree({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    expect(await withFact({}, 'callerId', source)).toEqual({ callerId: { unknown: 'no connection was given' } });
    expect(await withFact({}, 'preference', source)).toEqual({ preference: { unknown: 'no choice was given' } });
  });
});

onKernels((kernel) => {
  describe('withFact()', () => {
    inWorld(kernel, 'of the jobs: a frozen one is suspended, also where a cgroup above is frozen', async (world) => {
      await world.twoJobs();
      const states = async () => {
        const { states = [] } = await withFact({}, 'jobs', {
          node: await world.node(),
          request: { uid: alice },
          options: defaultOptions,
        });
        return states.map(({ job, state }) => [job.jobId, state]);
      };
      expect(await states()).toEqual([]);
      world.freeze(102);
      expect(await states()).toEqual([[102, 'suspended']]);
      world.thaw(102);
      const above = [...world.jobAt(102, 'step_extern').cgroups, ...world.jobAt(102).cgroups]
        .filter(({ hierarchy }) => hierarchy.version === 2 || hierarchy.controllers.includes('freezer'))
        .map(({ directory }) => `${directory}/${kernel.name === 'v1' ? 'freezer.state' : 'cgroup.freeze'}`);
      expect(above.length).toBe(2);
      for (const file of above) {
        fs.writeFileSync(file, kernel.name === 'v1' ? 'FROZEN' : '1');
        try {
          expect(await states()).toEqual([[102, 'suspended']]);
        } finally {
          fs.writeFileSync(file, kernel.name === 'v1' ? 'THAWED' : '0');
        }
      }
    });
  });
});
