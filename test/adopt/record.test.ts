import { describe, expect, it } from 'vitest';
import { type Ending, Recorder } from '../../src/adopt/record.js';
import type { AdoptionResult } from '../../src/adopt/result.js';
import { SlurmCgroupsError, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import type { AdoptDecision, AnswerDecision } from '../../src/policy/answer.js';
import { alice, job } from '../support/sample-jobs.js';

/** A clock that stands still unless it is moved, and no process. */
function clockHost(): Host & { clockMs: number } {
  const host = {
    ...liveHost(),
    clockMs: 1000,
    now: () => host.clockMs,
    open: (path: string): never => {
      throw new SystemCallError('open', path, 'ENOENT');
    },
  };
  return host;
}

const five = job(5, { extern: { memory: 7 }, socket: 3, ticks: 9 });
const decision: AdoptDecision = {
  action: 'adopt',
  rule: 'newest',
  target: { kind: 'job', jobId: 5, job: five },
  reason: 'The session goes into job 5: it is the newest job of this user here',
  trace: ['adopt'],
};
const gone = new SlurmCgroupsError('ERR_CGROUP_GONE', 'the cgroup is gone', { path: '/x' });
const partial: AdoptionResult = {
  outcome: 'partial',
  route: 'cgroup',
  moved: 'cgroup',
  accounting: 'none',
  hierarchies: [
    { controllers: ['memory'], path: '/sys/fs/cgroup/memory/job_5', outcome: 'moved' },
    { controllers: ['cpuset'], path: '/sys/fs/cgroup/cpuset/job_5', outcome: 'failed', error: gone },
  ],
  error: gone,
  descendants: [],
  trace: ['moved'],
};
const allowed = { action: 'allow', rule: 'adopt-failure', reason: 'why' } as const;

function recordOf(ending: Partial<Ending> = {}, pid = 4711) {
  const recorder = new Recorder(clockHost(), { pid, uid: alice });
  const tried = { target: decision.target, adoption: partial };
  return recorder.end({ decision, answer: allowed, trace: ['adopt', 'moved'], tried, ...ending });
}

describe('Recorder', () => {
  it('makes a value that JSON can hold, errors and jobs by what people know of them', () => {
    const record = recordOf();
    expect(JSON.parse(JSON.stringify(record))).toEqual(record);
    expect(record).toEqual({
      id: expect.stringMatching(/^4711-unknown-\d{13}$/),
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      process: { pid: 4711 },
      uid: alice,
      decision: {
        action: 'adopt',
        rule: 'newest',
        reason: decision.reason,
        target: { kind: 'job', jobId: 5, uid: alice },
      },
      target: { kind: 'job', jobId: 5, uid: alice },
      route: 'cgroup',
      proof: [{ controllers: ['memory'], path: '/sys/fs/cgroup/memory/job_5' }],
      adoption: {
        ...partial,
        hierarchies: [
          partial.hierarchies[0],
          { ...partial.hierarchies[1], error: { code: 'ERR_CGROUP_GONE', message: 'the cgroup is gone' } },
        ],
        error: { code: 'ERR_CGROUP_GONE', message: 'the cgroup is gone' },
      },
      ...allowed,
      trace: ['adopt', 'moved'],
      stagesMs: {},
      totalMs: 0,
    });
  });

  it('has no route and no proof where no adoption was tried, and none where it was undone', () => {
    const denied: AnswerDecision = { action: 'deny', rule: 'no-jobs', reason: 'none', trace: [] };
    const record = recordOf({ decision: denied, answer: denied, tried: undefined });
    expect(record).toMatchObject({ route: 'none', proof: [], decision: { action: 'deny', rule: 'no-jobs' } });
    expect(record).not.toHaveProperty('adoption');
    expect(record).not.toHaveProperty('target');
    const undone = { target: decision.target, adoption: { ...partial, outcome: 'undone' as const } };
    expect(recordOf({ tried: undone })).toMatchObject({ route: 'cgroup', proof: [] });
  });

  it('keeps what mode=observe would have decided', () => {
    const observed: AnswerDecision = { action: 'ignore', rule: 'newest', would: decision, reason: 'r', trace: [] };
    const record = recordOf({ decision: observed, answer: observed, tried: undefined });
    expect(record.decision.would).toMatchObject({ action: 'adopt', target: { kind: 'job', jobId: 5 } });
    expect(JSON.parse(JSON.stringify(record))).toEqual(record);
  });

  it('knows its process by pid and start', () => {
    const record = new Recorder(liveHost(), { pid: process.pid, uid: 0, user: 'root', service: 'sshd' }).end({
      ...{ decision, answer: allowed, trace: [], tried: undefined },
    });
    expect(record).toMatchObject({ process: { pid: process.pid }, user: 'root', service: 'sshd' });
    expect(record.process.startTime).toMatch(/^\d+$/);
    expect(record.id.startsWith(`${process.pid}-${record.process.startTime}-`)).toBe(true);
  });

  it('adds up the time of each stage, also of one that fails', async () => {
    const host = clockHost();
    const recorder = new Recorder(host, { pid: 4711, uid: alice });
    const takes = (ms: number) => async () => {
      host.clockMs += ms;
    };
    await recorder.during('jobs', takes(3));
    await recorder.during('wait', takes(100));
    await recorder.during('jobs', takes(4.0004));
    const failing = async () => {
      host.clockMs += 7;
      throw gone;
    };
    await expect(recorder.during('adoption', failing)).rejects.toBe(gone);
    recorder.proven();
    host.clockMs += 2;
    expect(recorder.end({ decision, answer: allowed, trace: [], tried: undefined })).toMatchObject({
      stagesMs: { jobs: 7, wait: 100, adoption: 7 },
      provenMs: 114,
      totalMs: 116,
    });
  });
});
