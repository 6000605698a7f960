// Ending a job whose owner nested cgroups deeper than a path may be long, as users can who own their step's
// directory (v1, Slurm up to 23.02).

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Cgroup } from '../../src/cgroup/cgroup.js';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { isThere, parseProcStat } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { findStrays } from '../../src/cleanup/strays/find.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';

const [uid, other] = [64_751, 64_752];
const host = liveHost();
const quick = { graceMs: 0, timeoutMs: 20_000 };

/** Kernels before 6.8 answer so for a process that deep; later ones cut the path (measured: 6.18). */
const olderKernel: Host = {
  ...host,
  read: (path) => {
    const text = host.read(path);
    if (/^\/proc\/\d+\/(?:task\/\d+\/)?cgroup$/.test(path) && text.split('\n').some((line) => line.length >= 4095))
      throw new SystemCallError('read', path, 'ENAMETOOLONG');
    return text;
  },
};

describe.skipIf(!canUseCgroups && mayBeSkipped)('cleanJob() of a job that is deeper than a path may be long', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
  });
  afterEach(() => sandbox.remove());

  /** Below `top`, the path of the last but one so long that the kernel cuts its child's where it is told. */
  const nest = (top: Cgroup, cutAt: 'name' | 'slash'): readonly Cgroup[] => {
    const made: Cgroup[] = [];
    for (let deep = top; deep.path.length < 4096; made.push(deep)) {
      const left = 4094 - deep.path.length - 1;
      deep = deep.create('x'.repeat(left > 250 ? 200 : left > 0 ? (cutAt === 'slash' ? left : left - 1) : 100));
    }
    return made;
  };

  it.each([
    ['this kernel', host, 'name'],
    ['this kernel, cut behind a slash', host, 'slash'],
    ['a kernel before 6.8', olderKernel, 'name'],
  ] as const)('ends and removes it, and no process is named a stray for it: %s', async (_, on, cutAt) => {
    const sleeper = await sandbox.startSleeper(uid, job);
    const trees = job.cgroups.filter((one) => one.hierarchy.version === 1).map((one) => nest(one, cutAt));
    for (const deep of trees) host.write(`${deep.at(-1)?.directory}/cgroup.procs`, String(sleeper.pid));
    const neighbour = await sandbox.startSleeper(other, await sandbox.addJob({ jobId: 2, uid: other }));
    const { startTime } = parseProcStat(host.read(`/proc/${neighbour.pid}/stat`));
    const node = { ...(await sandbox.node()), host: on };
    const strays = await findStrays({ node });
    expect([strays.complete, strays.strays.filter((one) => one.uid === uid)]).toEqual([true, []]);
    // Its user has a job: it is no stray wherever it is.
    if (on === olderKernel) expect(strays.notes).toEqual([]);
    const report = await cleanJob({ jobId: 1 }, { node, ...quick });
    expect([report.refused, report.survivors, report.left]).toEqual([undefined, [], []]);
    expect(report.ended.map((one) => one.pid)).toEqual([sleeper.pid]);
    const made = trees.flat().map((one) => one.directory);
    expect(report.removed).toEqual(expect.arrayContaining(made));
    await sleeper.exited;
    expect(isThere(host, { pid: neighbour.pid, startTime })).toBe(true);
  });
});
