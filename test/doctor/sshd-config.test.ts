import { describe, expect, it } from 'vitest';
import { readSshdConfig } from '../../src/doctor/sshd-config.js';
import { filesOf } from '../support/etc-in-memory.js';

const main = '/etc/ssh/sshd_config';
const vendor = '/usr/etc/ssh/sshd_config';

describe('readSshdConfig()', () => {
  it.each<readonly [string, Readonly<Record<string, string>>, boolean | undefined, string | undefined]>([
    ['no sshd', {}, undefined, undefined],
    ["nothing said: sshd's default", { [main]: 'Port 22\n' }, undefined, undefined],
    ['yes', { [main]: '# UsePAM no\nUsePAM yes\n' }, true, `${main}:2`],
    ['the first of two', { [main]: 'usepam no\nUsePAM yes\n' }, false, `${main}:1`],
    ['what follows a comment that ends in a backslash', { [main]: '# C:\\ssh\\\nUsePAM yes\n' }, true, `${main}:2`],
    ['quotes around keyword and value', { [main]: '"UsePAM" "yes"\n' }, true, `${main}:1`],
    ['a comment behind the value', { [main]: 'UsePAM\tyes # for slurm\n' }, true, `${main}:1`],
    ['an equals sign with blanks', { [main]: 'UsePAM = no\n' }, false, `${main}:1`],
    [
      'an included file first',
      { [main]: 'Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\n', '/etc/ssh/sshd_config.d/50.conf': 'UsePAM yes' },
      true,
      '/etc/ssh/sshd_config.d/50.conf:1',
    ],
    [
      'several patterns, quoted, in their order',
      {
        [main]: 'Include "/etc/ssh/b d/*.conf" /etc/ssh/a.d/*.conf\n',
        '/etc/ssh/a.d/1.conf': 'UsePAM yes',
        '/etc/ssh/b d/9.conf': 'UsePAM no',
      },
      false,
      '/etc/ssh/b d/9.conf:1',
    ],
    [
      'a pattern in the name of a folder, and a set',
      {
        [main]: 'Include /etc/ssh/*.d/[0-4]?.conf\n',
        '/etc/ssh/x.d/50.conf': 'UsePAM no',
        '/etc/ssh/x.d/10.conf': 'UsePAM yes',
      },
      true,
      '/etc/ssh/x.d/10.conf:1',
    ],
    [
      'no hidden file, and no other suffix',
      {
        [main]: 'Include conf.d/*.conf\nUsePAM yes\n',
        '/etc/ssh/conf.d/.a.conf': 'UsePAM no',
        '/etc/ssh/conf.d/a.conf~': 'UsePAM no',
      },
      true,
      `${main}:2`,
    ],
    ['a relative include', { [main]: 'Include more\n', '/etc/ssh/more': 'UsePAM=yes\n' }, true, '/etc/ssh/more:1'],
    ['nothing behind Match', { [main]: 'Match User a\nUsePAM yes\n' }, undefined, undefined],
    [
      'what follows an include whose Match ends with it',
      { [main]: 'Include more\nUsePAM yes\n', '/etc/ssh/more': 'Match User a\nUsePAM no\n' },
      true,
      `${main}:2`,
    ],
    [
      "SUSE's file, with what it includes from /etc",
      {
        [vendor]: 'Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n',
        '/etc/ssh/sshd_config.d/10-site.conf': 'UsePAM no\n',
      },
      false,
      '/etc/ssh/sshd_config.d/10-site.conf:1',
    ],
    ["not SUSE's file where there is another", { [vendor]: 'UsePAM no\n', [main]: 'UsePAM yes\n' }, true, `${main}:1`],
  ])('reads %s', async (_, files, yes, where) => {
    const found = (await readSshdConfig(filesOf(files)))?.usePam;
    expect(found?.yes).toBe(yes);
    expect(found?.place === undefined ? undefined : `${found.place.file}:${found.place.line}`).toBe(where);
  });

  it('reads the file that is named, and the name of the service', async () => {
    const files = filesOf({ [main]: 'UsePAM no\n', '/etc/ssh/users': 'UsePAM yes\nPAMServiceName ssh-users\n' });
    expect(await readSshdConfig(files, '/etc/ssh/users')).toEqual({
      usePam: { yes: true, place: { file: '/etc/ssh/users', line: 1 } },
      pamServiceName: 'ssh-users',
    });
  });

  it.each([
    ['a file that includes itself', 'Include sshd_config\nUsePAM yes\n', 'more than 16 deep'],
    ['another word', 'UsePAM true\n', '"true" is neither yes nor no'],
    ['an open quote', 'UsePAM "yes\n', 'a quote is not closed'],
  ])('complains of %s, with which sshd would not start', async (_, text, why) => {
    await expect(readSshdConfig(filesOf({ [main]: text }))).rejects.toThrow(why);
  });
});
