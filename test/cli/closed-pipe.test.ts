// Exit codes where what is printed is not read: they are the answer.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { recording } from '../recordings/recordings.js';
import { programFile } from '../support/program-run.js';

/** Runs the program with its output, and what else is named, closed before it writes. */
async function runUnread(closed: readonly ('stdout' | 'stderr')[], words: readonly string[]): Promise<unknown> {
  const child = spawn(process.execPath, [programFile, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const name of ['stdout', 'stderr'] as const) {
    if (closed.includes(name)) child[name].destroy();
    else child[name].resume();
  }
  const [exitCode] = await once(child, 'exit');
  return exitCode;
}

describe('The program, its reader gone', () => {
  const from = ['--from', recording('slurm-24.11-v2')];
  it.each([
    ['the answer is yes', 0, ['list', ...from]],
    ['the answer is no', 1, ['verify', 'self']],
    ['the answer is no, as JSON', 1, ['verify', 'self', '--json']],
    ['a page of checks', 0, ['doctor', ...from]],
    ['with a log', 1, ['verify', 'self', '--log-level', 'debug']],
    ['no such process', 1, ['verify', '4194300']],
    ['a wrong use', 2, ['verify', '--nothing']],
    ['a wrong use of a login', 2, ['adopt', '--nothing']],
    ['help', 0, ['--help']],
    ['help of a command', 0, ['list', '--help']],
    ['the version', 0, ['--version']],
  ] as const)('%s: exit code %i', async (_, exitCode, words) => {
    expect(
      await Promise.all([runUnread([], words), runUnread(['stdout'], words), runUnread(['stdout', 'stderr'], words)]),
    ).toEqual([exitCode, exitCode, exitCode]);
  });
});
