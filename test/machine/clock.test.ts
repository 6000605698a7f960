import fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { timeOfDayNs, uptimeMs } from '../../src/machine/clock.js';
import { liveHost } from '../../src/machine/live-host.js';

const host = liveHost();
const at = (hundredths: number) => ({
  ...host,
  read: () => `${Math.floor(hundredths / 100)}.${String(hundredths % 100).padStart(2, '0')} 0.00\n`,
});

describe('uptimeMs()', () => {
  it('is a whole number of ms, and the difference of two is exact', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(1_000_000), (hundredths, later) => {
        expect(uptimeMs(at(hundredths))).toBe(hundredths * 10);
        expect(uptimeMs(at(hundredths + later)) - uptimeMs(at(hundredths))).toBe(later * 10);
      }),
    );
  });

  it('is that of this machine', () => {
    const asWritten = () => fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]?.replace('.', '');
    const before = Number(asWritten());
    const told = uptimeMs(host);
    expect([told >= before * 10, told <= Number(asWritten()) * 10]).toEqual([true, true]);
  });

  it.each(['', 'soon', '12', '12.3 4.5\n', '12.345 4\n', '-1.00 2.00\n'])('refuses %j', (text) => {
    expect(() => uptimeMs({ ...host, read: () => text })).toThrow('Cannot tell the time');
  });
});

describe('timeOfDayNs()', () => {
  it('tells the time of the wall from /proc, to a second', () => {
    const told = Number((timeOfDayNs(host) ?? 0n) / 1_000_000n);
    expect(Math.abs(told - Date.now())).toBeLessThan(2000);
  });

  it('says nothing where /proc does not, and complains of what is no answer', () => {
    expect(timeOfDayNs({ ...host, read: () => host.read('/proc/no-such-file') })).toBeUndefined();
    expect(() => timeOfDayNs({ ...host, read: () => 'btime soon\n' })).toThrow('Cannot tell the time');
  });
});
