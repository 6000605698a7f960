// How a command ends: the documented exit code for each kind of error, and one line that says what was
// tried, on what, why, and what to do.

import { defined } from '../machine/defined.js';
import { type ErrorCode, SlurmCgroupsError } from '../machine/errors.js';
import { writeError } from '../machine/live-host.js';
import { json, jsonLine, standardOutput, visible } from './terminal/output.js';

/**
 * 0 done · 1 the answer is no · 2 usage, configuration or unreadable input · 3 not permitted · 4 no cgroups, or
 * not a Slurm node where one is needed.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4;

interface Ending {
  readonly exitCode: ExitCode;
  readonly remedy?: string;
}

const endings: Readonly<Record<ErrorCode, Ending>> = {
  ERR_CGROUP_BUSY: { exitCode: 1 },
  ERR_CGROUP_GONE: { exitCode: 1, remedy: '"slurm-cgroups list" shows the jobs that are here now' },
  ERR_CGROUP_REFUSED: { exitCode: 1 },
  ERR_CONFIG: { exitCode: 2 },
  ERR_FROZEN: { exitCode: 1, remedy: 'resume the job first (scontrol resume), or choose another job' },
  ERR_INCOMPLETE: { exitCode: 1 },
  ERR_IO: { exitCode: 2 },
  ERR_NOT_FOUND: { exitCode: 2, remedy: 'check the name' },
  ERR_NOT_PERMITTED: { exitCode: 3, remedy: 'run it as root' },
  ERR_NOT_RECORDED: { exitCode: 2, remedy: 'record the node again with this version' },
  ERR_NOT_SLURM: { exitCode: 4, remedy: 'run it on a compute node, where slurmd runs' },
  ERR_NOT_SUPPORTED: { exitCode: 1 },
  ERR_NO_CGROUPS: { exitCode: 4, remedy: 'mount a cgroup file system, or run it outside this container' },
  ERR_NO_SUCH_JOB: { exitCode: 1, remedy: '"slurm-cgroups list" shows the jobs that are here' },
  ERR_NO_SUCH_PROCESS: { exitCode: 1 },
  ERR_PARSE: { exitCode: 2 },
  ERR_PROTECTED: { exitCode: 1 },
  ERR_READ_ONLY: { exitCode: 3, remedy: 'run it where the cgroup file systems are writable' },
  ERR_STEPD: { exitCode: 1 },
  ERR_BUSY: { exitCode: 1 },
  ERR_TIMEOUT: { exitCode: 1 },
  ERR_USAGE: { exitCode: 2 },
};

/** A wrong use of the command: exit code 2. */
export function usageError(message: string): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_USAGE', message);
}

export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof SlurmCgroupsError ? endings[error.code].exitCode : 2;
}

const closing: (() => void | Promise<void>)[] = [];

/** Has something done when the command has come to its end: what is still to be written, closed. */
export function atEnd(act: () => void | Promise<void>): void {
  closing.push(act);
}

/**
 * Runs a command to its exit code; an error becomes one line on stderr and, where `words` ask for JSON, also an object
 * on stdout.
 */
export async function ending(command: string, words: readonly string[], run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    writeError(`${lineOf(command, error)}\n`);
    // `watch` writes lines.
    if (asksForJson(words)) standardOutput().print((command === 'watch' ? jsonLine : json)(errorObject(error)));
    return exitCodeOf(error);
  } finally {
    for (const act of closing.splice(0)) await act();
  }
}

/** Also where the words could not be understood: what comes after `--` is no option. */
function asksForJson(words: readonly string[]): boolean {
  const end = words.indexOf('--');
  return (end < 0 ? words : words.slice(0, end)).includes('--json');
}

function errorObject(error: unknown): object {
  const exitCode = exitCodeOf(error);
  if (!(error instanceof SlurmCgroupsError))
    return {
      error: { code: 'ERR_UNEXPECTED', message: error instanceof Error ? error.message : String(error), exitCode },
    };
  const { code, message, subject } = error;
  return { error: { code, message, ...subject, ...defined({ remedy: endings[code].remedy }), exitCode } };
}

/** One line for stderr. An error that is not ours is a defect of this program and says so. */
export function lineOf(command: string, error: unknown): string {
  const program = ['slurm-cgroups', command].filter((word) => word !== '').join(' ');
  if (!(error instanceof SlurmCgroupsError)) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `${program}: unexpected error, please report it: ${visible(what.replaceAll('\n', ' | '))}`;
  }
  const remedy = error.code === 'ERR_USAGE' ? `see "${program} --help"` : endings[error.code].remedy;
  return `${program}: ${visible(error.message)}${remedy === undefined ? '' : `; ${remedy}`}`;
}
