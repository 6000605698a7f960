import { spawnSync } from 'node:child_process';
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
});
