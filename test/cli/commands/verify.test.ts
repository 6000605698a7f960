import { describe, expect, it } from 'vitest';
import { runVerify, verifySpec } from '../../../src/cli/commands/verify.js';
import { parseWords } from '../../../src/cli/spec.js';
import { recording } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { runProgramFile } from '../../support/program-run.js';

async function verify(name: string, ...words: readonly string[]) {
  const output = capture();
  const exitCode = await runVerify(parseWords(verifySpec, ['--from', recording(name), ...words]), output);
  return { exitCode, output };
}

describe('verify', () => {
  it('answers 0 for a process in its job', async () => {
    const { exitCode, output } = await verify('slurm-22.05-v1', '6516', '--json');
    expect(exitCode).toBe(0);
    expect(output.json()).toMatchObject({
      pid: 6516,
      uid: 1001,
      comm: 'slurm_script',
      inJob: true,
      verdict: 'contained',
      job: { jobId: 5, stepId: 'batch' },
    });
  });

  it('answers 1 for another job than the one asked for, and says so', async () => {
    const { exitCode, output } = await verify('slurm-22.05-v1', '6516', '--job', '4');
    expect(exitCode).toBe(1);
    expect(output.lines[0]).toBe(
      'process 6516 (slurm_script) of uid 1001 is in job 5 step batch, in every hierarchy the job has',
    );
    expect(output.lines.at(-1)).toBe('It is not in job 4.');
  });

  it('answers 1 for a process that is only partly in a job', async () => {
    const { exitCode, output } = await verify('slurm-22.05-v1', '6493');
    expect(exitCode).toBe(1);
    expect(output.text()).toContain('is only partly in job 4');
    expect(output.text()).toMatch(/memory +\/init\.scope +NOT in the job/);
  });

  it('looks at this very process, on any machine', () => {
    const { exitCode, stdout } = runProgramFile('verify', 'self', '--json');
    const shown = JSON.parse(stdout);
    expect(exitCode).toBe(shown.inJob ? 0 : 1);
    expect(shown).toMatchObject({ comm: 'node', hierarchies: expect.any(Array), limits: expect.any(Object) });
  });

  it.each([
    [['2147483648'], 1, 'There is no process 2147483648'],
    [['4194304'], 1, 'There is no process 4194304'],
    [['0'], 2, '"0" is not a process id'],
    [['-1'], 2, '"-1" is not a process id'],
    [['four'], 2, '"four" is not a process id'],
    [[], 2, 'Missing'],
    [['1', '2'], 2, 'Unexpected argument "2"'],
    [['1', '--job', '4294967294'], 2, 'is not a job id'],
  ])('refuses %j with exit code %i', (words, exitCode, message) => {
    const ran = runProgramFile('verify', ...words);
    expect([ran.exitCode, ran.stdout, ran.stderr.trimEnd().split('\n').length]).toEqual([exitCode, '', 1]);
    expect(ran.stderr.toLowerCase()).toContain(message.toLowerCase());
  });
});
