import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { SystemCallError } from '../../src/machine/errors.js';
import { decodeKernelText, encodeKernelText } from '../../src/machine/kernel-text.js';
import { liveHost } from '../../src/machine/live-host.js';
import { anyText } from '../support/any-cgroups.js';
import { descriptors, rootTest } from '../support/test-cgroups.js';

const host = liveHost();

const bytesOf = (text: string) => Buffer.from(encodeKernelText(text));

describe('decodeKernelText()', () => {
  test.each<[string, readonly number[], string]>([
    ['ASCII', [0x61, 0x0a, 0x00], 'a\n\0'],
    ['UTF-8', [0xc3, 0xbc, 0xf0, 0x9f, 0x9a, 0x80], 'ü🚀'],
    ['a replacement character that was written', [0xef, 0xbf, 0xbd], '\ufffd'],
    ['Latin-1', [0x5a, 0xfc, 0x72], 'Z\udcfcr'],
    ['a sequence that is cut off', [0x61, 0xf0, 0x9f, 0x9a], 'a\udcf0\udc9f\udc9a'],
    ['an overlong slash', [0xc0, 0xaf], '\udcc0\udcaf'],
    ['an overlong of three bytes', [0xe0, 0x80, 0xaf], '\udce0\udc80\udcaf'],
    ['a surrogate in UTF-8', [0xed, 0xb2, 0x80], '\udced\udcb2\udc80'],
    ['beyond Unicode', [0xf4, 0x90, 0x80, 0x80], '\udcf4\udc90\udc80\udc80'],
    ['a stray tail behind an astral character', [0xf0, 0x9f, 0x9a, 0x80, 0x80], '🚀\udc80'],
    ['a byte order mark', [0xef, 0xbb, 0xbf, 0x61], '\ufeffa'],
  ])('keeps %s', (_, bytes, text) => {
    expect(decodeKernelText(Uint8Array.from(bytes))).toBe(text);
    expect([...bytesOf(text)]).toEqual(bytes);
  });

  test('and encodeKernelText() give any bytes back', () => {
    const anyBytes = fc.array(
      fc.oneof(fc.constantFrom(0xc3, 0xbc, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0x80, 0x9f, 0xbf, 0x2f), fc.nat({ max: 255 })),
    );
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect([...bytesOf(decodeKernelText(Uint8Array.from(bytes)))]).toEqual(bytes);
      }),
      { numRuns: 500 },
    );
  });

  test('reads a part of a larger buffer', () => {
    expect(decodeKernelText(Buffer.from('abcdef').subarray(2, 4))).toBe('cd');
    expect(decodeKernelText(Uint8Array.from([0x61, 0xff, 0x62]).subarray(1, 2))).toBe('\udcff');
  });
});

test('encodeKernelText() never throws and leaves well-formed text a string', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const encoded = encodeKernelText(text);
      if (typeof encoded === 'string') expect(encoded).toBe(text);
    }),
  );
  expect(encodeKernelText('/sys/fs/cgroup/ü🚀')).toBe('/sys/fs/cgroup/ü🚀');
});

describe('liveHost()', () => {
  let folder = '';
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-test-'));
  });
  afterEach(() => {
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const oddNames = [
    'plain',
    'with blank',
    'a:b',
    'back\\slash',
    '\u001b[31m',
    'line\nbreak',
    'ü🚀',
    '\udcff\udcfe',
    'a\udc80',
    '\ufffd',
    'x'.repeat(255),
  ];

  test('makes, lists, looks at, writes and removes under every name a kernel allows', () => {
    for (const name of oddNames) {
      host.mkdir(`${folder}/${name}`);
      fs.writeFileSync(Buffer.concat([bytesOf(`${folder}/${name}`), Buffer.from('/file')]), 'old');
      host.write(`${folder}/${name}/file`, 'new');
      expect(host.read(`${folder}/${name}/file`)).toBe('new');
      expect(host.stat(`${folder}/${name}`)?.ino).toBe(fs.statSync(bytesOf(`${folder}/${name}`), { bigint: true }).ino);
      const held = host.open(`${folder}/${name}`);
      expect(held.read('file')).toBe('new');
      held.close();
    }
    expect([...host.names(folder)].sort()).toEqual([...oddNames].sort());
    expect(
      host
        .entries(folder)
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...oddNames].sort());
    for (const name of oddNames) {
      fs.unlinkSync(Buffer.concat([bytesOf(`${folder}/${name}`), Buffer.from('/file')]));
      host.rmdir(`${folder}/${name}`);
    }
    expect(host.names(folder)).toEqual([]);
  });

  test('reads any bytes of a file', () => {
    fs.writeFileSync(`${folder}/f`, Buffer.from([0x61, 0xff, 0xc3, 0xbc, 0x0a]));
    expect(host.read(`${folder}/f`)).toBe('a\udcffü\n');
  });

  test('entries() tells what each entry is', () => {
    fs.mkdirSync(`${folder}/d`);
    fs.writeFileSync(`${folder}/f`, '');
    fs.symlinkSync('d', `${folder}/l`);
    expect(Object.fromEntries(host.entries(folder).map(({ name, kind }) => [name, kind]))).toEqual({
      d: 'directory',
      f: 'file',
      l: 'symlink',
    });
    expect(host.entries('/dev').find(({ name }) => name === 'null')?.kind).toBe('other');
  });

  test('stat() looks at a link itself, and nothing is undefined', () => {
    fs.symlinkSync('nowhere', `${folder}/l`);
    expect((host.stat(`${folder}/l`)?.mode ?? 0n) & 0o170000n).toBe(0o120000n);
    expect(host.readlink(`${folder}/l`)).toBe('nowhere');
    expect(host.stat(`${folder}/none`)).toBeUndefined();
    expect(host.stat(`${folder}/none/deeper`)).toBeUndefined();
  });

  test.each<[string, (where: string) => unknown, string]>([
    ['read', (where) => host.read(`${where}/none`), 'ENOENT'],
    ['names', (where) => host.names(`${where}/none`), 'ENOENT'],
    ['entries', (where) => host.entries(`${where}/file`), 'ENOTDIR'],
    ['readlink', (where) => host.readlink(`${where}/file`), 'EINVAL'],
    ['open of nothing', (where) => host.open(`${where}/none`), 'ENOENT'],
    ['open of a file', (where) => host.open(`${where}/file`), 'ENOTDIR'],
    ['open of a link', (where) => host.open(`${where}/link`), 'ENOTDIR'],
    ['mkdir', (where) => host.mkdir(`${where}/file`), 'EEXIST'],
    ['rmdir of a full one', (where) => host.rmdir(where), 'ENOTEMPTY'],
    ['write to nothing', (where) => host.write(`${where}/none`, 'x'), 'ENOENT'],
    ['write through a link', (where) => host.write(`${where}/link`, 'x'), 'ELOOP'],
    ['write to a directory', (where) => host.write(where, 'x'), 'EISDIR'],
    ['a name that is too long', (where) => host.mkdir(`${where}/${'x'.repeat(256)}`), 'ENAMETOOLONG'],
  ])('translates the errno: %s', (_, act, errno) => {
    fs.writeFileSync(`${folder}/file`, '');
    fs.symlinkSync('file', `${folder}/link`);
    const before = descriptors();
    expect(() => act(folder)).toThrow(SystemCallError);
    expect(() => act(folder)).toThrow(expect.objectContaining({ errno }));
    expect(descriptors()).toBe(before);
    expect(fs.readFileSync(`${folder}/file`, 'utf8')).toBe('');
  });

  test.each(['d'.repeat(200), 'ü'.repeat(100), 'x\udcff'.repeat(60), 'd'])(
    'reaches what lies deeper than a path may be long, under names like %j',
    (name) => {
      const before = descriptors();
      const length = Buffer.byteLength(bytesOf(`/${name}`));
      const levels = Math.ceil((length < 9 ? 4500 : 9000) / length);
      const way = (level: number) => `${folder}${`/${name}`.repeat(level)}`;
      for (let level = 1; level <= levels; level++) host.mkdir(way(level));
      const deep = way(levels);
      try {
        host.create(`${deep}/file`, 'old');
        host.write(`${deep}/file`, 'new');
        expect(host.read(`${deep}/file`)).toBe('new');
        expect(host.names(deep)).toEqual(['file']);
        expect(host.entries(way(levels - 1))).toEqual([{ name, kind: 'directory' }]);
        expect(host.stat(`${deep}/file`)?.size).toBe(3n);
        expect(host.stat(`${deep}/none`)).toBeUndefined();
        const held = host.open(deep);
        expect([held.path === deep, held.read('file'), held.stat()?.ino]).toEqual([true, 'new', host.stat(deep)?.ino]);
        held.close();
        const top = host.open(folder);
        expect(top.read(`${deep.slice(folder.length + 1)}/file`)).toBe('new');
        top.close();
        for (const act of [
          () => host.read(`${deep}/none`),
          () => host.names(`${deep}/none`),
          () => host.open(`${deep}/none`),
          () => host.readlink(`${deep}/none`),
          () => host.rmdir(`${deep}/none`),
          () => host.read(`${folder}/none${deep.slice(folder.length)}`),
        ])
          expect(act).toThrow(expect.objectContaining({ errno: 'ENOENT', code: 'ERR_NOT_FOUND' }));
        expect(() => host.rmdir(deep)).toThrow(
          expect.objectContaining({ errno: 'ENOTEMPTY', subject: { path: deep } }),
        );
        // A name that no directory takes is still one, wherever it stands.
        for (const at of [
          `${deep}/${'y'.repeat(256)}`,
          `${deep}/${'y'.repeat(5000)}`,
          `${'/z'.repeat(4000)}${'y'.repeat(300)}`,
        ])
          expect(() => host.mkdir(at)).toThrow(SystemCallError);
        expect(() => host.mkdir(`${deep}/${'y'.repeat(5000)}`)).toThrow(
          expect.objectContaining({ errno: 'ENAMETOOLONG' }),
        );
        host.unlink(`${deep}/file`);
      } finally {
        for (let level = levels; level > 0; level--) host.rmdir(way(level));
      }
      expect(descriptors()).toBe(before);
    },
    180_000, // a thousand levels, each by its path from the root
  );

  test('append() makes a file of its user alone, and writes at its end, at once, whatever else writes to it', () => {
    const file = path.join(folder, 'log');
    host.append(file, 'a\n');
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    fs.appendFileSync(file, 'b\n');
    host.append(file, 'ü\n');
    expect(fs.readFileSync(file, 'utf8')).toBe('a\nb\nü\n');
  });

  test('append() writes to no link, FIFO, folder or device, and never waits', () => {
    const errnoOf = (name: string) => {
      try {
        host.append(name, 'x');
      } catch (error) {
        return error instanceof SystemCallError ? error.errno : error;
      }
      return undefined;
    };
    const target = path.join(folder, 'target');
    fs.symlinkSync(target, path.join(folder, 'link'));
    execFileSync('mkfifo', [path.join(folder, 'fifo')]);
    expect(['link', 'fifo', '', 'none/file'].map((name) => errnoOf(path.join(folder, name)))).toEqual([
      'ELOOP',
      'ENXIO',
      'EISDIR',
      'ENOENT',
    ]);
    expect(errnoOf('/dev/null')).toBe('EINVAL');
    const reader = fs.openSync(path.join(folder, 'fifo'), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    try {
      expect(errnoOf(path.join(folder, 'fifo'))).toBe('EINVAL');
    } finally {
      fs.closeSync(reader);
    }
    expect(fs.existsSync(target)).toBe(false);
  });

  test('append() says that there was no room for all of it', () => {
    const written = vi.spyOn(fs, 'writeSync').mockReturnValueOnce(1);
    try {
      expect(() => host.append(path.join(folder, 'log'), 'two')).toThrow(expect.objectContaining({ errno: 'ENOSPC' }));
    } finally {
      written.mockRestore();
    }
  });

  test('follows no link between the pieces of a long path', () => {
    const name = 'd'.repeat(255);
    // The link is the last name of the first piece: 15 of 256 bytes, and it.
    const way = (level: number) => `${folder}${`/${name}`.repeat(level)}`;
    for (let level = 1; level <= 15; level++) host.mkdir(way(level));
    for (let fill = 100; fill < 190; fill++) {
      const link = `${way(15)}/${'l'.repeat(fill)}`;
      const long = `${link}/${name}/${name}`;
      fs.symlinkSync(folder, link); // where the rest of the path exists
      expect(() => host.names(long)).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOUND' }));
      host.unlink(link);
    }
  });

  test("takes NUL in a name as a caller's mistake", () => {
    for (const act of [
      () => host.read('/a\0b'),
      () => host.read('/\udcff\0'),
      () => host.mkdir('/a\0b'),
      () => host.open('/a\0b'),
    ])
      expect(act).toThrow(TypeError);
  });

  test('open() holds a directory that is renamed, and not the one that took its name', () => {
    host.mkdir(`${folder}/a`);
    fs.writeFileSync(`${folder}/a/f`, 'first');
    const held = host.open(`${folder}/a`);
    try {
      fs.renameSync(`${folder}/a`, `${folder}/b`);
      host.mkdir(`${folder}/a`);
      fs.writeFileSync(`${folder}/a/f`, 'second');
      expect(held.read('f')).toBe('first');
      held.write('f', 'third');
      expect(fs.readFileSync(`${folder}/b/f`, 'utf8')).toBe('third');
      expect(held.names()).toEqual(['f']);
      expect(held.stat('f')?.size).toBe(5n);
      expect(held.stat('none')).toBeUndefined();
      expect(held.stat()?.ino).toBe(host.stat(`${folder}/b`)?.ino);
    } finally {
      held.close();
    }
  });

  test('open() names in its errors the path a person knows, not the descriptor', () => {
    const held = host.open(folder);
    for (const act of [
      () => held.read('none'),
      () => held.names('none'),
      () => held.readlink('none'),
      () => held.write('none', 'x'),
    ]) {
      expect(act).toThrow(
        expect.objectContaining({ errno: 'ENOENT', code: 'ERR_NOT_FOUND', subject: { path: `${folder}/none` } }),
      );
    }
    held.close();
  });

  test('open() refuses to be used once it is closed, and is closed only once', () => {
    const before = descriptors();
    const held = host.open(folder);
    held.close();
    const other = host.open('/'); // has the same number now
    held.close();
    for (const act of [
      () => held.read('f'),
      () => held.names(),
      () => held.stat(),
      () => held.write('f', ''),
      () => held.readlink('f'),
    ])
      expect(act).toThrow(TypeError);
    expect(other.names()).toContain('proc');
    other.close();
    expect(descriptors()).toBe(before);
  });

  test.each([0, 1, -1, -4711, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])(
    'signal() refuses the pid %s',
    (pid) => {
      expect(() => host.signal(pid, 'SIGCONT')).toThrow(RangeError);
    },
  );

  test('signal() refuses a pid no kernel can have, and one that is not there is ERR_NO_SUCH_PROCESS', () => {
    expect(() => host.signal(2 ** 31, 'SIGCONT')).toThrow();
    expect(() => host.signal(2 ** 22 + 1, 'SIGCONT')).toThrow(
      expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS', subject: expect.objectContaining({ pid: 2 ** 22 + 1 }) }),
    );
  });

  test('run() passes its words as they are, without a shell', async () => {
    const words = ['$HOME', '`id`', '; exit 7', '*', 'a b', '', '"'];
    const { exitCode, stdout, timedOut } = await host.run('/usr/bin/printf', ['[%s]', ...words], { timeoutMs: 10_000 });
    expect({ exitCode, stdout, timedOut }).toEqual({
      exitCode: 0,
      stdout: words.map((word) => `[${word}]`).join(''),
      timedOut: false,
    });
  });

  test('run() hands over no environment but LC_ALL, and no input', async () => {
    expect((await host.run('/usr/bin/env', [], { timeoutMs: 10_000 })).stdout).toBe('LC_ALL=C\n');
    expect((await host.run('/bin/cat', [], { timeoutMs: 10_000 })).stdout).toBe('');
    expect((await host.run('/bin/pwd', [], { timeoutMs: 10_000 })).stdout).toBe('/\n');
  });

  test('run() looks nothing up in PATH', async () => {
    await expect(host.run('true', [], { timeoutMs: 10_000 })).rejects.toThrow(TypeError);
    await expect(host.start('true', [], { uid: 0, gid: 0 })).rejects.toThrow(TypeError);
  });

  test('run() gives exit code, both outputs and bytes that are not UTF-8', async () => {
    const script = "printf 'a\\377'; printf 'b\\374' >&2; exit 3";
    expect(await host.run('/bin/sh', ['-c', script], { timeoutMs: 10_000 })).toEqual({
      exitCode: 3,
      stdout: 'a\udcff',
      stderr: 'b\udcfc',
      timedOut: false,
    });
  });

  test('run() has no exit code for a program that a signal ended or that says too much', async () => {
    expect(await host.run('/bin/sh', ['-c', 'kill -TERM $$'], { timeoutMs: 10_000 })).toMatchObject({
      exitCode: undefined,
      timedOut: false,
    });
    const loud = await host.run('/bin/sh', ['-c', 'while :; do echo xxxxxxxxxxxxxxxx; done'], {
      timeoutMs: 10_000,
      maxBytes: 1000,
    });
    expect(loud).toMatchObject({ exitCode: undefined, timedOut: false });
  });

  test('run() ends a program that ignores signals at its deadline', async () => {
    const script = `trap '' TERM INT HUP; echo $$ > ${folder}/pid; exec /bin/sleep 60`;
    const result = await host.run('/bin/sh', ['-c', script], { timeoutMs: 500 });
    expect(result).toEqual({ exitCode: undefined, stdout: '', stderr: '', timedOut: true });
    const pid = fs.readFileSync(`${folder}/pid`, 'utf8').trim();
    while (fs.existsSync(`/proc/${pid}`)) await pause(10); // reaped by this process
  });

  test.each<[string, () => string, string]>([
    ['nothing', () => `${folder}/none`, 'ENOENT'],
    ['a folder', () => folder, 'EACCES'],
    ['something below a file', () => '/etc/passwd/x', 'ENOTDIR'],
  ])('run() and start() of %s are refusals of the kernel', async (_, file, errno) => {
    await expect(host.run(file(), [], { timeoutMs: 10_000 })).rejects.toMatchObject({ name: 'SystemCallError', errno });
    await expect(
      host.start(file(), [], { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }),
    ).rejects.toMatchObject({ name: 'SystemCallError', errno });
  });

  test('run() of words that are too many is a refusal of the kernel', async () => {
    await expect(host.run('/bin/true', ['x'.repeat(1 << 20)], { timeoutMs: 10_000 })).rejects.toMatchObject({
      name: 'SystemCallError',
      errno: 'E2BIG',
    });
  });

  rootTest("start() runs as the other user, with none of root's groups", async () => {
    const started = await host.start('/bin/sleep', ['60'], { uid: 64_123, gid: 64_124 });
    try {
      const status = host.read(`/proc/${started.pid}/status`);
      expect(status).toMatch(/^Uid:\t64123\t64123\t64123\t64123$/m);
      expect(status).toMatch(/^Gid:\t64124\t64124\t64124\t64124$/m);
      expect(status).toMatch(/^Groups:\t *$/m);
      expect(host.readlink(`/proc/${started.pid}/cwd`)).toBe('/');
      for (const fd of [0, 1, 2]) expect(host.readlink(`/proc/${started.pid}/fd/${fd}`)).toBe('/dev/null');
    } finally {
      host.signal(started.pid, 'SIGKILL');
      await started.exited;
    }
    expect(host.stat(`/proc/${started.pid}`)).toBeUndefined();
  });

  rootTest('start() with a pipe: the process hears what it is told, and reads the end of it', async () => {
    const options = { uid: 64_123, gid: 64_123, input: 'pipe' } as const;
    const script = 'read -r word; exec sleep "$word"';
    const started = await host.start('/bin/sh', ['-c', script], options);
    started.tell('60\n');
    try {
      while (host.read(`/proc/${started.pid}/comm`) !== 'sleep\n') await pause(5);
    } finally {
      host.signal(started.pid, 'SIGKILL');
      await started.exited;
    }
    started.tell('60\n'); // nothing happens
    started.endInput();
    const waiting = await host.start('/bin/cat', [], options);
    waiting.endInput();
    await waiting.exited;
    const without = await host.start('/bin/cat', [], { uid: 64_123, gid: 64_123 });
    without.tell('x');
    without.endInput();
    await without.exited;
  });

  test('sleep() ends at once when it is aborted, before or meanwhile', async () => {
    const controller = new AbortController();
    const waiting = host.sleep(60_000, controller.signal);
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await expect(host.sleep(60_000, controller.signal)).rejects.toThrow('enough');
    await host.sleep(0);
  });

  test('now() never steps back and self() is this process', () => {
    const first = host.now();
    expect(host.now()).toBeGreaterThanOrEqual(first);
    expect(host.self()).toEqual({ pid: process.pid, uid: process.geteuid?.() });
  });
});
