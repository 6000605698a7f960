import { describe, expect, it } from 'vitest';
import { readSshds, saidBySshd, sshdRecordingLine, sshdStart } from '../../src/doctor/running-sshd.js';
import { recordedHost } from '../../src/machine/recording.js';
import { filesOf } from '../support/etc-in-memory.js';

describe('sshdStart()', () => {
  it.each([
    ['a plain one', '/usr/sbin/sshd\0-D\0', { options: [] }],
    ['its own file', '/usr/sbin/sshd\0-D\0-f\0/etc/ssh/users\0', { file: '/etc/ssh/users', options: [] }],
    ['attached, among others', '/usr/sbin/sshd\0-Def/etc/x\0-p22\0', { file: '/etc/x', options: [] }],
    ['an option', '/usr/sbin/sshd\0-o\0UsePAM=no\0', { options: ['UsePAM=no'] }],
    [
      'a title of 8.2 on',
      'sshd: /usr/sbin/sshd -D -f /etc/ssh/users [listener] 0 of 10-100 startups\0\0',
      { file: '/etc/ssh/users', options: [] },
    ],
    ['the sshd of a session', 'sshd: alice [priv]\0', undefined],
    ['one behind inetd', '/usr/sbin/sshd\0-i\0', undefined],
  ])('reads %s', (_, commandLine, start) => {
    expect(sshdStart(commandLine)).toEqual(start);
  });
});

describe('saidBySshd()', () => {
  it('reads what sshd -T prints', () => {
    expect(saidBySshd('port 22\nusepam yes\npamservicename sshd\n')).toEqual({
      usePam: { yes: true },
      pamServiceName: 'sshd',
    });
    expect(saidBySshd('port 22\n')).toBeUndefined();
  });
});

describe('readSshds()', () => {
  const header = '{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n';
  const sshds = [
    { usePam: { yes: false, place: { file: '/etc/ssh/users', line: 3 } }, named: 'sshd 5 -f /etc/ssh/users' },
  ];

  it('goes by what the recorder was told', async () => {
    const host = recordedHost(`${header}${sshdRecordingLine(sshds)}\n`);
    expect(await readSshds(host, filesOf({ '/etc/ssh/sshd_config': 'UsePAM yes\n' }))).toEqual(sshds);
  });

  it.each(['no JSON', '{}', '[1]', '[{"usePam":{"yes":"no"}}]'])('takes %j for no answer', async (text) => {
    const host = recordedHost(`${header}${JSON.stringify({ read: 'sshd', text })}\n`);
    expect(await readSshds(host, filesOf({}))).toEqual([]);
  });
});
