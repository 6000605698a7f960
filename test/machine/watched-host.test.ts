import process from 'node:process';
import { expect, test } from 'vitest';
import { actingHost } from '../../src/machine/acting.js';
import { SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
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

test('watchedHost(), and so failingHost() and actingHost(), know each way to write', () => {
  const done: string[] = [];
  const note = (call: string) => (path: string) => void done.push(`${call} ${path}`);
  const base = {
    ...liveHost(),
    ...{ write: note('write'), create: note('create'), append: note('append'), link: note('link') },
    ...{ rename: note('rename'), unlink: note('unlink'), mkdir: note('mkdir'), rmdir: note('rmdir') },
  };
  const use = (host: Host) => {
    host.write('/a', '');
    host.create('/a', '');
    host.append('/a', '');
    host.link('/a', '/b');
    host.rename('/a', '/b');
    for (const act of [host.unlink, host.mkdir, host.rmdir]) act('/a');
  };
  const calls = ['write', 'create', 'append', 'link', 'rename', 'unlink', 'mkdir', 'rmdir'];
  const host = watchedHost(base, () => {});
  use(host);
  expect(host.calls).toEqual(calls.map((call) => ({ call, path: '/a' })));
  expect(done).toEqual(calls.map((call) => `${call} /a`));
  expect(() => failingHost(base, { nth: 1 }).append('/a', '')).toThrow(SystemCallError);
  actingHost(base, 1, ({ path }) => note('acts before')(path)).append('/b', '');
  expect(done.slice(-2)).toEqual(['acts before /b', 'append /b']);
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
