// The lab itself: a guest has the cgroups asked for, gives back what its command did, and is gone afterwards on
// every path, whatever happened in it.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { removeAbandoned } from './cache.js';
import { type GuestOptions, type GuestResult, runInGuest, runsFolder } from './guest.js';

const timeoutMs = 200_000;
/** What a guest that does nothing took just now. */
let bootSeconds = 20;

function shell(script: string, options: Partial<GuestOptions> = {}): Promise<GuestResult> {
  return runInGuest({ cgroup: 'v2', timeoutMs, ...options, command: ['/bin/bash', '-c', script] });
}

/** Machines started by `parent` that still run, and folders of guests that are left. */
function leftOf(parent: number): { readonly machines: readonly number[]; readonly folders: readonly string[] } {
  const machines = fs
    .readdirSync('/proc')
    .filter(
      (name) =>
        /^\d+$/.test(name) && commandOf(name).includes('qemu-system') && commandOf(name).includes(`/.run-${parent}-`),
    );
  return {
    machines: machines.map(Number),
    folders: fs.readdirSync(runsFolder()).filter((name) => name.startsWith(`.run-${parent}-`)),
  };
}

function commandOf(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

describe('runInGuest()', () => {
  it('gives exit code, output and files; takes files, environment and kernel settings', async () => {
    const script =
      'cat /lab/in/word; echo " $COLOUR $(cat /proc/sys/kernel/pid_max) $(uname -r)"; echo $$ >&2; mkdir /lab/out/a; echo x >/lab/out/a/b; exit 7';
    const result = await shell(script, {
      files: { word: "it's" },
      env: { COLOUR: 'b l"u$e' },
      sysctl: { 'kernel.pid_max': 600 },
    });
    bootSeconds = result.seconds;
    expect(result).toMatchObject({ exitCode: 7, files: { 'a/b': 'x\n' } });
    expect(result.output).toMatch(/^it's b l"u\$e 600 6\.1\.\S+\n\d+\n$/);
  });

  it('has v2 alone and the repository, forgets what is written there, and ends though a mount hangs for ever', async ({
    expect,
  }) => {
    const name = `test/lab/.written-${process.pid}`;
    const script = [
      `echo x >${name}; cat ${name}; test -e /repository/package.json && node -p process.version`,
      'mkdir /tmp/m; exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 test /tmp/m; (ls /tmp/m &) 2>/dev/null',
      'sleep 1; cat /proc/self/cgroup; grep -c cgroup /proc/mounts',
    ];
    expect(await shell(script.join('\n'))).toMatchObject({ exitCode: 0, output: `x\n${process.version}\n0::/\n1\n` });
    expect(fs.existsSync(path.resolve(import.meta.dirname, '../..', name))).toBe(false);
  });

  it.each([
    [
      'v1',
      /^\d+:freezer:\/$/m,
      ['cgroup /sys/fs/cgroup/freezer', 'cgroup /sys/fs/cgroup/memory', 'cgroup /sys/fs/cgroup/systemd'],
    ],
    ['hybrid', /^0::\/$/m, ['cgroup /sys/fs/cgroup/freezer', 'cgroup2 /sys/fs/cgroup/unified']],
  ] as const)('mounts %s', async (cgroup, membership, mounts) => {
    const { output } = await shell("cat /proc/self/cgroup; awk '{ print $1, $2 }' /proc/mounts", { cgroup });
    expect(output.split('overlay /')[0]?.trim()).toMatch(membership);
    for (const mount of mounts) expect(output).toContain(`${mount}\n`);
    if (cgroup === 'v1') expect(output).not.toContain('cgroup2');
  });

  it('ends a fork bomb without a limit at the deadline', async () => {
    const deadline = Math.round(1000 * (8 + 1.5 * bootSeconds)); // it is to have begun, however busy this machine is
    const script = 'echo begin; bomb() { bomb | bomb & }; bomb; sleep 1000';
    const bomb = shell(script, { timeoutMs: deadline, memoryMiB: 512, cpus: 1 });
    await expect(bomb).rejects.toThrow(new RegExp(`did not end within ${deadline} ms\\n--- output\\nbegin`));
  });

  it('says so when the kernel of the guest dies', async () => {
    await expect(shell('echo c >/proc/sysrq-trigger; sleep 60')).rejects.toThrow(
      /its machine ended before it[\s\S]*Kernel panic/,
    );
  });
});

it('nothing is left of those that ended, failed or were ended', () =>
  expect(leftOf(process.pid)).toEqual({ machines: [], folders: [] }));

it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
  'runInGuest() takes the guest along when its process ends by %s',
  async (signal) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-lab-'));
    try {
      const outfile = path.join(folder, 'run.mjs');
      await build({
        stdin: {
          contents:
            "import { runInGuest } from './guest.js'; await runInGuest({ cgroup: 'v2', command: ['sleep', '1000'], timeoutMs: 100000 });",
          resolveDir: import.meta.dirname,
          loader: 'ts',
        },
        outfile,
        bundle: true,
        platform: 'node',
        format: 'esm',
        define: { 'import.meta.dirname': JSON.stringify(import.meta.dirname) },
        logLevel: 'warning',
      });
      const child = spawn(process.execPath, [outfile], { stdio: 'inherit' });
      const ended = new Promise((fulfil) => child.once('close', (_code, by) => fulfil(by)));
      const pid = child.pid ?? 0;
      while (leftOf(pid).machines.length === 0) await pause(50);
      child.kill(signal);
      expect(await ended).toBe(signal);
      for (let tries = 0; leftOf(pid).machines.length > 0 && tries < 100; tries++) await pause(20);
      expect(leftOf(pid).machines).toEqual([]);
      removeAbandoned(runsFolder()); // as the next run does
      expect(leftOf(pid).folders).toEqual([]);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  },
);
