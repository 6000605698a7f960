import { expect, it } from 'vitest';
import { unknown } from '../../../src/jobs/caller/question.js';

it('unknown() is no answer "none": it has a reason', () => {
  expect(unknown('it is gone')).toEqual({ answer: 'unknown', why: 'it is gone' });
});
