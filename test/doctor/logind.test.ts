import { describe, expect, it } from 'vitest';
import { logindState, readRemoveIpc } from '../../src/doctor/logind.js';
import { nodeWith } from '../support/config-sandbox.js';
import { filesOf } from '../support/etc-in-memory.js';

const etc = '/etc/systemd/logind.conf';

describe('readRemoveIpc()', () => {
  it.each<readonly [string, Readonly<Record<string, string>>, boolean]>([
    ['no file', {}, true],
    ['the file as Debian ships it', { [etc]: '[Login]\n#RemoveIPC=yes\n' }, true],
    ['the file as Red Hat ships it', { '/usr/lib/systemd/logind.conf': '[Login]\n#RemoveIPC=no\n' }, false],
    ['a file that says no', { [etc]: '[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n' }, false],
    ['blanks around the equals sign', { [etc]: '[Login]\n  RemoveIPC = no  \n' }, false],
    ['another section', { [etc]: '[Other]\nRemoveIPC=no\n' }, true],
    ['a word it does not know', { [etc]: '[Login]\nRemoveIPC=perhaps\n' }, true],
    ['a comment behind the value, which is none', { [etc]: '[Login]\nRemoveIPC=no # for slurm\n' }, true],
    ['quotes, which are part of the value', { [etc]: '[Login]\nRemoveIPC="no"\n' }, true],
    ['another case of the key', { [etc]: '[Login]\nremoveipc=no\n' }, true],
    ['a comment with ;', { [etc]: '[Login]\n;RemoveIPC=no\n' }, true],
    ['what follows a comment that ends in a backslash', { [etc]: '[Login]\n# see C:\\\nRemoveIPC=no\n' }, false],
    ['a continued line', { [etc]: '[Login]\nRemoveIPC=\\\n# between\nno\n' }, false],
    ['a drop-in', { '/etc/systemd/logind.conf.d/slurm.conf': '[Login]\nRemoveIPC=off\n' }, false],
    [
      'a drop-in of another suffix',
      { '/etc/systemd/logind.conf.d/slurm.conf.rpmsave': '[Login]\nRemoveIPC=off\n' },
      true,
    ],
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
    expect((await readRemoveIpc(filesOf(files))).yes).toBe(yes);
  });

  it('names file and line', async () => {
    expect(await readRemoveIpc(filesOf({ [etc]: '[Login]\n\nRemoveIPC=no\n' }))).toEqual({
      yes: false,
      place: { file: etc, line: 3 },
    });
  });
});

describe('logindState()', () => {
  const program = { '/usr/lib/systemd/systemd-logind': { text: 'ELF', mode: 0o755 } };
  const unit = 'systemd/system/systemd-logind.service';
  const shipped = { [`/usr/lib/${unit}`]: { text: '[Unit]\n' } };
  const first = (comm: string) => ({ '/proc/1/comm': { text: `${comm}\n` } });
  it.each([
    ['no program', {}, 'missing'],
    ['the program, of a node of which no more is known', { ...program, ...shipped }, 'runs'],
    ['a masked unit', { ...program, ...shipped, [`/etc/${unit}`]: { link: '/dev/null' } }, 'masked'],
    ['one masked until the boot', { ...program, ...shipped, [`/run/${unit}`]: { link: '/dev/null' } }, 'masked'],
    ['an empty unit, which masks too', { ...program, ...shipped, [`/etc/${unit}`]: { text: '' } }, 'masked'],
    ['a link elsewhere', { ...program, [`/etc/${unit}`]: { link: `/usr/lib/${unit}` } }, 'runs'],
    ['systemd as the first process', { ...program, ...first('systemd') }, 'runs'],
    ['another first process', { ...program, ...first('slurmd') }, 'stopped'],
    [
      'all processes, and none is it',
      { ...program, '/proc/stat': { text: 'btime 1\n' }, ...first('systemd') },
      'stopped',
    ],
  ])('%s', (_, files, state) => {
    expect(logindState(nodeWith({ '/proc': {}, ...files }))).toBe(state);
  });

  it('runs where root runs it, masked or not', () => {
    const process = {
      '/proc/300/stat': { text: `300 (systemd-logind) S 1 ${'0 '.repeat(48)}\n` },
      '/proc/300/status': {
        text: 'Name:\tsystemd-logind\nTgid:\t300\nPid:\t300\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n',
      },
      '/proc/300/exe': { link: '/usr/lib/systemd/systemd-logind' },
    };
    const masked = { [`/etc/${unit}`]: { link: '/dev/null' } };
    expect(logindState(nodeWith({ ...program, ...process, ...masked }))).toBe('runs');
  });
});
