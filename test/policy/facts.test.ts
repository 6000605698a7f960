import { describe, expect, it } from 'vitest';
import { afterWaiting, jobNames, saidOf, withEnding, withExcluded, withJobs } from '../../src/policy/facts.js';
import { job } from '../support/sample-jobs.js';

describe('saidOf()', () => {
  it('finds what is said of a job by its id, its SLUID or itself', () => {
    const sluid = 's9BNM865MKYJ00';
    const nameless = job(undefined);
    const said = saidOf([{ job: { jobId: 4 } }, { job: { sluid } }, { job: nameless }]);
    expect(said(job(4))).toEqual({ job: { jobId: 4 } });
    expect(said(job(undefined, { sluid }))).toEqual({ job: { sluid } });
    expect(said(job(8, { sluid }))).toEqual({ job: { sluid } });
    expect(said(nameless)?.job).toBe(nameless);
  });

  it('finds nothing where nothing points at the job, and takes no two jobs without a name for one', () => {
    const said = saidOf([{ job: job(undefined) }, { job: {} }, { job: job(5) }]);
    expect(said(job(undefined))).toBeUndefined();
    expect(said(job(4))).toBeUndefined();
    expect(saidOf()(job(4))).toBeUndefined();
  });

  it('takes the first of several', () => {
    const said = saidOf([
      { job: { jobId: 4 }, state: 'ending' },
      { job: { jobId: 4 }, state: 'suspended' },
    ]);
    expect(said(job(4))?.state).toBe('ending');
  });
});

describe('jobNames()', () => {
  it('names a job by its id, else by its SLUID', () => {
    expect(jobNames([job(4)])).toBe('job 4');
    expect(jobNames([job(undefined, { sluid: 's9BNM865MKYJ00' })])).toBe('job s9BNM865MKYJ00');
    expect(jobNames([job(undefined)])).toBe('a job without id');
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
    const tried = saidOf(facts.excluded);
    expect([4, 5, 6].map((id) => tried(job(id))?.why)).toEqual(['failed', 'suspended', undefined]);
  });
});

describe('withEnding()', () => {
  it('counts more than what was said of the job before', () => {
    const facts = withEnding({ states: [{ job: job(4), state: 'suspended' }] }, { jobId: 4 });
    expect(saidOf(facts.states)(job(4))?.state).toBe('ending');
    expect(saidOf(withEnding({}, job(5)).states)(job(4))).toBeUndefined();
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

  it('remembers what is ending, also when its directories are found again', () => {
    const waited = afterWaiting(withEnding({ jobs: { known: [job(4)] } }, job(4)), 100);
    const found = withJobs(waited, { known: [job(4), job(5)] }, [
      { job: job(4), state: 'suspended' },
      { job: job(5), state: 'starting' },
    ]);
    expect([4, 5].map((id) => saidOf(found.states)(job(id))?.state)).toEqual(['ending', 'starting']);
  });
});
