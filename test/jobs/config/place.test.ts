import { describe, expect, it } from 'vitest';
import { at } from '../../../src/jobs/config/place.js';

describe('at()', () => {
  it('says file and line, or nothing', () => {
    expect(at({ file: '/etc/slurm/slurm.conf', line: 12 })).toBe(' (/etc/slurm/slurm.conf:12)');
    expect(at(undefined)).toBe('');
  });
});
