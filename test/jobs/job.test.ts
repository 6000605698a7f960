import { describe, expect, it } from 'vitest';
import { nameOfJob } from '../../src/jobs/job.js';

describe('nameOfJob()', () => {
  it.each([
    [{ jobId: 7 }, 'job 7'],
    [{ jobId: 7, sluid: 'sEKNKTV3WPV500' }, 'job 7'],
    [{ sluid: 'sEKNKTV3WPV500' }, 'job sEKNKTV3WPV500'],
    [{}, 'a job without id'],
  ])('names %o %j', (job, name) => {
    expect(nameOfJob(job)).toBe(name);
  });
});
