import { describe, expect, it } from 'vitest';
import { programName } from '../../src/jobs/program-name.js';

describe('programName()', () => {
  it.each([
    ['/usr/sbin/slurmstepd', 'slurmstepd'],
    ['/usr/sbin/slurmstepd-wlm', 'slurmstepd'],
    ['/usr/sbin/slurmd-wlm', 'slurmd'],
    ['/opt/slurm/24.11/sbin/slurmd', 'slurmd'],
    ['/usr/sbin/sshd', 'sshd'],
    ['/usr/lib/openssh/sshd-session', 'sshd-session'],
    ['/usr/bin/slurmstepdx', 'slurmstepdx'],
    ['slurmd-', 'slurmd-'],
  ])('%s is %s', (file, name) => {
    expect(programName(file)).toBe(name);
  });
});
