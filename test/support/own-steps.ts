// Jobs as Slurm up to 23.02 makes them on v1, where the directory of a step belongs to the job's user, and what
// such a user does there.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { expect } from 'vitest';
import type { Sandbox, SandboxJob } from '../../src/cli/sandbox.js';

/** A job whose steps are its user's, with the directories of its batch and its extern step by controller. */
export interface OwnJob {
  readonly batch: (controller: string) => string;
  readonly extern: (controller: string) => string;
  /** Of the batch step, in each hierarchy. */
  readonly batches: readonly string[];
}

export async function addOwnJob(sandbox: Sandbox, job: SandboxJob): Promise<OwnJob> {
  await sandbox.addJob(job);
  const at = (controller: string, step: string) =>
    `/sys/fs/cgroup/${controller}${sandbox.within}/slurm/uid_${job.uid}/job_${job.jobId}/${step}`;
  // slurmstepd gives its step's directory away: what is in it, and its control files, stay root's.
  for (const controller of sandbox.controllers)
    for (const step of ['step_batch', 'step_extern']) fs.chownSync(at(controller, step), job.uid, job.uid);
  return {
    batch: (controller) => at(controller, 'step_batch'),
    extern: (controller) => at(controller, 'step_extern'),
    batches: sandbox.controllers.map((controller) => at(controller, 'step_batch')),
  };
}

/** No program of a user's in a test takes longer. */
const longestMs = 120_000;

const asUser = (uid: number) => ({ uid, gid: uid, cwd: '/', stdio: 'ignore', timeout: longestMs }) as const;

/** A chain of cgroups, each in the one before, as the user makes it: no path of it is ever written. */
export function nestAs(uid: number, top: string, chain: { levels: number; name: string; freeze?: boolean }): void {
  const freeze = 'open F, ">", "freezer.state" and print F "FROZEN" and close F or die';
  const program = `chdir shift or die; for (1 .. shift) { mkdir $ARGV[0] and chdir $ARGV[0] or die; ${chain.freeze === true ? freeze : ''} }`;
  const args = ['-e', program, top, String(chain.levels), chain.name];
  const { status } = spawnSync('/usr/bin/perl', args, asUser(uid));
  expect(status).toBe(0);
}

/** The same for a process of the user's that goes in and stays there. Gives it once it is there. */
export async function sleepBelow(
  uid: number,
  top: string,
  chain: { levels: number; name: string },
): Promise<ChildProcess> {
  const program = `chdir shift or die; for (1 .. shift) { mkdir $ARGV[0] and chdir $ARGV[0] or die } open P, ">", "cgroup.procs" and print P "0" and close P or die;
    $| = 1; print "in"; chdir "/"; sleep 3600`;
  const words = [top, String(chain.levels), chain.name];
  const child = spawn('/usr/bin/perl', ['-e', program, ...words], {
    ...{ uid, gid: uid, cwd: '/', detached: true },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
  expect(String(said)).toBe('in');
  return child;
}

/** What a user does from a shell, with words. */
export function shellAs(uid: number, script: string, ...words: readonly string[]): void {
  expect(spawnSync('/bin/sh', ['-ec', script, 'sh', ...words], asUser(uid)).status).toBe(0);
}

/** Where a process is, by its v1 hierarchies. */
export function cgroupOf(pid: number, controller: string): string | undefined {
  const line = fs
    .readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find((one) => one.split(':')[1]?.split(',').includes(controller));
  return line?.split(':').slice(2).join(':');
}
