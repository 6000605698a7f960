import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { rootPath } from '../../src/cgroup/path.js';
import { readNode } from '../../src/jobs/node.js';
import { verify } from '../../src/jobs/verification.js';
import { hasCode, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { mountPoint, type Tree, treeText } from '../support/small-trees.js';
import { nodeOfStepds } from '../support/stepd-node.js';
import { unixSandbox } from '../support/unix-server.js';

interface Process {
  /** Lines of /proc/PID/cgroup, the first thread's first. */
  readonly threads: readonly string[];
  /** Its first thread has ended. */
  readonly ended?: true;
  readonly uids?: string;
}

const pid = 4242;

function statText(tid: number, { threads, ended }: Process): string {
  const state = ended === true && tid === pid ? 'Z' : 'S';
  return `${tid} (bash) ${state} ${[1, ...Array(15).fill(0), threads.length, 0, 77, ...Array(30).fill(0)].join(' ')}\n`;
}

function hostWith(tree: Tree, process: Process, changes: Partial<Host> = {}): Host {
  const proc = `/proc/${pid}`;
  const tids = process.threads.map((_text, at) => String(pid + at));
  const lines: object[] = [
    { list: proc, entries: { task: 'directory' } },
    {
      read: `${proc}/stat`,
      text: statText(pid, process),
    },
    {
      read: `${proc}/status`,
      text: `Tgid:\t${pid}\nPid:\t${pid}\nUid:\t${process.uids ?? '1001\t1001\t1001\t1001'}\n`,
    },
    { read: `${proc}/cgroup`, text: process.threads[0] },
    { list: `${proc}/task`, entries: Object.fromEntries(tids.map((tid) => [tid, 'directory'])) },
    ...process.threads.map((text, at) => ({ read: `${proc}/task/${tids[at]}/cgroup`, text })),
    ...tids.map((tid) => ({ read: `${proc}/task/${tid}/stat`, text: statText(Number(tid), process) })),
  ];
  const host = recordedHost(`${treeText(tree)}${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
  return { ...host, ...changes };
}

async function verified(tree: Tree, process: Process, changes: Partial<Host> = {}) {
  const host = hostWith(tree, process, changes);
  return verify(pid, { node: await readNode({ host: { ...host, ...changes }, within: rootPath }) });
}

const both: Tree = {
  hierarchies: ['memory', 'freezer', 'name=systemd'],
  directories: ['memory', 'freezer'].flatMap((one) =>
    [1, 2].map((id) => `${one}/slurm/uid_1001/job_${id}/step_extern`),
  ),
};
const inJob = (memory: number | undefined, freezer: number | undefined) => {
  const at = (id: number | undefined) => (id === undefined ? '/' : `/slurm/uid_1001/job_${id}/step_extern`);
  return { threads: [`5:memory:${at(memory)}\n4:freezer:${at(freezer)}\n1:name=systemd:/x\n`] };
};

describe('verify()', () => {
  it('says contained where it is in the job in every hierarchy that has the job', async () => {
    const found = await verified(both, inJob(1, 1));
    expect(found).toMatchObject({ pid, uid: 1001, comm: 'bash', verdict: 'contained', inJob: true, notes: [] });
    expect(found.job).toEqual({ jobId: 1, uid: 1001, stepId: 'extern' });
    expect(found.hierarchies.map(({ state }) => state)).toEqual(['in-job', 'in-job', 'outside']);
  });

  it.each([
    [1, undefined, 'partial', ['in-job', 'missing', 'outside']],
    [1, 2, 'conflict', ['in-job', 'other-job', 'outside']],
    [undefined, undefined, 'outside', ['outside', 'outside', 'outside']],
  ])('of jobs %s and %s says %s', async (memory, freezer, verdict, states) => {
    const found = await verified(both, inJob(memory, freezer));
    expect(found).toMatchObject({ verdict, inJob: false });
    expect(found.hierarchies.map(({ state }) => state)).toEqual(states);
  });

  it('takes the job that most hierarchies name', async () => {
    const hierarchies = ['memory', 'freezer', 'cpuset'];
    const directories = hierarchies.flatMap((one) => [1, 2].map((id) => `${one}/slurm/uid_1/job_${id}`));
    const at = (id: number) => `/slurm/uid_1/job_${id}`;
    const text = `3:memory:${at(1)}\n2:freezer:${at(2)}\n1:cpuset:${at(2)}\n`;
    const found = await verified({ hierarchies, directories }, { threads: [text] });
    expect(found).toMatchObject({ verdict: 'conflict', job: { jobId: 2 } });
    expect(found.hierarchies.map(({ state }) => state)).toEqual(['other-job', 'in-job', 'in-job']);
  });

  it('is not deceived by a place that only looks like a job', async () => {
    const forged = '/user.slice/user-1001.slice/user@1001.service/slurmstepd.scope/job_1/step_extern/user';
    const tree: Tree = {
      hierarchies: ['unified'],
      directories: ['unified/system.slice/slurmstepd.scope/job_1/step_extern', `unified${forged}`],
    };
    expect(await verified(tree, { threads: [`0::${forged}\n`] })).toMatchObject({ verdict: 'outside', job: null });
    const true_ = '/system.slice/slurmstepd.scope/job_1/step_extern/user/task_0';
    expect(await verified(tree, { threads: [`0::${true_}\n`] })).toMatchObject({
      verdict: 'contained',
      job: { jobId: 1, stepId: 'extern' },
    });
  });

  it('names a job by its SLUID where the directory does', async () => {
    const scope = '/system.slice/slurmstepd.scope/sEKNKTV3WPV500';
    const tree: Tree = { hierarchies: ['unified'], directories: [`unified${scope}/step_0/user/task_0`] };
    const found = await verified(tree, { threads: [`0::${scope}/step_0/user/task_0\n`] });
    expect(found.job).toEqual({ sluid: 'sEKNKTV3WPV500', stepId: '0' });
  });

  it('notes steps that differ, and gives none', async () => {
    const directories = ['memory', 'freezer'].flatMap((one) =>
      ['extern', '0'].map((id) => `${one}/slurm/uid_1/job_1/step_${id}`),
    );
    const at = (step: string) => `/slurm/uid_1/job_1/step_${step}`;
    const found = await verified(
      { hierarchies: ['memory', 'freezer'], directories },
      { threads: [`2:memory:${at('extern')}\n1:freezer:${at('0')}\n`] },
    );
    expect(found).toMatchObject({ verdict: 'contained', notes: ['it is in different steps: extern, 0'] });
    expect(found.job?.stepId).toBeUndefined();
  });

  it('goes by the threads that live where the first has ended', async () => {
    const [atRoot, living] = [...inJob(undefined, undefined).threads, ...inJob(1, 1).threads];
    const found = await verified(both, { threads: [atRoot ?? '', living ?? '', living ?? ''], ended: true });
    expect(found).toMatchObject({ verdict: 'contained', job: { jobId: 1 }, notes: [] });
  });

  it('notes threads that stand elsewhere', async () => {
    const found = await verified(both, {
      threads: [...inJob(1, 1).threads, ...inJob(2, 1).threads, ...inJob(1, 1).threads],
    });
    expect(found.notes).toEqual([`1 of its threads are in other cgroups than its first: ${pid + 1}`]);
  });

  it('notes where nothing of the job limits it', async () => {
    const tree: Tree = {
      hierarchies: ['memory', 'freezer'],
      directories: ['memory/slurm/uid_1/job_1/step_0', 'freezer/slurm/uid_1'],
    };
    const found = await verified(tree, { threads: ['2:memory:/slurm/uid_1/job_1/step_0\n1:freezer:/\n'] });
    expect(found).toMatchObject({
      verdict: 'contained',
      notes: ['the job has no cgroup in freezer: nothing of the job limits it there'],
    });
  });

  it('says unknown, not outside, where it may not look', async () => {
    const base = hostWith(both, inJob(1, undefined));
    const stat: Host['stat'] = (path) => {
      if (path.startsWith(`${mountPoint}/freezer/slurm/`)) throw new SystemCallError('look at', path, 'EACCES');
      return base.stat(path);
    };
    const found = await verified(both, inJob(1, undefined), { stat });
    expect(found.verdict).toBe('partial');
    expect(found.hierarchies.map(({ state }) => state)).toEqual(['in-job', 'unknown', 'outside']);
    expect(found.notes.join()).toContain('permission denied');
  });

  it('gives the tightest limit on the way up, and "max" for none', async () => {
    const step = '/slurm/uid_1/job_1/step_0';
    const at = (hierarchy: string, levels: readonly string[], file: string) => {
      const parts = step.split('/').slice(1);
      const above = (level: number) =>
        parts
          .slice(0, parts.length - level)
          .map((part) => `/${part}`)
          .join('');
      return Object.fromEntries(
        levels.map((text, level) => [`${mountPoint}/${hierarchy}${above(level)}/${file}`, text]),
      );
    };
    const hierarchies = ['memory', 'cpuset', 'cpu', 'pids'];
    const none = '9223372036854771712\n';
    const found = await verified(
      {
        hierarchies,
        directories: hierarchies.map((one) => `${one}${step}`),
        files: {
          ...at('memory', [none, '2147483648\n', '4294967296\n', none, none], 'memory.limit_in_bytes'),
          ...at('cpuset', ['0-1,4\n'], 'cpuset.cpus'),
          ...at('cpu', ['-1\n', '150000\n'], 'cpu.cfs_quota_us'),
          ...at('cpu', ['100000\n', '100000\n'], 'cpu.cfs_period_us'),
          ...at('pids', ['max\n'], 'pids.max'),
        },
      },
      { threads: [hierarchies.map((one, index) => `${index + 1}:${one}:${step}\n`).join('')] },
    );
    expect(found.limits).toEqual({ memoryBytes: 2_147_483_648, cpus: '0-1,4', cpuQuota: 1.5, pids: 'max' });
  });

  it.each([0, -1, 2 ** 31, 1.5, Number.NaN, 4243])('refuses the pid %s', async (wrong) => {
    const node = await readNode({ host: hostWith(both, inJob(1, 1)), within: rootPath });
    await expect(verify(wrong, { node })).rejects.toSatisfy((error) =>
      hasCode(error, 'ERR_NO_SUCH_PROCESS', 'ERR_NOT_RECORDED'),
    );
  });
});

describe('verify() of a process in a directory named by SLUID', () => {
  let sandbox: ReturnType<typeof unixSandbox>;
  beforeEach(() => {
    sandbox = unixSandbox();
  });
  afterEach(() => sandbox.close());
  const [directory, sluid] = ['s0000000000001', 's0000000000001'];

  it('names the job as its slurmstepd does, and its owner', async () => {
    const { node, asked } = await nodeOfStepds(sandbox, [
      { directory, jobId: 7, pid: 500, uid: 1001 },
      { directory: 's0000000000002', jobId: 8, pid: 501 },
    ]);
    const found = await verify(500, { node });
    expect(found).toMatchObject({
      verdict: 'contained',
      job: { jobId: 7, sluid, uid: 1001, stepId: 'extern' },
      notes: [],
    });
    expect(found.hierarchies).toMatchObject([{ jobId: 7, sluid, state: 'in-job' }]);
    expect([...asked].map(([name, numbers]) => [name, numbers.length > 0])).toEqual([
      ['node1_7.4294967292', true],
      ['node1_8.4294967292', false],
    ]);
  });

  it('says why the job is not known', async () => {
    const { node } = await nodeOfStepds(sandbox, [{ directory, jobId: 7, pid: 500, title: null, is: 'dead' }]);
    const found = await verify(500, { node });
    expect(found).toMatchObject({ verdict: 'contained', job: { sluid } });
    expect(found.job?.jobId).toBeUndefined();
    expect(found.notes).toEqual([expect.stringMatching(/^the id of the job is not known: no slurmstepd/)]);
  });
});
