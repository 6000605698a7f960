import { spawn } from 'node:child_process';
import { describe, expect } from 'vitest';
import { putBackStranger } from '../../src/cgroup/pid-reuse.js';
import { identityOf } from '../../src/cgroup/process.js';
import { liveHost } from '../../src/machine/live-host.js';
import { kernelTest, put } from '../support/test-cgroups.js';

const live = liveHost();

describe('putBackStranger()', () => {
  kernelTest(
    'puts the process that has the number now back to where its parent is, and says so',
    ['memory'],
    async (area) => {
      const cgroup = area.at('memory').create('job');
      const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
      const gone = new Promise((fulfil) => child.once('exit', fulfil));
      try {
        const { pid, startTime } = identityOf(live, child.pid ?? 0);
        const before = live.read(`/proc/${pid}/cgroup`);
        put(pid, cgroup);
        expect(await putBackStranger(live, { pid, startTime }, { written: [cgroup] })).toEqual([]); // it is the process itself
        expect(cgroup.procs()).toEqual([pid]);
        const ended = { pid, startTime: startTime - 1n };
        expect(await putBackStranger(live, ended, { written: [area.at('memory')] })).toEqual([]); // it is not there
        const [said, ...others] = await putBackStranger(live, ended, { written: [cgroup] });
        expect(said).toMatch(
          /^its pid is that of sleep \(uid \d+\) now, which was moved in its place into ".*\/job": put back into "/,
        );
        expect(others).toEqual([]);
        expect([cgroup.procs(), live.read(`/proc/${pid}/cgroup`)]).toEqual([[], before]);
      } finally {
        child.kill('SIGKILL');
        await gone;
      }
    },
  );

  kernelTest(
    'leaves one alone that others have put where processes come and go',
    ['memory', 'freezer'],
    async (area) => {
      const [cgroup, other] = [area.at('memory').create('source'), area.at('freezer').create('source')];
      const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
      const gone = new Promise((fulfil) => child.once('exit', fulfil));
      try {
        const { pid, startTime } = identityOf(live, child.pid ?? 0);
        const ended = { pid, startTime: startTime - 1n };
        for (const one of [cgroup, other]) put(pid, one);
        expect(await putBackStranger(live, ended, { written: [cgroup], shared: true })).toEqual([]);
        expect(cgroup.procs()).toEqual([pid]);
        put(pid, area.at('freezer'));
        expect(await putBackStranger(live, ended, { written: [cgroup], shared: true })).toHaveLength(1);
        expect(cgroup.procs()).toEqual([]);
      } finally {
        child.kill('SIGKILL');
        await gone;
      }
    },
  );

  kernelTest('leaves one alone that was born there', ['memory'], async (area) => {
    const cgroup = area.at('memory').create('job');
    const shell = spawn('/bin/sh', ['-c', 'read go; sleep 60 & echo $!; wait'], { stdio: ['pipe', 'pipe', 'ignore'] });
    const gone = new Promise((fulfil) => shell.once('exit', fulfil));
    put(shell.pid ?? 0, cgroup);
    shell.stdin.write('\n');
    const pid = Number(await new Promise((fulfil) => shell.stdout.once('data', fulfil)));
    try {
      const { startTime } = identityOf(live, pid);
      expect(
        await putBackStranger(live, { pid, startTime: startTime - 1n }, { written: [cgroup], below: true }),
      ).toEqual([]);
      expect(cgroup.procs()).toContain(pid);
    } finally {
      live.signal(pid, 'SIGKILL');
      await gone;
    }
  });
});
