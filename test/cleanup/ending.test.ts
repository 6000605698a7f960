// Ending a whole job on the real kernel: all of it, nothing else, whatever goes wrong in between.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { isToldToFreeze } from '../../src/cgroup/freezer.js';
import { childPath, parentPath } from '../../src/cgroup/path.js';
import { isThere, parseProcStat } from '../../src/cgroup/process.js';
import { cleanJob, planJob } from '../../src/cleanup/ending.js';
import type { CleanReport } from '../../src/cleanup/report.js';
import { Sandbox, type Sleeper } from '../../src/cli/sandbox.js';
import { openAdoptionRecord } from '../../src/jobs/adoptions.js';
import { readNode } from '../../src/jobs/node.js';
import { ifThere, SlurmCgroupsError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording } from '../recordings/recordings.js';
import { holdLocks, withOwnLocks } from '../support/lock-holder.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { programFile } from '../support/program-run.js';
import { stateElsewhere } from '../support/state-elsewhere.js';

const uid = 64_744;
const host = liveHost();
const quick = { graceMs: 0, timeoutMs: 20_000 };

describe('planJob()', () => {
  it('refuses a job whose slurmstepd lives, spares it, and takes the rest', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-24.11-v2')) });
    const plan = await planJob({ jobId: 1 }, { node });
    expect(plan.refused).toMatch(/^slurmstepd \(\d+\) still runs job 1/);
    // Three user processes, an adopted one, and the placeholder, whose parent the recording does not know.
    expect(plan.members.map((member) => member.comm).sort()).toEqual([
      ...Array(5).fill('sleep'),
      'slurm_script',
      ...Array(4).fill('srun'),
    ]);
    expect(plan.spared.map((one) => one.comm)).toEqual(Array(4).fill('slurmstepd'));
    expect((await planJob({ jobId: 1 }, { node, force: true })).refused).toBeUndefined();
  });

  it('knows a job by its SLUID', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-26.05-v2')) });
    expect((await planJob({ sluid: 's9BNM865MKYJ00' }, { node, force: true })).members.length).toBeGreaterThan(5);
  });

  it('has nothing to do where nothing of the job is here', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
    expect(await planJob({ jobId: 99 }, { node })).toMatchObject({ found: [], members: [] });
    const report = await cleanJob({ jobId: 99 }, { node });
    expect(report).toEqual({
      ...{ jobId: 99, dryRun: false, found: false, notes: [] },
      ...{ ended: [], survivors: [], spared: [], removed: [], left: [] },
    });
    expect((await cleanJob({ jobId: 4 }, { node })).found).toBe(true);
  });

  it('does not say that nothing is here where a slurmstepd of the job listens', async () => {
    const text = loadRecording('slurm-22.05-v1').replaceAll(/"job_4":"directory",?/g, '');
    const report = await cleanJob({ jobId: 4 }, { node: await readNode({ host: recordedHost(text) }) });
    expect(report).toMatchObject({ found: null, ended: [] });
    expect(report.refused).toContain('slurmstepd of job 4 listens here, but no cgroup of it was found');
  });

  it('ends nothing when a list cannot be read', async () => {
    const text = loadRecording('slurm-22.05-v1')
      .split('\n')
      .map((line) =>
        line.includes('"read":"/sys/fs/cgroup/memory/slurm_vm/uid_1001/job_4/step_batch/task_0/cgroup.procs"')
          ? JSON.stringify({ read: JSON.parse(line).read, errno: 'EACCES' })
          : line,
      )
      .join('\n');
    const plan = await planJob({ jobId: 4 }, { node: await readNode({ host: recordedHost(text) }), force: true });
    expect([plan.members, plan.refused]).toEqual([[], expect.stringContaining('nothing was ended')]);
  });
});

describe.skipIf(!canUseCgroups && mayBeSkipped)('cleanJob() (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  let outsider: Sleeper;
  let neighbour: Sleeper;
  const identity = (pid: number) => ({ pid, startTime: parseProcStat(host.read(`/proc/${pid}/stat`)).startTime });
  let others: { pid: number; startTime: bigint }[];
  const notes = () =>
    fs.existsSync('/run/slurm-cgroups/frozen')
      ? fs.readdirSync('/run/slurm-cgroups/frozen').filter((name) => name.includes(`-${process.pid}-`))
      : [];
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
    // Longer than any test here takes on a busy machine.
    neighbour = await sandbox.startScript(uid, 'exec sleep 900', await sandbox.addJob({ jobId: 2, uid }));
    outsider = await sandbox.startScript(uid, 'exec sleep 900');
    others = [identity(neighbour.pid), identity(outsider.pid)];
  });
  afterEach(async () => {
    try {
      expect(others.every((one) => isThere(host, one))).toBe(true);
      expect(notes()).toEqual([]);
    } finally {
      await sandbox.remove();
    }
  });

  it('ends all, each with its proof, and removes the job, the user’s other job and processes stay', async () => {
    const sleeper = await sandbox.startSleeper(uid, job);
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), ...quick });
    expect(report).toMatchObject({
      jobId: 1,
      dryRun: false,
      survivors: [],
      spared: [],
      left: [],
      ended: [
        {
          pid: sleeper.pid,
          uid,
          comm: 'sleep',
          proof: expect.stringMatching(/^member of \/.*job_1\/step_batch.* in /),
        },
      ],
    });
    expect(report.removed.some((path) => path.endsWith('/job_1'))).toBe(true);
    expect(report.removed.some((path) => path.includes('job_2') || /uid_\d+$/.test(path))).toBe(false);
  });

  it('removes what is recorded of adoptions into the job once all of it has ended, where that is wanted', async () => {
    const state = stateElsewhere(host);
    try {
      const node = { ...(await sandbox.node()), host: state.host };
      const record = (jobId: number) =>
        openAdoptionRecord(state.host, { process: { pid: 4711, startTime: 1n }, uid, job: { jobId } });
      for (const jobId of [1, 2, 99]) record(jobId).complete({});
      const all = [1, 2, 99].map((jobId) => `adoptions/${jobId}/4711-1`);
      await sandbox.startSleeper(uid, job);
      const recorded = () => state.left().filter((file) => file.startsWith('adoptions/'));
      await cleanJob({ jobId: 1 }, { node, ...quick, dryRun: true, forgetAdoptions: true });
      const refuses = { ...state.host, rmdir: () => host.rmdir('/proc') };
      const left = await cleanJob(
        { jobId: 1 },
        { node: { ...node, host: refuses }, graceMs: 0, timeoutMs: 200, forgetAdoptions: true },
      );
      expect([left.left.length > 0, recorded()]).toEqual([true, all]);
      await cleanJob({ jobId: 1 }, { node, ...quick });
      expect(recorded()).toEqual(all);
      for (const [jobId, found] of [
        [1, false],
        [99, false],
        [2, true],
      ] as const) {
        const report = await cleanJob({ jobId }, { node, ...quick, forgetAdoptions: true });
        expect([report.found, report.left, report.notes.filter((note) => note.includes('recorded'))]).toEqual([
          found,
          [],
          [],
        ]);
        expect(recorded()).not.toContain(`adoptions/${jobId}/4711-1`);
      }
      expect(recorded()).toEqual(['adoptions/']);
      others = [identity(outsider.pid)];
    } finally {
      state.remove();
    }
  });

  it('removes the user’s cgroup with the last job, under Slurm’s lock', async () => {
    const node = withOwnLocks(await sandbox.node(), sandbox.within);
    await cleanJob({ jobId: 1 }, { node, ...quick });
    others = others.slice(1);
    const report = await cleanJob({ jobId: 2 }, { node, ...quick });
    expect(report.left).toEqual([]);
    if (sandbox.version === 1)
      expect(report.removed.filter((path) => path.endsWith(`/uid_${uid}`))).toHaveLength(sandbox.controllers.length);
  });

  it('says that the user’s cgroup stays while any user holds Slurm’s lock, and is no failure', async () => {
    const node = withOwnLocks(await sandbox.node(), sandbox.within);
    await cleanJob({ jobId: 1 }, { node, ...quick });
    others = others.slice(1);
    const users = node.tops
      .filter(({ hierarchy }) => hierarchy.version === 1 && sandbox.controllers.includes(hierarchy.key))
      .map(({ hierarchy, directory }) => ({ point: hierarchy.mountPoint, directory: `${directory}/uid_${uid}` }));
    const { release } = await holdLocks(users.map(({ point }) => point));
    try {
      const report = await cleanJob({ jobId: 2 }, { node, graceMs: 0, timeoutMs: 4000 });
      expect([report.refused, report.survivors, report.left]).toEqual([undefined, [], []]);
      expect(report.notes).toEqual(
        users.map(
          ({ point, directory }) =>
            `"${directory}", the user's, stays though it is empty: another process holds Slurm's lock on "${point}"`,
        ),
      );
    } finally {
      await release();
    }
  });

  it('removes it by flock(1) where koffi is not installed', async () => {
    const node = {
      ...withOwnLocks(await sandbox.node(), sandbox.within),
      host: { ...host, libc: async () => undefined },
    };
    await cleanJob({ jobId: 1 }, { node, ...quick });
    others = others.slice(1);
    const report = await cleanJob({ jobId: 2 }, { node, ...quick });
    expect([report.left, report.notes]).toEqual([[], []]);
    if (sandbox.version === 1)
      expect(report.removed.filter((path) => path.endsWith(`/uid_${uid}`))).toHaveLength(sandbox.controllers.length);
  });

  it('asks with SIGTERM first, and kills who does not listen', async () => {
    const polite = await sandbox.startSleeper(uid, job);
    const deaf = await sandbox.startScript(uid, 'trap "" TERM; while :; do sleep 0.05; done', job);
    await host.sleep(100);
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 300, timeoutMs: 20_000 });
    const by = new Map(report.ended.map((one) => [one.pid, one.signal]));
    expect([by.get(polite.pid), by.get(deaf.pid)]).toEqual(['SIGTERM', expect.stringMatching(/SIGKILL|cgroup\.kill/)]);
    expect(report.survivors).toEqual([]);
  });

  it('wakes what is stopped, so that it can end by itself', async () => {
    const stopped = await sandbox.startSleeper(uid, job);
    host.signal(stopped.pid, 'SIGSTOP');
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 5000, timeoutMs: 20_000 });
    expect(report.ended.map((one) => [one.pid, one.signal])).toEqual([[stopped.pid, 'SIGTERM']]);
  });

  it('ends a suspended job', async () => {
    const sleeper = await sandbox.startSleeper(uid, job);
    const freezer = job.cgroups.find(
      (one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2,
    );
    if (freezer === undefined) throw new Error('no freezer');
    host.write(
      `${freezer.directory}/${freezer.hierarchy.version === 2 ? 'cgroup.freeze' : 'freezer.state'}`,
      freezer.hierarchy.version === 2 ? '1' : 'FROZEN',
    );
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), ...quick });
    expect([report.ended.map((one) => one.pid), report.survivors, report.left]).toEqual([[sleeper.pid], [], []]);
    if (freezer.hierarchy.version === 1) expect(report.notes.join()).toContain('was suspended');
  });

  it('--dry-run lists and touches nothing', async () => {
    const sleeper = await sandbox.startSleeper(uid, job);
    const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), dryRun: true });
    expect(report).toMatchObject({ dryRun: true, removed: [], ended: [{ pid: sleeper.pid, signal: 'none' }] });
    expect(isThere(host, identity(sleeper.pid))).toBe(true);
  });

  it('ends a forged slurmstepd: a user’s program of that name proves nothing', async () => {
    const folder = fs.mkdtempSync('/tmp/slurm-cgroups-forged-');
    try {
      fs.chmodSync(folder, 0o755);
      fs.symlinkSync('/bin/sleep', `${folder}/slurmstepd`);
      const forged = await sandbox.startScript(uid, `exec ${folder}/slurmstepd 60`, job);
      const nameOf = () => parseProcStat(host.read(`/proc/${forged.pid}/stat`)).comm;
      for (let tries = 0; nameOf() !== 'slurmstepd' && tries < 1000; tries++) await host.sleep(10);
      expect(nameOf()).toBe('slurmstepd');
      const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), ...quick });
      expect([report.refused, report.ended.map((one) => one.pid)]).toEqual([undefined, [forged.pid]]);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('two cleaners at once: both end well', async () => {
    await sandbox.startScript(uid, 'i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; wait', job);
    await host.sleep(200);
    const node = await sandbox.node();
    const reports = await Promise.allSettled([
      cleanJob({ jobId: 1 }, { node, ...quick }),
      cleanJob({ jobId: 1 }, { node, ...quick }),
    ]);
    for (const one of reports)
      if (one.status === 'fulfilled') expect([one.value.survivors, one.value.left]).toEqual([[], []]);
    expect(reports.some((one) => one.status === 'fulfilled')).toBe(true);
    expect(await job.procs()).toEqual([]);
  });

  it('SIGTERM and SIGKILL of the cleaner while the target is frozen: the next run thaws it and finishes', async () => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const set = signal === 'SIGTERM' ? job : await sandbox.addJob({ jobId: 3, uid });
      const jobId = signal === 'SIGTERM' ? '1' : '3';
      const freezer = set.cgroups.find(
        (one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2,
      );
      if (freezer === undefined) throw new Error('no freezer');
      await sandbox.startScript(uid, 'i=0; while [ $i -lt 300 ]; do sleep 60 & i=$((i+1)); done; wait', set);
      await host.sleep(400);
      const cleaner = spawn(
        process.execPath,
        [programFile, 'clean', jobId, '--grace', '0', '--within', sandbox.within],
        { stdio: 'ignore' },
      );
      const ended = new Promise((fulfil) => cleaner.once('close', fulfil));
      const until = Date.now() + 10_000;
      while (!isToldToFreeze(host, freezer) && cleaner.exitCode === null && Date.now() < until)
        await new Promise(setImmediate);
      cleaner.kill(signal);
      await ended;
      const report = await cleanJob({ jobId: Number(jobId) }, { node: await sandbox.node(), ...quick });
      expect(report.survivors).toEqual([]);
      expect(await set.procs()).toEqual([]);
    }
  });

  /** As small as a job can be: where it is frozen, where its memory is counted, and one step. */
  const addSmallJob = async (jobId: number): Promise<CgroupSet> => {
    if (sandbox.version === 2) return sandbox.addJob({ jobId, uid });
    const users = job.cgroups.filter((one) => isSmall(one.hierarchy.key));
    return new CgroupSet(
      host,
      users.map(({ hierarchy }) =>
        new Cgroup(host, hierarchy, childPath(sandbox.within, 'slurm', `uid_${uid}`))
          .create(`job_${jobId}`)
          .create('step_batch'),
      ),
    );
  };
  const isSmall = (key: string) => ['freezer', 'memory', 'unified'].includes(key);
  const runs = (pid: number) => !/[ZX]/.test(ifThere(() => parseProcStat(host.read(`/proc/${pid}/stat`)).state) ?? 'X');

  it('whatever call fails: nothing stays frozen, nothing outside is touched, what happened is said, and a second run finishes', async () => {
    const node = await sandbox.node();
    const tops = node.tops.filter((top) => isSmall(top.hierarchy.key));
    let failures = 0;
    // What comes after the 200th call is a freeze that waits for a busy machine, with the same calls again and again.
    for (let nth = 1; ; nth += nth < 200 ? 1 : 10) {
      const jobId = 100 + nth;
      const set = await addSmallJob(jobId);
      const { pid } = await sandbox.startSleeper(uid, set);
      const failing = failingHost(host, { nth, errno: (['EIO', 'EACCES', 'EMFILE'] as const)[nth % 3] ?? 'EIO' });
      const outcome: unknown = await cleanJob(
        { jobId },
        { node: { ...node, tops, host: failing }, graceMs: 0, timeoutMs: 100 },
      ).catch((error: unknown) => error);
      const about = `${nth}: ${JSON.stringify(failing.calls[nth - 1])}`;
      const jobs = set.cgroups.map((one) => new Cgroup(host, one.hierarchy, parentPath(one.path)));
      for (const cgroup of [...set.cgroups, ...jobs]) expect(isToldToFreeze(host, cgroup), about).toBe(false);
      expect(failing.openDirectories(), about).toBe(0);
      expect(
        others.every((one) => isThere(host, one)),
        about,
      ).toBe(true);
      const remain = jobs.some((one) => host.stat(one.directory) !== undefined);
      if (outcome instanceof Error) expect(outcome, about).toBeInstanceOf(SlurmCgroupsError);
      else {
        const { found, refused, ended, survivors, left } = outcome as CleanReport;
        expect(found !== false || !runs(pid), about).toBe(true);
        const claimed = ended.some((one) => one.pid === pid);
        if (runs(pid)) expect([claimed, survivors.length > 0 || refused !== undefined], about).toEqual([false, true]);
        // One that was still dying at the deadline is a survivor in the report.
        else expect(claimed || survivors.some((one) => one.pid === pid), about).toBe(true);
        if (remain) expect(left.length > 0 || refused !== undefined, about).toBe(true);
      }
      await cleanJob({ jobId }, { node: { ...node, tops }, ...quick });
      expect([runs(pid), await set.procs()], about).toEqual([false, []]);
      if (failing.calls.length < nth) break;
      failures++;
    }
    expect(failures).toBeGreaterThan(100);
    // A note whose removal was the call that failed stays for as long as its writer, this test, lives.
    for (const name of notes()) fs.unlinkSync(`/run/slurm-cgroups/frozen/${name}`);
  }, 300_000);
});
