// The demo as a newcomer meets it: in full, stopped in the middle, killed at any moment, and without root.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../../src/cgroup/hierarchies.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';
import { programFile, runProgramFile, runProgramFileAs } from '../../support/program-run.js';
import { TestCgroups } from '../../support/test-cgroups.js';

/** What is left of the demo that was this process. */
function leftBehind(pid: number | undefined): readonly string[] {
  const folders = [...discoverHierarchies().all.map((hierarchy) => hierarchy.mountPoint), '/run/slurm-cgroups'];
  return folders.flatMap((folder) =>
    fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.startsWith(`slurm-cgroups-demo-${pid}-`)) : [],
  );
}

/** Starts the demo and sends `signal` once `text` was printed; gives what it printed and how it ended. */
async function interrupt(
  text: string,
  signal: NodeJS.Signals,
): Promise<{
  readonly pid: number | undefined;
  readonly stdout: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}> {
  const child = spawn(process.execPath, [programFile, 'demo'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let stdout = '';
  let sent = false;
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    stdout += part;
    if (!sent && stdout.includes(text)) sent = child.kill(signal);
  });
  return new Promise((fulfil) =>
    child.once('close', (code, by) => fulfil({ pid: child.pid, stdout, code, signal: by })),
  );
}

/** A demo in cgroups of the test's own: what it starts is in one of them, moved into its sandbox or not. */
class WatchedDemo {
  readonly pid: number;
  readonly #cgroups: TestCgroups;
  readonly #ended: Promise<void>;
  #hasEnded = false;

  private constructor(cgroups: TestCgroups, pid: number, ended: Promise<void>) {
    [this.#cgroups, this.pid] = [cgroups, pid];
    this.#ended = ended.then(() => {
      this.#hasEnded = true;
    });
  }

  static start(cgroups: TestCgroups): WatchedDemo {
    const places = cgroups.all.cgroups.map((cgroup) => `${cgroup.directory}/cgroup.procs`);
    const script = 'for file; do echo $$ >"$file"; done; exec "$PROGRAM" "$FILE" demo';
    const env = { PROGRAM: process.execPath, FILE: programFile, PATH: '/usr/bin:/bin' };
    const child = spawn('/bin/sh', ['-c', script, 'sh', ...places], { stdio: 'ignore', env });
    const ended = new Promise<void>((fulfil) => child.once('close', () => fulfil()));
    return new WatchedDemo(cgroups, child.pid ?? expect.unreachable(), ended);
  }

  /** SIGKILL as soon as it has started its nth process. */
  async killAtChild(nth: number): Promise<void> {
    const seen = new Set<string>();
    for (let at = 0; seen.size < nth && !this.#hasEnded; at++) {
      for (const pid of this.#children()) seen.add(pid);
      if (at % 50 === 0) await pause(0);
    }
    await this.kill();
  }

  async kill(): Promise<void> {
    if (!this.#hasEnded) process.kill(this.pid, 'SIGKILL');
    await this.#ended;
  }

  #children(): readonly string[] {
    try {
      const text = fs.readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8');
      return text.split(' ').filter((pid) => pid !== '');
    } catch {
      return []; // it is over
    }
  }

  /** Its processes, now. */
  async left(): Promise<readonly { readonly pid: number; readonly state: string; readonly isInSandbox: boolean }[]> {
    const pids = new Set((await this.#cgroups.all.procs()).map((one) => one.pid));
    const sandbox = leftBehind(this.pid).map((name) => `/${name}/`);
    return [...pids].flatMap((pid) => {
      try {
        const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
        const state = text.slice(text.lastIndexOf(')') + 2)[0] ?? '?';
        const memberships = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');
        return [{ pid, state, isInSandbox: sandbox.some((part) => memberships.includes(part)) }];
      } catch {
        return []; // it ended meanwhile
      }
    });
  }
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('demo (needs root and cgroups)', () => {
  it('adopts a session into the newest of two jobs, proves it, and leaves nothing', () => {
    const { pid, exitCode, stdout, stderr } = runProgramFile('demo');
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(stdout).toContain('The session is in job 102');
    expect(stdout).toMatch(/of uid 64731 is in job 102 step extern, in every hierarchy the job has/);
    expect(stdout).toMatch(/Ended what was started and removed \/slurm-cgroups-demo-\d+-\d+-\d+ from /);
    expect(leftBehind(pid)).toEqual([]);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s in the middle: ends, and leaves nothing', async (signal) => {
    const ended = await interrupt('# A session arrives', signal);
    expect(ended.stdout).toContain(`Stopped by ${signal}.`);
    expect(ended.stdout).not.toContain('# Proven');
    expect(ended.code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(leftBehind(ended.pid)).toEqual([]);
  });

  it('what SIGKILL leaves behind the next run removes', async () => {
    const killed = await interrupt('# A session arrives', 'SIGKILL');
    expect(killed.signal).toBe('SIGKILL');
    const names = new Set(leftBehind(killed.pid));
    expect(names.size).toBe(1);
    const { exitCode, stdout } = runProgramFile('demo');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Removed what an earlier demo left behind: ${[...names].join()}`);
    expect(leftBehind(killed.pid)).toEqual([]);
  });

  // The worst moment is the start of a process: it is not in the sandbox yet, where the next run would find it.
  it('SIGKILL at any moment: what it started ends by itself, and the next run removes the rest', async () => {
    const cgroups = TestCgroups.create();
    try {
      const moments = [
        ...[1, 2, 3, 4, 5].flatMap((nth) =>
          Array.from({ length: 4 }, () => async (demo: WatchedDemo) => demo.killAtChild(nth)),
        ),
        ...Array.from({ length: 12 }, (_, at) => async (demo: WatchedDemo) => {
          await pause(100 + 125 * at);
          await demo.kill();
        }),
      ];
      const pids: number[] = [];
      for (const killAt of moments) {
        const demo = WatchedDemo.start(cgroups);
        pids.push(demo.pid);
        await killAt(demo);
        // A process that the demo has stopped, or frozen to end it, cannot end by itself: it is in the sandbox.
        const isLate = (one: Awaited<ReturnType<WatchedDemo['left']>>[number]) =>
          !(one.isInSandbox && /[TD]/.test(one.state));
        for (let at = 0; (await demo.left()).some(isLate) && at < 1000; at++) await pause(10);
        expect((await demo.left()).filter(isLate)).toEqual([]);
      }
      expect(runProgramFile('demo').exitCode).toBe(0);
      expect(await cgroups.all.procs()).toEqual([]);
      expect(pids.flatMap(leftBehind)).toEqual([]);
    } finally {
      await cgroups.all.kill({ timeoutMs: 5000 }); // where the test failed
      await cgroups.remove();
    }
  }, 240_000);
});

describe('demo without root', () => {
  it('says so and tells the story on a recorded node, marked as such', () => {
    const asNobody = canUseCgroups ? { uid: 65_534, gid: 65_534 } : {};
    const { exitCode, stdout, stderr } = runProgramFileAs(asNobody, 'demo');
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^No real cgroups for this demo: .*\.\nHere is the same on a RECORDED node/);
    expect(stdout).toContain('# RECORDED: ');
    expect(stdout).toContain('The session goes into job 5');
  });
});
