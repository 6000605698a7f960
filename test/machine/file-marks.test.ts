import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { deadlineIn } from '../../src/machine/deadline.js';
import { type FileMark, isSameMark, readFileMarks } from '../../src/machine/file-marks.js';
import type { Host, RunResult } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { hostWithMount, isRoot, needsRoot, nodeWith, put, trustedFolder } from '../support/config-sandbox.js';

const live = liveHost();
const marksOf = (host: Host, ...paths: readonly string[]) => readFileMarks(host, paths, deadlineIn(live, 5000));
const markOf = async (host: Host, file: string) => (await marksOf(host, file)).get(file);

describe('isSameMark()', () => {
  const mark: FileMark = { device: 1n, inode: 2n, size: 3n, mtimeNs: 4n, ctimeNs: 5n };

  test.each(['device', 'inode', 'size', 'mtimeNs', 'ctimeNs'] as const)('is no where %s differs', (field) => {
    expect(isSameMark(mark, { ...mark })).toBe(true);
    expect(isSameMark(mark, { ...mark, [field]: 9n })).toBe(false);
  });

  test('does not ask for a device that is not known', () => {
    const { device: _left, ...rest } = mark;
    expect([isSameMark(mark, rest), isSameMark(rest, mark)]).toEqual([true, true]);
  });
});

describe.skipIf(!isRoot)(`readFileMarks() on the machine (${needsRoot})`, () => {
  test('tells what lstat tells of what links lead to, and what is not there', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'real/slurm.conf', 'a=b\n');
    fs.symlinkSync('real', `${folder}/by-folder`);
    fs.symlinkSync('by-folder/slurm.conf', `${folder}/link`);
    fs.symlinkSync('link', `${folder}/chain`);
    fs.symlinkSync('circle', `${folder}/circle`);
    const { dev, ino, size, mtimeNs, ctimeNs } = fs.lstatSync(file, { bigint: true });
    const names = ['real/slurm.conf', 'by-folder/slurm.conf', 'link', 'chain', 'real/../chain'];
    const missing = ['none', 'none/slurm.conf', 'link/below', 'circle'];
    const marks = await marksOf(live, ...[...names, ...missing].map((name) => `${folder}/${name}`));
    for (const name of names)
      expect(marks.get(`${folder}/${name}`)).toEqual({ device: dev, inode: ino, size, mtimeNs, ctimeNs });
    for (const name of missing)
      expect([marks.has(`${folder}/${name}`), marks.get(`${folder}/${name}`)]).toEqual([true, undefined]);
  });

  test('tells the same by one child where the file system may not answer, but no device', async () => {
    const folder = trustedFolder();
    const [one, other] = [put(folder, 'a file', 'a'), put(folder, 'é', 'b')];
    const paths = [one, other, `${folder}/none`, `${one}/below`, '/etc/passwd'];
    const expected = await marksOf(live, ...paths);
    let children = 0;
    const run: Host['run'] = (...args) => {
      children++;
      return live.run(...args);
    };
    const marks = await marksOf(hostWithMount(folder, 'nfs4', { run }), ...paths);
    expect(children).toBe(1);
    for (const file of [one, other]) {
      const { device: _left, ...rest } = expected.get(file) ?? {};
      expect(marks.get(file)).toEqual(rest);
    }
    expect(marks.get('/etc/passwd')).toEqual(expected.get('/etc/passwd'));
    expect([marks.size, marks.get(`${folder}/none`), marks.get(`${one}/below`)]).toEqual([5, undefined, undefined]);
  });

  test('does not follow a link of a local folder onto such a file system itself', async () => {
    const [local, remote] = [trustedFolder(), trustedFolder()];
    put(remote, 'slurm.conf', 'a');
    fs.symlinkSync(remote, `${local}/etc`);
    const file = `${local}/etc/slurm.conf`;
    const touched = (where: string) => where.startsWith(`${local}/etc/`) || where.startsWith(remote);
    const host = hostWithMount(remote, 'lustre');
    const strict = { ...host, stat: (where: string) => (touched(where) ? expect.fail(where) : live.stat(where)) };
    expect(await markOf(strict, file)).toMatchObject({ inode: fs.statSync(file, { bigint: true }).ino });
  });

  test.each<[string, (file: string) => void]>([
    ['is written', (file) => fs.appendFileSync(file, 'x')],
    [
      'is written with as many bytes, and its time set back',
      (file) => {
        const { atime, mtime } = fs.statSync(file);
        fs.writeFileSync(file, 'A');
        fs.utimesSync(file, atime, mtime);
      },
    ],
    [
      'is replaced by one of the same size and time',
      (file) => {
        const { atime, mtime } = fs.statSync(file);
        fs.writeFileSync(`${file}.next`, 'A');
        fs.utimesSync(`${file}.next`, atime, mtime);
        fs.renameSync(`${file}.next`, file);
      },
    ],
    ['is given to another', (file) => fs.chownSync(file, 64_701, 0)],
    ['may be written by others', (file) => fs.chmodSync(file, 0o666)],
  ])('differs once the file %s', async (_what, change) => {
    const folder = trustedFolder();
    const file = put(folder, 'slurm.conf', 'a');
    // Set once, so that a time that is set back is the same to the nanosecond.
    fs.utimesSync(file, 1_700_000_000, 1_700_000_000);
    const hosts = [live, hostWithMount(folder, 'nfs4')];
    const before = await Promise.all(hosts.map((host) => markOf(host, file)));
    await new Promise((fulfil) => setTimeout(fulfil, 20)); // the kernel's clock of ctime goes in steps
    change(file);
    const after = await Promise.all(hosts.map((host) => markOf(host, file)));
    for (const [at, mark] of before.entries()) {
      const now = after[at];
      expect(mark !== undefined && now !== undefined && isSameMark(mark, now)).toBe(false);
    }
  });

  test('differs once a link on the way leads elsewhere', async () => {
    const folder = trustedFolder();
    put(folder, 'one/slurm.conf', 'a');
    put(folder, 'two/slurm.conf', 'a');
    const turn = (to: string) => {
      fs.rmSync(`${folder}/etc`, { force: true });
      fs.symlinkSync(to, `${folder}/etc`);
    };
    turn('one');
    const before = await markOf(live, `${folder}/etc/slurm.conf`);
    turn('two');
    const after = await markOf(live, `${folder}/etc/slurm.conf`);
    expect(before !== undefined && after !== undefined && isSameMark(before, after)).toBe(false);
  });
});

describe('readFileMarks() by a child', () => {
  const answering = (result: Partial<RunResult>) =>
    hostWithMount('/nfs', 'nfs', {
      run: async () => ({ exitCode: 0, stdout: '', stderr: '', timedOut: false, ...result }),
    });

  test('ends in time where there is no answer', async () => {
    const host = hostWithMount('/nfs', 'nfs', { run: () => new Promise(() => {}) });
    await expect(readFileMarks(host, ['/nfs/a'], deadlineIn(live, 50))).rejects.toThrow(
      'Cannot look at "/nfs/a": its file system does not answer within 50 ms',
    );
  });

  test('takes no other complaint for a file that is not there', async () => {
    const stderr = "stat: cannot statx '/nfs/a': Stale file handle\n";
    await expect(markOf(answering({ exitCode: 1, stderr }), '/nfs/a')).rejects.toThrow('Stale file handle');
    await expect(markOf(answering({}), '/nfs/a')).rejects.toThrow('Cannot look at "/nfs/a": no answer');
    await expect(markOf(answering({ stdout: '1 2 -3.000000000 4.000000000 /nfs/a\n' }), '/nfs/a')).rejects.toThrow(
      'no answer',
    );
  });

  test('reads times to the nanosecond', async () => {
    const stdout = '7 8 1700000000.000000001 1700000000.100000000 /nfs/a b\n';
    expect(await markOf(answering({ stdout }), '/nfs/a b')).toEqual({
      inode: 7n,
      size: 8n,
      mtimeNs: 1_700_000_000_000_000_001n,
      ctimeNs: 1_700_000_000_100_000_000n,
    });
  });

  test('asks for no name that could look like two answers', async () => {
    const name = '/nfs/a\n1 2 3.000000000 4.000000000 /nfs/b';
    await expect(marksOf(answering({}), name, '/nfs/b')).rejects.toThrow('control characters');
  });

  test('takes every path for one of its where the mount table cannot be read', async () => {
    const asked: string[] = [];
    const run: Host['run'] = async (_, args) => {
      asked.push(...args.slice(-1));
      return { exitCode: 0, stdout: '1 2 3.000000000 4.000000000 /etc/passwd\n', stderr: '', timedOut: false };
    };
    const read = (file: string) => live.read(file === '/proc/self/mountinfo' ? '/proc/none' : file);
    expect(await markOf({ ...live, read, run }, '/etc/passwd')).toMatchObject({ inode: 1n });
    expect(asked).toEqual(['/etc/passwd']);
  });
});

test('readFileMarks() reads a recording from memory', async () => {
  const host = nodeWith({ '/etc/slurm': { link: '/opt/etc' }, '/opt/etc/slurm.conf': { text: 'a' } });
  const marks = await marksOf(host, '/etc/slurm/slurm.conf', '/etc/slurm/cgroup.conf', path.join('/', 'none'));
  expect([...marks.values()].map((mark) => mark?.inode)).toEqual([1n, undefined, undefined]);
});
