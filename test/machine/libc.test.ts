import fs from 'node:fs';
import os from 'node:os';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { loadLibc } from '../../src/machine/libc.js';
import { liveHost } from '../../src/machine/live-host.js';

describe('loadLibc()', () => {
  it('names the errno of a failure', async () => {
    const libc = await loadLibc();
    expect(libc?.pidfdOpen(4_194_300)).toBe(-1);
    expect(libc?.errno()).toBe('ESRCH');
    expect(libc?.lockNow(-1)).toBe(-1);
    expect(libc?.errno()).toBe('EBADF');
  });
});

describe('Host.libc()', () => {
  it('is loaded once a host: each load stays in memory', async () => {
    const host = liveHost();
    const [first, second] = await Promise.all([host.libc(), host.libc()]);
    expect(first).toBeDefined();
    expect(second).toBe(first);
    expect(await host.libc()).toBe(first);
  });

  it('holds a process: a signal reaches it or no process', async () => {
    const host = liveHost();
    const libc = await host.libc();
    const { uid } = host.self();
    const child = await host.start('/bin/sleep', ['60'], { uid, gid: os.userInfo().gid });
    const held = libc?.holdForSignal(child.pid);
    held?.send('SIGKILL');
    await child.exited;
    expect(() => held?.send('SIGKILL')).toThrow(expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' }));
    held?.close();
    expect(() => libc?.holdForSignal(1)).toThrow(RangeError);
    expect(() => libc?.holdForSignal(0)).toThrow(RangeError);
    expect(() => libc?.holdForSignal(child.pid)).toThrow(expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' }));
  });

  it('holds no thread: its id is no process’s', async () => {
    const libc = await liveHost().libc();
    const thread = fs
      .readdirSync('/proc/self/task')
      .map(Number)
      .find((tid) => tid !== process.pid);
    expect(() => libc?.holdForSignal(thread ?? expect.unreachable())).toThrow(
      expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' }),
    );
  });

  it('locks a folder once, without waiting', async () => {
    const libc = await liveHost().libc();
    const unlock = libc?.tryLock(os.tmpdir());
    expect([typeof unlock, libc?.tryLock(os.tmpdir())]).toEqual(['function', undefined]);
    unlock?.();
    const again = libc?.tryLock(os.tmpdir());
    expect(typeof again).toBe('function');
    again?.();
    expect(() => libc?.tryLock('/nonexistent')).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOUND' }));
  });
});
