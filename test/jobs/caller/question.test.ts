import { expect, it } from 'vitest';
import { unknownCaller } from '../../../src/jobs/caller/question.js';

it('unknownCaller() is no answer "none": it has a reason', () => {
  expect(unknownCaller('it is gone')).toEqual({ answer: 'unknown', why: 'it is gone' });
});
