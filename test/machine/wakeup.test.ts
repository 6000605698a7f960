import { describe, expect, it } from 'vitest';
import { liveHost } from '../../src/machine/live-host.js';
import { Wakeup } from '../../src/machine/wakeup.js';

describe('Wakeup', () => {
  it('wait() ends with the ring, long before the time is over', async () => {
    const bell = new Wakeup(liveHost());
    const waiting = bell.wait(60_000);
    bell.notify();
    bell.notify();
    expect(await waiting).toBe(true);
    expect(await bell.wait(1)).toBe(false); // many rings were one
  });

  it('keeps a notice that was not waited for', async () => {
    const bell = new Wakeup(liveHost());
    bell.notify();
    expect(await bell.wait(60_000)).toBe(true);
    expect(await bell.wait(1)).toBe(false);
  });

  it('passes on a failure of waiting that is none of a ring', async () => {
    const bell = new Wakeup({ sleep: () => Promise.reject(new TypeError('no clock')) });
    await expect(bell.wait(1)).rejects.toThrow('no clock');
  });
});
