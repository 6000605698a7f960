import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allChildren,
  childrenOf,
  descriptorRoom,
  holdProcess,
  listPids,
  parseProcStat,
  parseProcStatus,
  withProcess,
} from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { ParseError, SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { Pace } from '../../src/machine/pace.js';
import { anyText } from '../support/any-cgroups.js';
import { descriptors, threadIds } from '../support/test-cgroups.js';

const host = liveHost();
const gone = expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' });

/** Fields 3 to 52 of a sleeping process, as Linux 6 writes them. */
const rest = (state: string, ppid: number, flags: number, startTime: bigint) =>
  `${state} ${ppid} 4711 4711 0 -1 ${flags} 100 0 0 0 1 2 0 0 20 0 1 0 ${startTime} 2846720 212 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n`;

describe('parseProcStat()', () => {
  test.each<[string, string]>([
    ['a plain name', 'sleep'],
    ['blanks and parentheses', 'a) S 1 (b)'],
    ['what looks like the rest of the line', 'x) R 1 1 1 1'],
    ['a line break', 'a\nb'],
    ['terminal escapes', '\u001b[31mred\u001b[0m'],
    ['bytes that are not UTF-8', '\udcff\udcfe'],
    ['nothing', ''],
    ['a closing parenthesis only', ')'],
  ])('reads a process called %s', (_, comm) => {
    expect(parseProcStat(`4711 (${comm}) ${rest('S', 1, 0x400000, 123456n)}`)).toEqual({
      pid: 4711,
      startTime: 123456n,
      comm,
      state: 'S',
      ppid: 1,
      exiting: false,
      threads: 1,
      kernelThread: false,
    });
  });

  test('reads a kernel thread, a zombie and a start time beyond 2^53', () => {
    expect(parseProcStat(`2 (kthreadd) ${rest('S', 0, 0x208040, 0n)}`)).toMatchObject({
      pid: 2,
      ppid: 0,
      kernelThread: true,
    });
    expect(parseProcStat(`7 (x) ${rest('Z', 1, 0x40c, 18446744073709551615n)}`)).toMatchObject({
      state: 'Z',
      exiting: true,
      startTime: 18446744073709551615n,
    });
  });

  test.each([
    ['nothing', ''],
    ['a cut text', '4711 (sleep) S 1 4711 4711 0 -1 4194304 100 0'],
    ['no name', '4711 S 1 4711'],
    ['no pid', '(sleep) S 1'],
    ['NUL bytes', '\0\0\0'],
    ['the wrong order', ') 4711 ('],
    ['words for numbers', `x (sleep) ${rest('S', 1, 0, 1n)}`],
  ])('refuses %s', (_, text) => {
    expect(() => parseProcStat(text)).toThrow(expect.objectContaining({ code: 'ERR_PARSE', subject: { line: 1 } }));
  });

  test('keeps any name, and gives a process or a ParseError for any text', () => {
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, inside) => {
        if (inside) expect(parseProcStat(`4711 (${text}) ${rest('S', 1, 0, 5n)}`).comm).toBe(text);
        else {
          try {
            expect(parseProcStat(text).pid).toBeGreaterThanOrEqual(0);
          } catch (error) {
            expect(error).toBeInstanceOf(ParseError);
          }
        }
      }),
    );
  });
});

describe('parseProcStatus()', () => {
  const status =
    'Name:\tsleep\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\nPid:\t4712\nPPid:\t1\nTracerPid:\t0\nUid:\t1000\t0\t4294967295\t1000\nGid:\t0\t0\t0\t0\n';

  test('reads thread group, thread and four uids', () => {
    expect(parseProcStatus(status)).toEqual({ tgid: 4711, pid: 4712, uids: [1000, 0, 4294967295, 1000] });
  });

  test('takes nothing from a name (the kernel writes its line break as two characters)', () => {
    expect(parseProcStatus(status.replace('sleep\n', 'x\\nUid:\t0\t0\t0\t0\n'))).toMatchObject({
      uids: [1000, 0, 4294967295, 1000],
    });
  });

  test.each([
    ['nothing', ''],
    ['a text that is cut', status.slice(0, status.indexOf('Uid:') + 12)],
    ['no thread group', status.replace('Tgid', 'Xgid')],
    ['NUL bytes', '\0\0'],
  ])('refuses %s', (_, text) => {
    expect(() => parseProcStatus(text)).toThrow(ParseError);
  });
});

test('descriptorRoom() is no less than the descriptors that a process has', async () => {
  const opened = Array.from({ length: 300 }, () => fs.openSync('/dev/null', 'r'));
  try {
    const room = await withProcess(host, process.pid, (held) => descriptorRoom(held));
    expect(room).toBeGreaterThanOrEqual(fs.readdirSync('/proc/self/fd').length);
    expect(room).toBeLessThan(65_536);
  } finally {
    for (const fd of opened) fs.closeSync(fd);
  }
});

test('parseProcStat() and parseProcStatus() read every process of this machine', () => {
  for (const pid of listPids(host)) {
    try {
      expect(parseProcStat(host.read(`/proc/${pid}/stat`)).pid).toBe(pid);
      expect(parseProcStatus(host.read(`/proc/${pid}/status`)).pid).toBe(pid);
    } catch (error) {
      expect(error).toEqual(gone);
    }
  }
});

test.each([0, -1, -4711, 2 ** 22 + 1, 2 ** 31, 2 ** 32 + 5, 2 ** 53, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
  'holdProcess() of %s is ERR_NO_SUCH_PROCESS',
  (pid) => {
    expect(() => holdProcess(host, pid)).toThrow(gone);
  },
);

test('holdProcess() tells this process', () => {
  const held = holdProcess(host, process.pid);
  expect(held.status()).toMatchObject({ pid: process.pid, tgid: process.pid });
  expect(held.stat()).toMatchObject({
    pid: process.pid,
    ppid: process.ppid,
    kernelThread: false,
    startTime: held.startTime,
  });
  expect([...held.threads()].sort((a, b) => a - b)).toEqual(threadIds(process.pid));
  expect(held.membershipsOf(process.pid)).toEqual(held.memberships());
  held.close();
});

test("holdProcess() refuses a thread's id, says whose it is, and leaves nothing open", () => {
  const tid = threadIds(process.pid).find((one) => one !== process.pid) ?? 0;
  const before = descriptors();
  expect(() => holdProcess(host, tid)).toThrow(gone);
  expect(() => holdProcess(host, tid)).toThrow(`${tid} is a thread of process ${process.pid}`);
  expect(descriptors()).toBe(before);
});

test('holdProcess() that fails at any call leaves nothing open', () => {
  for (let nth = 1, last = false; !last; nth++) {
    const failing = failingHost(host, { nth, errno: 'EMFILE' });
    try {
      holdProcess(failing, process.pid).close();
      last = true;
    } catch (error) {
      expect(error).toMatchObject({ errno: 'EMFILE' });
    }
    expect(failing.openDirectories()).toBe(0);
  }
});

test('a held process answers ERR_NO_SUCH_PROCESS once it is dead, also where another has its pid', async () => {
  const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const held = holdProcess(host, child.pid ?? 0);
  try {
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (const act of [held.stat, held.status, held.memberships, held.threads, () => held.membershipsOf(held.pid)])
      expect(act).toThrow(gone);
    expect(() => holdProcess(host, held.pid)).toThrow(gone);
  } finally {
    held.close();
  }
});

test('withProcess() closes on every path', async () => {
  const failing = failingHost(host);
  await expect(
    withProcess(failing, process.pid, () => {
      throw new Error('inside');
    }),
  ).rejects.toThrow('inside');
  expect(await withProcess(failing, process.pid, async (held) => held.pid)).toBe(process.pid);
  await expect(withProcess(failing, 0, () => 1)).rejects.toEqual(gone);
  expect(failing.openDirectories()).toBe(0);
});

test('childrenOf() finds children of every thread, also on a kernel without task/TID/children', async () => {
  const parent = spawn('/bin/sh', ['-c', '/bin/sleep 60 & /bin/sleep 60 & wait'], { stdio: 'ignore' });
  await once(parent, 'spawn');
  const held = holdProcess(host, parent.pid ?? 0);
  const pace = new Pace(host, deadlineIn(host, 60_000));
  let children: readonly number[] = [];
  try {
    while (children.length < 2) children = await childrenOf(host, held, pace);
    const old: Host = host;
    const without = {
      ...held,
      directory: {
        ...held.directory,
        read: (name: string) => held.directory.read(name.endsWith('/children') ? 'none' : name),
      },
    };
    expect([...(await childrenOf(old, without, pace))].sort((a, b) => a - b)).toEqual(
      [...children].sort((a, b) => a - b),
    );
    expect([...((await allChildren(host, pace)).get(held.pid) ?? [])].sort((a, b) => a - b)).toEqual(
      [...children].sort((a, b) => a - b),
    );
    for (const pid of children) expect(parseProcStat(host.read(`/proc/${pid}/stat`)).ppid).toBe(held.pid);
  } finally {
    held.close();
    for (const pid of children) host.signal(pid, 'SIGKILL');
    parent.kill('SIGKILL');
    await once(parent, 'exit');
  }
});

test('allChildren() and childrenOf() let others run, and say when the time is over', async () => {
  const self = { pid: process.pid, startTime: 1n };
  let [clockMs, turns] = [0, 0];
  /** A machine of 10,000 processes, all of them ours; each look at one takes 2 ms. */
  const slow: Host = {
    ...host,
    now: () => clockMs,
    turn: async () => {
      turns++;
    },
    names: () => Array.from({ length: 10_000 }, (_, at) => String(at + 2)),
    read: (path) => {
      clockMs += 2;
      return `${/\d+/.exec(path)?.[0]} (sleep) ${rest('S', self.pid, 0, self.startTime)}`;
    },
  };
  const inTime = await allChildren(slow, new Pace(slow, deadlineIn(slow, 60_000)));
  expect([inTime.get(self.pid)?.length, turns]).toEqual([10_000, 3333]);
  await expect(allChildren(slow, new Pace(slow, deadlineIn(slow, 1000)))).rejects.toMatchObject({
    code: 'ERR_TIMEOUT',
  });
  const held = holdProcess(host, self.pid);
  try {
    const without = { ...held, threads: () => [self.pid], directory: { ...held.directory, read: () => gonePart() } };
    const late = childrenOf(slow, without, new Pace(slow, deadlineIn(slow, 1000)));
    await expect(late).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
  } finally {
    held.close();
  }
});

function gonePart(): never {
  throw new SystemCallError('read', '/proc/self/task/1/children', 'ENOENT');
}

test('a process can call itself what it likes', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-test-'));
  try {
    for (const name of ['a) R 1 (', 'x\ny', '\u001b[2J', ' (deleted)']) {
      fs.copyFileSync(fs.realpathSync('/bin/sleep'), path.join(folder, name));
      const child = spawn(path.join(folder, name), ['60'], { stdio: 'ignore' });
      await once(child, 'spawn');
      try {
        const held = holdProcess(host, child.pid ?? 0);
        expect(held.stat()).toMatchObject({ comm: name, ppid: process.pid });
        expect(held.status().uids).toHaveLength(4);
        held.close();
      } finally {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
