import { describe, expect, it } from 'vitest';
import { adopterCheck, withModules } from '../../src/doctor/pam-check.js';
import { pamModules } from '../../src/doctor/pam-modules.js';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { filesOf } from '../support/etc-in-memory.js';

const adopter = 'account required pam_slurm_adopt.so';

async function found(files: Readonly<Record<string, string>>) {
  const etc = filesOf(files);
  const stack = await readPamStack(etc, 'sshd');
  return adopterCheck(stack === undefined ? undefined : await withModules(stack, pamModules(etc)));
}

const account = (...lines: readonly string[]) =>
  found({ '/etc/pam.d/sshd': lines.map((line) => `account ${line}`).join('\n') });

describe('adopterCheck(), for whom the adopter is reached', () => {
  it.each([
    ['alone', [adopter.slice(8)]],
    ['behind what refuses only', ['required pam_unix.so', 'required pam_access.so', 'required pam_slurm_adopt.so']],
    ['system accounts may pass it', ['sufficient pam_usertype.so issystem', 'required pam_slurm_adopt.so']],
    ['low uids may pass it', ['sufficient pam_succeed_if.so uid < 1000 quiet', 'required pam_slurm_adopt.so']],
    [
      'root may pass it',
      ['[success=done default=ignore] pam_succeed_if.so user = root', 'required pam_slurm_adopt.so'],
    ],
    [
      'a line for another service',
      ['sufficient pam_succeed_if.so service in crond:cron quiet', 'required pam_slurm_adopt.so'],
    ],
    [
      'Debian with common-account',
      [
        '[success=1 new_authtok_reqd=done default=ignore] pam_unix.so',
        'requisite pam_deny.so',
        'required pam_permit.so',
        'required pam_slurm_adopt.so',
      ],
    ],
    [
      'SchedMD: sufficient, others by pam_access',
      ['required pam_unix.so', 'sufficient pam_slurm_adopt.so', 'required pam_access.so'],
    ],
    [
      'a jump over pam_localuser',
      ['[default=1] pam_permit.so', 'sufficient pam_localuser.so', 'required pam_slurm_adopt.so'],
    ],
    [
      'behind it what ends the stack',
      ['required pam_slurm_adopt.so', 'sufficient pam_localuser.so', 'required pam_sss.so'],
    ],
    [
      'a sufficient line whose failure before keeps it from ending',
      ['required pam_slurm_adopt.so', 'sufficient pam_permit.so'],
    ],
  ])('is fine with: %s', async (_, lines) => {
    expect((await account(...lines)).outcome).toBe('ok');
  });

  it.each([
    [
      'local users end first',
      ['sufficient pam_localuser.so', 'required pam_slurm_adopt.so'],
      'warn',
      'never reached for local users',
    ],
    [
      'the same by brackets',
      ['[success=done default=ignore] pam_localuser.so', 'required pam_slurm_adopt.so'],
      'warn',
      'pam_localuser in account (/etc/pam.d/sshd:1) leads past it',
    ],
    [
      'local users jump over it',
      ['[success=1 default=ignore] pam_localuser.so', 'required pam_slurm_adopt.so', 'required pam_permit.so'],
      'warn',
      'local users',
    ],
    [
      'users of LDAP end first',
      ['sufficient pam_sss.so', 'required pam_slurm_adopt.so'],
      'warn',
      'users of a directory service',
    ],
    [
      'every user ends first',
      ['sufficient pam_unix.so', 'required pam_slurm_adopt.so'],
      'fail',
      'local users (those of /etc/passwd) and users of a directory service',
    ],
    [
      'people end first',
      ['sufficient pam_succeed_if.so uid >= 1000', 'required pam_slurm_adopt.so'],
      'fail',
      'never reached',
    ],
    [
      'regular users end first',
      ['sufficient pam_usertype.so isregular', 'required pam_slurm_adopt.so'],
      'fail',
      'never reached',
    ],
    [
      'every user jumps',
      ['[success=1 default=ignore] pam_permit.so', 'required pam_slurm_adopt.so', 'required pam_permit.so'],
      'fail',
      'never reached',
    ],
    ['no user gets in', ['requisite pam_deny.so', 'required pam_slurm_adopt.so'], 'fail', 'refuses every user'],
    [
      'a control that PAM cannot read',
      ['[succes=ok] pam_unix.so', 'required pam_slurm_adopt.so'],
      'fail',
      'refuses every user',
    ],
    [
      'a jump to nowhere',
      ['[success=3 default=ignore] pam_unix.so', 'required pam_slurm_adopt.so'],
      'fail',
      'refuses every user',
    ],
    ['its refusal is optional', ['required pam_unix.so', 'optional pam_slurm_adopt.so'], 'warn', 'has no effect'],
    [
      'its refusal is ignored',
      ['required pam_unix.so', '[success=ok default=ignore] pam_slurm_adopt.so'],
      'warn',
      'has no effect',
    ],
    [
      'a value it does not know',
      ['required pam_slurm_adopt.so action_unknown=first'],
      'warn',
      '"action_unknown=first"',
    ],
    ['an option it does not know', ['required pam_slurm_adopt.so debug'], 'warn', 'does not know "debug"'],
  ])('complains where %s', async (_, lines, outcome, detail) => {
    const result = await account(...lines);
    expect(result).toMatchObject({
      outcome,
      detail: expect.stringContaining(detail),
      remedy: expect.stringMatching(/^.+$/),
    });
  });

  it('follows include and @include, and stops at the border of a substack', async () => {
    const files = (line: string) => ({
      '/etc/pam.d/sshd': `${line}\n${adopter}\n`,
      '/etc/pam.d/common': 'account required pam_unix.so\naccount sufficient pam_localuser.so\n',
    });
    expect((await found(files('account include common'))).outcome).toBe('warn');
    expect((await found(files('@include common'))).outcome).toBe('warn');
    expect((await found(files('account substack common'))).outcome).toBe('ok');
    expect((await found(files('account include gone'))).detail).toContain('refuses every user');
  });

  it('counts an adoption in the session phase', async () => {
    const result = await found({
      '/etc/pam.d/sshd': 'account sufficient pam_unix.so\nsession required pam_slurm_cgroups.so\n',
    });
    expect(result).toEqual({
      outcome: 'ok',
      detail: 'pam_slurm_cgroups in session (/etc/pam.d/sshd:2): reached for all users',
    });
  });

  it('names the lists whose users pass it', async () => {
    expect(await account('sufficient pam_access.so', 'required pam_slurm_adopt.so')).toEqual({
      outcome: 'ok',
      detail:
        'pam_slurm_adopt in account (/etc/pam.d/sshd:2): reached for all users but those that pam_access in account (/etc/pam.d/sshd:1) lets past it',
    });
  });

  it('ends with many lists', async () => {
    const lists = Array.from({ length: 40 }, () => 'sufficient pam_listfile.so');
    expect((await account(...lists, 'required pam_slurm_adopt.so')).outcome).toBe('ok');
  });
});

describe('adopterCheck(), modules', () => {
  const own = { '/usr/lib64/security/pam_unix.so': '', '/usr/lib64/security/pam_permit.so': '' };
  const module = '/usr/lib64/security/pam_slurm_adopt.so';
  const line = (text: string) => ({ '/etc/pam.d/sshd': `${text}\n` });

  it.each([
    ['required', `-${adopter}`, 'every login is refused'],
    [
      'sufficient',
      'account required pam_unix.so\n-account sufficient pam_slurm_adopt.so',
      'let in without being put into jobs',
    ],
    ['named by a wrong path', 'account required /opt/pam_slurm_adopt.so', '"/opt/pam_slurm_adopt.so" does not exist'],
    ['named like an address', 'account required http://pam_slurm_adopt.so', 'cannot be loaded'],
    ['named with a carriage return', `${adopter}\r`, 'cannot be loaded'],
  ])('fails on one that is missing: %s', async (_, text, detail) => {
    const files = text.includes('\r') || text.includes('http:') ? { [module]: '' } : {};
    expect(await found({ ...own, ...files, ...line(text) })).toMatchObject({
      outcome: 'fail',
      detail: expect.stringContaining(detail),
    });
  });

  it('looks where PAM has its own modules', async () => {
    expect((await found({ ...own, [module]: '', ...line(adopter) })).outcome).toBe('ok');
    expect((await found({ ...own, '/lib/security/pam_slurm_adopt.so': '', ...line(adopter) })).outcome).toBe('fail');
    const debian = { '/usr/lib/x86_64-linux-gnu/security/pam_unix.so': '' };
    expect((await found({ ...debian, '/lib/security/pam_slurm_adopt.so': '', ...line(adopter) })).outcome).toBe('ok');
    expect((await found({ ...own, [module]: '', ...line('account required $ISA/pam_slurm_adopt.so') })).outcome).toBe(
      'ok',
    );
  });

  it('knows of no other missing module where the folder holds only some', async () => {
    const files = { ...own, [module]: '', ...line(`account sufficient pam_sss.so\n${adopter}`) };
    expect((await found(files)).outcome).toBe('warn');
    const whole = Object.fromEntries(Array.from({ length: 10 }, (_, at) => [`/usr/lib64/security/pam_${at}.so`, '']));
    expect((await found({ ...files, ...whole })).outcome).toBe('ok');
  });

  it("fails on one that is not root's", async () => {
    const etc = filesOf({ ...own, [module]: '', ...line(adopter) });
    const locate = async (file: string) => {
      const there = await etc.locate(file);
      return there === undefined ? undefined : { ...there, foreign: [{ path: file, uid: 1000n, mode: 0o100755n }] };
    };
    const stack = await readPamStack(etc, 'sshd');
    expect(adopterCheck(await withModules(stack ?? [], pamModules({ ...etc, locate })))).toEqual({
      outcome: 'fail',
      detail: `pam_slurm_adopt in account (/etc/pam.d/sshd:1) is not trusted: "${module}" is run as root at every login, and it belongs to uid 1000 (mode 0755)`,
      remedy: `give it to root (chown root "${module}")`,
    });
  });

  it('wants the program of pam_exec to be there', async () => {
    const exec = line('account required pam_exec.so quiet /usr/sbin/slurm-cgroups pam');
    expect((await found({ ...own, ...exec })).outcome).toBe('fail');
    expect((await found({ ...own, '/usr/sbin/slurm-cgroups': '', ...exec })).outcome).toBe('ok');
  });
});
