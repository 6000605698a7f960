// Ending a job that resists, on the real kernel: forks without end, strange parents, namespaces, tracers, setuid
// programs; and one that changes while it is cleaned.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { childPath } from '../../src/cgroup/path.js';
import { isThere, parseProcStat, parseProcStatus } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox, type Sleeper } from '../../src/cli/sandbox.js';
import { ifThere } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { firstThreadEnded, untilFirstThreadEnded } from '../support/first-thread-ended.js';
import { alice, inWorld, onKernels } from '../support/kernel-jobs.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { programFile } from '../support/program-run.js';
import { until } from '../support/stuck-processes.js';

const uid = 64_753;
const host = liveHost();
const quick = { graceMs: 0, timeoutMs: 20_000 };
const perl = '/usr/bin/perl';
/** clone and ptrace: perl has no other way to them. */
const calls = process.arch === 'x64' ? { clone: 56, ptrace: 101 } : { clone: 220, ptrace: 117 };

const stateOf = (pid: number) => ifThere(() => parseProcStat(host.read(`/proc/${pid}/stat`)).state) ?? 'X';
const identity = (pid: number) => ({ pid, startTime: parseProcStat(host.read(`/proc/${pid}/stat`)).startTime });
const asUser = `setpriv --reuid ${uid} --regid ${uid} --clear-groups`;

describe.skipIf(!canUseCgroups && mayBeSkipped)('cleanJob() of a job that resists (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  let outsider: Sleeper;
  let others: { pid: number; startTime: bigint }[];
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
    const neighbour = await sandbox.startSleeper(uid, await sandbox.addJob({ jobId: 2, uid }));
    outsider = await sandbox.startSleeper(uid);
    others = [identity(neighbour.pid), identity(outsider.pid)];
  });
  afterEach(async () => {
    try {
      for (const one of others) expect([isThere(host, one), /[TZtX]/.test(stateOf(one.pid))]).toEqual([true, false]);
    } finally {
      await sandbox.remove();
    }
  });

  const clean = async (on: Host = host) =>
    cleanJob({ jobId: 1 }, { node: { ...(await sandbox.node()), host: on }, ...quick });
  /** Everything of the job is gone, and the report says who was ended. */
  const expectEnded = async (pids: readonly number[]) => {
    const report = await clean();
    expect([report.refused, report.survivors, report.left]).toEqual([undefined, [], []]);
    expect(report.ended.map((one) => one.pid)).toEqual(expect.arrayContaining([...pids]));
    expect(await job.procs()).toEqual([]);
    return report;
  };
  const pids = async () => (await job.procs()).map((one) => one.pid);
  const outsideOf = ({ hierarchy }: Cgroup) => new Cgroup(host, hierarchy, childPath(sandbox.within, 'outside'));
  const moveOut = (pid: number) => {
    for (const cgroup of job.cgroups) host.write(`${outsideOf(cgroup).directory}/cgroup.procs`, String(pid));
  };

  it.each([
    ['forks without end', 'while (1) { fork; select undef, undef, undef, 0.002 }'],
    [
      'restarts itself at each signal and at each death',
      'for my $s (qw(TERM INT HUP CONT)) { $SIG{$s} = sub { fork } } $SIG{CHLD} = sub { fork }; while (1) { fork; select undef, undef, undef, 0.01 }',
    ],
  ])('ends one that %s', async (_, program) => {
    // The bound comes first: of the pids hierarchy, or of the sandbox's own cgroup on v2.
    const bound =
      sandbox.version === 2 ? `/sys/fs/cgroup${sandbox.within}` : `/sys/fs/cgroup/pids${sandbox.within}-bound`;
    if (sandbox.version === 1) fs.mkdirSync(bound);
    try {
      fs.writeFileSync(`${bound}/pids.max`, '120');
      const enter = sandbox.version === 2 ? ':' : `echo $$ > ${bound}/cgroup.procs`;
      await sandbox.startScript(0, `${enter}; exec ${asUser} ${perl} -e '${program}'`, job);
      await until('it is many', async () => (await pids()).length > 60);
      const report = await expectEnded([]);
      expect(report.ended.length).toBeGreaterThan(60);
    } finally {
      if (sandbox.version === 1) await removeBound(bound);
    }
  });

  it('ends watchdogs that start each other again', async () => {
    const watch = 'while (1) { my $c = fork; if (!$c) { $SIG{TERM} = "IGNORE"; sleep 60; exit } waitpid $c, 0 }';
    for (let n = 0; n < 3; n++)
      await sandbox.startScript(uid, `exec ${perl} -e '$SIG{TERM} = "IGNORE"; ${watch}'`, job);
    await until('all are there', async () => (await pids()).length === 6);
    await expectEnded(await pids());
  });

  it('ends a parent that waits in vfork for its child', async () => {
    // CLONE_VFORK and SIGCHLD: the parent sleeps in the kernel until the child runs another program or ends.
    await sandbox.startScript(uid, `exec ${perl} -e 'syscall(${calls.clone}, 0x4000 | 17, 0, 0, 0, 0); sleep 60'`, job);
    await until(
      'the parent waits',
      async () => (await pids()).length === 2 && (await pids()).some((pid) => stateOf(pid) === 'D'),
    );
    await expectEnded(await pids());
  });

  it('ends a setuid program, also of a telling name', async (context) => {
    const folder = fs.mkdtempSync('/var/tmp/slurm-cgroups-setuid-');
    try {
      fs.chmodSync(folder, 0o755);
      fs.copyFileSync('/bin/sleep', `${folder}/slurmstepd`);
      fs.chmodSync(`${folder}/slurmstepd`, 0o4755);
      const { pid } = await sandbox.startScript(uid, `exec ${folder}/slurmstepd 60`, job);
      await until('it runs', () => parseProcStat(host.read(`/proc/${pid}/stat`)).comm === 'slurmstepd');
      const { uids } = parseProcStatus(host.read(`/proc/${pid}/status`));
      if (uids[1] !== 0) context.skip('/var/tmp is mounted nosuid');
      expect(uids).toEqual([uid, 0, 0, 0]);
      const report = await expectEnded([pid]);
      expect(report.ended).toEqual([expect.objectContaining({ uid: 0, comm: 'slurmstepd' })]);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('ends the first process of a pid namespace that ignores signals, and what is below it', async () => {
    const inside = `trap "" TERM INT; unshare -p --fork sleep 60 & sleep 60 & wait; sleep 60`;
    await sandbox.startScript(0, `exec unshare -p --fork sh -c '${inside}'`, job);
    await until('all are there', async () => (await pids()).length >= 5);
    await expectEnded(await pids());
  });

  it('ends those of a user in a user namespace of that user, who is root there', async (context) => {
    await sandbox.startScript(uid, `exec unshare -U -r -p --fork --mount-proc sh -c 'sleep 60 & sleep 60'`, job);
    await host.sleep(200);
    if ((await pids()).length === 0) context.skip('users may not make user namespaces here');
    await until('all are there', async () => (await pids()).length >= 3);
    await expectEnded(await pids());
  });

  // PTRACE_SEIZE with PTRACE_O_TRACEEXIT, which stops even the dying, then PTRACE_INTERRUPT.
  const traces = (pid: string) =>
    `syscall(${calls.ptrace}, 0x4206, ${pid}, 0, 0x40) == 0 && syscall(${calls.ptrace}, 0x4207, ${pid}, 0, 0) == 0 or die`;

  it('ends those that a tracer of the job stopped', async () => {
    const program = `my $c = fork; if (!$c) { exec "sleep", 60 } select undef, undef, undef, 0.2; ${traces('$c + 0')}; sleep 60`;
    await sandbox.startScript(uid, `exec ${perl} -e '${program}'`, job);
    await until('one is stopped', async () => (await pids()).some((pid) => stateOf(pid) === 't'));
    await expectEnded(await pids());
  });

  it('names the tracer outside the job that keeps one from ending, and does not touch it', async () => {
    const { pid } = await sandbox.startSleeper(uid, job);
    const tracer = await sandbox.startScript(uid, `exec ${perl} -e '${traces(String(pid))}; sleep 60'`);
    const itself = identity(tracer.pid);
    await until('it is stopped', () => stateOf(pid) === 't');
    const given: number[] = [];
    const run: Host['run'] = (file, args, options) => {
      given.push(options.timeoutMs);
      return host.run(file, args, options);
    };
    const node = { ...(await sandbox.node()), host: { ...host, run } };
    const report = await cleanJob({ jobId: 1 }, { node, graceMs: 0, timeoutMs: 700 });
    // A lone survivor is looked at with all the time there is: stack and call are its proof, and children read them.
    expect(given.filter((ms) => ms > 4000)).toHaveLength(2);
    // It stops once more when it dies, until its tracer says so: no signal helps.
    expect(report.survivors).toEqual([
      expect.objectContaining({
        pid,
        why: `pid ${pid} (sleep) is traced by pid ${tracer.pid} (perl): it ends when that lets it go or ends`,
      }),
    ]);
    expect(isThere(host, itself)).toBe(true);
    host.signal(tracer.pid, 'SIGKILL');
    await tracer.exited;
    expect(await clean()).toMatchObject({ survivors: [], left: [] });
  });

  it('is not held up by zombies, whichever process should collect them', async () => {
    const inside = await sandbox.startScript(uid, 'sleep 0 & exec sleep 60', job);
    const outside = await sandbox.startScript(uid, 'sleep 0 & sleep 61 & exec sleep 60', job);
    const childrenOf = (pid: number) =>
      host
        .read(`/proc/${pid}/task/${pid}/children`)
        .split(' ')
        .filter((one) => one !== '')
        .map(Number);
    await until('there are zombies', () =>
      [inside, outside].every(({ pid }) => childrenOf(pid).some((child) => stateOf(child) === 'Z')),
    );
    moveOut(outside.pid);
    const living = childrenOf(outside.pid).filter((child) => stateOf(child) !== 'Z');
    const report = await expectEnded([inside.pid, ...living]);
    expect(report.ended).toHaveLength(2);
    expect(living.map(stateOf)).toEqual(['Z']); // killed, and not collected
    others.push(identity(outside.pid));
  });

  it('says of a process whose first thread has ended, and which leaves the job, that it lives', async (context) => {
    const program = firstThreadEnded(uid, context);
    const { pid } = await sandbox.startScript(0, `exec ${program.line}`, job);
    await untilFirstThreadEnded(pid);
    let isOut = false;
    const leaving: Host = {
      ...host,
      sleep: (ms, signal) => {
        if (!isOut) moveOut(pid); // while it is waited for what got SIGTERM
        isOut = true;
        return host.sleep(ms, signal);
      },
    };
    const report = await cleanJob(
      { jobId: 1 },
      { node: { ...(await sandbox.node()), host: leaving }, graceMs: 1000, timeoutMs: 20_000 },
    );
    expect([report.ended, report.survivors, report.left]).toEqual([[], [], []]);
    expect(report.notes).toEqual([`process ${pid} (node) got SIGTERM, and left the job alive`]);
  });

  it('ends a process whose first thread has ended', async (context) => {
    const program = firstThreadEnded(uid, context);
    const { pid } = await sandbox.startScript(0, `exec ${program.line}`, job);
    await untilFirstThreadEnded(pid);
    const { ended } = await expectEnded([pid]);
    expect(ended).toEqual([expect.objectContaining({ pid, proof: expect.stringMatching(/^member of \/.*job_1\//) })]);
  });

  it('spares a process whose first thread has ended, and which another living job has too', async (context) => {
    if (sandbox.version === 2) context.skip('on v2 a process is in one cgroup');
    const program = firstThreadEnded(uid, context);
    const { pid } = await sandbox.startScript(0, `exec ${program.line}`, job);
    await untilFirstThreadEnded(pid);
    const other = await sandbox.addJob({ jobId: 3, uid });
    const { pid: neighbour } = await sandbox.startScript(uid, 'exec sleep 100', other);
    const [cgroup] = other.cgroups;
    host.write(`${cgroup?.directory}/cgroup.procs`, String(pid));
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 0, timeoutMs: 500 });
    expect([report.ended, report.spared]).toEqual([[], [{ pid, comm: 'node', why: 'is also in job 3' }]]);
    host.signal(pid, 'SIGKILL');
    host.signal(neighbour, 'SIGKILL');
  });

  it('ends one that renames its cgroups without a pause, as their owner can on v1', async (context) => {
    if (sandbox.version === 2) context.skip('cgroups of v2 have the name that they were given');
    // What was listed a moment ago is not there any more.
    const nested = job.cgroups.map((one) => one.create('a'));
    for (const { directory } of [...nested, ...job.cgroups]) fs.chownSync(directory, uid, uid);
    const flip = 'while (1) { for (@ARGV) { rename "$_/a", "$_/b"; rename "$_/b", "$_/a" } }';
    const folders = job.cgroups.map((one) => one.directory).join(' ');
    const { pid } = await sandbox.startScript(uid, `kill -STOP $$; exec ${perl} -e '${flip}' ${folders}`, job);
    await until('it waits', () => stateOf(pid) === 'T');
    for (const { directory } of nested) host.write(`${directory}/cgroup.procs`, String(pid));
    host.signal(pid, 'SIGCONT');
    await expectEnded([pid]);
  });

  it('removes 10,000 cgroups of a job, and 60 levels', async () => {
    const [leaf] = job.cgroups;
    if (leaf === undefined) throw new Error('no cgroup');
    const small = job.cgroups.find((one) => one.hierarchy.controllers.includes('freezer')) ?? leaf;
    for (let a = 0; a < 100; a++) {
      fs.mkdirSync(`${small.directory}/a${a}`);
      for (let b = 0; b < 99; b++) fs.mkdirSync(`${small.directory}/a${a}/b${b}`);
    }
    let deep = small;
    for (let level = 0; level < 60; level++) deep = deep.create('d');
    const { pid } = await sandbox.startSleeper(uid, job);
    host.write(`${deep.directory}/cgroup.procs`, String(pid));
    const report = await expectEnded([pid]);
    expect(report.removed.length).toBeGreaterThan(10_060);
  });

  it('removes an empty job that was frozen', async () => {
    const cgroup = job.cgroups.find(
      (one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2,
    );
    if (cgroup === undefined) throw new Error('no freezer');
    const [file, value] = cgroup.hierarchy.version === 2 ? ['cgroup.freeze', '1'] : ['freezer.state', 'FROZEN'];
    host.write(`${cgroup.directory}/${file}`, value);
    const report = await expectEnded([]);
    expect(report.notes).toEqual([expect.stringContaining('was suspended')]);
  });

  it('two programs at once: both end well', async () => {
    await sandbox.startScript(uid, 'i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; wait', job);
    await until('all are there', async () => (await pids()).length > 100);
    const programs = [1, 2].map(() =>
      spawn(process.execPath, [programFile, 'clean', '1', '--grace', '0', '--within', sandbox.within], {
        stdio: 'ignore',
      }),
    );
    const codes = (await Promise.all(programs.map((one) => once(one, 'close')))).map(([code]) => code);
    // The slower may find nothing of the job any more: that is 0, too.
    expect(codes.every((code) => code === 0 || code === 1)).toBe(true);
    expect(codes).toContain(0);
    expect(await job.procs()).toEqual([]);
    for (const cgroup of job.cgroups) expect(host.stat(cgroup.directory)).toBeUndefined();
  });
});

async function removeBound(directory: string): Promise<void> {
  await until('the cgroup is empty', () => fs.readFileSync(`${directory}/cgroup.procs`, 'utf8') === '');
  fs.rmdirSync(directory);
}

onKernels((kernel) => {
  // v2 lists such a process nowhere but among the threads (measured).
  inWorld(
    kernel,
    'cleanJob() ends a process that was moved in after its first thread had ended',
    async (world, context) => {
      await world.twoJobs();
      const { line } = firstThreadEnded(alice, context);
      const pid = await world.program('/bin/sh', ['-c', `kill -STOP $$; exec ${line}`], 0);
      await untilFirstThreadEnded(pid);
      await world.jobAt(102, 'step_extern', ...(kernel.name === 'v2' ? ['user', 'task_0'] : [])).add(pid);
      const beside = await world.session();
      const report = await cleanJob({ jobId: 102 }, { node: await world.node(), ...quick });
      expect([report.ended.map((one) => one.pid), report.survivors, report.left]).toEqual([[pid], [], []]);
      expect(stateOf(beside)).toMatch(/[RS]/);
    },
  );
});
