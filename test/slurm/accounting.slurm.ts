// Accounting on a real Slurm: slurmstepd told of who was moved by cgroup, stopped, ending, and what Slurm counts then.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type AdoptOptions, adopt } from '../../src/adopt/adoption.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import type { Job } from '../../src/jobs/job.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { askStepd } from '../../src/jobs/stepd/ask.js';
import { socketOf } from '../../src/jobs/stepd/sockets.js';
import { verify } from '../../src/jobs/verification.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { command, type Said } from './command.js';

const host = liveHost();
const alice = 1; // the uid of `users[0]`
const long = { timeoutMs: 30_000, stepdTimeoutMs: 20_000 };

/** The tests of one cluster, and what each of them leaves behind taken away. */
function onCluster(name: string, settings: Readonly<Record<string, string>>, tests: (on: On) => void): void {
  describe(name, () => {
    const on = new On();
    beforeAll(async () => {
      on.cluster = await startCluster(settings);
    });
    afterEach(() => on.clear());
    afterAll(() => on.cluster?.stop());
    tests(on);
  });
}

class On {
  cluster!: Cluster;
  readonly #children: ChildProcess[] = [];
  readonly #stopped = new Set<number>();

  /** Something of alice that is in no job. */
  session(script = 'exec sleep 120'): number {
    const child = spawn('/bin/sh', ['-c', script], { uid: alice, gid: alice, cwd: '/', stdio: 'ignore' });
    this.#children.push(child);
    return child.pid ?? expect.unreachable();
  }

  hasEnded(pid: number): boolean {
    return this.#children.some((child) => child.pid === pid && (child.signalCode ?? child.exitCode) !== null);
  }

  async job(args: readonly string[] = []): Promise<number> {
    return this.cluster.submit(users[0], 'sleep 3600', args);
  }

  async found(jobId: number): Promise<{ readonly node: SlurmNode; readonly job: Job }> {
    const node = await readNode({ host, nodeName: this.cluster.nodeName, configFile: this.cluster.conf });
    return { node, job: discoverJobs(node).find((one) => one.jobId === jobId) ?? expect.unreachable() };
  }

  async adopt(pid: number, jobId: number, options: Partial<AdoptOptions> = {}) {
    const { node, job } = await this.found(jobId);
    return adopt(pid, job, { node, ...long, ...options });
  }

  /** `contained`, `outside` … in that job. */
  async verdict(pid: number, jobId: number): Promise<string> {
    const { node } = await this.found(jobId);
    const { verdict, job } = await verify(pid, { node });
    return job === null || job.jobId === jobId ? verdict : `in job ${job.jobId}`;
  }

  /** What Slurm says: the pids of a job's extern step. */
  async listed(jobId: number): Promise<readonly number[]> {
    const text = await this.cluster.run('scontrol', ['listpids', String(jobId), this.cluster.nodeName]);
    const lines = text.split('\n').map((line) => line.trim().split(/\s+/));
    return lines.filter(([, job, step]) => job === String(jobId) && step === 'extern').map(([pid]) => Number(pid));
  }

  /** CPU seconds of the extern step, as Slurm counts them. */
  async counted(jobId: number): Promise<number> {
    const words = ['-j', `${jobId}.extern`, '-n', '-P', '-o', 'TRESUsageInTot'];
    const [, hours, minutes, seconds] =
      /cpu=(\d+):(\d+):(\d+)/.exec(await this.cluster.run('/usr/bin/sstat', words)) ?? [];
    return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  }

  externOf(jobId: number) {
    return socketOf(this.cluster.spool, { nodeName: this.cluster.nodeName, jobId, stepId: 'extern' });
  }

  async stepd(jobId: number) {
    const { answers, serverVersion = 0 } = await askStepd(this.externOf(jobId), ['daemonPid'], {
      host,
      deadline: deadlineIn(host, 30_000),
    });
    return { pid: answers.daemonPid ?? expect.unreachable(), serverVersion };
  }

  stop(pid: number): void {
    process.kill(pid, 'SIGSTOP');
    this.#stopped.add(pid);
  }

  goOn(): void {
    for (const pid of this.#stopped) process.kill(pid, 'SIGCONT');
    this.#stopped.clear();
  }

  async clear(): Promise<void> {
    this.goOn();
    for (const child of this.#children.splice(0)) child.kill('SIGKILL');
    for (const user of users) await this.cluster.run('scancel', ['-u', user]);
    await until('every job has ended', async () => (await this.cluster.run('squeue', ['-h'])).trim() === '');
    // Not until no job has a cgroup: slurmstepd of 22.05 does not come back for one that was in use when it left.
    await until('no slurmstepd is left', () => {
      return !fs.readdirSync(this.cluster.spool).some((name) => name.startsWith(`${this.cluster.nodeName}_`));
    });
  }
}

const adoptionOf = ({ stdout }: Said): Record<string, unknown> & { readonly trace: readonly string[] } =>
  JSON.parse(stdout).adoption;

/** Where a process is, by hierarchy. */
const placesOf = (pid: number) =>
  fs
    .readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(':'));

/** Back to where it came from, in Slurm's hierarchies: as a session manager takes it out between two phases of PAM. */
function moveBack(pid: number, places: ReturnType<typeof placesOf>): void {
  const now = new Map(placesOf(pid).map(([, key, at]) => [key, at]));
  for (const [, key = '', at] of places)
    if (key !== '' && now.get(key) !== at) fs.writeFileSync(`/sys/fs/cgroup/${key}${at}/cgroup.procs`, String(pid));
}

/** CPU seconds that a process and its children have used. */
function usedBy(pids: readonly number[]): number {
  const fields = pids.map((pid) => fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []);
  return fields.reduce((sum, of) => sum + (Number(of[11]) + Number(of[12])) / 100, 0);
}

const childrenOf = (pid: number) =>
  fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);

const burning = 'while :; do :; done & exec sleep 120';

onCluster('adopt(), counted by Slurm', { JobAcctGatherFrequency: '1' }, (on) => {
  it('is told to slurmstepd, and said so in JSON and in words', async () => {
    const jobId = await on.job();
    const [first, second] = [on.session(), on.session()];
    const said = await command(on.cluster, 'adopt', String(first), '--json');
    expect(adoptionOf(said), said.stderr).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    const words = await command(on.cluster, 'adopt', String(second));
    expect(words.stdout).toContain('\nSlurm counts its use.\n');
    expect(await on.listed(jobId)).toEqual(expect.arrayContaining([first, second]));
    for (const pid of [first, second]) expect(await on.verdict(pid, jobId)).toBe('contained');
  });

  it('is in the job, but not counted, where slurmstepd is stopped; and stays there when it goes on', async () => {
    const jobId = await on.job();
    const stepd = await on.stepd(jobId);
    on.stop(stepd.pid);
    const pid = on.session();
    const begun = Date.now();
    const said = await command(on.cluster, 'adopt', String(pid), '--job', String(jobId), '--json');
    expect(Date.now() - begun).toBeLessThan(30_000);
    const adoption = adoptionOf(said);
    expect([said.code, adoption], said.stderr).toMatchObject([0, { outcome: 'adopted', accounting: 'none' }]);
    expect(adoption.trace.at(-1)).toMatch(/^limited by the job, but not counted: .*it does not answer in time$/);
    const words = await command(on.cluster, 'adopt', String(on.session()), '--job', String(jobId));
    expect(words.stdout).toContain('\nLimited by the job, but not counted by Slurm: ');
    on.goOn();
    expect((await on.stepd(jobId)).pid).toBe(stepd.pid);
    expect(await on.verdict(pid, jobId)).toBe('contained');
    expect(await on.listed(jobId)).toContain(pid);
  });

  it('is taken in later where slurmstepd stops between its word that it runs and ours', async () => {
    const jobId = await on.job();
    const stepd = await on.stepd(jobId);
    const pid = on.session();
    const result = await on.adopt(pid, jobId, { timeoutMs: 3000, onProven: () => on.stop(stepd.pid) });
    expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none' });
    expect(result.trace.at(-1)).toBe(
      `slurmstepd was told to accept process ${pid} and may still do so, even if the pid is another process's by then`,
    );
    on.goOn();
    expect((await on.stepd(jobId)).pid).toBe(stepd.pid);
    expect(await on.verdict(pid, jobId)).toBe('contained');
  });

  it('is counted once, with its children, and not twice where it is put back', async () => {
    const jobId = await on.job();
    const pid = on.session(burning);
    await until('it has a child', () => childrenOf(pid).length === 1);
    const outside = placesOf(pid);
    const first = await on.adopt(pid, jobId, { descendants: true });
    expect(first).toMatchObject({ outcome: 'adopted', accounting: 'stepd', descendants: [{ outcome: 'adopted' }] });
    for (const one of [pid, ...childrenOf(pid)]) moveBack(one, outside);
    expect(await on.verdict(pid, jobId)).toBe('outside');
    const again = await on.adopt(pid, jobId, { descendants: true, isCounted: true });
    expect(again).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    expect(await on.listed(jobId)).toEqual(expect.arrayContaining([pid, ...childrenOf(pid)]));
    moveBack(pid, outside);
    expect(await on.adopt(pid, jobId)).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    expect(await on.verdict(pid, jobId)).toBe('contained');
  });

  it('never leaves a session outside that was told that it is inside, when the job is cancelled meanwhile', async () => {
    const jobId = await on.job();
    const { node, job } = await on.found(jobId);
    const sessions = Array.from({ length: 16 }, () => on.session());
    const before = sessions.map((pid) => fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
    const adopting = sessions.map(async (pid, at) => {
      await pause(at * 60);
      return adopt(pid, job, { node, ...long }).catch((error) => ({ outcome: String(error.code), error }));
    });
    await pause(200);
    await on.cluster.run('scancel', [String(jobId)]);
    const results = await Promise.all(adopting);
    const { folder, name } = on.externOf(jobId);
    await until('its extern step has ended', () => !fs.existsSync(`${folder}/${name}`));
    const outcomes = results.map(({ outcome }) => outcome);
    expect(outcomes).toContain('adopted');
    for (const result of results) // refused is undone, where no login was answered
      if (result.outcome === 'adopted') expect(result).not.toMatchObject({ accounting: 'refused' });
    for (const [at, outcome] of outcomes.entries()) {
      const pid = sessions[at] ?? 0;
      if (outcome === 'adopted') await until(`${pid} has ended with its job (${outcomes})`, () => on.hasEnded(pid));
      else {
        expect(['undone', 'untouched', 'ERR_CGROUP_GONE', 'ERR_NOT_SUPPORTED', 'ERR_NO_SUCH_PROCESS']).toContain(
          outcome,
        );
        if (!on.hasEnded(pid)) expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toBe(before[at]);
      }
    }
  });
});

onCluster(
  'adopt() with ulimit_pam_adopt and without cgroups of accounting',
  {
    LaunchParameters: 'ulimit_pam_adopt',
    JobAcctGatherType: 'jobacct_gather/linux',
    JobAcctGatherFrequency: '1',
  },
  (on) => {
    it('lets slurmstepd set its limits before the answer', async () => {
      const jobId = await on.job(['--mem=200M']);
      const { serverVersion } = await on.stepd(jobId);
      const pid = on.session();
      const limits = () => /^Max resident set +(\S+)/m.exec(fs.readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
      const before = limits();
      let answered = 0;
      const result = await on.adopt(pid, jobId, { onProven: () => void answered++ });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
      expect(answered).toBe(0);
      expect(result.trace).toContainEqual(
        expect.stringMatching(/^slurmstepd is told before the answer: LaunchParameters=ulimit_pam_adopt \(\/.*:\d+\)$/),
      );
      // Up to 22.05 there is no such parameter (Slurm 23.02, "Add LaunchParameters=ulimit_pam_adopt").
      expect(limits()).toBe(serverVersion >= 39 << 8 ? String(200 << 20) : before);
    });

    // From 25.05 on slurmstepd makes the leaves with the first whom it takes in; here it is said that one is missing.
    it.each([
      ['cgroup', []],
      ['stepd', ['memory']],
    ] as const)('counts its children with it, once, moved by %s', async (moved, externMissingIn) => {
      const jobId = await on.job();
      const pid = on.session(burning);
      await until('it has a child', () => childrenOf(pid).length === 1);
      const { node, job } = await on.found(jobId);
      const result = await adopt(pid, { ...job, externMissingIn }, { node, ...long, descendants: true });
      expect(result).toMatchObject({
        ...{ outcome: 'adopted', moved, accounting: 'stepd', descendants: [{ outcome: 'adopted' }] },
      });
      for (const one of [pid, ...childrenOf(pid)]) expect(await on.verdict(one, jobId)).toBe('contained');
      const used = () => usedBy([pid, ...childrenOf(pid)]);
      await until('they have used 4 s', () => used() > 4);
      await pause(2000);
      const counted = await on.counted(jobId);
      expect(counted).toBeGreaterThan(2);
      expect(counted).toBeLessThan(used() * 1.5); // told of each, it would be twice (measured)
    });
  },
);
