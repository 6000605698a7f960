import { describe, expect, it } from 'vitest';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { filesOf } from '../support/etc-in-memory.js';

describe('readPamStack()', () => {
  it('follows @include, include and substack in the order of the lines', async () => {
    const stack = await readPamStack(
      filesOf({
        '/etc/pam.d/sshd': [
          '#%PAM-1.0',
          'auth include common',
          'account required pam_nologin.so',
          '-account [success=1 default=ignore] /usr/lib/security/pam_slurm_adopt.so action_unknown=newest',
          '@include common',
          'session substack other-one',
          'nonsense',
        ].join('\n'),
        '/etc/pam.d/common': 'auth required pam_unix.so\nsession optional pam_systemd.so\n',
        '/usr/lib/pam.d/other-one': 'session required pam_limits.so\naccount required pam_never.so\n',
      }),
      'sshd',
    );
    expect(stack?.map(({ type, control, module, args }) => [type, control, module, ...args])).toEqual([
      ['auth', 'required', 'pam_unix'],
      ['account', 'required', 'pam_nologin'],
      ['account', '[success=1 default=ignore]', 'pam_slurm_adopt', 'action_unknown=newest'],
      ['auth', 'required', 'pam_unix'],
      ['session', 'optional', 'pam_systemd'],
      ['session', 'required', 'pam_limits'],
    ]);
    expect(stack?.[4]?.place).toEqual({ file: '/etc/pam.d/common', line: 2 });
  });

  it('knows no service that is not there', async () => {
    expect(await readPamStack(filesOf({}), 'sshd')).toBeUndefined();
  });

  it.each([
    ['itself', { '/etc/pam.d/sshd': '@include sshd' }, 'it includes itself'],
    ['what is not there', { '/etc/pam.d/sshd': '\n@include gone' }, 'line 2: it includes "gone"'],
  ])('complains of a file that includes %s', async (_, files, message) => {
    await expect(readPamStack(filesOf(files), 'sshd')).rejects.toThrow(message);
  });
});
