// Ending processes of real cgroups that resist in every way an unprivileged user has.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { isToldToFreeze } from '../../src/cgroup/freezer.js';
import { killMembers, MemberReader, signalMembers } from '../../src/cgroup/killing.js';
import { identityOf, isThere } from '../../src/cgroup/process.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';

const uid = 64_741;
const timeoutMs = 20_000;
const host = liveHost();
/** Without koffi: the kernel's older way. */
const bareHost: Host = { ...host, libc: async () => undefined };

describe.skipIf(!canUseCgroups && mayBeSkipped)('killMembers() (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
  });
  afterEach(() => sandbox.remove());

  const freezer = () =>
    job.cgroups.find((one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2);
  /** A hundred cgroups take two seconds, four hundred eight. */
  const slowToRead = (): Host => ({
    ...host,
    open: (path) => {
      const held = host.open(path);
      return {
        ...held,
        read: (name) => {
          const begin = host.now();
          while (host.now() - begin < 20);
          return held.read(name);
        },
      };
    },
  });
  const kill = (on: Host = host) => killMembers(on, job.cgroups, { timeoutMs });

  it.each([
    ['that ignore SIGTERM and SIGHUP', 'trap "" TERM HUP INT; sleep 60 & sleep 60'],
    ['in sessions of their own', 'setsid sleep 60 & setsid setsid sleep 60 & sleep 60'],
    ['whose parent has gone (double fork)', '(sleep 60 & sleep 60 &) & exec sleep 60'],
    ['that are stopped', 'sleep 60 & kill -STOP $!; kill -STOP $$'],
    [
      'that restart each other',
      'w() { while :; do sleep 60; done; }; i=0; while [ $i -lt 500 ]; do (exec sleep 0.05) & (exec sleep 0.05) & wait; i=$((i+1)); done',
    ],
    ['that fork without a pause', 'i=0; while [ $i -lt 3000 ]; do (exec sleep 1) & i=$((i+1)); done; wait'],
  ])('ends processes %s', async (_, script) => {
    for (const on of [host, bareHost]) {
      await sandbox.startScript(uid, script, job);
      await host.sleep(100);
      const report = await kill(on);
      expect(report.remaining).toEqual([]);
      expect(report.ended.length).toBeGreaterThan(0);
      expect(await job.procs()).toEqual([]);
      for (const ended of report.ended)
        expect(
          new MemberReader(host).read(ended.pid, ended.seenIn)?.startTime === ended.startTime &&
            !/[ZX]/.test(new MemberReader(host).read(ended.pid, ended.seenIn)?.state ?? 'Z'),
        ).toBe(false);
    }
  });

  it('ends what is frozen, and leaves no cgroup frozen, an empty one neither', async () => {
    const cgroup = freezer();
    if (cgroup === undefined) throw new Error('no freezer');
    const [file, on, off] =
      cgroup.hierarchy.version === 2 ? ['cgroup.freeze', '1', '0'] : ['freezer.state', 'FROZEN', 'THAWED'];
    await sandbox.startScript(uid, 'sleep 60 & sleep 60', job);
    await host.sleep(50);
    host.write(`${cgroup.directory}/${file}`, on);
    const report = await kill();
    expect(report.remaining).toEqual([]);
    expect(host.read(`${cgroup.directory}/${file}`).trim()).toBe(off);
    expect(report.thawed).toContain(cgroup.directory);
    host.write(`${cgroup.directory}/${file}`, on);
    expect((await kill()).thawed).toEqual([cgroup.directory]);
  });

  it('spares what the caller spares, and ends all others', async () => {
    const spared = await sandbox.startSleeper(uid, job);
    await sandbox.startScript(uid, 'sleep 60 & sleep 60', job);
    while ((await job.procs()).length < 4) await host.sleep(5);
    const report = await killMembers(host, job.cgroups, {
      timeoutMs,
      spare: (member) => (member.pid === spared.pid ? 'is spared' : undefined),
    });
    expect((await job.procs()).map((one) => one.pid)).toEqual([spared.pid]);
    expect(report.spared.map(({ member, why }) => [member.pid, why])).toEqual([[spared.pid, 'is spared']]);
    expect(report.ended.length).toBeGreaterThanOrEqual(3);
  });

  it('ends a process that is in the job in one hierarchy only', async () => {
    const outside = await sandbox.startSleeper(uid);
    const one = job.cgroups.at(-1);
    if (one === undefined) throw new Error('no cgroup');
    await one.add(outside.pid);
    const { startTime } = new MemberReader(host).read(outside.pid, one) ?? { startTime: 0n };
    expect((await kill()).ended.map((member) => member.pid)).toEqual([outside.pid]);
    await outside.exited;
    expect(isThere(host, { pid: outside.pid, startTime })).toBe(false);
  });

  it('touches no process outside', async () => {
    const outside = await sandbox.startSleeper(uid);
    await sandbox.startSleeper(uid, job);
    await kill();
    expect(
      isThere(host, {
        pid: outside.pid,
        startTime: new MemberReader(host).read(outside.pid, job.cgroups[0] ?? fail())?.startTime ?? 0n,
      }),
    ).toBe(true);
  });

  it('ends 300 processes below 60 levels', async () => {
    let deep = freezer();
    if (deep === undefined) throw new Error('no freezer');
    for (let level = 0; level < 60; level++) deep = deep.create(`d${level}`);
    await sandbox.startScript(
      uid,
      'i=0; while [ $i -lt 300 ]; do sleep 60 & i=$((i+1)); done; wait',
      new CgroupSet(host, [deep]),
    );
    while (deep.procs().length < 301) await host.sleep(10);
    const report = await kill();
    expect([report.remaining.length, report.ended.length]).toEqual([0, 301]);
  });

  it('says what is left when no signal reached it', async () => {
    const deaf = await sandbox.startSleeper(uid, job);
    await sandbox.startSleeper(uid, job);
    const notReaching: Host = {
      ...bareHost,
      signal: (pid, signal) => {
        if (pid === deaf.pid) throw new SystemCallError(`send ${signal} to`, `/proc/${pid}`, 'ESRCH');
        host.signal(pid, signal);
      },
      stat: (path) => (path.endsWith('/cgroup.kill') ? undefined : host.stat(path)),
    };
    const report = await killMembers(notReaching, job.cgroups, { timeoutMs: 3000 });
    expect([report.remaining.map((member) => member.pid), report.ended.length]).toEqual([[deaf.pid], 1]);
  });

  it('thaws 300 nested cgroups that were told to freeze, within its time', async () => {
    const top = freezer();
    if (top === undefined) throw new Error('no freezer');
    const [file, on] = top.hierarchy.version === 2 ? ['cgroup.freeze', '1'] : ['freezer.state', 'FROZEN'];
    let deep = top;
    const nested: Cgroup[] = [];
    for (let level = 0; level < 300; level++) {
      deep = deep.create('n');
      host.write(`${deep.directory}/${file}`, on);
      nested.push(deep);
    }
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const report = await killMembers(host, job.cgroups, { timeoutMs: 30_000 });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(0);
    expect([report.remaining, report.unknown, new Set(report.thawed)]).toEqual([
      [],
      undefined,
      new Set(nested.map((one) => one.directory)),
    ]);
    for (const one of nested) expect(isToldToFreeze(host, one)).toBe(false);
  });

  it('is over soon after its time, however long a look would take, and says what it could not see', async () => {
    const cgroup = freezer();
    if (cgroup === undefined) throw new Error('no freezer');
    for (let at = 0; at < 400; at++) cgroup.create(`d${at}`);
    const slow = slowToRead();
    const before = host.now();
    const top = new Cgroup(slow, cgroup.hierarchy, cgroup.path);
    const report = await killMembers(slow, [top], { timeoutMs: 200 });
    expect(host.now() - before).toBeLessThan(8000);
    expect(report.unknown).toBe(`the time was over before all below "${cgroup.directory}" was looked at`);
  });

  it('ends whom it saw, and whom /proc shows there, also where the time is over before the cgroups are looked through', async () => {
    const cgroup = freezer();
    if (cgroup === undefined) throw new Error('no freezer');
    const nested = Array.from({ length: 100 }, (_, at) => cgroup.create(`d${at}`));
    const seen = await sandbox.startSleeper(uid, job);
    const unseen = await sandbox.startSleeper(uid, job);
    const outside = await sandbox.startSleeper(uid);
    const itself = identityOf(host, outside.pid);
    host.write(`${nested.at(-1)?.directory}/cgroup.procs`, String(unseen.pid));
    const slow = slowToRead();
    const top = new Cgroup(slow, cgroup.hierarchy, cgroup.path);
    const report = await killMembers(slow, [top], { timeoutMs: 200 });
    expect(report.unknown).toBe(`the time was over before all below "${cgroup.directory}" was looked at`);
    expect([...report.ended, ...report.remaining].map(({ pid }) => pid).sort()).toEqual([seen.pid, unseen.pid].sort());
    await Promise.all([seen.exited, unseen.exited]);
    expect(isThere(host, itself)).toBe(true);
  });

  it('stops where it is when it is told to, and leaves nothing frozen', async () => {
    await sandbox.startScript(uid, 'i=0; while [ $i -lt 200 ]; do sleep 60 & i=$((i+1)); done; wait', job);
    while ((await job.procs()).length < 201) await host.sleep(10);
    const stopping = new AbortController();
    setImmediate(() => stopping.abort(new Error('stop')));
    const killing = killMembers(host, job.cgroups, { timeoutMs, signal: stopping.signal });
    await expect(killing).rejects.toThrow('stop');
    for (const one of job.cgroups) expect(isToldToFreeze(host, one)).toBe(false);
    expect((await kill()).remaining).toEqual([]);
  });

  it('ends a process that renames its cgroups without a pause, or says that not all were seen', async () => {
    const cgroup = freezer();
    if (cgroup === undefined || cgroup.hierarchy.version === 2) return; // there nothing can be renamed
    const inside = cgroup.create('r0').create('inside');
    for (let at = 0; at < 200; at++) cgroup.create(`w${at}`); // so that a list takes long
    const script = `const fs = require('fs'); process.chdir(${JSON.stringify(cgroup.directory)});
      fs.writeFileSync('r0/inside/cgroup.procs', String(process.pid)); console.log('in');
      for (let k = 0; ; k++) fs.renameSync('r' + k, 'r' + (k + 1));`;
    const renamer = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(renamer, 'exit');
    try {
      await once(renamer.stdout, 'data');
      while (host.stat(inside.directory) !== undefined) await host.sleep(1);
      const report = await killMembers(host, [cgroup], { timeoutMs });
      const ended = report.ended.map((member) => member.pid);
      expect([ended, report.unknown]).toEqual([[renamer.pid], undefined]);
    } finally {
      renamer.kill('SIGKILL');
      await exited;
    }
  });

  it('two at once: both find everything gone', async () => {
    await sandbox.startScript(uid, 'i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; wait', job);
    await host.sleep(200);
    const reports = await Promise.all([kill(), kill()]);
    expect(reports.map((report) => report.remaining)).toEqual([[], []]);
    expect(await job.procs()).toEqual([]);
  });
});

function fail(): never {
  throw new Error('there is none');
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('signalMembers() (needs root and cgroups)', () => {
  it.each([
    ['with pidfds', host],
    ['without koffi', bareHost],
  ] as const)('reaches every member but the spared, %s', async (_, on) => {
    const sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    try {
      const job = await sandbox.addJob({ jobId: 1, uid });
      const [a, b] = [await sandbox.startSleeper(uid, job), await sandbox.startSleeper(uid, job)];
      const reached = await signalMembers(on, job.cgroups, 'SIGTERM', (member) =>
        member.pid === b.pid ? 'is spared' : undefined,
      );
      expect(reached.map((member) => member.pid)).toEqual([a.pid]);
      await a.exited;
      expect((await job.procs()).map((one) => one.pid)).toEqual([b.pid]);
    } finally {
      await sandbox.remove();
    }
  });
});
