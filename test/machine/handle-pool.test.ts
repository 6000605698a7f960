import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failingHost } from '../../src/machine/failing.js';
import { poolingHost } from '../../src/machine/handle-pool.js';
import { liveHost } from '../../src/machine/live-host.js';

const live = liveHost();

describe('poolingHost()', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-pool-'));
    for (let n = 0; n < 20; n++) {
      fs.mkdirSync(`${folder}/${n}`);
      fs.writeFileSync(`${folder}/${n}/name`, `${n}`);
    }
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  it('holds many with few open, and each is read as what it was', () => {
    const counted = failingHost(live);
    const host = poolingHost(counted, 3);
    const held = Array.from({ length: 20 }, (_, n) => host.open(`${folder}/${n}`));
    for (const round of [0, 1])
      for (const [n, one] of held.entries()) {
        expect(one.read('name'), `round ${round}`).toBe(`${n}`);
        expect(counted.openDirectories()).toBe(3);
      }
    for (const one of held) one.close();
    expect(counted.openDirectories()).toBe(0);
    expect(() => held[0]?.read('name')).toThrow(TypeError);
  });

  it('opens one path once for all that hold it', () => {
    const counted = failingHost(live);
    const host = poolingHost(counted, 3);
    const [first, second] = [host.open(`${folder}/1`), host.open(`${folder}/1`)];
    expect(counted.openDirectories()).toBe(1);
    first.close();
    first.close(); // once more is no error
    expect([second.read('name'), counted.openDirectories()]).toEqual(['1', 1]);
    second.close();
    expect(counted.openDirectories()).toBe(0);
  });

  it('never takes another directory of the same path for one that it closed', () => {
    const host = poolingHost(live, 1);
    const first = host.open(`${folder}/1`);
    const second = host.open(`${folder}/2`); // closes the first
    fs.renameSync(`${folder}/1`, `${folder}/old`);
    fs.mkdirSync(`${folder}/1`);
    fs.writeFileSync(`${folder}/1/name`, 'a stranger');
    expect(() => first.read('name')).toThrow(expect.objectContaining({ code: 'ERR_CGROUP_GONE' }));
    fs.rmSync(`${folder}/1`, { recursive: true });
    expect(() => first.read('name')).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOUND' }));
    expect(second.read('name')).toBe('2');
    first.close();
    second.close();
  });

  it('knows a process by its start time', () => {
    let start = '77';
    const stat = () => `9 (a) b) S 1 ${'0 '.repeat(17)}${start} 0\n`;
    const host = poolingHost(
      {
        ...live,
        open: (where) => ({
          ...live.open(folder),
          path: where,
          read: (name) => (name === 'stat' ? stat() : 'of the process'),
        }),
      },
      1,
    );
    const held = host.open('/proc/9');
    const other = host.open('/proc/10');
    expect(held.read('comm')).toBe('of the process');
    expect(other.read('comm')).toBe('of the process'); // closes the first
    start = '78';
    expect(() => held.read('comm')).toThrow(expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS', errno: 'ESRCH' }));
    held.close();
    other.close();
  });

  it('takes a quarter of what this process may have open, at most 128', () => {
    const openOf = (limits: string) => {
      const counted = failingHost({
        ...live,
        read: (where) => (where === '/proc/self/limits' ? limits : live.read(where)),
      });
      const host = poolingHost(counted);
      const held = Array.from({ length: 20 }, (_, n) => host.open(`${folder}/${n}`));
      const open = counted.openDirectories();
      for (const one of held) one.close();
      return open;
    };
    expect(openOf('Max open files            32                   64                   files     \n')).toBe(8);
    expect(openOf('Max open files            unlimited            unlimited            files     \n')).toBe(20);
  });
});
