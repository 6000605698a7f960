// The built program, run as a person runs it. To import this file is to have it built: only tests that run it do.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
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

export interface ProgramOptions {
  /** What it is run by: `unshare`, say. */
  readonly by?: readonly string[];
  readonly nodeFlags?: readonly string[];
  /** Another copy of the program. */
  readonly file?: string;
}

/** The bound of what is taken for a hang: the slowest machine of CI is far below. */
const hangMs = 120_000;

/**
 * The program, in circumstances that somebody wants to hang it.
 *
 * @throws Error when it does not end by itself.
 */
export function runProgramIn(options: ProgramOptions, ...words: readonly string[]): Ran {
  const { by = [], nodeFlags = [], file = programFile } = options;
  const [first = '', ...args] = [...by, process.execPath, ...nodeFlags, file, ...words];
  const { pid, status, signal, stdout, stderr } = spawnSync(first, args, {
    cwd: '/',
    encoding: 'utf8',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    timeout: hangMs,
    killSignal: 'SIGKILL',
  });
  if (signal !== null) throw new Error(`slurm-cgroups ${words.join(' ')}: ended by ${signal}\n${stdout}\n${stderr}`);
  return { pid, exitCode: status, stdout, stderr };
}

/** The same beside others that run at the same time. */
export async function startProgramFile(...words: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [programFile, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    timeout: hangMs,
    killSignal: 'SIGKILL',
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const [exitCode] = await once(child, 'close');
  return { pid: child.pid ?? 0, exitCode, stdout, stderr };
}
