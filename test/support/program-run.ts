// The built program, run as a person runs it.

import { spawnSync } from 'node:child_process';
import path from 'node:path';

export const programFile: string = path.resolve(import.meta.dirname, '../../dist/bin/slurm-cgroups.js');

export interface Ran {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function runProgramFile(...words: readonly string[]): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [programFile, ...words], {
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin' },
  });
  return { exitCode: status, stdout, stderr };
}

export function recording(name: string): string {
  return path.resolve(import.meta.dirname, `../recordings/${name}.jsonl`);
}

/** Real cgroups need root. In CI a test that cannot run must not pass. */
export const canUseCgroups: boolean = process.getuid?.() === 0;
export const mayBeSkipped: boolean = process.env['CI'] !== 'true';
