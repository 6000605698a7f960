import { describe, expect, it } from 'vitest';
import { daemonsNamed, hasAnswer, seesAllProcesses } from '../../src/doctor/daemons.js';
import { nodeWith } from '../support/config-sandbox.js';

const process = (pid: number, { uid = 0, state = 'S', exe = '/usr/sbin/slurmd' } = {}) => ({
  [`/proc/${pid}/stat`]: { text: `${pid} (slurmd) ${state} 1 ${'0 '.repeat(48)}\n` },
  [`/proc/${pid}/status`]: {
    text: `Name:\tslurmd\nTgid:\t${pid}\nPid:\t${pid}\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nGid:\t0\t0\t0\t0\n`,
  },
  [`/proc/${pid}/exe`]: { link: exe },
});

describe('daemonsNamed()', () => {
  it("finds root's alone, with its file, and tells a stopped one", () => {
    const host = nodeWith({
      ...process(300),
      ...process(301, { uid: 1000 }),
      ...process(302, { exe: '/home/a/other' }),
      ...process(303, { state: 'T', exe: '/opt/slurm/sbin/slurmd (deleted)' }),
    });
    expect(daemonsNamed(host, 'slurmd')).toEqual([
      { pid: 300, ppid: 1, file: '/usr/sbin/slurmd', stopped: false },
      { pid: 303, ppid: 1, file: '/opt/slurm/sbin/slurmd', stopped: true },
    ]);
    expect(daemonsNamed(nodeWith({}), 'slurmd')).toEqual([]);
  });
});

describe('seesAllProcesses()', () => {
  it('is so where /proc/stat answers root', () => {
    const host = nodeWith({ '/proc/stat': { text: 'btime 1\n' } });
    expect(hasAnswer(host, '/proc/stat')).toBe(true);
    expect(seesAllProcesses(host)).toBe(true);
    expect(seesAllProcesses({ ...host, self: () => ({ pid: 1, uid: 1000 }) })).toBe(false);
    expect(seesAllProcesses(nodeWith({}))).toBe(false);
  });
});
