import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prologIn, runningPrologs, runsInJob } from '../../src/jobs/prolog.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { spoolConfiguration } from '../support/extern-step.js';
import { until } from '../support/kernel-jobs.js';

const environment = (variables: Readonly<Record<string, string>>) =>
  Object.entries(variables)
    .map(([name, value]) => `${name}=${value}\0`)
    .join('');
const ofProlog = { PATH: '/bin', SLURM_JOB_ID: '7', SLURM_JOB_UID: '1001', SLURM_SCRIPT_CONTEXT: 'prolog_slurmd' };

describe('prologIn()', () => {
  it('reads job and owner', () => {
    expect(prologIn(environment(ofProlog))).toEqual({ jobId: 7, uid: 1001 });
  });

  it.each([
    ['an Epilog', { ...ofProlog, SLURM_SCRIPT_CONTEXT: 'epilog_slurmd' }],
    ['a TaskProlog', { ...ofProlog, SLURM_SCRIPT_CONTEXT: 'prolog_task' }],
    ['a uid that is none', { ...ofProlog, SLURM_JOB_UID: '-1' }],
    ['a job without a number', { ...ofProlog, SLURM_JOB_ID: '' }],
    ['nothing', {}],
  ])('is none in %s', (_, variables) => {
    expect(prologIn(environment(variables))).toBeUndefined();
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void prologIn(text)));
  });
});

it('runsInJob() goes by the configuration', () => {
  expect(runsInJob({ configuration: { ...spoolConfiguration, prologFlags: ['contain', 'runinjob'] } })).toBe(true);
  expect(runsInJob({ configuration: spoolConfiguration })).toBe(false);
  expect(runsInJob({ configuration: undefined })).toBe(false);
});

describe('runningPrologs()', () => {
  const host = liveHost();
  const isRoot = host.self().uid === 0;
  let folder = '';
  beforeAll(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-prolog-'));
    for (const name of ['slurmd', 'slurmstepd']) fs.copyFileSync('/bin/bash', path.join(folder, name));
  });
  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

  const deadline = () => deadlineIn(host, 20_000);
  const plain = { host, configuration: undefined };
  const inJob = { host, configuration: { ...spoolConfiguration, prologFlags: ['runinjob'] } };

  for (const [starter, node] of [
    ['slurmd', plain],
    ['slurmstepd', inJob],
  ] as const)
    it.runIf(isRoot)(
      `finds those that root’s ${starter} runs, for whom they run, and no other script of it`,
      async () => {
        const jobId = process.pid; // ours alone
        const child = (context: string) => `SLURM_JOB_ID=${jobId} SLURM_JOB_UID=1001 ${context} sleep 60 &`;
        const script = `${child('SLURM_SCRIPT_CONTEXT=prolog_slurmd')} ${child('SLURM_SCRIPT_CONTEXT=epilog_slurmd')} ${child('')} wait`;
        const { pid, exited } = await host.start(path.join(folder, starter), ['-c', script], { uid: 0, gid: 0 });
        const children = () =>
          fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
        try {
          const asleep = (one: number) => fs.readFileSync(`/proc/${one}/comm`, 'utf8') === 'sleep\n';
          await until('the scripts run', () => children().filter((one) => one > 0 && asleep(one)).length === 3);
          const ours = async () => (await runningPrologs(node, deadline())).filter((one) => one.jobId === jobId);
          expect(await ours()).toEqual([{ jobId, uid: 1001 }]);
          expect(
            (await runningPrologs(starter === 'slurmd' ? inJob : plain, deadline())).map((one) => one.jobId),
          ).not.toContain(jobId);
        } finally {
          for (const one of [...children(), pid]) if (one > 1) host.signal(one, 'SIGKILL');
          await exited;
        }
      },
    );

  it.runIf(isRoot)('does not take a user’s program of that name for slurmd', async () => {
    const script = 'SLURM_JOB_ID=5 SLURM_JOB_UID=1001 SLURM_SCRIPT_CONTEXT=prolog_slurmd sleep 60 & wait';
    fs.chmodSync(folder, 0o755);
    const { pid, exited } = await host.start(path.join(folder, 'slurmd'), ['-c', script], { uid: 1001, gid: 1001 });
    const children = () => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    try {
      await until('it runs', () =>
        children().some((one) => one > 0 && fs.readFileSync(`/proc/${one}/comm`, 'utf8') === 'sleep\n'),
      );
      expect((await runningPrologs(plain, deadline())).map(({ jobId }) => jobId)).not.toContain(5);
    } finally {
      for (const one of [...children(), pid]) if (one > 1) host.signal(one, 'SIGKILL');
      await exited;
    }
  });
});
