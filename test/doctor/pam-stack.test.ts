import { describe, expect, it } from 'vitest';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { filesOf } from '../support/etc-in-memory.js';

const stackOf = (files: Readonly<Record<string, string>>) => readPamStack(filesOf(files), 'sshd');
const shortly = async (files: Readonly<Record<string, string>>) =>
  (await stackOf(files))?.map((line) => [
    line.type,
    line.kind === 'broken' ? `broken: ${line.why}` : line.said,
    line.module,
    ...line.args,
    ...(line.level === 0 ? [] : [line.level]),
  ]);

describe('readPamStack()', () => {
  it('follows @include, include and substack in the order of the lines', async () => {
    const files = {
      '/etc/pam.d/sshd': [
        '#%PAM-1.0',
        'auth include common',
        'account required pam_nologin.so',
        '-account [success=1 default=ignore] /usr/lib/security/pam_slurm_adopt.so action_unknown=newest',
        '@include common',
        'session substack other-one',
        'nonsense',
        'password required pam_deny.so',
      ].join('\n'),
      '/etc/pam.d/common': 'auth required pam_unix.so\nsession optional pam_systemd.so\n',
      '/usr/lib/pam.d/other-one': 'session required pam_limits.so\naccount required pam_never.so\n',
    };
    expect(await shortly(files)).toEqual([
      ['auth', 'required', 'pam_unix'],
      ['account', 'required', 'pam_nologin'],
      ['account', 'success=1 default=ignore', 'pam_slurm_adopt', 'action_unknown=newest'],
      ['auth', 'required', 'pam_unix'],
      ['session', 'optional', 'pam_systemd'],
      ['session', 'substack', 'other-one'],
      ['session', 'required', 'pam_limits', 1],
      ['auth', 'broken: "nonsense" is no type of PAM', ''],
      ['password', 'required', 'pam_deny'],
    ]);
    expect((await stackOf(files))?.[4]?.place).toEqual({ file: '/etc/pam.d/common', line: 2 });
  });

  it('knows no service that is not there', async () => {
    expect(await stackOf({})).toBeUndefined();
  });

  it.each([
    ["/etc before vendors' folders", ['/etc/pam.d', '/usr/lib/pam.d', '/usr/etc/pam.d']],
    ["libpam's own folder before SUSE's", ['/usr/lib/pam.d', '/usr/etc/pam.d']],
    ["SUSE's where there is no other", ['/usr/etc/pam.d']],
  ])('takes %s', async (_, folders) => {
    const files = Object.fromEntries(
      folders.map((folder, at) => [`${folder}/sshd`, `account required pam_${at}.so\n`]),
    );
    expect(await shortly(files)).toEqual([['account', 'required', 'pam_0']]);
  });

  it('takes a type that the service says nothing of from the service other', async () => {
    const files = {
      '/etc/pam.d/sshd': 'account required pam_unix.so\n',
      '/etc/pam.d/other': 'account required pam_deny.so\nsession required pam_warn.so\n',
    };
    expect(await shortly(files)).toEqual([
      ['account', 'required', 'pam_unix'],
      ['session', 'required', 'pam_warn'],
    ]);
  });

  it('reads words as PAM parts them', async () => {
    const lines = [
      'ACCOUNT Required pam_a.so [x=a b\\]c] y=[z',
      'account [ success=ok  default=die ]pam_b.so',
      'account [required] pam_c.so # comment',
      'account required pam_d.so\r',
      'account required',
      'account',
    ];
    expect(await shortly({ '/etc/pam.d/sshd': lines.join('\n') })).toEqual([
      ['account', 'Required', 'pam_a', 'x=a b]c', 'y=[z'],
      ['account', ' success=ok  default=die ', 'pam_b'],
      ['account', 'required', 'pam_c'],
      ['account', 'required', 'pam_d'],
      ['account', 'broken: it names no module', ''],
      ['account', 'broken: it has no control', ''],
    ]);
  });

  it('makes of a file that cannot be included a line that always fails', async () => {
    expect(await shortly({ '/etc/pam.d/sshd': '\naccount include gone\n' })).toEqual([
      ['account', 'broken: it includes "gone", which does not exist', ''],
    ]);
    expect(
      await shortly({ '/etc/pam.d/sshd': 'session include cut\n', '/etc/pam.d/cut': 'session required a.so \\\n' }),
    ).toEqual([['session', 'broken: it includes "/etc/pam.d/cut", whose last line ends in a backslash', '']]);
  });

  it('ends where files include each other', async () => {
    const own = await shortly({ '/etc/pam.d/sshd': 'account include sshd\n' });
    expect(own).toEqual([['account', 'broken: files include each other more than 16 deep', '']]);
    await expect(stackOf({ '/etc/pam.d/sshd': '@include sshd\n@include sshd\n' })).rejects.toThrow(
      'more than 4096 lines',
    );
  });
});
