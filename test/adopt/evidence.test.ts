import fs from 'node:fs';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { type FactSource, withFact } from '../../src/adopt/evidence.js';
import { rootPath } from '../../src/cgroup/path.js';
import { readNode } from '../../src/jobs/node.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { defaultOptions } from '../../src/policy/options.js';
import { loadRecording } from '../recordings/recordings.js';
import { alice, bob, inWorld, onKernels } from '../support/kernel-jobs.js';
import { mountPoint, type Tree, treeHost } from '../support/small-trees.js';
import { Listener } from '../support/tcp-listener.js';

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
      unknown: 'several Slurm nodes share this machine: vm1, vm2',
    });
    const bare = await tree({ hierarchies: ['memory'], directories: ['memory/slurm_a', 'memory/slurm_b'] });
    expect((await withFact({}, 'node', bare)).node).toEqual({
      unknown: 'several Slurm nodes share this machine: a, b',
    });
  });

  it('of the node: is unknown where its name cannot be read', async () => {
    const host = treeHost({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    const read = (path: string) => {
      if (path.endsWith('/hostname')) throw new SystemCallError('read', path, 'EACCES');
      return host.read(path);
    };
    const node = await readNode({ host: { ...host, read }, within: rootPath });
    const fact = (await withFact({}, 'node', { node, request: { uid: 1 }, options: defaultOptions })).node;
    expect(fact).toEqual({
      unknown: expect.stringMatching(/^its name is not known here; .*hostname.*permission denied/),
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

  it.each([
    [undefined, 'starting'],
    [[], 'starting'],
    [['alloc'], 'starting'],
    [['contain', 'nohold'], 'ending'],
    [['x11'], 'ending'],
  ])('of the jobs, with PrologFlags %s: one that has other steps and no extern step is %s', async (flags, state) => {
    const source = await tree({
      hierarchies: ['memory'],
      directories: [
        'memory/slurm/uid_1001/job_1/step_batch',
        'memory/slurm/uid_1001/job_2/step_extern',
        'memory/slurm/uid_1001/job_3',
      ],
    });
    const configuration = { files: [], nodes: [], places: new Map(), notes: [], prologFlags: flags };
    const node = { ...source.node, ...(flags === undefined ? {} : { configuration }) };
    expect((await withFact({}, 'jobs', { ...source, node })).states).toMatchObject([
      { job: { jobId: 1 }, state },
      { job: { jobId: 3 }, state: 'starting' },
    ]);
  });

  it('of the jobs: one of an unknown owner with no process at slurmstepd’s place is deserted', async () => {
    const step = (jobId: number) => `unified/system.slice/slurmstepd.scope/job_${jobId}/step_extern/slurm`;
    const source = await tree({
      hierarchies: ['unified'],
      directories: [step(1), step(2)],
      files: Object.fromEntries([1, 2].map((id) => [`${mountPoint}/${step(id)}/cgroup.procs`, id === 1 ? '' : '7\n'])),
    });
    const { jobs, states } = await withFact({}, 'jobs', source);
    expect(jobs).toMatchObject({ known: [{ jobId: 1 }, { jobId: 2 }] });
    expect(states).toEqual([{ job: expect.objectContaining({ jobId: 1 }), state: 'deserted' }]);
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

  it('of caller ID: unknown without a connection, with one that cannot be read, and of a recorded node', async () => {
    const source = await tree({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    const factOf = async (request: Partial<FactSource['request']>) =>
      (await withFact({}, 'callerId', { ...source, request: { ...source.request, ...request } })).callerId;
    expect(await factOf({})).toEqual({ unknown: 'no connection was given' });
    expect(await factOf({ pid: 1 })).toEqual({ unknown: 'no connection was given' });
    expect(await factOf({ connection: 'UNKNOWN 65535 UNKNOWN 65535' })).toEqual({
      unknown:
        'the connection cannot be read: "UNKNOWN 65535 UNKNOWN 65535" names no addresses: the connection is not over TCP',
    });
    expect(await factOf({ connection: '192.0.2.1 51234 192.0.2.2 22' })).toEqual({
      unknown: 'a recorded node cannot be asked',
    });
  });

  it('of a choice: unknown, as long as none is given', async () => {
    const source = await tree({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    expect(await withFact({}, 'preference', source)).toEqual({ preference: { unknown: 'no choice was given' } });
  });
});

onKernels((kernel) => {
  describe('withFact()', () => {
    inWorld(kernel, 'of caller ID: the job the connection comes from, none, or the job of another', async (world) => {
      await world.twoJobs();
      const node = await world.node();
      const listener = await Listener.at('127.0.0.1');
      try {
        const script = `require('node:net').connect(${listener.port}, '127.0.0.1'); setTimeout(() => {}, ${world.lifetime}000)`;
        const pid = await world.start(process.execPath, ['-e', script], alice);
        const connection = (await listener.accept()).text;
        const factOf = async (uid: number, options = defaultOptions) => {
          const source = { node, request: { uid, connection, pid }, options };
          return (await withFact(await withFact({}, 'jobs', source), 'callerId', source)).callerId;
        };
        await world.outside.add(pid);
        expect(await factOf(alice)).toEqual({ known: 'none' });
        const batch = kernel.name === 'v1' ? ['step_batch'] : ['step_batch', 'user', 'task_0'];
        for (const cgroup of world.jobAt(101, ...batch).cgroups) await cgroup.add(pid);
        expect(await factOf(alice)).toEqual({ known: { jobId: 101, uid: alice } });
        expect(await factOf(bob)).toEqual({ known: { jobId: 101, uid: alice } });
        const noTime = { ...defaultOptions, callerIdTimeoutMs: 0 };
        expect(await factOf(alice, noTime)).toEqual({ unknown: expect.stringContaining('took too long') });
        // Nor is another machine asked once the budget of the login is over.
        const late = {
          node,
          request: { uid: alice, connection: '203.0.113.52 5 192.0.2.2 22' },
          options: defaultOptions,
        };
        expect((await withFact({}, 'callerId', { ...late, deadline: deadlineIn(node.host, 0) })).callerId).toEqual({
          unknown: 'no time is left to ask',
        });
        const own = { node, request: { uid: alice, pid }, options: defaultOptions };
        expect((await withFact({}, 'callerId', own)).callerId).toEqual({
          unknown: `no connection was given, and process ${pid} is not the sshd of a connection`,
        });
      } finally {
        listener.close();
      }
    });

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
