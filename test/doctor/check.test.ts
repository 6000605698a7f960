import { describe, expect, it } from 'vitest';
import { check, ok, unreadable, unseen, warn } from '../../src/doctor/check.js';
import { ConfigError, SlurmCgroupsError, SystemCallError } from '../../src/machine/errors.js';

describe('check()', () => {
  it('gives the finding its name', async () => {
    expect(await check('spool', () => ok('/var/spool/slurmd'))).toEqual({
      name: 'spool',
      outcome: 'ok',
      detail: '/var/spool/slurmd',
    });
    expect(await check('x', async () => warn('a', 'b'))).toEqual({
      name: 'x',
      outcome: 'warn',
      detail: 'a',
      remedy: 'b',
    });
  });

  it('is unknown, with a remedy, where the kernel refuses', async () => {
    const refused = await check('sshd', () => {
      throw new SystemCallError('read', '/etc/ssh/sshd_config', 'EACCES');
    });
    expect(refused).toEqual({
      name: 'sshd',
      outcome: 'unknown',
      detail: 'Cannot read "/etc/ssh/sshd_config": permission denied',
      remedy: 'run it as root',
    });
  });

  it('lets a defect of this program through', async () => {
    await expect(check('x', () => Promise.reject(new TypeError('no')))).rejects.toThrow(TypeError);
  });
});

describe('unreadable()', () => {
  it('fails on what is there and wrong, and takes the remedy from the message', () => {
    const error = new ConfigError('Cannot trust "/etc/slurm/slurm.conf": others can write; chmod go-w it');
    expect(unreadable(error)).toEqual({
      outcome: 'fail',
      detail: 'Cannot trust "/etc/slurm/slurm.conf": others can write',
      remedy: 'chmod go-w it',
    });
  });

  it('is unknown where the only reason is that the kernel or the recording did not say', () => {
    expect(unreadable(new SlurmCgroupsError('ERR_NOT_RECORDED', 'not recorded')).outcome).toBe('unknown');
    expect(unseen(new ConfigError('no remedy')).outcome).toBe('unknown');
  });
});
