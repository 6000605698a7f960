// What Slurm counted of a job, as sacct has it, and sessions whose CPU time is known: of a Slurm on this machine as of
// one in a guest.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import type { Job } from '../../src/jobs/job.js';
import type { SlurmNode } from '../../src/jobs/node.js';

/**
 * slurmstepd looks for the end of each once a second (Slurm 26.05 src/slurmd/slurmstepd/req.c, _block_on_pid). Where
 * the job ends before, there is too little or too much (measured: 26.05 on v2 2 s of 3, 22.05 on v1 6 s of 3).
 */
const noticedMs = 4000;

/** Waits for a word, uses so much CPU time, and is ended by that. */
export interface Burner {
  readonly pid: number;
  /** Lets it begin, and waits until it has ended, and slurmstepd has seen that. */
  burn(): Promise<void>;
  end(): void;
}

/**
 * In no job. `by`: who works. What a child of a session uses Slurm 22.05 counts twice on v1 (measured: 8 s of 4).
 */
export function burner(uid: number, seconds: number, by: 'itself' | 'its child' = 'itself'): Burner {
  const work = `read go <&3; ulimit -t ${seconds}; while :; do :; done`;
  const script = `exec 3<&0; ${by === 'itself' ? work : `(${work}) & wait`}`;
  const session = spawn('/bin/sh', ['-c', script], { uid, gid: uid, cwd: '/', stdio: ['pipe', 'ignore', 'ignore'] });
  const ended = once(session, 'exit');
  return {
    pid: session.pid ?? expect.unreachable(),
    async burn() {
      session.stdin.write('go\n');
      await ended;
      await new Promise((fulfil) => setTimeout(fulfil, noticedMs));
    },
    end: () => void session.kill('SIGKILL'),
  };
}

/** Seconds of CPU time by step. */
export type Counted = Readonly<Record<string, number>>;

/** Undefined as long as the database does not have its end. */
export async function countedOf(
  jobId: number,
  run: (program: string, args: readonly string[]) => Promise<string>,
): Promise<Counted | undefined> {
  const said = await run('sacct', ['-nP', '-j', String(jobId), '--format=JobID,State,TotalCPU']);
  // As long as its step is not through, that is called CANCELLED with its job, and has no use.
  if (!/\.extern\|COMPLETED/.test(said)) return undefined;
  const steps = said.trim().split('\n');
  return Object.fromEntries(
    steps
      .map((line) => line.split('|'))
      .map(([name = '', , time = '']) => [name.replace(/^\d+\.?/, '') || 'job', secondsOf(time)]),
  );
}

/** `[DD-[HH:]]MM:SS[.mmm]` */
function secondsOf(time: string): number {
  const [clock = '', days = '0'] = time.split('-').reverse();
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0) + Number(days) * 86_400;
}

export interface Target {
  readonly node: SlurmNode;
  readonly job: Job;
}

export type WayIn = (pid: number, target: Target) => Promise<void>;

/** Ways of a session into its job, after each of which it is counted once. */
export const waysIn: readonly (readonly [how: string, come: WayIn])[] = [
  ['once', (pid, target) => adoptedInto(target, pid)],
  [
    'again, where it is already',
    async (pid, target) => {
      await adoptedInto(target, pid);
      expect(await adopt(pid, target.job, { node: target.node })).toMatchObject({ outcome: 'adopted', moved: 'none' });
    },
  ],
  [
    'again, as in the session phase of a login, after pam_systemd moved it away',
    async (pid, target) => {
      await adoptedInto(target, pid);
      const { hierarchies } = target.node;
      for (const { mountPoint } of hierarchies.all) fs.writeFileSync(`${mountPoint}/cgroup.procs`, String(pid));
      const again = await adopt(pid, target.job, { node: target.node, isCounted: true });
      expect(again).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
    },
  ],
];

async function adoptedInto({ node, job }: Target, pid: number): Promise<void> {
  expect(await adopt(pid, job, { node })).toMatchObject({ outcome: 'adopted', accounting: 'stepd' });
}
