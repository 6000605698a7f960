import process from 'node:process';
import { expect, test } from 'vitest';
import { SystemCallError } from '../../src/machine/errors.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type HostCall, watchedHost } from '../../src/machine/watched-host.js';

test('watchedHost() tells of each call by number before it is made, and does not make one where that throws', () => {
  const told: (readonly [number, HostCall])[] = [];
  const written: string[] = [];
  const base = { ...liveHost(), write: (path: string) => void written.push(path) };
  const host = watchedHost(base, (number, call) => {
    told.push([number, call]);
    if (number === 2) throw new SystemCallError(call.call, call.path, 'EIO');
  });
  host.write('/a', '');
  expect(() => host.write('/b', '')).toThrow(SystemCallError);
  expect(told).toEqual([
    [1, { call: 'write', path: '/a' }],
    [2, { call: 'write', path: '/b' }],
  ]);
  expect([written, host.calls]).toEqual([['/a'], told.map(([, call]) => call)]);
});

test('watchedHost() counts what a pidfd does, and signals', async (context) => {
  const host = watchedHost(liveHost(), () => {});
  const libc = await host.libc();
  if (libc === undefined) return context.skip('needs koffi');
  const held = libc.holdForSignal(process.pid);
  held.send('SIGCONT');
  held.close();
  host.signal(process.pid, 'SIGCONT');
  expect(host.calls.map(({ call }) => call)).toEqual(['hold', 'signal', 'signal']);
  expect(host.calls.every(({ path }) => path === `/proc/${process.pid}`)).toBe(true);
});
