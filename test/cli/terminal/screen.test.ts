import process from 'node:process';
import { afterEach, describe, expect, it } from 'vitest';
import { canDraw, isTerminalGone } from '../../../src/cli/terminal/screen.js';
import { SystemCallError } from '../../../src/machine/errors.js';

const term = process.env['TERM'];

describe('canDraw()', () => {
  afterEach(() => {
    if (term === undefined) delete process.env['TERM'];
    else process.env['TERM'] = term;
  });

  it.each(['', 'dumb', undefined])('not on a terminal that is %j', (name) => {
    if (name === undefined) delete process.env['TERM'];
    else process.env['TERM'] = name;
    expect(canDraw()).toBe(false);
  });
});

describe('isTerminalGone()', () => {
  it('knows a closed window and a closed pipe, and nothing else', () => {
    const error = (errno: string) => new SystemCallError('write to', 'standard output', errno);
    expect(['EIO', 'EPIPE', 'ENOSPC'].map((errno) => isTerminalGone(error(errno)))).toEqual([true, true, false]);
    expect(isTerminalGone(new Error('EIO'))).toBe(false);
  });
});

// What it draws, and that it leaves the terminal as it was: commands/watch.test.ts, on a real one.
