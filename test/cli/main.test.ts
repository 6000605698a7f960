import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { recording } from '../recordings/recordings.js';
import { programFile, runProgramFile } from '../support/program-run.js';

describe('main()', () => {
  it('ends quietly when its reader stops early', () => {
    const { stdout, stderr, status } = spawnSync(
      '/bin/sh',
      [
        '-c',
        `"$0" "$1" list --from "$2" --json | head -1; echo end`,
        process.execPath,
        programFile,
        recording('slurm-24.11-v1'),
      ],
      { encoding: 'utf8', timeout: 60_000 },
    );
    expect([stdout, stderr, status]).toEqual(['{\nend\n', '', 0]);
  });

  it('prints no colour into a pipe', () => {
    expect(runProgramFile('list', '--from', recording('slurm-22.05-v1')).stdout).not.toContain('\u001b');
  });

  it('runs adopt without the help of any package', () => {
    const { exitCode, stdout } = runProgramFile('adopt', '6516', '--dry-run', '--from', recording('slurm-22.05-v1'));
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Nothing was moved (--dry-run).');
  });

  it('understands the words with which people ask for help and the version', () => {
    const [help, listHelp] = [runProgramFile('--help').stdout, runProgramFile('list', '--help').stdout];
    expect(runProgramFile()).toMatchObject({ stdout: help, exitCode: 2 });
    for (const words of [['help'], ['-h'], ['help', 'frob']])
      expect(runProgramFile(...words), words.join(' ')).toMatchObject({ stdout: help, exitCode: 0 });
    for (const words of [
      ['help', 'list'],
      ['list', 'help'],
      ['list', '-h'],
    ])
      expect(runProgramFile(...words), words.join(' ')).toMatchObject({ stdout: listHelp, exitCode: 0 });
    const version = runProgramFile('--version').stdout;
    expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
    for (const words of [['-v'], ['-V'], ['version'], ['list', '--version'], ['adopt', '-v']])
      expect(runProgramFile(...words), words.join(' ')).toMatchObject({ stdout: version, exitCode: 0 });
  });

  it('takes a number for --user, as ps does', () => {
    const from = ['--from', recording('slurm-22.05-v1'), '--json'];
    expect(runProgramFile('list', '--user', '1001', ...from).stdout).toBe(
      runProgramFile('list', '--uid', '1001', ...from).stdout,
    );
  });

  it('takes the process that runs it for adopt self', () => {
    const { stderr } = runProgramFile('adopt', 'self', '--dry-run', '--from', recording('slurm-22.05-v1'));
    expect(stderr).toContain(String(process.pid));
  });
});
