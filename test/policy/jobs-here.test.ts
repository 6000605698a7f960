import { describe, expect, it } from 'vitest';
import { classifyJobs, describeJobs, whyNone, whyNot } from '../../src/policy/jobs-here.js';
import { alice, bob, job } from '../support/sample-jobs.js';

const request = { uid: alice, user: 'alice' };
const facts = {
  states: [
    { job: { jobId: 1 }, state: 'starting' },
    { job: { jobId: 2 }, state: 'ending' },
    { job: { jobId: 3 }, state: 'suspended' },
    { job: { jobId: 8 }, state: 'deserted' },
    { job: { jobId: 9 }, state: 'starting' },
  ],
  excluded: [
    { job: { jobId: 3 }, why: 'suspended' },
    { job: { jobId: 4 }, why: 'failed' },
  ],
} as const;
const here = classifyJobs(request, facts, [
  job(9, { uid: 'unknown' }),
  { ...job(8, { uid: 'unknown' }), unknownWhy: 'nothing listens' },
  job(6, { uid: 'unknown' }),
  job(5, { uid: bob }),
  job(4),
  job(3),
  job(2),
  job(1),
]);

describe('classifyJobs()', () => {
  it('counts jobs with an extern step, suspended and tried ones too, and none of another or an unknown owner', () => {
    const { present, suspended, starting, ending, ofOthers, unknownOwnerOpen, unknownOwnerClosed } = here;
    const lists = [present, suspended, starting, ending, ofOthers, unknownOwnerOpen, unknownOwnerClosed];
    expect(lists.map((jobs) => jobs.map((one) => one.jobId))).toEqual([[3, 4], [3], [1], [2], [5], [6], [8, 9]]);
  });

  it('takes a job of the user’s own that is deserted for one that is ending', () => {
    const { present, ending, unknownOwnerClosed } = classifyJobs(request, facts, [job(8)]);
    expect([present, ending.length, unknownOwnerClosed]).toEqual([[], 1, []]);
  });
});

describe('describeJobs()', () => {
  it('says in one line what is here and what is left out', () => {
    expect(describeJobs(request, here)).toBe(
      'uid 1001 ("alice") has 2 jobs here: job 3, job 4; starting: job 1; ending: job 2; ' +
        'of another user, ignored: job 5; of an unknown owner, ignored: job 6; ' +
        'of an unknown owner, and accepting no session: job 8, job 9 (nothing listens)',
    );
    expect(describeJobs({ uid: 7 }, classifyJobs({ uid: 7 }, {}, []))).toBe('uid 7 has no jobs here');
    const unknown = [job(6, { uid: 'unknown' }), { ...job(7, { uid: 'unknown' }), unknownWhy: 'it is silent' }];
    expect(describeJobs({ uid: 7 }, classifyJobs({ uid: 7 }, {}, unknown))).toBe(
      'uid 7 has no known jobs here; of an unknown owner, ignored: job 6, job 7 (it is silent)',
    );
  });
});

describe('whyNot()', () => {
  it.each([
    [2, 'it is ending'],
    [3, 'it is suspended'],
    [4, 'it was tried, and failed'],
    [5, 'it belongs to another user'],
    [6, 'its owner is unknown'],
    [7, 'the user has no such job on this node'],
    [8, 'its owner is unknown, and it accepts no session'],
  ])('says of job %i: %s', (jobId, why) => {
    expect(whyNot(facts, here, (one) => one.jobId === jobId)).toBe(why);
  });
});

describe('whyNone()', () => {
  it('tells starting, ending and no jobs apart', () => {
    const of = (...ids: number[]) =>
      whyNone(
        classifyJobs(
          request,
          facts,
          ids.map((id) => job(id)),
        ),
      );
    expect(of(1, 2)).toEqual(['starting', 'You have no running job on this node yet, still starting: job 1']);
    expect(of(2)).toEqual(['ending', 'You have no running job on this node any more, ending: job 2']);
    expect(of()).toEqual(['no-jobs', 'You have no active jobs on this node']);
  });
});
