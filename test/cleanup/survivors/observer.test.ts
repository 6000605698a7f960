import { describe, expect, it } from 'vitest';
import { Observer } from '../../../src/cleanup/survivors/observer.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { liveHost } from '../../../src/machine/live-host.js';

const refuse = (errno: string) => () => {
  throw new SystemCallError('read', '/proc/7/x', errno);
};

describe('Observer', () => {
  it('keeps why something was not seen', () => {
    const look = new Observer();
    expect(look.see('a', () => 5)).toBe(5);
    expect(look.see('b', refuse('EIO'))).toBeUndefined();
    expect([look.missing, look.sawNothing]).toEqual([{ b: 'Cannot read "/proc/7/x": input/output error' }, false]);
    look.see('c', refuse('ESRCH'));
    expect(look.sawNothing).toBe(true);
    look.see('d', () => 1);
    expect(look.sawNothing).toBe(false);
  });

  it('throws what is a defect', () => {
    expect(() =>
      new Observer().see('a', () => {
        throw new TypeError('x');
      }),
    ).toThrow(TypeError);
  });

  it('seeBounded() reads through a child, and gives it up', async () => {
    const look = new Observer({ childMs: 20_000 });
    const host = liveHost();
    expect(await look.seeBounded('a', host, '/proc/self/comm')).toBe('cat\n');
    expect(await look.seeBounded('b', host, '/proc/self/none')).toBeUndefined();
    const silent = { ...host, run: async () => ({ exitCode: undefined, stdout: '', stderr: '', timedOut: true }) };
    await look.seeBounded('c', silent, '/proc/1/stack');
    await look.seeBounded('d', { ...host, run: refuse('EAGAIN') }, '/proc/1/stack');
    expect(look.missing).toEqual({
      b: 'No such file or directory',
      c: 'no answer within 20000 ms',
      d: expect.stringContaining('try again'),
    });
  });

  it('seeBounded() starts no child where there is no time for one', async () => {
    const look = new Observer();
    const host = { ...liveHost(), run: refuse('EAGAIN') };
    expect(await look.seeBounded('a', host, '/proc/self/comm')).toBeUndefined();
    expect(look.missing).toEqual({ a: expect.stringContaining('too many to look at') });
  });
});
