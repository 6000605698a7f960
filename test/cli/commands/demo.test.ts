// The demo as a newcomer meets it: in full, stopped in the middle, killed at any moment, without sshd, and without root.
// All in one file, since a run removes what an earlier one left behind.

import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../../src/cgroup/hierarchies.js';
import { leftOut } from '../../../src/cli/demo/login-part.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';
import { programFile, runProgramFile, runProgramFileAs, runProgramIn } from '../../support/program-run.js';
import { TestCgroups } from '../../support/test-cgroups.js';

const repository = path.resolve(import.meta.dirname, '../../..');
const hasSshd = fs.existsSync('/usr/sbin/sshd') && fs.existsSync('/usr/bin/ssh');

/** What nothing may change, and what nobody may find there afterwards. */
const files = ['/etc/passwd', '/etc/shadow', '/etc/pam.d/sshd'];
const stamps = () => files.map((file) => [file, fs.statSync(file).ino, fs.readFileSync(file, 'utf8')]);

/** Processes and mounts that name the sandbox of that demo. */
function leftOf(pid: number): readonly string[] {
  const name = `slurm-cgroups-demo-${pid}-`;
  const pids = fs.readdirSync('/proc').filter((one) => /^\d+$/.test(one));
  const mentions = (file: string) => {
    try {
      return fs.readFileSync(file, 'utf8').includes(name);
    } catch {
      return false; // it has ended
    }
  };
  return pids
    .flatMap((one) => ['cmdline', 'mountinfo', 'cgroup'].map((file) => `/proc/${one}/${file}`))
    .filter(mentions);
}

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
  #printed = '';

  private constructor(cgroups: TestCgroups, child: ChildProcessByStdio<null, Readable, null>) {
    [this.#cgroups, this.pid] = [cgroups, child.pid ?? expect.unreachable()];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#printed += text;
    });
    this.#ended = once(child, 'close').then(() => {
      this.#hasEnded = true;
    });
  }

  static start(cgroups: TestCgroups): WatchedDemo {
    const places = cgroups.all.cgroups.map((cgroup) => `${cgroup.directory}/cgroup.procs`);
    const script = 'for file; do echo $$ >"$file"; done; exec "$PROGRAM" "$FILE" demo';
    const env = { PROGRAM: process.execPath, FILE: programFile, PATH: '/usr/bin:/bin' };
    const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
    return new WatchedDemo(cgroups, spawn('/bin/sh', ['-c', script, 'sh', ...places], { stdio, env }));
  }

  /** SIGKILL so long after it has printed this; without it, it is over before. */
  async killAfter(text: string, ms: number): Promise<void> {
    while (!this.#printed.includes(text) && !this.#hasEnded) await pause(5);
    await pause(this.#hasEnded ? 0 : ms);
    await this.kill();
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
    expect(runProgramFileAs({ uid: 65_534, gid: 65_534 }, 'demo')).toMatchObject({ exitCode: 0, stderr: '' }); // cannot
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
        // Among logins, where this machine has what they take.
        ...Array.from({ length: 6 }, (_, at) => async (demo: WatchedDemo) => {
          await demo.killAfter('# A login over ssh', 350 * at);
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

describe.skipIf((!canUseCgroups || !hasSshd) && mayBeSkipped)('the logins of the demo (need root and sshd)', () => {
  beforeAll(async () => {
    const scripts = path.join(repository, 'scripts');
    const { isModuleBuilt } = (await import(path.join(scripts, 'built.mjs'))) as { isModuleBuilt: () => boolean };
    if (!isModuleBuilt()) execFileSync(process.execPath, [path.join(scripts, 'build-native.mjs')], { stdio: 'ignore' });
  }, 240_000);

  it('go into the job, are refused without one, and end with it; nothing stays', () => {
    const before = stamps();
    const { pid, exitCode, stdout, stderr } = runProgramFile('demo');
    expect([exitCode, stderr], stdout).toEqual([0, '']);
    const story = stdout.slice(stdout.indexOf('# A login over ssh'));
    expect(story).toMatch(/\$ ssh demo-user@127\.0\.0\.1 cat \/proc\/self\/cgroup\n(?:\d+:.*\n)+Its line in the log/);
    expect(story).toMatch(/:\/slurm-cgroups-demo-\d+-\d+-\d+\/.*\/job_102\/step_extern/);
    expect(story).toContain(
      '{"user":"demo-user","service":"sshd","action":"allow","reason":"The session is in job 102"',
    );
    expect(story).toMatch(
      /\$ ssh other-user@.*\nAccess denied by pam_slurm_cgroups: you have no active jobs on this node\n/,
    );
    expect(story).toContain('SLURM_JOB_ID=102\n');
    expect(story).toMatch(/root +sshd/);
    expect(story).toMatch(/closed by remote host\.\nThe open session has ended with its job\.\n/);
    expect(stdout).not.toContain('Left out');
    expect(stamps()).toEqual(before);
    expect(leftOf(pid)).toEqual([]);
    expect(fs.existsSync('/run/demo')).toBe(false);
  });

  it.each(['# A login over ssh', '# A user without a job', 'SLURM_JOB_ID=102'])(
    'SIGTERM at "%s": nothing stays',
    async (text) => {
      const ended = await interrupt(text, 'SIGTERM');
      expect([ended.code, ended.stdout]).toEqual([143, expect.stringContaining('Stopped by SIGTERM.')]);
      expect(leftOf(ended.pid ?? expect.unreachable())).toEqual([]);
    },
  );

  /** The demo where these commands of root were run before, in a mount namespace of its own. */
  const demoAfter = (...commands: readonly string[]) => {
    const script = [...commands, 'exec "$@"'].join(' && ');
    return runProgramIn({ by: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'] }, 'demo');
  };

  it.each([
    ['no sshd is installed', ['mount -t tmpfs tmpfs /usr/sbin'], 'there is no sshd (Debian: openssh-server)'],
    [
      'the module is not built',
      [`mount -t tmpfs tmpfs ${repository}/native/pam/build`],
      `the PAM module is not built: "npm run build:native" in "${repository}" builds it`,
    ],
    [
      'it cannot be built',
      [`mount -t tmpfs tmpfs ${repository}/native/pam/build`, 'mount -t tmpfs tmpfs /usr/include/security'],
      'the PAM module is not built: no security/pam_modules.h (Debian: libpam0g-dev; RHEL: pam-devel)',
    ],
    ['mounts are refused', ['mount --bind /bin/false /usr/bin/mount'], 'sshd does not start here: nothing says why'],
  ])('are left out where %s, which is no failure', (_, commands, why) => {
    const { pid, exitCode, stdout, stderr } = demoAfter(...commands);
    expect([exitCode, stderr], stdout).toEqual([0, '']);
    expect(stdout).toContain(`\n${leftOut(why)}\n`);
    expect(stdout).toContain('The session is in job 102');
    expect(stdout).toContain('Ended what was started and removed');
    expect(stdout).not.toContain('ssh demo-user@');
    expect(leftOf(pid)).toEqual([]);
  });
});

describe('demo without root', () => {
  it('says so and tells the story on a recorded node, marked as such', () => {
    const asNobody = canUseCgroups ? { uid: 65_534, gid: 65_534 } : {};
    const { exitCode, stdout, stderr } = runProgramFileAs(asNobody, 'demo');
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^No real cgroups for this demo: .*\.\nHere is the same on a RECORDED node/);
    expect(stdout).toContain('# RECORDED: ');
    expect(stdout).toContain('The session goes into job 5');
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(
      /^Left out: ssh through a real sshd with the PAM module: .*\.$/,
    );
  });
});
