// The demo as a newcomer meets it: in full, stopped in the middle, killed, and without root.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../../src/cgroup/hierarchies.js';
import { canUseCgroups, mayBeSkipped, programFile } from '../../support/program-run.js';

function leftBehind(): readonly string[] {
  const folders = [...discoverHierarchies().all.map((hierarchy) => hierarchy.mountPoint), '/run/slurm-cgroups'];
  return folders.flatMap((folder) =>
    fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.startsWith('slurm-cgroups-demo')) : [],
  );
}

/** Starts the demo and sends `signal` once `text` was printed; gives what it printed and how it ended. */
async function interrupt(
  text: string,
  signal: NodeJS.Signals,
): Promise<{ readonly stdout: string; readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
  const child = spawn(process.execPath, [programFile, 'demo'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let stdout = '';
  let sent = false;
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    stdout += part;
    if (!sent && stdout.includes(text)) sent = child.kill(signal);
  });
  return new Promise((fulfil) => child.once('close', (code, by) => fulfil({ stdout, code, signal: by })));
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('demo (needs root and cgroups)', () => {
  it('adopts a session into the newest of two jobs, proves it, and leaves nothing', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [programFile, 'demo'], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain('The session is in job 102');
    expect(stdout).toMatch(/of uid 64731 is in job 102 step extern, in every hierarchy the job has/);
    expect(stdout).toMatch(/Ended what was started and removed \/slurm-cgroups-demo-\d+-\d+ from /);
    expect(leftBehind()).toEqual([]);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s in the middle: ends, and leaves nothing', async (signal) => {
    const ended = await interrupt('# A session arrives', signal);
    expect(ended.stdout).toContain(`Stopped by ${signal}.`);
    expect(ended.stdout).not.toContain('# Proven');
    expect(ended.code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(leftBehind()).toEqual([]);
  });

  it('what SIGKILL leaves behind the next run removes', async () => {
    const killed = await interrupt('# A session arrives', 'SIGKILL');
    expect(killed.signal).toBe('SIGKILL');
    const names = new Set(leftBehind());
    expect(names.size).toBe(1);
    const { status, stdout } = spawnSync(process.execPath, [programFile, 'demo'], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toContain(`Removed what an earlier demo left behind: ${[...names].join()}`);
    expect(leftBehind()).toEqual([]);
  });
});

describe('demo without root', () => {
  it('says so and tells the story on a recorded node, marked as such', () => {
    const asNobody = canUseCgroups ? { uid: 65_534, gid: 65_534 } : {};
    const { status, stdout, stderr } = spawnSync(process.execPath, [programFile, 'demo'], {
      encoding: 'utf8',
      ...asNobody,
    });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^No real cgroups for this demo: .*\.\nHere is the same story on a RECORDED node/);
    expect(stdout).toContain('# RECORDED: ');
    expect(stdout).toContain('The session goes into job 5');
  });
});
