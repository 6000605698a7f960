import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deadlineIn } from '../../src/machine/deadline.js';

/** A clock that stands where the test puts it. */
function ticking(): { at: number; now: () => number } {
  const clock = { at: 0, now: () => clock.at };
  return clock;
}

describe('A deadline', () => {
  it('tells what is left of it, and when it is over', () => {
    const host = ticking();
    const deadline = deadlineIn(host, 100);
    host.at = 40;
    expect([deadline.atMs, deadline.leftMs(), deadline.isOver()]).toEqual([100, 60, false]);
    host.at = 100;
    expect([deadline.leftMs(), deadline.isOver()]).toEqual([0, true]);
    host.at = 250;
    expect([deadline.leftMs(), deadline.isOver()]).toEqual([0, true]);
    expect(deadline.wholeMs).toBe(100);
  });

  it('has parts that never end later', () => {
    const host = ticking();
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(1000), fc.nat(2000), (limit, most, later) => {
        host.at = 0;
        const whole = deadlineIn(host, limit);
        host.at = later;
        const part = whole.part(most);
        expect(part.atMs).toBeLessThanOrEqual(whole.atMs);
        expect(part.leftMs()).toBe(Math.min(most, whole.leftMs()));
      }),
    );
  });

  it('is put off where there must be some time', () => {
    const host = ticking();
    const { signal } = new AbortController();
    const whole = deadlineIn(host, 100, signal);
    expect(whole.atLeast(50).atMs).toBe(100);
    host.at = 80;
    expect([whole.atLeast(50).atMs, whole.atLeast(50).wholeMs, whole.atLeast(50).signal]).toEqual([130, 50, signal]);
    host.at = 250;
    expect(whole.atLeast(50).leftMs()).toBe(50);
  });

  it('gives options for what waits, with its signal', () => {
    const host = ticking();
    const { signal } = new AbortController();
    host.at = 10;
    expect(deadlineIn(host, 40, signal).wait()).toEqual({ timeoutMs: 40, signal });
    expect(deadlineIn(host, 40, signal).part(5).wait()).toEqual({ timeoutMs: 5, signal });
    expect(deadlineIn(host, 40).wait(7)).toEqual({ timeoutMs: 7 });
    expect(deadlineIn(host, -5).wait()).toEqual({ timeoutMs: 0 });
  });
});
