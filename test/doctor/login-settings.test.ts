import { describe, expect, it } from 'vitest';
import { readRemoveIpc, readUsePam } from '../../src/doctor/login-settings.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { filesOf } from '../support/etc-in-memory.js';

const anything = liveHost().stat('/');
const withLogind: Host = { ...liveHost(), stat: () => anything };
const withoutLogind: Host = { ...liveHost(), stat: () => undefined };

describe('readRemoveIpc()', () => {
  it.each<readonly [string, Readonly<Record<string, string>>, boolean]>([
    ['no file', {}, true],
    ['the file as Debian ships it', { '/etc/systemd/logind.conf': '[Login]\n#RemoveIPC=yes\n' }, true],
    ['the file as Red Hat ships it', { '/usr/lib/systemd/logind.conf': '[Login]\n#RemoveIPC=no\n' }, false],
    ['a file that says no', { '/etc/systemd/logind.conf': '[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n' }, false],
    ['another section', { '/etc/systemd/logind.conf': '[Other]\nRemoveIPC=no\n' }, true],
    ['a word it does not know', { '/etc/systemd/logind.conf': '[Login]\nRemoveIPC=perhaps\n' }, true],
    ['a drop-in', { '/etc/systemd/logind.conf.d/slurm.conf': '[Login]\nRemoveIPC=off\n' }, false],
    [
      'the last drop-in by name, wherever it lies',
      {
        '/etc/systemd/logind.conf.d/10.conf': '[Login]\nRemoveIPC=no\n',
        '/usr/lib/systemd/logind.conf.d/20.conf': '[Login]\nRemoveIPC=yes\n',
      },
      true,
    ],
    [
      'a drop-in that hides another of its name',
      {
        '/etc/systemd/logind.conf.d/10.conf': '[Login]\nRemoveIPC=no\n',
        '/usr/lib/systemd/logind.conf.d/10.conf': '[Login]\nRemoveIPC=yes\n',
      },
      false,
    ],
  ])('reads %s', async (_, files, yes) => {
    expect((await readRemoveIpc(withLogind, filesOf(files)))?.yes).toBe(yes);
  });

  it('says nothing without logind', async () => {
    expect(await readRemoveIpc(withoutLogind, filesOf({}))).toBeUndefined();
  });
});

describe('readUsePam()', () => {
  const main = '/etc/ssh/sshd_config';
  it.each<readonly [string, Readonly<Record<string, string>>, boolean | undefined, string | undefined]>([
    ['no sshd', {}, undefined, undefined],
    ["nothing said: sshd's default", { [main]: 'Port 22\n' }, false, undefined],
    ['yes', { [main]: '# UsePAM no\nUsePAM yes\n' }, true, `${main}:2`],
    ['the first of two', { [main]: 'usepam no\nUsePAM yes\n' }, false, `${main}:1`],
    [
      'an included file first',
      { [main]: 'Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\n', '/etc/ssh/sshd_config.d/50.conf': 'UsePAM yes' },
      true,
      '/etc/ssh/sshd_config.d/50.conf:1',
    ],
    ['a relative include', { [main]: 'Include more\n', '/etc/ssh/more': 'UsePAM=yes\n' }, true, '/etc/ssh/more:1'],
    ['nothing behind Match', { [main]: 'Match User a\nUsePAM yes\n' }, false, undefined],
    ['a file that includes itself', { [main]: 'Include sshd_config\nUsePAM yes\n' }, true, `${main}:2`],
  ])('reads %s', async (_, files, yes, where) => {
    const found = await readUsePam(filesOf(files));
    expect(found?.yes).toBe(yes);
    expect(found?.place === undefined ? undefined : `${found.place.file}:${found.place.line}`).toBe(where);
  });
});
