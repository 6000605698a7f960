import { describe, expect, it } from 'vitest';
import { listSpec, runList } from '../../../src/cli/commands/list.js';
import { parseWords } from '../../../src/cli/spec.js';
import { expectedFor, recording, recordingNames } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { runProgramFile } from '../../support/program-run.js';

async function list(name: string, ...words: readonly string[]) {
  const output = capture();
  const exitCode = await runList(parseWords(listSpec, ['--from', recording(name), ...words]), output);
  return { exitCode, output };
}

describe('list --json', () => {
  it.each(recordingNames)('shows the jobs of %s, with their processes', async (name) => {
    const { output } = await list(name, '--json');
    const expected = expectedFor(name, 'recorded');
    const shown = output.json() as {
      jobs: {
        jobId: number | null;
        sluid?: string;
        uid?: number;
        newest: boolean | null;
        steps: { stepId: string; processes: { pid: number }[] }[];
      }[];
    };
    expect(
      shown.jobs.map((job) => ({
        jobId: job.jobId,
        steps: job.steps.map((step) => ({ stepId: step.stepId, pids: step.processes.map((one) => one.pid) })),
      })),
    ).toEqual(
      expect.arrayContaining(
        expected.list.map((job) => ({
          jobId: job.jobId,
          steps: job.steps.map(({ stepId, pids }) => ({ stepId, pids })),
        })),
      ),
    );
    expect(shown.jobs).toHaveLength(expected.list.length);
    for (const job of shown.jobs) {
      const real = expected.list.find((one) =>
        job.sluid === undefined ? one.jobId === job.jobId : one.sluid === job.sluid,
      )?.real;
      if (job.uid !== undefined) expect(job.uid).toBe(real?.uid);
      expect(job.newest === null).toBe(job.uid === undefined);
    }
  });

  it('says in its notes what is not known and why, also of what it does not show', async () => {
    const why = 'slurmstepd would have to be asked, and a recording has none';
    const notes = async (name: string, ...words: readonly string[]) =>
      ((await list(name, '--json', ...words)).output.json() as { readonly notes: readonly string[] }).notes;
    expect(await notes('slurm-24.11-v2')).toContain(`job 5: its owner is not known: ${why}`);
    expect(await notes('slurm-24.11-v2', '--uid', '1002')).toContain(
      `not shown: job 5: its owner is not known: ${why}`,
    );
    expect(await notes('slurm-24.11-v2', '--job', '1')).not.toContain(expect.stringContaining('not known'));
    expect(await notes('slurm-26.05-v2')).toContain(`job s9BNM865MKYJ00: its id and owner are not known: ${why}`);
    await expect(list('slurm-26.05-v2', '--job', '3')).rejects.toThrow(
      /^There is no job 3 on this node, as far as is known \(not shown: job s9BNM865MKYJ00: .*; and 4 more\)$/,
    );
  });

  it('has the documented shape', async () => {
    const { output, exitCode } = await list('slurm-22.05-v1', '--json');
    expect(exitCode).toBe(0);
    expect(output.json()).toMatchObject({
      node: 'vm',
      mode: 'hybrid',
      notes: expect.any(Array),
      jobs: expect.arrayContaining([
        expect.objectContaining({
          jobId: 4,
          uid: 1001,
          steps: expect.arrayContaining([
            expect.objectContaining({
              stepId: 'extern',
              cgroups: expect.arrayContaining([
                { controllers: ['memory'], path: '/sys/fs/cgroup/memory/slurm_vm/uid_1001/job_4/step_extern' },
              ]),
            }),
          ]),
        }),
      ]),
    });
  });

  it('marks the newest job of each user, whatever else is filtered', async () => {
    const shown = (await list('slurm-22.05-v1', '--job', '4', '--json')).output.json() as {
      jobs: { newest: boolean }[];
    };
    expect(shown.jobs.map((job) => job.newest)).toEqual([false]);
  });
});

describe('list', () => {
  it('prints jobs first, as a tree', async () => {
    const { output } = await list('slurm-22.05-v1', '--uid', '1002');
    expect(output.text()).toBe(
      [
        'node vm: 1 job, hybrid cgroups',
        '',
        'job 7  uid 1002',
        '├─ step extern: 2 processes  (cpuacct cpuset memory devices freezer)',
        '│  ├─ 24036  uid 0  slurmstepd',
        '│  └─ 24040  uid 0  sleep',
        '├─ step batch: 4 processes  (cpuacct cpuset memory devices freezer)',
        '│  ├─ 24043  uid 0     slurmstepd',
        '│  ├─ 24047  uid 1002  slurm_script',
        '│  ├─ 24048  uid 1002  srun',
        '│  └─ 24051  uid 1002  srun',
        '└─ step 0: 2 processes  (cpuacct cpuset memory devices freezer)',
        '   ├─ 24058  uid 0     slurmstepd',
        '   └─ 24063  uid 1002  sleep',
      ].join('\n'),
    );
  });

  it('shows an empty node as one', async () => {
    const { output, exitCode } = await list('slurm-22.05-v1', '--uid', '4242');
    expect([output.text(), exitCode]).toEqual(['node vm: 0 jobs, hybrid cgroups', 0]);
  });

  it('says that a job is not here (exit code 1), and what conflicts (2)', () => {
    const gone = runProgramFile('list', '--from', recording('slurm-22.05-v1'), '--job', '99');
    expect([gone.exitCode, gone.stdout]).toEqual([1, '']);
    expect(gone.stderr).toBe(
      'slurm-cgroups list: There is no job 99 on this node; "slurm-cgroups list" shows the jobs that are here\n',
    );
    expect(runProgramFile('list', '--uid', '1', '--user', 'root').exitCode).toBe(2);
    expect(
      runProgramFile('list', '--user', 'no-such-user-here', '--from', recording('slurm-22.05-v1')).exitCode,
    ).not.toBe(0);
  });
});
