import { describe, expect, it } from 'vitest';
import { failureReason, observed, suspendedReason } from '../../src/policy/answer.js';
import { job } from '../support/sample-jobs.js';

describe('observed()', () => {
  it('ignores the login and keeps what would have been decided', () => {
    const would = {
      action: 'deny',
      rule: 'no-jobs',
      reason: 'You have no active jobs on this node',
      trace: ['a'],
    } as const;
    expect(observed(would)).toEqual({
      action: 'ignore',
      rule: 'no-jobs',
      would,
      reason: 'Observing only; the session would be refused: You have no active jobs on this node',
      trace: ['a', 'mode=observe, ignore: would be refused'],
    });
  });
});

describe('suspendedReason()', () => {
  it('names the job, or all of them', () => {
    expect(suspendedReason([job(4)])).toBe('Your job 4 on this node is suspended');
    expect(suspendedReason([job(4), job(5)])).toBe('All your jobs on this node are suspended: job 4, job 5');
  });
});

describe('failureReason()', () => {
  it('says why where that is known', () => {
    expect(failureReason('job 4', undefined)).toBe('The session could not be put into job 4');
    expect(failureReason('job 4', 'the step is ending')).toBe(
      'The session could not be put into job 4: the step is ending',
    );
  });
});
