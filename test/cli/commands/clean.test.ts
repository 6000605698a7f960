import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recording } from '../../recordings/recordings.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';
import { runProgramFile } from '../../support/program-run.js';
import { titledNode } from '../../support/titled-stepds.js';

describe('clean --dry-run', () => {
  it('refuses a job that slurmstepd still runs: exit code 1, and says what to do', () => {
    const ran = runProgramFile('clean', '4', '--dry-run', '--from', recording('slurm-22.05-v1'));
    expect(ran.exitCode).toBe(1);
    expect(ran.stdout).toMatch(
      /^job 4 was not touched: slurmstepd \(6493\) still runs job 4: it is Slurm's to end \(scancel\); --force/,
    );
  });

  it('--force lists what would be ended', () => {
    const ran = runProgramFile('clean', '4', '--dry-run', '--force', '--from', recording('slurm-22.05-v1'), '--json');
    expect(ran.exitCode).toBe(0);
    expect(JSON.parse(ran.stdout)).toMatchObject({
      jobId: 4,
      dryRun: true,
      survivors: [],
      ended: expect.arrayContaining([expect.objectContaining({ pid: 6519, comm: 'sleep', signal: 'none' })]),
    });
  });

  it.each([
    [['0'], 2, 'is not a job id'],
    [['4294967294'], 2, 'is not a job id'],
    [['sABC'], 2, 'is not a job id'],
    [['4', '--grace', 'soon'], 2, 'is not a number of seconds'],
    [[], 2, 'issing'],
  ])('%j: exit code %i, one line', (words, exitCode, message) => {
    const ran = runProgramFile('clean', ...words, '--dry-run', '--from', recording('slurm-22.05-v1'));
    expect([ran.exitCode, ran.stdout]).toEqual([exitCode, '']);
    expect(ran.stderr).toContain(message);
    expect(ran.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('where nothing of the job is here says so: exit code 0, as an epilog may pass on', () => {
    const words = ['clean', '99', '--dry-run', '--from', recording('slurm-22.05-v1')];
    expect(runProgramFile(...words)).toMatchObject({
      ...{ exitCode: 0, stderr: '' },
      stdout: 'Nothing of job 99 is on this node.\n',
    });
    const ran = runProgramFile(...words, '--json');
    expect([ran.exitCode, JSON.parse(ran.stdout)]).toMatchObject([0, { jobId: 99, found: false, ended: [], left: [] }]);
  });

  it('finds a job that is named by its SLUID, and calls it by both names', () => {
    const folder = fs.mkdtempSync('/tmp/slurm-cgroups-test-sluid-');
    try {
      fs.writeFileSync(`${folder}/node.jsonl`, titledNode('slurm-26.05-v2'));
      const ran = runProgramFile('clean', '2', '--dry-run', '--force', '--from', `${folder}/node.jsonl`);
      expect([ran.exitCode, ran.stderr]).toEqual([0, '']);
      expect(ran.stdout).toMatch(/^job 2 \(s9BNM865MRM100\): \d+ process(es)? would be ended\. Nothing was touched/);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('says that it is not known which SLUID the job has: exit code 1', () => {
    const ran = runProgramFile('clean', '2', '--dry-run', '--from', recording('slurm-26.05-v2'));
    expect([ran.exitCode, ran.stderr]).toEqual([1, '']);
    expect(ran.stdout).toMatch(
      /^job 2 was not touched: .*whether job 2 is on this node: 5 directories .*"slurm-cgroups clean s\w{13}"$/m,
    );
  });

  it('will not touch a recorded node', () => {
    expect(runProgramFile('clean', '4', '--from', recording('slurm-22.05-v1')).exitCode).toBe(2);
  });
});

const uid = 64_745;

describe.skipIf(!canUseCgroups && mayBeSkipped)('clean (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test');
  });
  afterAll(() => sandbox.remove());

  it('ends the job and says so: exit code 0; then nothing of it is here: 0, too', async () => {
    const job = await sandbox.addJob({ jobId: 21, uid });
    const sleeper = await sandbox.startSleeper(uid, job);
    const ran = runProgramFile('clean', '21', '--grace', '0', '--within', sandbox.within);
    expect([ran.exitCode, ran.stderr]).toEqual([0, '']);
    expect(ran.stdout).toMatch(
      new RegExp(
        `^job 21: 1 process ended\\n +${sleeper.pid} +uid ${uid} +sleep +(SIGKILL|cgroup.kill) +in step_batch`,
      ),
    );
    expect(runProgramFile('clean', '21', '--within', sandbox.within)).toMatchObject({
      ...{ exitCode: 0, stderr: '' },
      stdout: 'Nothing of job 21 is on this node.\n',
    });
  });
});
