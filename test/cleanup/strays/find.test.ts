import fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Membership, parseProcCgroup } from '../../../src/cgroup/membership.js';
import { cgroupPath } from '../../../src/cgroup/path.js';
import {
  findStrays,
  type JobsKnown,
  knowJobs,
  mapsRange,
  personBehind,
  strayProof,
} from '../../../src/cleanup/strays/find.js';
import { readProcessTable } from '../../../src/cleanup/strays/process-table.js';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { readNode, type SlurmNode } from '../../../src/jobs/node.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { failingHost } from '../../../src/machine/failing.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { firstThreadEnded, untilFirstThreadEnded } from '../../support/first-thread-ended.js';
import { treeHost } from '../../support/small-trees.js';
import { started, stateOf, until } from '../../support/stuck-processes.js';
import { rootTest } from '../../support/test-cgroups.js';

const [alice, bob] = [64_701, 64_702];
const known = (...owners: readonly number[]): JobsKnown => ({
  count: owners.length,
  owners: new Set(owners),
  unknown: [],
});
const nodeOf = (
  directories: readonly string[],
  hierarchies: readonly string[] = ['freezer', 'memory', 'name=systemd'],
): Promise<SlurmNode> => readNode({ host: treeHost({ hierarchies, directories }), within: cgroupPath('/') });

describe('strayProof()', async () => {
  const v1 = await nodeOf(['freezer/slurm/uid_1/job_1', 'memory/slurm/uid_1/job_1']);
  const v2 = await nodeOf(['unified/system.slice/slurmstepd.scope/job_1'], ['unified']);
  const nodes = { v1, v2 };
  const ask = (
    text: string,
    jobs: JobsKnown,
    { node = v1, uid = alice, pid = 50, line = [] as readonly number[], slurms = [] as readonly number[] } = {},
  ) =>
    strayProof(
      { pid, uid, memberships: parseProcCgroup(text) },
      { node, uidMin: 1000, jobs, slurmsUids: new Set(slurms), line: new Set(line) },
    );

  it('says why: no job of that user', () => {
    expect(ask('1:name=systemd:/user.slice\n', known(bob))).toBe(
      "its user has no job on this node (1 job of others), and it is in no job's cgroup",
    );
    expect(ask('0::/\n', known())).toBe("its user has no job on this node (no user has), and it is in no job's cgroup");
    expect(ask('1:name=systemd:/system.slice/slurmd.service\n', known(bob))).toMatch(/no job/);
  });

  it.each<[string, string, JobsKnown, object]>([
    ['its user has a job', '0::/\n', known(alice, bob), {}],
    ['another owner is unknown', '0::/\n', { ...known(bob), unknown: ['the owner of job 5 is not known'] }, {}],
    ['it is in a job in one hierarchy', '2:freezer:/\n3:memory:/slurm/uid_1/job_1/step_0/task_0\n', known(bob), {}],
    ['it is in a job on v2', '0::/system.slice/slurmstepd.scope/job_9/step_0/user/task_0\n', known(bob), { node: v2 }],
    ['it is a service', '1:name=systemd:/system.slice/postgres.service\n', known(bob), {}],
    ['its user is whom Slurm runs as', '0::/\n', known(bob), { slurms: [alice] }],
    ['it is our ancestor', '0::/\n', known(bob), { line: [50] }],
    ['it is the first process', '0::/\n', known(bob), { pid: 1 }],
    ["it is root's", '0::/\n', known(bob), { uid: 0 }],
    ["it is nobody's", '0::/\n', known(bob), { uid: 65_534 }],
    ['it is of a system account', '0::/\n', known(bob), { uid: 999 }],
  ])('is silent where %s', (_why, text, jobs, more) => {
    expect(ask(text, jobs, more)).toBeUndefined();
  });

  it('never names root, system accounts, the protected, members of jobs; nor any process where an owner is unknown', () => {
    const inJob = [
      '/slurm/uid_1/job_1',
      '/slurm/uid_7/job_2/step_extern/task_0',
      '/system.slice/slurmstepd.scope/job_3/step_0/user',
    ];
    const outside = [
      '/',
      '/user.slice/user-1.slice',
      '/slurm',
      '/slurmx/uid_1/job_1',
      '/system.slice/slurmd.service',
      '/system.slice/cron.service/x',
    ];
    const anyMembership = fc.record({
      hierarchyId: fc.nat(20),
      controllers: fc.constantFrom<readonly string[]>([], ['freezer'], ['memory'], ['name=systemd'], ['pids']),
      path: fc.constantFrom(...inJob, ...outside, '/system.slice/db.service').map(cgroupPath),
      deleted: fc.boolean(),
    }) satisfies fc.Arbitrary<Membership>;
    const uid = fc.oneof(fc.constantFrom(0, 1, 99, 499, 500, 999, 1000, 1001, 65_534, 65_535), fc.nat(70_000));
    fc.assert(
      fc.property(
        fc.record({
          pid: fc.integer({ min: 1, max: 20 }),
          uid,
          memberships: fc.array(anyMembership, { maxLength: 4 }),
        }),
        fc.record({
          owners: fc.array(uid, { maxLength: 4 }),
          unknown: fc.array(fc.constant('why'), { maxLength: 1 }),
          uidMin: fc.constantFrom(500, 1000),
          line: fc.array(fc.integer({ min: 1, max: 20 })),
          slurms: fc.array(uid, { maxLength: 2 }),
          layout: fc.constantFrom('v1', 'v2'),
        }),
        (row, { owners, unknown, uidMin, line, slurms, layout }) => {
          const node = nodes[layout as 'v1' | 'v2'];
          const proof = strayProof(row, {
            node,
            uidMin,
            jobs: { count: owners.length, owners: new Set(owners), unknown },
            slurmsUids: new Set(slurms),
            line: new Set(line),
          });
          const member = row.memberships.some(
            ({ controllers, path }) =>
              inJob.includes(path) &&
              (layout === 'v2'
                ? controllers.length === 0 && path.startsWith('/system')
                : ['freezer', 'memory'].includes(controllers[0] ?? '') && path.startsWith('/slurm/')),
          );
          const service = row.memberships.some(
            ({ controllers, path }) =>
              path === '/system.slice/db.service' && (controllers.length === 0 || controllers[0] === 'name=systemd'),
          );
          const excused =
            row.pid === 1 ||
            row.uid < uidMin ||
            [65_534, 65_535].includes(row.uid) ||
            owners.includes(row.uid) ||
            slurms.includes(row.uid) ||
            unknown.length > 0 ||
            line.includes(row.pid) ||
            member ||
            service;
          expect(proof === undefined).toBe(excused);
        },
      ),
    );
  });
});

describe('knowJobs()', () => {
  it('takes a list that cannot be read for unknown, not for empty', async () => {
    const node = await nodeOf(['freezer/slurm/uid_1/job_1']);
    const host: Host = {
      ...node.host,
      names: (path) => {
        throw new SystemCallError('list', path, 'EACCES');
      },
    };
    expect((await knowJobs({ ...node, host })).unknown).toEqual([
      expect.stringMatching(/^the jobs here could not be read: Cannot list /),
    ]);
    expect((await knowJobs({ ...node, tops: [], evidence: undefined })).unknown).toHaveLength(1);
    expect(await knowJobs(node)).toEqual(known(1));
  });

  it('names the jobs whose owner is unknown, and why it is', async () => {
    const jobs = [1, 2, 3, 4, 5, 6, 7].map((id) => `unified/system.slice/slurmstepd.scope/job_${id}`);
    expect((await knowJobs(await nodeOf(jobs, ['unified']))).unknown).toEqual([
      'the owner of job 1, job 2, job 3, job 4, job 5 and 2 more is not known (job 1: slurmstepd would have to be asked, and a recording has none)',
    ]);
  });

  it('counts a slurmstepd without a cgroup as a job of an unknown owner, if its socket is listened on', async () => {
    const node = await nodeOf(['freezer/slurm/uid_1/job_1']);
    const withSockets = (unix: string): SlurmNode => ({
      ...node,
      spools: new Map([['node1', '/spool']]),
      host: {
        ...node.host,
        names: (path) =>
          path === '/spool'
            ? ['node1_1.4294967292', 'node1_9.0', 'node1_x.0', 'other_8.0', 'job00009']
            : node.host.names(path),
        read: (path) => (path === '/proc/net/unix' ? unix : node.host.read(path)),
      },
    });
    const line = (bound: string, flags = '00010000') =>
      `Num\n0000000000000000: 00000002 00000000 ${flags} 0001 01 55 ${bound}\n`;
    expect((await knowJobs(withSockets(line('/spool/node1_9.0')))).unknown).toEqual([
      'job 9 has a slurmstepd here but no cgroup, and its owner is not known',
    ]);
    // Names that end like it, which any user can bind, and a socket that does not listen.
    for (const other of [line('/tmp/spool/node1_9.0'), line('/tmp/x /spool/node1_9.0'), line('/spool/node1_9.0', '0')])
      expect((await knowJobs(withSockets(other))).unknown).toEqual([]);
  });
});

it('personBehind() knows who made a user namespace', () => {
  expect(personBehind('         0          0 4294967295\n')).toBeUndefined();
  expect(personBehind('         0       1001          1\n         1     165536      65536\n')).toBe(1001);
  expect(personBehind('         0     165536      65536\n')).toBeUndefined();
  expect(personBehind('')).toBeUndefined();
});

/** Children that are dead and not collected. */
function zombiesOf(pid: number): readonly number[] {
  const children = fs
    .readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter((text) => text !== '');
  return children.map(Number).filter((child) => stateOf(child) === 'Z');
}

async function withSandbox(act: (sandbox: Sandbox) => Promise<void>): Promise<void> {
  const sandbox = await Sandbox.create(liveHost(), `slurm-cgroups-test-strays${Math.trunc(Math.random() * 1e9)}`);
  try {
    await act(sandbox);
  } finally {
    await sandbox.remove();
  }
}

describe('findStrays()', () => {
  rootTest('finds a real one, and no other of those in or with a job', () =>
    withSandbox(async (sandbox) => {
      const leaf = await sandbox.addJob({ jobId: 3, uid: alice });
      await sandbox.startSleeper(alice, leaf);
      await sandbox.startSleeper(alice); // outside, but its user has a job
      await sandbox.startSleeper(bob, leaf); // of another, but in the job
      const stray = await sandbox.startSleeper(bob);
      const node = await sandbox.node();
      const { strays, complete, notes } = await findStrays({ node });
      const ours = strays.filter(({ uid }) => uid === alice || uid === bob);
      expect(ours).toEqual([
        {
          pid: stray.pid,
          startTime: expect.stringMatching(/^\d+$/),
          uid: bob,
          comm: 'sleep',
          cgroup: expect.stringContaining('/outside'),
          proof: "its user has no job on this node (1 job of others), and it is in no job's cgroup",
          ageSeconds: expect.any(Number),
          cpuPercent: expect.any(Number),
          memoryBytes: expect.any(Number),
        },
      ]);
      expect([complete, notes]).toEqual([true, []]);
      expect((await findStrays({ node, uid: alice })).strays).toEqual([]);
      expect((await findStrays({ node, uidMin: 64_900 })).strays.filter(({ uid }) => uid === bob)).toEqual([]);
      const { pid } = await started('/bin/sh', ['-c', 'sleep 0 & exec sleep 60'], { uid: bob }); // with a zombie
      await until('only a zombie is with it', () => zombiesOf(pid).length === 1);
      expect((await findStrays({ node, uid: bob })).strays.map((one) => one.pid).sort()).toEqual(
        [stray.pid, pid].sort(),
      );
    }),
  );

  rootTest('takes a process whose first thread has ended for what it is, where its other threads stand', (context) =>
    withSandbox(async (sandbox) => {
      const leaf = await sandbox.addJob({ jobId: 3, uid: alice });
      const { line } = firstThreadEnded(bob, context);
      const inJob = await sandbox.startScript(0, `exec ${line}`, leaf);
      const stray = await sandbox.startScript(0, `exec ${line}`);
      for (const { pid } of [inJob, stray]) await untilFirstThreadEnded(pid);
      const { strays } = await findStrays({ node: await sandbox.node(), uid: bob });
      expect(strays).toMatchObject([{ pid: stray.pid, uid: bob, comm: 'node' }]);
      expect(strays[0]?.memoryBytes).toBeGreaterThan(10 << 20);
      if (sandbox.version === 2) expect(strays[0]?.cgroup).toMatch(/\/outside$/);
      const pidsAt = async (place: RegExp) => {
        const isWantedAt = (memberships: readonly Membership[]) => memberships.some(({ path }) => place.test(path));
        const table = await readProcessTable(liveHost(), { isPerson: (uid) => uid === bob, isWantedAt });
        return table.rows.map(({ pid }) => pid);
      };
      expect(await pidsAt(/\/job_3\//)).toEqual([inJob.pid]);
      expect(await pidsAt(/\/outside$/)).toEqual([stray.pid]);
    }),
  );

  rootTest('never names processes of SlurmUser and SlurmdUser, whatever their uid', () =>
    withSandbox(async (sandbox) => {
      await sandbox.addJob({ jobId: 3, uid: alice });
      const { pid } = await sandbox.startSleeper(bob);
      const node = await sandbox.node();
      const pids = async (users: { slurmUser?: string; slurmdUser?: string }) => {
        const configuration = { files: [], nodes: [], places: new Map(), notes: [], ...users };
        const { strays, notes } = await findStrays({ node: { ...node, configuration } });
        return [strays.filter(({ uid }) => uid === bob).map((one) => one.pid), notes];
      };
      expect(await pids({})).toEqual([[pid], []]);
      expect(await pids({ slurmUser: String(bob) })).toEqual([[], []]);
      expect(await pids({ slurmUser: 'root', slurmdUser: String(bob) })).toEqual([[], []]);
      expect(await pids({ slurmUser: 'no-such-user-here' })).toEqual([
        [pid],
        ['"no-such-user-here" runs Slurm, but its uid is not known: its processes may be among the strays'],
      ]);
    }),
  );

  rootTest('is not complete where the kernel shows no path of a process: nested too deep, before Linux 6.8', () =>
    withSandbox(async (sandbox) => {
      await sandbox.addJob({ jobId: 3, uid: alice });
      const { pid } = await sandbox.startSleeper(bob);
      const other = await sandbox.startSleeper(bob);
      const node = await sandbox.node();
      const host: Host = {
        ...node.host,
        read: (file) => {
          if (file === `/proc/${pid}/cgroup`) throw new SystemCallError('read', file, 'ENAMETOOLONG');
          return node.host.read(file);
        },
      };
      const { strays, complete, notes } = await findStrays({ node: { ...node, host }, uid: bob });
      expect([strays.map((one) => one.pid), complete]).toEqual([[other.pid], false]);
      expect(notes).toContain(
        'The kernel shows no cgroup path of 1 process (nested too deep): whether it is a stray is not known',
      );
    }),
  );

  rootTest('names no process where a call fails, and never throws', () =>
    withSandbox(async (sandbox) => {
      await sandbox.startSleeper(bob, await sandbox.addJob({ jobId: 3, uid: alice }));
      const { pid } = await sandbox.startSleeper(bob);
      const node = await sandbox.node();
      const counting = failingHost(node.host);
      await findStrays({ node: { ...node, host: counting }, uid: bob });
      for (let nth = 1; nth <= counting.calls.length; nth++) {
        const host = failingHost(node.host, { nth });
        const { strays, complete, notes } = await findStrays({ node: { ...node, host }, uid: bob });
        expect(strays.filter((one) => one.pid !== pid)).toEqual([]);
        if (!complete) expect([strays, notes.length]).toEqual([[], 1]);
        expect(host.openDirectories()).toBe(0);
      }
    }),
  );
});

describe('mapsRange()', () => {
  it.each([
    ['         0          0 4294967295\n', false],
    ['         0 1878982656      65536\n', true],
    ['         0       1005          1\n         1     100000      65536\n', false],
    ['         0    1000000 1000000000\n', true],
    ['', false],
  ])('%j: %s', (text, isRange) => {
    expect(mapsRange(text)).toBe(isRange);
  });
});
