// Attacks that never succeeded, kept so: a process that its user freezes again and again, tricks to be spared or not to
// be seen, two adoptions of one process, a cleaner killed while a job is frozen.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { type Cgroup, holdCgroup } from '../../src/cgroup/cgroup.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { freeze, isToldToFreeze } from '../../src/cgroup/freezer.js';
import { writeFrozenNote } from '../../src/cgroup/frozen-note.js';
import { parseProcStat } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { ifThere } from '../../src/machine/errors.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { runProgramFile } from '../support/program-run.js';
import { until } from '../support/stuck-processes.js';

const uid = 64_812;
const host = liveHost();
const perl = '/usr/bin/perl';
const isAlive = (pid: number) =>
  !/[ZX]/.test(ifThere(() => parseProcStat(host.read(`/proc/${pid}/stat`)).state) ?? 'X');

describe.skipIf(!canUseCgroups && mayBeSkipped)('Attacks that failed (need root and cgroups)', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
  });
  afterEach(() => sandbox.remove());
  const freezerOf = (set: CgroupSet): Cgroup =>
    set.cgroups.find((one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2) ??
    expect.unreachable();

  it('ends a process that its user, outside of the job, freezes again without a pause', async (context) => {
    if (sandbox.version === 2) return context.skip(); // there no cgroup of a job is the user's
    const { pid } = await sandbox.startSleeper(uid, job);
    const own = freezerOf(job).create('x');
    for (const file of ['cgroup.procs', 'freezer.state']) fs.chownSync(`${own.directory}/${file}`, uid, uid);
    await own.add(pid);
    const loop = 'open F, "+<", $ARGV[0] or die; $| = 1; print "in\\n"; syswrite F, "FROZEN" while 1';
    const thawer = spawn(perl, ['-e', loop, `${own.directory}/freezer.state`], {
      ...{ uid, gid: uid, cwd: '/' },
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 30_000,
    });
    try {
      await once(thawer.stdout, 'data');
      await until('it is frozen', () => isToldToFreeze(host, own));
      const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 0, timeoutMs: 6000 });
      expect([report.survivors, report.left, report.ended.map((one) => one.pid)]).toEqual([[], [], [pid]]);
      expect(isAlive(pid)).toBe(false);
    } finally {
      const ended = once(thawer, 'exit');
      thawer.kill('SIGKILL');
      await ended;
    }
  });

  it('ends all that try to be spared, unseen or unkillable', async () => {
    const ignore = '$SIG{$_} = "IGNORE" for grep { !/^(KILL|STOP|NUM\\d+|__\\w+)$/ } keys %SIG';
    const wait = 'select undef, undef, undef, 60';
    const prctl = process.arch === 'x64' ? 157 : 167;
    const tricks = [
      `$0 = "x) Z 1 (\\nUid:"; ${wait}`,
      `${ignore}; ${wait}`,
      `kill "STOP", $$; ${wait}`,
      `syscall(${prctl}, 4, 0); ${wait}`, // PR_SET_DUMPABLE
      `if (!fork) { exit } ${wait}`, // a child that is never reaped
      `$0 = "slurmstepd: [1.extern]"; ${ignore}; ${wait}`,
    ];
    const pids: number[] = [];
    for (const trick of tricks) pids.push((await sandbox.startScript(uid, `exec ${perl} -e '${trick}'`, job)).pid);
    await host.sleep(300);
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 300, timeoutMs: 5000 });
    expect([report.refused, report.survivors, report.spared, report.left]).toEqual([undefined, [], [], []]);
    expect(report.ended.map((one) => one.pid)).toEqual(expect.arrayContaining(pids));
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it('two adoptions of one process into its job at once: both say adopted, and it is there', async () => {
    const { pid } = await sandbox.startSleeper(uid);
    const node = await sandbox.node();
    const [target = expect.unreachable()] = discoverJobs(node);
    const outside = () => fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    for (let round = 0; round < 20; round++) {
      const results = await Promise.all([adopt(pid, target, { node }), adopt(pid, target, { node })]);
      expect(results.map(({ outcome }) => outcome)).toEqual(['adopted', 'adopted']);
      const places = outside()
        .split('\n')
        .filter((line) => sandbox.controllers.some((key) => line.includes(`:${key}`)));
      for (const line of places) expect(line).toMatch(/\/job_1\/step_extern/);
      for (const top of node.tops)
        host.write(`${top.directory.replace(/\/slurm$|\/system\.slice\/.*$/, '')}/outside/cgroup.procs`, String(pid));
    }
  });

  it('a job that a killed cleaner left frozen is thawed by the next run, for whatever job', async () => {
    await sandbox.addJob({ jobId: 2, uid });
    const { pid } = await sandbox.startSleeper(uid, job);
    const outsider = await sandbox.startSleeper(uid);
    const cgroup = freezerOf(job);
    const directory = holdCgroup(host, cgroup);
    try {
      writeFrozenNote(host, cgroup, directory);
      const inode = host.stat(cgroup.directory)?.ino;
      const folder = '/run/slurm-cgroups/frozen';
      const notes = () => fs.readdirSync(folder).filter((name) => name.includes(`-${inode}-`));
      const file = `${folder}/${notes()[0]}`;
      const dead = Number(spawnSync('/bin/sh', ['-c', 'echo $$'], { encoding: 'utf8' }).stdout);
      await freeze(host, { cgroup, directory }, { timeoutMs: 2000 });
      expect(isToldToFreeze(host, cgroup)).toBe(true);
      // From now on any cleaner of this machine may thaw it, those of the tests beside this one too.
      fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), pid: dead }));
      // Of the other job nothing waits for the frozen one.
      expect(runProgramFile('list', '--within', sandbox.within).exitCode).toBe(0);
      const adopted = runProgramFile('adopt', `${outsider.pid}`, '--job', '2', '--within', sandbox.within);
      expect(adopted.exitCode).toBe(0);
      const cleaned = runProgramFile('clean', '2', '--grace', '0', '--within', sandbox.within);
      expect(cleaned.exitCode).toBe(0);
      expect([isToldToFreeze(host, cgroup), notes(), isAlive(pid)]).toEqual([false, [], true]);
    } finally {
      directory.close();
    }
  });
});
