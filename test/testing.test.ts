import { describe, expect, it } from 'vitest';
import * as testing from '../src/testing.js';

describe('slurm-cgroups/testing', () => {
  it('has the three fakes, and what makes a recording', () => {
    expect(Object.keys(testing).sort()).toEqual([
      'actingHost',
      'failingHost',
      'recordedHost',
      'recordedStat',
      'recordingHost',
    ]);
  });
});
