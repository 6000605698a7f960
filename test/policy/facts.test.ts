import { describe, expect, it } from 'vitest';
import { afterWaiting, jobName, jobNames, pointsAt, triedBefore, withExcluded } from '../../src/policy/facts.js';
import { job } from './sample-jobs.js';

describe('pointsAt()', () => {
  it('finds a job by its id, its SLUID or itself', () => {
    const bySluid = job(undefined, { sluid: 's9BNM865MKYJ00' });
    const nameless = job(undefined);
    expect(pointsAt({ jobId: 4 }, job(4))).toBe(true);
    expect(pointsAt({ sluid: 's9BNM865MKYJ00' }, bySluid)).toBe(true);
    expect(pointsAt(nameless, nameless)).toBe(true);
  });

  it('does not take two jobs without a name for one', () => {
    expect(pointsAt(job(undefined), job(undefined))).toBe(false);
    expect(pointsAt({}, job(4))).toBe(false);
    expect(pointsAt({ jobId: 4 }, job(5))).toBe(false);
  });
});

describe('jobNames()', () => {
  it('names a job by its id, else by its SLUID', () => {
    expect(jobName(job(4))).toBe('job 4');
    expect(jobName(job(undefined, { sluid: 's9BNM865MKYJ00' }))).toBe('job s9BNM865MKYJ00');
    expect(jobName(job(undefined))).toBe('a job without id');
  });

  it('stops after eight', () => {
    expect(jobNames([1, 2].map((id) => job(id)))).toBe('job 1, job 2');
    expect(jobNames([1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((id) => job(id)))).toMatch(/job 8 and 2 more$/);
  });
});

describe('withExcluded()', () => {
  it('keeps what was excluded before', () => {
    const facts = withExcluded(withExcluded({}, [{ job: job(4), why: 'failed' }]), [
      { job: { jobId: 5 }, why: 'suspended' },
    ]);
    expect(triedBefore(facts, job(4))?.why).toBe('failed');
    expect(triedBefore(facts, job(5))?.why).toBe('suspended');
    expect(triedBefore(facts, job(6))).toBeUndefined();
  });
});

describe('afterWaiting()', () => {
  it('forgets the jobs and their states, adds up the waits and keeps the rest', () => {
    const facts = {
      callerId: { known: 'none' },
      jobs: { known: [job(4)] },
      states: [{ job: job(4), state: 'starting' }],
      waitedMs: 100,
    } as const;
    expect(afterWaiting(facts, 250)).toEqual({ callerId: { known: 'none' }, waitedMs: 350 });
    expect(afterWaiting({}, 250)).toEqual({ waitedMs: 250 });
  });
});
