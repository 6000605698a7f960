import process from 'node:process';
import { expect, test } from 'vitest';
import { SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';

test('failingHost() fails the nth call, which is not made, and no other', () => {
  const written: string[] = [];
  const host = failingHost({ ...liveHost(), write: (path) => void written.push(path) }, { nth: 2, errno: 'EBUSY' });
  host.write('/a', '');
  expect(() => host.write('/b', '')).toThrow(SystemCallError);
  host.write('/c', '');
  expect(written).toEqual(['/a', '/c']);
  expect(host.calls).toEqual(['/a', '/b', '/c'].map((path) => ({ call: 'write', path })));
});

test('failingHost() fails with the errno it was given, EIO by default', () => {
  expect(() => failingHost(liveHost(), { nth: 1 }).read('/proc/self/stat')).toThrow(
    expect.objectContaining({ errno: 'EIO', call: 'read' }),
  );
  expect(() => failingHost(liveHost(), { nth: 1, errno: 'ENOSPC' }).mkdir('/')).toThrow(
    expect.objectContaining({ code: 'ERR_CGROUP_REFUSED' }),
  );
});

test('failingHost() without nth fails nothing and counts every call', async () => {
  const host = failingHost(liveHost());
  host.read('/proc/self/stat');
  host.names('/proc/self');
  host.entries('/proc/self');
  host.stat('/proc');
  host.readlink('/proc/self');
  await host.run('/bin/true', [], { timeoutMs: 10_000 });
  const held = host.open(`/proc/${process.pid}`);
  held.read('stat');
  held.names();
  held.stat('stat');
  held.readlink('exe');
  held.close();
  expect(host.calls.map(({ call }) => call)).toEqual([
    'read',
    'list',
    'list',
    'stat',
    'readlink',
    'run',
    'open',
    'read',
    'list',
    'stat',
    'readlink',
  ]);
  expect([host.source, host.self().pid]).toEqual(['live', process.pid]);
});

test('failingHost() fails calls through a held directory, and later ones of the names in thenAlways', () => {
  const host = failingHost(liveHost(), { nth: 3, errno: 'EMFILE', thenAlways: ['stat'] });
  const held = host.open(`/proc/${process.pid}`);
  expect(held.stat('stat')?.mode).toBeDefined();
  expect(() => held.read('stat')).toThrow(expect.objectContaining({ errno: 'EMFILE' }));
  expect(held.read('stat')).not.toBe('');
  expect(() => held.stat('stat')).toThrow(expect.objectContaining({ errno: 'EMFILE' }));
  expect(() => host.stat('/proc')).toThrow(expect.objectContaining({ errno: 'EMFILE' }));
  held.close();
});

test('failingHost() knows what is held open; closing twice counts once', () => {
  const host = failingHost(liveHost(), { nth: 3 });
  const [first, second] = [host.open('/proc'), host.open(`/proc/${process.pid}`)];
  expect(() => host.open('/sys')).toThrow(SystemCallError);
  expect(() => failingHost(liveHost()).open('/proc/none')).toThrow(SystemCallError);
  expect(host.openDirectories()).toBe(2);
  first.close();
  first.close();
  expect(host.openDirectories()).toBe(1);
  second.close();
  expect(host.openDirectories()).toBe(0);
});
