import { describe, expect, it } from 'vitest';
import { hasNumbersOfX86, parseCurrentCall } from '../../../src/cleanup/survivors/system-call.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { nodeWith } from '../../support/config-sandbox.js';

const stack = '0x7ffe94ddf2f8 0x7f45d53002ad';

describe('parseCurrentCall()', () => {
  it.each([
    [`0 0x3 0x7f45d5185000 0x20000 0x7f45d5217b60 0xffffffff 0x0 ${stack}\n`, { number: 0, name: 'read', fd: 3 }],
    [`217 0x1f 0x0 0x0 0x0 0x0 0x0 ${stack}`, { number: 217, name: 'getdents64', fd: 31 }],
    [`257 0xffffff9c 0x7f 0x0 0x0 0x0 0x0 ${stack}`, { number: 257, name: 'openat', path: true }],
    [`262 0xffffffffffffff9c 0x7f 0x0 0x0 0x0 0x0 ${stack}`, { number: 262, name: 'newfstatat', path: true }],
    [`332 0x5 0x7f 0x0 0x0 0x0 0x0 ${stack}`, { number: 332, name: 'statx', fd: 5, path: true }],
    [`4 0x5 0x7f 0x0 0x0 0x0 0x0 ${stack}`, { number: 4, name: 'stat', path: true }],
    [`9 0x0 0x1000 0x1 0x2 0x7 0x0 ${stack}`, { number: 9, name: 'mmap', fd: 7 }],
    [`9 0x0 0x1000 0x1 0x22 0xffffffff 0x0 ${stack}`, { number: 9, name: 'mmap' }],
    [`40 0x1 0x6 0x0 0x1000 0x0 0x0 ${stack}`, { number: 40, name: 'sendfile', fd: 6 }],
    [`230 0x0 0x0 0x7f 0x7f 0x0 0x0 ${stack}`, { number: 230, name: 'clock_nanosleep' }],
    [`9999 0x3 0x0 0x0 0x0 0x0 0x0 ${stack}`, { number: 9999 }],
    ['running\n', 'running'],
    [`-1 ${stack}\n`, 'fault'],
    ['', undefined],
    ['0 0x3\n', undefined],
    [`0 3 0x0 0x0 0x0 0x0 0x0 ${stack}`, undefined],
  ])('reads %j', (text, call) => {
    expect(parseCurrentCall(text, true)).toEqual(call);
  });

  it('names no call of another machine, nor of a 32-bit program', () => {
    expect(parseCurrentCall(`63 0x3 0x0 0x0 0x0 0x0 0x0 ${stack}`, false)).toEqual({ number: 63 });
    expect(parseCurrentCall('3 0x3 0x0 0x0 0x0 0x0 0x0 0xffdf2f8 0xf7f01549', true)).toEqual({ number: 3 });
  });
});

describe('hasNumbersOfX86()', () => {
  it('asks the kernel, before Linux 6.1 the list of processors', () => {
    const arch = (text: string) => nodeWith({ '/proc/sys/kernel/arch': { text } });
    const cpus = (text: string) => nodeWith({ '/proc/cpuinfo': { text } });
    expect(
      [arch('x86_64\n'), arch('aarch64\n'), cpus('vendor_id\t: x\nflags\t\t: fpu vme\n'), cpus('Features\t: fp\n')].map(
        hasNumbersOfX86,
      ),
    ).toEqual([true, false, true, false]);
    expect(hasNumbersOfX86(liveHost())).toBe(process.arch === 'x64');
  });
});
