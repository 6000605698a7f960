// A job that changes while it is ended: processes that leave it or come in, and its cgroups made anew, as for a
// later run of it.

import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { childPath, parentPath } from '../../src/cgroup/path.js';
import { parseProcStat } from '../../src/cgroup/process.js';
import { removeTrees } from '../../src/cgroup/removal.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { ifThere } from '../../src/machine/errors.js';
import type { Host, Libc } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { until } from '../support/stuck-processes.js';

const uid = 64_754;
const host = liveHost();
const quick = { graceMs: 0, timeoutMs: 10_000 };
const runs = (pid: number) => !/[ZX]/.test(ifThere(() => parseProcStat(host.read(`/proc/${pid}/stat`)).state) ?? 'X');

interface Call {
  readonly name: string;
  readonly about: unknown;
}

/** The machine, on which `act` happens just before the nth call. */
function interruptedHost(nth: number, act: () => void): { readonly host: Host; readonly calls: readonly Call[] } {
  const calls: Call[] = [];
  const count = (name: string, about: unknown) => {
    calls.push({ name, about });
    if (calls.length === nth) act();
  };
  const libc = async (): Promise<Libc | undefined> => {
    const real = await host.libc();
    if (real === undefined) return undefined;
    const holdForSignal: Libc['holdForSignal'] = (pid) => {
      count('hold', pid);
      const held = real.holdForSignal(pid);
      const send: typeof held.send = (signal) => {
        count('signal', pid);
        held.send(signal);
      };
      return { send, close: held.close };
    };
    return { ...real, holdForSignal };
  };
  const quiet = ['self', 'now', 'sleep'];
  const interrupted = new Proxy(host, {
    get: (target, key) => {
      const value: unknown = key === 'libc' ? libc : Reflect.get(target, key);
      if (typeof value !== 'function' || typeof key !== 'string' || [...quiet, 'libc'].includes(key)) return value;
      return (...words: readonly unknown[]) => {
        count(key, words[0]);
        return value.apply(target, words);
      };
    },
  });
  return { host: interrupted, calls };
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('emptyAndRemove() (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    await sandbox.addJob({ jobId: 1, uid });
  });
  afterEach(() => sandbox.remove());

  /** A job that is no more than it must be: one or two hierarchies, one step. */
  const addSmallJob = async (jobId: number, keys: readonly string[]): Promise<readonly Cgroup[]> => {
    const { tops } = await sandbox.node();
    if (sandbox.version === 2) return (await sandbox.addJob({ jobId, uid })).cgroups;
    return tops
      .filter((top) => keys.includes(top.hierarchy.key))
      .map((top) =>
        new Cgroup(host, top.hierarchy, childPath(top.path, `uid_${uid}`)).create(`job_${jobId}`).create('step_0'),
      );
  };
  const nodeOf = async (on: Host, keys: readonly string[]) => {
    const node = await sandbox.node();
    return { ...node, host: on, tops: node.tops.filter((top) => [...keys, 'unified'].includes(top.hierarchy.key)) };
  };
  const move = (pid: number, cgroups: readonly Cgroup[]): number => {
    let moved = 0;
    for (const cgroup of cgroups) {
      try {
        fs.writeFileSync(`${cgroup.directory}/cgroup.procs`, String(pid), { flag: 'r+' });
        moved++;
      } catch {
        // It is not there any more.
      }
    }
    return moved;
  };
  const outsideOf = ({ hierarchy }: Cgroup) => new Cgroup(host, hierarchy, childPath(sandbox.within, 'outside'));

  it.each([
    ['freezer and memory', ['freezer', 'memory'], 0],
    ['memory alone, where nothing freezes', ['memory'], 0],
    ['memory alone, with a SIGTERM before', ['memory'], 20],
  ])(
    'does not hit a process that was moved out before the last look at it: %s',
    async (_, keys, graceMs) => {
      for (let nth = 1, isOver = false; !isOver; nth += 4) {
        const job = await addSmallJob(10 + nth, keys);
        const { pid } = await sandbox.startSleeper(uid);
        move(pid, job);
        const { host: on, calls } = interruptedHost(nth, () => move(pid, job.map(outsideOf)));
        const report = await cleanJob({ jobId: 10 + nth }, { node: await nodeOf(on, keys), graceMs, timeoutMs: 2000 });
        const signalled = calls.findIndex(
          (call) => call.name === 'signal' && [pid, undefined].includes(Number(call.about)),
        );
        const look = calls.slice(0, signalled).findLastIndex((call) => call.about === `/proc/${pid}/cgroup`);
        const about = `before call ${nth}, ${JSON.stringify(calls[nth - 1])}`;
        if (signalled === -1) expect(runs(pid), about).toBe(true);
        else expect(nth - 1, about).toBeGreaterThan(look);
        const notes = report.notes.filter((note) => note.startsWith(`process ${pid} (`));
        // Between the signal and its death it may still be seen.
        expect(report.ended.length + notes.length, about).toBe(signalled === -1 ? 0 : 1);
        if (report.ended.length > 0) expect(runs(pid), about).toBe(false);
        isOver = calls.length < nth;
      }
    },
    180_000,
  );

  it('does not say of one that ignored SIGTERM and then left that it ended', async () => {
    const job = await sandbox.addJob({ jobId: 5, uid });
    const { pid } = await sandbox.startScript(uid, 'trap "" TERM; while :; do sleep 0.05; done', job);
    await host.sleep(100); // until it listens
    let moved = false;
    const on: Host = {
      ...host,
      sleep: async (ms) => {
        if (!moved) move(pid, job.cgroups.map(outsideOf));
        moved = true;
        await host.sleep(ms);
      },
    };
    const report = await cleanJob({ jobId: 5 }, { node: await nodeOf(on, sandbox.controllers), graceMs: 200 });
    expect(report.ended.map((one) => one.pid)).not.toContain(pid);
    expect(report.notes).toEqual([`process ${pid} (sh) got SIGTERM, and left the job alive`]);
    expect(runs(pid)).toBe(true);
  });

  it('ends a process that is moved in, whenever that is', async () => {
    const keys = ['freezer', 'memory'];
    for (let nth = 1, isOver = false; !isOver; nth += 4) {
      const job = await addSmallJob(10 + nth, keys);
      const first = await sandbox.startSleeper(uid);
      const second = await sandbox.startSleeper(uid);
      move(first.pid, job);
      let moved = 0;
      const { host: on, calls } = interruptedHost(nth, () => {
        moved = move(second.pid, job);
      });
      const report = await cleanJob({ jobId: 10 + nth }, { node: await nodeOf(on, keys), ...quick });
      const about = `before call ${nth}, ${JSON.stringify(calls[nth - 1])}`;
      expect([report.left, report.survivors], about).toEqual([[], []]);
      expect(report.ended.map((one) => one.pid).sort(), about).toEqual(
        [first.pid, ...(moved > 0 ? [second.pid] : [])].sort(),
      );
      expect(runs(second.pid), about).toBe(moved === 0);
      isOver = calls.length < nth;
    }
  }, 180_000);

  it('leaves a later run of the job alone, whose cgroup was made meanwhile, and says so', async () => {
    const job = await sandbox.addJob({ jobId: 5, uid });
    const slow = 'trap "exec sleep 0.3" TERM; while :; do sleep 0.05; done';
    const { pid } = await sandbox.startScript(uid, slow, job);
    await host.sleep(100); // until it listens
    const later = await sandbox.startSleeper(uid);
    let anew: CgroupSet | undefined;
    const on: Host = {
      ...host,
      // In the grace after SIGTERM: the old run ended, and the job was requeued and starts again.
      sleep: async (ms) => {
        await host.sleep(ms);
        if (anew !== undefined) return;
        await until('the old run has ended', () => !runs(pid));
        const tops = job.cgroups.map((one) => {
          let { path } = one;
          while (!/\/job_5$/.test(path)) path = parentPath(path);
          return new Cgroup(host, one.hierarchy, path);
        });
        expect((await removeTrees(host, tops, { timeoutMs: 5000 })).left).toEqual([]);
        anew = await sandbox.addJob({ jobId: 5, uid });
        move(later.pid, anew.cgroups);
      },
    };
    const node = { ...(await sandbox.node()), host: on };
    const report = await cleanJob({ jobId: 5 }, { node, graceMs: 1000, timeoutMs: 1000 });
    expect(runs(later.pid)).toBe(true);
    expect(report.ended.map((one) => one.pid)).toContain(pid);
    const why = 'is of a later run of job 5: its cgroup was made while this one was ended';
    expect(report.spared).toEqual([{ pid: later.pid, comm: 'sleep', why }]);
    expect(report.removed).toEqual([]);
    expect(report.left.map((one) => one.why)).toEqual((await nodeOf(host, sandbox.controllers)).tops.map(() => why));
    expect((await anew?.procs())?.map((one) => one.pid)).toEqual([later.pid]);
    expect(
      (await cleanJob({ jobId: 5 }, { node: await sandbox.node(), ...quick })).ended.map((one) => one.pid),
    ).toEqual([later.pid]);
  });
});
