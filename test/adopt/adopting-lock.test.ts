import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';
import { afterEach, describe, expect, it } from 'vitest';
import { lockAdoption, removeLeftLocks } from '../../src/adopt/adopting-lock.js';
import { identityOf } from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { hasCode } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { mayBeSkipped } from '../support/may-run.js';
import { firstPidNamespace, inPidNamespace, seenFrom } from '../support/pid-namespaces.js';

const live = liveHost();
const folder = '/run/slurm-cgroups/adopting';
const isRoot = process.getuid?.() === 0;
const files: string[] = [];
const sleepers: ChildProcess[] = [];

/** A process of this test, so that no other has its lock. It lives: the lock of one that has ended may be removed by any. */
function somebody(): { readonly pid: number; readonly startTime: bigint } {
  const sleeper = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
  sleepers.push(sleeper);
  const one = identityOf(live, sleeper.pid ?? expect.unreachable());
  files.push(`${folder}/${one.pid}-${one.startTime}`);
  return one;
}

const fileOf = ({ pid, startTime }: { readonly pid: number; readonly startTime: bigint }) =>
  `${folder}/${pid}-${startTime}`;
const soon = (ms = 50) => deadlineIn(live, ms);
const noted = [{ hierarchy: 'freezer', from: '/user.slice', to: '/slurm/uid_1/job_2/step_extern' }];

/** The note of an owner that has ended. */
function ofTheDead(file: string, change: Readonly<Record<string, unknown>> = {}, moves: unknown = noted): void {
  fs.mkdirSync(folder, { recursive: true, mode: 0o755 });
  const { startTime } = identityOf(live, process.pid);
  const owner = {
    bootId: live.read('/proc/sys/kernel/random/boot_id').trim(),
    pidNamespace: live.readlink('/proc/self/ns/pid'),
    pid: process.pid,
    startTime: String(startTime - 1n),
    ...change,
  };
  fs.writeFileSync(file, JSON.stringify({ owner, moves }));
}

describe.skipIf(!isRoot && mayBeSkipped)('lockAdoption() (needs root)', () => {
  afterEach(() => {
    for (const sleeper of sleepers.splice(0)) sleeper.kill('SIGKILL');
    for (const file of files.splice(0)) {
      const name = file.slice(file.lastIndexOf('/') + 1);
      if (!fs.existsSync(folder)) continue;
      expect(fs.readdirSync(folder).filter((one) => one.startsWith(`${name}.`))).toEqual([]);
      fs.rmSync(file, { force: true });
    }
  });

  it('lets one in, and the next when it is through', async () => {
    const one = somebody();
    const first = await lockAdoption(live, one, soon());
    expect([first.waited, first.lock.isHeld()]).toEqual([false, true]);
    const error = await lockAdoption(live, one, soon(20)).catch((thrown: unknown) => thrown);
    expect(error).toSatisfy((thrown: unknown) => hasCode(thrown, 'ERR_BUSY'));
    expect(String(error)).toContain(`Process ${one.pid} is being moved by an adoption by process ${process.pid}`);
    const second = lockAdoption(live, one, soon(5000));
    first.lock.note(noted);
    expect(first.lock.isHeld()).toBe(true);
    first.lock.release();
    expect((await second).waited).toBe(true);
    expect((await second).abandoned).toBeUndefined();
    (await second).lock.release();
    expect(fs.existsSync(fileOf(one))).toBe(false);
  });

  it('of many at once lets in one after the other', async () => {
    const one = somebody();
    let inside = 0;
    await Promise.all(
      Array.from({ length: 40 }, async () => {
        const { lock } = await lockAdoption(live, one, soon(20_000));
        expect(++inside).toBe(1);
        await live.sleep(0);
        inside--;
        lock.release();
      }),
    );
  });

  it('takes over from a dead owner, and says what that had begun to move', async () => {
    for (const change of [{}, { bootId: 'another' }, { pid: 4_194_303, startTime: '1' }]) {
      const one = somebody();
      ofTheDead(fileOf(one), change);
      const { lock, abandoned, waited } = await lockAdoption(live, one, soon());
      expect([abandoned, waited]).toEqual([{ moves: noted }, false]);
      lock.release();
    }
  });

  it('takes what no adoption wrote for nothing', async () => {
    for (const text of ['', 'x', '[]', '{"owner":{}}', '{"owner":{"pid":1},"moves":[]}']) {
      const one = somebody();
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(fileOf(one), text);
      const { lock, abandoned } = await lockAdoption(live, one, soon());
      expect(abandoned).toEqual({ moves: [] });
      lock.release();
    }
  });

  it('leaves a lock of another pid namespace alone where its owner cannot be seen', async () => {
    const one = somebody();
    ofTheDead(fileOf(one), { pidNamespace: 'pid:[1]' });
    const nested = seenFrom(live, 'pid:[7]', 'pid:[5]');
    await expect(lockAdoption(nested, one, soon(20))).rejects.toSatisfy((thrown) => hasCode(thrown, 'ERR_BUSY'));
  });

  it('takes a lock of a container that is over, and leaves it alone while that runs', async () => {
    const one = somebody();
    const gone = await inPidNamespace(async (pidNamespace) => {
      ofTheDead(fileOf(one), { pidNamespace });
      await expect(lockAdoption(live, one, soon(20))).rejects.toSatisfy((thrown) => hasCode(thrown, 'ERR_BUSY'));
    });
    expect(JSON.parse(fs.readFileSync(fileOf(one), 'utf8')).owner.pidNamespace).toBe(gone);
    const first = seenFrom(live, firstPidNamespace, 'pid:[5]');
    const { lock, abandoned } = await lockAdoption(first, one, soon(60_000));
    expect(abandoned).toEqual({ moves: noted });
    lock.release();
  });

  it('gives a lock back that a living one took in the middle of a takeover', async () => {
    const one = somebody();
    const file = fileOf(one);
    ofTheDead(file);
    let other: Awaited<ReturnType<typeof lockAdoption>> | undefined;
    const host: Host = {
      ...live,
      rename: (from, to) => {
        // Another run takes the dead owner's lock just before.
        if (from === file && to.endsWith('.taken') && other === undefined) {
          fs.rmSync(file);
          const { startTime } = identityOf(live, process.ppid);
          ofTheDead(file, { pid: process.ppid, startTime: String(startTime) });
          other = { lock: { note: () => {}, isHeld: () => true, release: () => fs.rmSync(file) }, waited: false };
        }
        live.rename(from, to);
      },
    };
    await expect(lockAdoption(host, one, soon(20))).rejects.toSatisfy((thrown) => hasCode(thrown, 'ERR_BUSY'));
    expect(JSON.parse(fs.readFileSync(file, 'utf8')).owner.pid).toBe(process.ppid);
    other?.lock.release();
  });

  it('is removed once its process has ended, unless that is of another pid namespace', async () => {
    const [living, ended, elsewhere] = [somebody(), somebody(), somebody()];
    for (const one of [living, ended]) ofTheDead(fileOf(one));
    ofTheDead(`${fileOf(ended)}.1-2.next`);
    ofTheDead(fileOf(elsewhere), { pidNamespace: 'pid:[1]' });
    for (const sleeper of sleepers.slice(1)) {
      const exited = once(sleeper, 'exit');
      sleeper.kill('SIGKILL');
      await exited;
    }
    removeLeftLocks(live);
    expect([living, ended, elsewhere].map((one) => fs.existsSync(fileOf(one)))).toEqual([true, false, true]);
    expect(fs.existsSync(`${fileOf(ended)}.1-2.next`)).toBe(false);
  });

  it('is of real processes: of many that try at once one has it at a time, and killed ones do not keep it', async () => {
    const one = somebody();
    const { outputFiles } = await build({
      stdin: {
        contents: `
          import { lockAdoption } from './src/adopt/adopting-lock.js';
          import { deadlineIn } from './src/machine/deadline.js';
          import { liveHost } from './src/machine/live-host.js';
          const host = liveHost();
          const { lock } = await lockAdoption(host, { pid: ${one.pid}, startTime: ${one.startTime}n }, deadlineIn(host, 30000));
          process.stdout.write('in');
          if (process.argv[1] === 'stay') setInterval(() => {}, 1000); else lock.release();`,
        resolveDir: path.resolve(import.meta.dirname, '../..'),
        loader: 'ts',
      },
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'node',
      external: ['koffi'],
    });
    const program = outputFiles[0]?.text ?? '';
    const start = (...words: readonly string[]) =>
      spawn(process.execPath, ['--input-type=module', '-e', program, ...words], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    const first = start('stay');
    await new Promise((fulfil) => first.stdout.once('data', fulfil));
    const others = [start(), start(), start()];
    await live.sleep(200);
    first.kill('SIGKILL');
    const codes = await Promise.all(others.map((child) => new Promise((fulfil) => child.once('exit', fulfil))));
    expect(codes).toEqual([0, 0, 0]);
    expect(fs.existsSync(fileOf(one))).toBe(false);
  });
});
