import { describe, expect, it } from 'vitest';
import { runProgramFile } from '../support/program-run.js';

describe('The program', () => {
  it.each(['list', 'verify', 'adopt', 'clean', 'strays', 'doctor', 'demo'])(
    '%s --help names the command, its options and examples',
    (name) => {
      const { exitCode, stdout, stderr } = runProgramFile(name, '--help');
      expect([exitCode, stderr]).toEqual([0, '']);
      expect(stdout).toContain(`Usage: slurm-cgroups ${name}`);
      expect(stdout).toContain('Examples:');
    },
  );

  it('--help lists the commands and the exit codes', () => {
    const { exitCode, stdout } = runProgramFile('--help');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/list .*\n.*verify .*/);
    expect(stdout).toContain('Exit codes: 0 done, 1 the answer is no');
  });

  it('--version prints the version of the package', () => {
    expect(runProgramFile('--version').stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([
    [
      ['bogus'],
      'slurm-cgroups: Unknown command "bogus"; there are list, verify, adopt, pam, clean, strays, watch, doctor, demo',
    ],
    [['list', '--foo'], 'slurm-cgroups list: Unknown option "--foo"; there are --uid --user'],
    [['list', 'x'], 'slurm-cgroups list: Unexpected argument "x"'],
    [['\u001b[31mred'], 'slurm-cgroups: Unknown command "\\x1b[31mred"'],
  ])('%j is one line and exit code 2', (words, line) => {
    const { exitCode, stdout, stderr } = runProgramFile(...words);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr.startsWith(line)).toBe(true);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });
});
