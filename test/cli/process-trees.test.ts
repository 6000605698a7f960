import { describe, expect, it } from 'vitest';
import type { OutsideProcess } from '../../src/cleanup/strays/outside.js';
import { outsideJson, outsideLines, withUserName } from '../../src/cli/process-trees.js';
import { capture } from '../support/captured-output.js';

const process: OutsideProcess = {
  ...{ pid: 7, startTime: '1', uid: 1001, comm: 'vim\u001b', cgroup: '/user.slice', hasJob: true },
  ...{ proof: "in no job's cgroup, though its user has a job on this node", memoryBytes: 1 << 20 },
  ...{ ageSeconds: 90, cpuPercent: 0.5 },
};
const names = (uid: number) => (uid === 1001 ? 'alice' : undefined);
const report = (outside: readonly OutsideProcess[], complete = true) => ({ outside, complete, notes: [] });

describe('outsideLines()', () => {
  it('is a sum, and a tree for each user', () => {
    const others = [
      { ...process, pid: 8 },
      { ...process, pid: 9, uid: 1002 },
    ];
    expect(outsideLines(report([process, ...others]), names, capture())).toEqual([
      '3 processes of 2 users in no job',
      '',
      "alice (uid 1001): in no job's cgroup, though its user has a job on this node",
      expect.stringMatching(/^├─ 7 {2}vim\\x1b {2}1 min old {2}0.5 % CPU {2}1.0 MiB {2}\/user.slice$/),
      expect.stringMatching(/^└─ 8 /),
      '',
      "uid 1002: in no job's cgroup, though its user has a job on this node",
      expect.stringMatching(/^└─ 9 /),
    ]);
  });

  it('does not say none where not all were seen', () => {
    expect(outsideLines(report([]), names, capture())).toEqual(['no process of a user is outside of the jobs']);
    expect(outsideLines(report([], false), names, capture())).toEqual(['cannot tell which processes are in no job']);
    expect(outsideLines(report([process], false), names, capture())[0]).toBe('at least 1 process of 1 user in no job');
  });
});

describe('outsideJson()', () => {
  it('has the names that are known', () => {
    expect(outsideJson(report([process, { ...process, uid: 5 }]), names)).toEqual({
      outside: [
        { ...process, user: 'alice' },
        { ...process, uid: 5 },
      ],
      complete: true,
    });
    expect(withUserName({ uid: 5 }, names)).toEqual({ uid: 5 });
  });
});
