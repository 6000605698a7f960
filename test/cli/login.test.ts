import { describe, expect, it } from 'vitest';
import { runLogin } from '../../src/cli/login.js';
import { recording } from '../recordings/recordings.js';

describe('runLogin()', () => {
  it('gives the exit code of adopt, and that of its errors', async () => {
    const from = ['--from', recording('slurm-22.05-v1')];
    expect(await runLogin('adopt', ['6516', '--uid', '1002', '--dry-run', ...from])).toBe(1);
    expect(await runLogin('adopt', ['--frob'])).toBe(2);
  });
});
