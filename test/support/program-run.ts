// The built program, run as a person runs it. To import this file is to have it built: only tests that run it do.

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import ensureBuilt from './ensure-built.js';

/** In a guest dist/ comes with the repository. */
if (process.env['PROGRAM_IS_BUILT'] !== 'true') ensureBuilt();

export const distFolder: string = path.resolve(import.meta.dirname, '../../dist');
export const programFile: string = path.join(distFolder, 'bin/slurm-cgroups.js');

export interface Ran {
  readonly pid: number;
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that hangs fails its test instead of blocking all those after it. */
const timeoutMs = 60_000;

export function runProgramFile(...words: readonly string[]): Ran {
  return runProgramFileAs({}, ...words);
}

/** @throws Error when it does not end in time. */
export function runProgramFileAs(
  user: { readonly uid?: number; readonly gid?: number },
  ...words: readonly string[]
): Ran {
  const { pid, status, stdout, stderr, error } = spawnSync(process.execPath, [programFile, ...words], {
    ...user,
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin' },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  if (error !== undefined) {
    const why = error.message.includes('ETIMEDOUT') ? `did not end within ${timeoutMs / 1000} s` : error.message;
    throw new Error(`slurm-cgroups ${words.join(' ')}: ${why}\n--- stdout\n${stdout}\n--- stderr\n${stderr}`);
  }
  return { pid, exitCode: status, stdout, stderr };
}
