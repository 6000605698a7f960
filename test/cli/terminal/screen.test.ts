import process from 'node:process';
import { afterEach, describe, expect, it } from 'vitest';
import { canDraw, isTerminalGone, keysIn } from '../../../src/cli/terminal/screen.js';
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

describe('keysIn()', () => {
  it('reads letters, arrows and the keys that are signals elsewhere, several at once, and skips the rest', () => {
    expect(keysIn('jk\u001b[A\u001b[5~x\u001b[6~q')).toEqual(['down', 'up', 'up', 'page-up', 'page-down', 'quit']);
    expect(keysIn('\u0003\u001a s\u001b[1~\u001b')).toEqual(['interrupt', 'suspend', 'page-down', 'sort']);
  });
});

// What it draws, and that it leaves the terminal as it was: commands/watch.test.ts, on a real one.
