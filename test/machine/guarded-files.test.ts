import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { deadlineIn } from '../../src/machine/deadline.js';
import { configFiles, formatMode } from '../../src/machine/guarded-files.js';
import { liveHost } from '../../src/machine/live-host.js';
import { isRoot, needsRoot, nodeWith, put, trustedFolder } from '../support/config-sandbox.js';

const files = () => configFiles(liveHost(), deadlineIn(liveHost(), 2000));
const locate = (file: string) => files().locate(file);

describe.skipIf(!isRoot)(`ConfigFiles.locate() on the machine (${needsRoot})`, () => {
  test('finds a file of root', async () => {
    const file = put(trustedFolder(), 'slurm.conf', 'A=b\n');
    expect(await locate(file)).toEqual({ path: file, target: file, size: 4, foreign: [], ownersUnknown: false });
  });

  test('finds nothing where there is nothing', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'slurm.conf', '');
    expect(await locate(path.join(folder, 'none'))).toBeUndefined();
    expect(await locate(path.join(folder, 'none/slurm.conf'))).toBeUndefined();
    expect(await locate(path.join(file, 'below'))).toBeUndefined();
  });

  test('follows links as the configless slurmd makes them', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'spool/conf-cache/slurm.conf', 'A=b\n');
    fs.symlinkSync(path.join(folder, 'spool/conf-cache/'), path.join(folder, 'conf'));
    fs.symlinkSync('../spool/./conf-cache/../conf-cache', path.join(folder, 'spool/again'));
    expect(await locate(path.join(folder, 'conf/slurm.conf'))).toMatchObject({ target: file });
    expect(await locate(path.join(folder, 'spool/again/slurm.conf'))).toMatchObject({ target: file });
  });

  test('finds nothing behind a link that leads nowhere, and no file behind one to a folder', async () => {
    const folder = trustedFolder();
    fs.symlinkSync('nowhere', path.join(folder, 'a'));
    fs.symlinkSync('/', path.join(folder, 'b'));
    expect(await locate(path.join(folder, 'a'))).toBeUndefined();
    await expect(locate(path.join(folder, 'b'))).rejects.toThrow('it is a folder, not a file');
  });

  test('does not run in a circle of links', async () => {
    const folder = trustedFolder();
    fs.symlinkSync('b', path.join(folder, 'a'));
    fs.symlinkSync('a', path.join(folder, 'b'));
    await expect(locate(path.join(folder, 'a'))).rejects.toThrow('go round in a circle');
  });

  test('tells who owns the file, a folder above, a link, and what is around its target', async () => {
    const folder = trustedFolder();
    const mine = put(folder, 'mine/slurm.conf', '', { uid: 1234 });
    fs.symlinkSync(mine, path.join(folder, 'link'));
    fs.lchownSync(path.join(folder, 'link'), 5678, 0);
    fs.chownSync(path.join(folder, 'mine'), 4321, 0);
    const found = await locate(path.join(folder, 'link'));
    expect(found?.foreign.map(({ path: where, uid }) => [path.relative(folder, where), uid])).toEqual([
      ['link', 5678n],
      ['mine', 4321n],
      ['mine/slurm.conf', 1234n],
    ]);
  });

  test.each([
    ['the file for its group', '', 0o664, '0664'],
    ['the file for all', '', 0o646, '0646'],
    ['a folder', 'folder', 0o777, '0777'],
    ['a sticky folder', 'folder', 0o1777, '1777'],
    ['a folder for its group', 'folder', 0o775, '0775'],
  ])('refuses what others can write: %s', async (_, name, mode, shown) => {
    const folder = trustedFolder();
    const file = put(folder, 'folder/slurm.conf', '');
    const changed = name === '' ? file : path.join(folder, name);
    fs.chmodSync(changed, mode);
    const error = { code: 'ERR_CONFIG', subject: { path: file }, message: expect.stringContaining(`mode ${shown}`) };
    await expect(locate(file)).rejects.toMatchObject(error);
    await expect(locate(file)).rejects.toThrow(`(chmod go-w "${changed}")`);
  });

  test('refuses what others can write behind a link', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'open/slurm.conf', '');
    fs.chmodSync(path.dirname(file), 0o777);
    fs.symlinkSync(file, path.join(folder, 'slurm.conf'));
    await expect(locate(path.join(folder, 'slurm.conf'))).rejects.toThrow('Cannot trust');
  });

  test('does not mind an open folder in which there is no file', async () => {
    expect(await locate('/tmp/slurm-cgroups-none/slurm.conf')).toBeUndefined();
  });

  test('refuses a FIFO, a folder, a device and a socket without opening them', async () => {
    const folder = trustedFolder();
    spawnSync('mkfifo', ['-m', '644', path.join(folder, 'fifo')]);
    spawnSync('mknod', ['-m', '644', path.join(folder, 'tty'), 'c', '5', '0']);
    await expect(locate(path.join(folder, 'fifo'))).rejects.toThrow('it is a FIFO, not a file');
    await expect(locate(path.join(folder, 'tty'))).rejects.toThrow('it is a device, not a file');
    await expect(locate(folder)).rejects.toThrow('it is a folder, not a file');
  });

  test('reads no more than it may', async () => {
    const file = put(trustedFolder(), 'slurm.conf', 'A=b\n');
    const found = await locate(file);
    if (found === undefined) throw new Error('not found');
    expect(await files().read(found, 4)).toBe('A=b\n');
    await expect(files().read(found, 3)).rejects.toMatchObject({ code: 'ERR_CONFIG', subject: { path: file } });
  });
});

test.each([['slurm.conf'], [''], ['/a\0b']])('ConfigFiles.locate() refuses the path %j', async (file) => {
  await expect(locate(file)).rejects.toMatchObject({ code: 'ERR_CONFIG' });
});

describe('ConfigFiles.locate() on a recording', () => {
  test('checks what is recorded', async () => {
    const host = nodeWith({ '/etc/slurm/slurm.conf': { text: 'A=b' }, '/etc/slurm': { uid: 64030 } });
    const found = await configFiles(host, deadlineIn(host, 0)).locate('/etc/slurm/slurm.conf');
    expect(found?.foreign).toEqual([{ path: '/etc/slurm', uid: 64030n, mode: 0o040755n }]);
    const open = nodeWith({ '/etc/slurm/slurm.conf': { text: 'A=b' }, '/etc/slurm': { mode: 0o777 } });
    await expect(configFiles(open, deadlineIn(open, 0)).locate('/etc/slurm/slurm.conf')).rejects.toThrow('mode 0777');
  });

  test('knows what is not there', async () => {
    const found = configFiles(nodeWith({ '/etc/passwd': { text: '' } }), deadlineIn(liveHost(), 0)).locate(
      '/etc/slurm/slurm.conf',
    );
    expect(await found).toBeUndefined();
  });
});

test('formatMode() writes what chmod takes', () => {
  expect([0o100644n, 0o041777n, 0n].map(formatMode)).toEqual(['0644', '1777', '0000']);
});
