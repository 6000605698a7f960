// Attacks that never succeeded, kept so: two adoptions of one process, a cleaner killed while a job is frozen. Others
// stand beside it (own-steps, bystanders).

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { type Cgroup, holdCgroup } from '../../src/cgroup/cgroup.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { freeze, isToldToFreeze } from '../../src/cgroup/freezer.js';
import { writeFrozenNote } from '../../src/cgroup/frozen-note.js';
import { parseProcStat } from '../../src/cgroup/process.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { ifThere } from '../../src/machine/errors.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { runProgramFile } from '../support/program-run.js';
import { until } from '../support/stuck-processes.js';

const uid = 64_812;
const host = liveHost();
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
      fs.writeFileSync(`${folder}.test`, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), pid: dead }));
      fs.renameSync(`${folder}.test`, file); // at once: a note that is cut off is removed
      // Of the other job nothing waits for the frozen one.
      expect(runProgramFile('list', '--within', sandbox.within).exitCode).toBe(0);
      const adopted = runProgramFile('adopt', `${outsider.pid}`, '--job', '2', '--within', sandbox.within);
      expect(adopted.exitCode).toBe(0);
      const cleaned = runProgramFile('clean', '2', '--grace', '0', '--within', sandbox.within);
      expect(cleaned.exitCode).toBe(0);
      await until('it is thawed', () => !isToldToFreeze(host, cgroup) && notes().length === 0);
      expect(isAlive(pid)).toBe(true);
    } finally {
      directory.close();
    }
  });
});
