import fs from 'node:fs';
import process from 'node:process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Cgroup, holdCgroup, readPids, wayInto, writePid, writeProcess } from '../../src/cgroup/cgroup.js';
import type { Hierarchy } from '../../src/cgroup/hierarchies.js';
import { cgroupPath, rootPath } from '../../src/cgroup/path.js';
import { holdProcess, withProcess } from '../../src/cgroup/process.js';
import { ParseError, SystemCallError } from '../../src/machine/errors.js';
import type { Directory } from '../../src/machine/host.js';
import { encodeKernelText } from '../../src/machine/kernel-text.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { anyText } from '../support/any-cgroups.js';
import {
  descriptors,
  isIn,
  kernelTest,
  put,
  putThread,
  type TestCgroups,
  threadIds,
  whereabouts,
} from '../support/test-cgroups.js';

const memory: Hierarchy = {
  key: 'memory',
  version: 1,
  mountPoint: '/sys/fs/cgroup/memory',
  root: rootPath,
  controllers: ['memory'],
  readOnly: false,
};
const code = (name: string) => expect.objectContaining({ code: name });

describe('readPids()', () => {
  test.each<[string, string, readonly number[]]>([
    ['nothing', '', []],
    ['one', '1\n', [1]],
    ['v1, unsorted and twice', '4711\n3\n4711\n12\n', [3, 12, 4711]],
    ['a process of another pid namespace', '0\n5\n0\n', [5]],
    ['numbers, not words', '10\n9\n', [9, 10]],
  ])('reads %s', (_, text, pids) => {
    expect(readPids(text)).toEqual(pids);
  });

  test.each<[string, string, number]>([
    ['a text cut off in a number', '4711\n47', 2],
    ['a text without a line break', '4711', 1],
    ['an empty line', '1\n\n2\n', 2],
    ['a negative number', '-1\n', 1],
    ['a word', '1\nx\n', 2],
    ['NUL bytes', '\0\n', 1],
    ['a huge number', '99999999999\n', 1],
    ['blanks', ' 1\n', 1],
  ])('refuses %s and names the line', (_, text, line) => {
    expect(() => readPids(text)).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line } }));
  });

  test('gives each pid once, ascending, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 })), (pids) => {
        const read = readPids(pids.map((pid) => `${pid}\n`).join(''));
        expect(read).toEqual([...new Set(pids)].sort((a, b) => a - b));
      }),
    );
  });

  test('gives pids or a ParseError for any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        try {
          for (const pid of readPids(text)) expect(pid).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
        }
      }),
    );
  });
});

test('Cgroup() is a RangeError where the mount does not show it', () => {
  expect(() => new Cgroup(liveHost(), { ...memory, root: cgroupPath('/docker/1') }, cgroupPath('/slurm'))).toThrow(
    RangeError,
  );
  expect(() => new Cgroup(liveHost(), memory, cgroupPath('/../slurm'))).toThrow(RangeError);
  expect(
    new Cgroup(liveHost(), { ...memory, root: cgroupPath('/docker/1') }, cgroupPath('/docker/1/a')).directory,
  ).toBe('/sys/fs/cgroup/memory/a');
});

/** A recorded node with these files of one cgroup. */
function played(files: Readonly<Record<string, string>>) {
  const directory = `${memory.mountPoint}/a`;
  const entries = Object.fromEntries(Object.keys(files).map((name) => [name, 'file']));
  const lines = [
    { recording: 'slurm-cgroups', version: 1, self: { pid: 4711, uid: 0 } },
    { list: directory, entries },
    ...Object.entries(files).map(([name, text]) => ({ read: `${directory}/${name}`, text })),
  ];
  return recordedHost(lines.map((line) => JSON.stringify(line)).join('\n'));
}

test('Cgroup.procs() reads `tasks` where an old kernel has no cgroup.procs', () => {
  expect(new Cgroup(played({ tasks: '12\n7\n' }), memory, cgroupPath('/a')).procs()).toEqual([7, 12]);
  expect(new Cgroup(played({ tasks: '12\n7\n', 'cgroup.procs': '7\n' }), memory, cgroupPath('/a')).procs()).toEqual([
    7,
  ]);
  expect(() => new Cgroup(played({}), memory, cgroupPath('/a')).procs()).toThrow(code('ERR_CGROUP_GONE'));
});

test('Cgroup.procs() passes on a damaged list', () => {
  expect(() => new Cgroup(played({ 'cgroup.procs': '7\n1' }), memory, cgroupPath('/a')).procs()).toThrow(ParseError);
});

test.each([
  ['..', RangeError],
  ['a/b', RangeError],
  ['', ParseError],
  ['.', ParseError],
  ['a\0b', ParseError],
  ['a\nb', ParseError],
])('Cgroup.create() refuses the name %j', (name, kind) => {
  expect(() => new Cgroup(liveHost(), memory, cgroupPath('/slurm-cgroups-test-none')).create(name)).toThrow(kind);
});

/** A directory in memory: what stands in it by mode, and what its writes answer, the last for ever. */
function directoryWith(
  modes: Readonly<Record<string, number>>,
  answers: readonly (string | undefined)[] = [],
): Directory & { readonly written: string[] } {
  const written: string[] = [];
  const left = [...answers];
  return {
    path: '/sys/fs/cgroup/memory/a',
    written,
    read: () => '',
    names: () => [],
    entries: () => [],
    readlink: () => '',
    stat: (name = '') => {
      const mode = modes[name];
      return mode === undefined
        ? undefined
        : { mode: BigInt(mode), uid: 0n, gid: 0n, dev: 1n, ino: 1n, nlink: 1n, size: 0n, mtimeNs: 0n, ctimeNs: 0n };
    },
    write: (name, text) => {
      written.push(`${name} ${text}`);
      const errno = left.length > 1 ? left.shift() : left[0];
      if (errno !== undefined) throw new SystemCallError('write', `/sys/fs/cgroup/memory/a/${name}`, errno);
    },
    connect: async () => expect.unreachable(),
    open: () => expect.unreachable(),
    rmdir: () => expect.unreachable(),
    close: () => {},
  };
}

test.each<[string, Readonly<Record<string, number>>, string]>([
  ['cgroup.procs', { 'cgroup.procs': 0o100644, tasks: 0o100644 }, 'cgroup.procs'],
  ['tasks where cgroup.procs is read-only', { 'cgroup.procs': 0o100444, tasks: 0o100644 }, 'tasks'],
  ['tasks where cgroup.procs is missing', { tasks: 0o100644 }, 'tasks'],
  ['cgroup.procs that only a group may write', { 'cgroup.procs': 0o100420 }, 'cgroup.procs'],
  ['cgroup.procs on v2', { 'cgroup.procs': 0o100644, 'cgroup.threads': 0o100644 }, 'cgroup.procs'],
  ['cgroup.procs where nothing is left: its write says why', {}, 'cgroup.procs'],
])('wayInto() takes %s', (_, modes, way) => {
  expect(wayInto(directoryWith(modes))).toBe(way);
});

describe('writePid()', () => {
  const host = { ...liveHost(), sleep: async () => {} };

  test.each([
    ['ENOENT', 'ERR_CGROUP_GONE'],
    ['ENODEV', 'ERR_CGROUP_GONE'],
    ['EBUSY', 'ERR_CGROUP_BUSY'],
    ['ENOSPC', 'ERR_CGROUP_REFUSED'],
    ['EINVAL', 'ERR_CGROUP_REFUSED'],
    ['EOPNOTSUPP', 'ERR_NOT_SUPPORTED'],
    ['ESRCH', 'ERR_NO_SUCH_PROCESS'],
    ['EACCES', 'ERR_NOT_PERMITTED'],
    ['EPERM', 'ERR_NOT_PERMITTED'],
    ['EROFS', 'ERR_READ_ONLY'],
    ['EAGAIN', 'ERR_CGROUP_BUSY'],
    ['ENOMEM', 'ERR_IO'],
  ])('translates %s into %s', async (errno, expected) => {
    const attempt = writePid(host, directoryWith({}, [errno]), 'cgroup.procs', 4711);
    await expect(attempt).rejects.toMatchObject({
      code: expected,
      subject: { pid: 4711, path: '/sys/fs/cgroup/memory/a' },
    });
    await expect(attempt).rejects.toThrow(/^Cannot add process 4711 to "\/sys\/fs\/cgroup\/memory\/a": [a-z]/);
  });

  test.each(['EINVAL', 'EAGAIN'])('tries again after %s: the task may just be being created', async (errno) => {
    const target = directoryWith({}, [errno, errno, undefined]);
    await writePid(host, target, 'cgroup.procs', 4711);
    expect(target.written).toEqual(['cgroup.procs 4711', 'cgroup.procs 4711', 'cgroup.procs 4711']);
  });

  test('gives up after ten tries, and asks once about what does not pass', async () => {
    const always = directoryWith({}, ['EINVAL']);
    await expect(writePid(host, always, 'cgroup.procs', 4711)).rejects.toMatchObject({ code: 'ERR_CGROUP_REFUSED' });
    expect(always.written).toHaveLength(10);
    const busy = directoryWith({}, ['EBUSY']);
    await expect(writePid(host, busy, 'cgroup.procs', 4711)).rejects.toMatchObject({ code: 'ERR_CGROUP_BUSY' });
    expect(busy.written).toHaveLength(1);
  });
});

kernelTest('writeProcess() does not write a pid again whose process ended between two tries', [], async (area) => {
  const sleeper = await area.sleeper();
  const host = { ...liveHost(), sleep: () => sleeper.end() };
  const target = directoryWith({ 'cgroup.procs': 0o644 }, ['EINVAL', undefined]);
  await withProcess(host, sleeper.pid, async (held) => {
    await expect(writeProcess(host, target, held)).rejects.toMatchObject({ code: 'ERR_NO_SUCH_PROCESS' });
  });
  expect(target.written).toHaveLength(1);
});

describe.each(['memory', 'cpuset', 'unified'])('Cgroup in %s', (key) => {
  kernelTest('add() moves a whole process, all its threads', [key], async (area) => {
    const target = area.at(key).create('job');
    const process = await area.threaded();
    expect(threadIds(process.pid).length).toBeGreaterThan(1);
    await target.add(process.pid);
    expect(isIn(process.pid, target)).toBe(true);
    expect(target.procs()).toEqual([process.pid]);
    expect(target.threads()).toEqual(threadIds(process.pid));
    await target.add(process.pid);
    expect(target.procs()).toEqual([process.pid]);
  });

  kernelTest('procs() and threads() list this very cgroup only, populated() what is below too', [key], async (area) => {
    const top = area.at(key);
    const child = top.create('child').create('grandchild');
    expect([await top.populated(), await child.populated()]).toEqual([false, false]);
    const sleepers = [await area.sleeper(child), await area.sleeper(child)];
    expect(child.procs()).toEqual(sleepers.map(({ pid }) => pid).sort((a, b) => a - b));
    expect(top.procs()).toEqual([]);
    expect(top.threads()).toEqual([]);
    expect(await top.populated()).toBe(true);
    for (const sleeper of sleepers) await sleeper.end();
    expect(await top.populated()).toBe(false);
  });

  kernelTest('children() and descendants() find every name, parents before children', [key], async (area) => {
    const top = area.at(key);
    expect(top.children()).toEqual([]);
    const names = [
      'with blank',
      'a:b',
      'back\\slash',
      '\u001b[31m',
      'ü🚀',
      '\udcff\udcfe',
      'x (deleted)',
      ' (deleted)',
      'x'.repeat(200),
      '...',
      '__proto__',
      '7',
    ];
    for (const name of names) top.create(name).create(name);
    expect(
      top
        .children()
        .map((child) => child.path)
        .sort(),
    ).toEqual(names.map((name) => `${top.path}/${name}`).sort());
    const paths = (await top.descendants()).map((one) => one.path);
    expect([...paths].sort()).toEqual(
      names.flatMap((name) => [`${top.path}/${name}`, `${top.path}/${name}/${name}`]).sort(),
    );
    for (const name of names)
      expect(paths.indexOf(cgroupPath(`${top.path}/${name}`))).toBeLessThan(
        paths.indexOf(cgroupPath(`${top.path}/${name}/${name}`)),
      );
  });

  kernelTest('add() and procs() work under odd names, and /proc names them the same way', [key], async (area) => {
    const sleeper = await area.sleeper();
    for (const name of [
      'with blank',
      'a:b:c',
      'back\\040slash',
      '\u001b[31m',
      'ü🚀',
      '\udcff\udcfe',
      'x (deleted)',
      ' (deleted)',
      'x'.repeat(255),
    ]) {
      const target = area.at(key).create(name);
      await target.add(sleeper.pid);
      expect(target.procs()).toEqual([sleeper.pid]);
      const place = holdProcess(area.host, sleeper.pid);
      const [own] = place.memberships().filter((one) => (one.controllers.join() || 'unified') === key);
      place.close();
      expect(`${own?.path}${own?.deleted ? ' (deleted)' : ''}`).toBe(target.path);
    }
  });

  kernelTest('create() refuses a name that is there or too long, and a parent that is gone', [key], async (area) => {
    const top = area.at(key);
    const child = top.create('a');
    expect(() => top.create('a')).toThrow(expect.objectContaining({ code: 'ERR_IO', errno: 'EEXIST' }));
    // NAME_MAX does not hold here (kernfs), PATH_MAX does.
    expect(() => top.create('x'.repeat(4096))).toThrow(expect.objectContaining({ errno: 'ENAMETOOLONG' }));
    top.create('x'.repeat(1000));
    child.remove();
    expect(() => child.create('b')).toThrow(code('ERR_CGROUP_GONE'));
  });

  kernelTest('remove() refuses what is not empty, and what is gone is ERR_CGROUP_GONE', [key], async (area) => {
    const child = area.at(key).create('a');
    const grandchild = child.create('b');
    expect(() => child.remove()).toThrow(code('ERR_CGROUP_BUSY'));
    const sleeper = await area.sleeper(grandchild);
    expect(() => grandchild.remove()).toThrow(code('ERR_CGROUP_BUSY'));
    await sleeper.end();
    grandchild.remove();
    child.remove();
    expect(fs.existsSync(child.directory)).toBe(false);
    for (const act of [() => child.remove(), () => child.procs(), () => child.threads(), () => child.children()]) {
      expect(act).toThrow(code('ERR_CGROUP_GONE'));
    }
    for (const act of [() => child.descendants(), () => child.populated()])
      await expect(act()).rejects.toMatchObject({ code: 'ERR_CGROUP_GONE' });
    expect(child.mtimeNs()).toBeUndefined();
    const other = await area.sleeper();
    await expect(child.add(other.pid)).rejects.toMatchObject({ code: 'ERR_CGROUP_GONE' });
  });

  kernelTest("mtimeNs() is the directory's", [key], async (area) => {
    expect(area.at(key).mtimeNs()).toBe(fs.statSync(area.at(key).directory, { bigint: true }).mtimeNs);
  });

  kernelTest('add() refuses what is no process and touches nothing', [key], async (area) => {
    const target = area.at(key);
    const ended = await area.sleeper();
    await ended.end();
    const threaded = await area.threaded();
    const tid = threadIds(threaded.pid).find((one) => one !== threaded.pid) ?? 0;
    const before = descriptors();
    for (const pid of [0, -1, -4711, 2 ** 31, 2 ** 31 - 1, 2 ** 32 + 5, 1.5, Number.NaN, ended.pid, tid]) {
      await expect(target.add(pid)).rejects.toMatchObject({ code: 'ERR_NO_SUCH_PROCESS' });
    }
    expect(descriptors()).toBe(before);
    expect(target.procs()).toEqual([]);
  });

  kernelTest('add() of a kernel thread is refused by the kernel', [key], async (area) => {
    // kthreadd never leaves the root cgroup (kernel/cgroup/cgroup.c, no_cgroup_migration).
    const held = holdProcess(area.host, 2);
    const { kernelThread, comm } = held.stat();
    held.close();
    if (!kernelThread || comm !== 'kthreadd') return; // in a container pid 2 is another process
    await expect(area.at(key).add(2)).rejects.toMatchObject({ code: 'ERR_CGROUP_REFUSED', subject: { pid: 2 } });
    expect(area.at(key).procs()).toEqual([]);
  });

  kernelTest(
    'a held cgroup that was removed and made again accepts no process, nor does the new one',
    [key],
    async (area) => {
      const target = area.at(key).create('job');
      const sleeper = await area.sleeper();
      const held = area.host.open(target.directory);
      try {
        target.remove();
        const again = area.at(key).create('job');
        await withProcess(area.host, sleeper.pid, async (process) => {
          await expect(writeProcess(area.host, held, process)).rejects.toMatchObject({ code: 'ERR_CGROUP_GONE' });
        });
        expect(() => held.read('cgroup.procs')).toThrow(
          expect.objectContaining({ errno: expect.stringMatching(/^(ENOENT|ENODEV)$/) }),
        );
        expect(again.procs()).toEqual([]);
      } finally {
        held.close();
      }
    },
  );

  kernelTest('a process that ended after it was held is ERR_NO_SUCH_PROCESS', [key], async (area) => {
    const sleeper = await area.sleeper();
    const held = area.host.open(area.at(key).directory);
    try {
      await withProcess(area.host, sleeper.pid, async (process) => {
        await sleeper.end();
        await expect(writeProcess(area.host, held, process)).rejects.toMatchObject({ code: 'ERR_NO_SUCH_PROCESS' });
      });
    } finally {
      held.close();
    }
  });
});

kernelTest("Cgroup.create() gives a cpuset its parent's cpus and mems", ['cpuset'], async (area) => {
  const child = area.at('cpuset').create('job');
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    expect(fs.readFileSync(`${child.directory}/${file}`, 'utf8')).toBe(
      fs.readFileSync(`${area.at('cpuset').directory}/${file}`, 'utf8'),
    );
  }
});

kernelTest('Cgroup.add() into a cpuset that was made by hand is refused: it has no cpus', ['cpuset'], async (area) => {
  const bare = area.mkdir(area.at('cpuset'), 'bare');
  const sleeper = await area.sleeper();
  const before = whereabouts(sleeper.pid);
  await expect(bare.add(sleeper.pid)).rejects.toMatchObject({
    code: 'ERR_CGROUP_REFUSED',
    subject: { pid: sleeper.pid, path: bare.directory },
  });
  expect(whereabouts(sleeper.pid)).toEqual(before);
});

kernelTest('Cgroup.create() leaves no cpuset behind that accepts no process', ['cpuset'], async (area) => {
  const top = area.at('cpuset');
  const failing = {
    ...area.host,
    write: (path: string) => {
      throw new SystemCallError('write', path, 'EIO');
    },
  };
  expect(() => new Cgroup(failing, top.hierarchy, top.path).create('job')).toThrow(
    expect.objectContaining({ errno: 'EIO' }),
  );
  expect(top.children()).toEqual([]);
});

kernelTest('Cgroup.add() into a cgroup beside a threaded one of v2 is ERR_NOT_SUPPORTED', ['unified'], async (area) => {
  const [threaded, invalid] = [area.at('unified').create('threaded'), area.at('unified').create('invalid')];
  fs.writeFileSync(`${threaded.directory}/cgroup.type`, 'threaded');
  const sleeper = await area.sleeper();
  await expect(invalid.add(sleeper.pid)).rejects.toMatchObject({ code: 'ERR_NOT_SUPPORTED' });
});

kernelTest('Cgroup.populated() of the root of v2, which has no cgroup.events, is true', ['unified'], async (area) => {
  const root = new Cgroup(area.host, area.at('unified').hierarchy, rootPath);
  expect(fs.existsSync(`${root.directory}/cgroup.events`)).toBe(false);
  expect(await root.populated()).toBe(true);
  expect(root.procs()).toContain(process.pid);
});

/** The same directory on a kernel whose cgroup.procs is missing (`undefined`) or read-only. */
function seenAs(held: Directory, mode: bigint | undefined): Directory {
  return {
    ...held,
    stat: (name = '') => {
      const is = held.stat(name);
      if (name !== 'cgroup.procs' || is === undefined) return is;
      return mode === undefined ? undefined : { ...is, mode };
    },
  };
}

const oldKernels: readonly [string, bigint | undefined][] = [
  ['missing', undefined],
  ['read-only', 0o100444n],
];
for (const [what, mode] of oldKernels) {
  kernelTest(
    `writeProcess() moves thread by thread through tasks where cgroup.procs is ${what}`,
    ['memory'],
    async (area) => {
      const target = area.at('memory').create('job');
      const process = await area.threaded(area.at('memory'));
      const held = area.host.open(target.directory);
      try {
        const target = seenAs(held, mode);
        expect(wayInto(target)).toBe('tasks');
        await withProcess(area.host, process.pid, (one) => writeProcess(area.host, target, one));
      } finally {
        held.close();
      }
      expect(isIn(process.pid, target)).toBe(true);
      expect(target.threads()).toEqual(threadIds(process.pid));
    },
  );
}

kernelTest('writeProcess() looks again for threads that were made meanwhile', ['memory'], async (area) => {
  const target = area.at('memory').create('job');
  const process = await area.threaded(area.at('memory'));
  const directory = area.host.open(target.directory);
  try {
    await withProcess(area.host, process.pid, async (held) => {
      let asked = 0;
      const slowly = { ...held, threads: () => threadIds(held.pid).slice(0, 1 + 2 * asked++) };
      await writeProcess(area.host, directory, slowly, 'tasks');
    });
  } finally {
    directory.close();
  }
  expect(isIn(process.pid, target)).toBe(true);
});

kernelTest('writeProcess() gives up on a process that makes threads without pause', ['memory'], async (area) => {
  const target = area.at('memory').create('job');
  const process = await area.threaded(area.at('memory'));
  const directory = area.host.open(target.directory);
  try {
    await withProcess(area.host, process.pid, async (held) => {
      let next = 4_000_000; // no thread has such an id: as those that ended before they could be moved
      const endless = { ...held, threads: () => [...threadIds(held.pid), next++] };
      const start = area.host.now();
      await expect(writeProcess(area.host, directory, endless, 'tasks')).rejects.toThrow(
        expect.objectContaining({
          code: 'ERR_TIMEOUT',
          message: `Cannot add process ${held.pid} to "${target.directory}": its threads could not all be moved within 2000 ms`,
        }),
      );
      expect(area.host.now() - start).toBeLessThan(30_000);
    });
  } finally {
    directory.close();
  }
});

kernelTest(
  'writeProcess() passes over a thread that ended between being listed and being written',
  ['memory'],
  async (area) => {
    const target = area.at('memory').create('job');
    const process = await area.threaded(area.at('memory'));
    const ended = await area.sleeper();
    await ended.end();
    const directory = area.host.open(target.directory);
    try {
      await withProcess(area.host, process.pid, async (held) => {
        await writeProcess(area.host, directory, { ...held, threads: () => [...held.threads(), ended.pid] }, 'tasks');
      });
    } finally {
      directory.close();
    }
    expect(isIn(process.pid, target)).toBe(true);
  },
);

kernelTest(
  'Cgroup.procs() lists a process in each cgroup that has one of its threads, tasks the threads',
  ['memory'],
  async (area: TestCgroups) => {
    const [a, b] = [area.at('memory').create('a'), area.at('memory').create('b')];
    const process = await area.threaded(a);
    const tid = threadIds(process.pid).find((one) => one !== process.pid) ?? 0;
    putThread(tid, b);
    expect(a.procs()).toEqual([process.pid]);
    expect(b.procs()).toEqual([process.pid]);
    expect(b.threads()).toEqual([tid]);
    put(process.pid, b);
    expect(a.procs()).toEqual([]);
  },
);

for (const key of ['memory', 'unified']) {
  kernelTest(
    `Cgroup.children() asks for a name with bytes that are no text as the kernel has it (${key})`,
    [key],
    async (area) => {
      const top = area.at(key);
      fs.mkdirSync(Buffer.concat([Buffer.from(`${top.directory}/`), Buffer.from([0xff, 0x20, 0xfe])]));
      const [child] = top.children();
      expect(child?.path).toBe(`${top.path}/\udcff \udcfe`);
      expect(fs.statSync(encodeKernelText(child?.directory ?? '')).isDirectory()).toBe(true);
      expect(child?.procs()).toEqual([]);
    },
  );
}

for (const key of ['memory', 'unified']) {
  kernelTest(
    `holdCgroup() of a removed cgroup is ERR_CGROUP_GONE, in a message that steers no terminal (${key})`,
    [key],
    async (area) => {
      const cgroup = area.at(key).create('\u001b[2J');
      cgroup.remove();
      expect(() => holdCgroup(area.host, cgroup)).toThrow(code('ERR_CGROUP_GONE'));
      expect(() => holdCgroup(area.host, cgroup)).toThrow(/^[\x20-\x7e]*$/);
    },
  );
}
