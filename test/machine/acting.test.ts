import fs from 'node:fs';
import process from 'node:process';
import { expect, test } from 'vitest';
import { actingHost } from '../../src/machine/acting.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';

test('actingHost() lets another act just before the nth call, once, and that call sees it', () => {
  const folder = fs.mkdtempSync('/tmp/slurm-cgroups-acting-');
  try {
    const seen: unknown[] = [];
    const host = actingHost(liveHost(), 2, (call) => {
      seen.push(call);
      fs.writeFileSync(`${folder}/file`, 'acted');
    });
    expect(host.stat(`${folder}/file`)).toBeUndefined();
    expect(host.read(`${folder}/file`)).toBe('acted');
    fs.rmSync(`${folder}/file`);
    expect(host.stat(`${folder}/file`)).toBeUndefined();
    expect(seen).toEqual([{ call: 'read', path: `${folder}/file` }]);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('actingHost() counts calls as failingHost() does, through directories, pidfds and locks that it gives, too', async () => {
  const use = async (host: ReturnType<typeof failingHost>) => {
    const held = host.open(`/proc/${process.pid}`);
    held.read('stat');
    const task = held.open('task');
    task.names();
    expect(host.openDirectories()).toBe(2);
    task.close();
    held.close();
    const libc = await host.libc();
    if (libc !== undefined) {
      libc.holdForSignal(process.pid).close();
      libc.tryLock('/proc')?.();
    }
    expect(host.openDirectories()).toBe(0);
    return host.calls;
  };
  let acts = 0;
  const acting = actingHost(liveHost(), 4, () => acts++);
  const calls = await use(acting);
  expect(calls).toEqual(await use(failingHost(liveHost())));
  expect(calls.slice(0, 4).map(({ call }) => call)).toEqual(['open', 'read', 'open', 'list']);
  expect(acts).toBe(1);
});

test('actingHost() around another lets two act, each before the call of its number', () => {
  const order: string[] = [];
  const first = actingHost(liveHost(), 1, () => order.push('first'));
  const both = actingHost(first, 2, () => order.push('second'));
  both.stat('/proc');
  order.push('between');
  both.stat('/proc');
  expect(order).toEqual(['first', 'between', 'second']);
});

test('actingHost() does not make the call where the act throws, and takes numbers from 1', () => {
  const host = actingHost(liveHost(), 1, () => {
    throw new Error('no');
  });
  expect(() => host.stat('/proc')).toThrow('no');
  expect(() => actingHost(liveHost(), 0, () => {})).toThrow(RangeError);
});
