// Ending a job whose directory is named by SLUID, which only a machine with nothing but cgroup v2 has.

import { spawn } from 'node:child_process';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { childPath } from '../../src/cgroup/path.js';
import { isThere, parseProcStat } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';

const uid = 64_747;
const host = liveHost();
const quick = { graceMs: 0, timeoutMs: 20_000 };
const ended: (() => Promise<unknown>)[] = [];
let sandbox: Sandbox;
let scope: Cgroup;

beforeEach(async () => {
  sandbox = await Sandbox.create(host, 'slurm-cgroups-test-sluid');
  const [leaf] = (await sandbox.addJob({ jobId: 1, uid })).cgroups;
  if (leaf?.hierarchy.version !== 2) throw new Error('This is for cgroup v2');
  scope = new Cgroup(host, leaf.hierarchy, childPath(sandbox.within, 'system.slice', 'slurmstepd.scope'));
});
afterEach(async () => {
  for (const end of ended.splice(0)) await end();
  await sandbox.remove();
});

/** One step, in which a process under slurmstepd's title stands at its place and another in the task. */
async function addJob(sluid: string, jobId: number) {
  const directory = scope.create(sluid);
  const step = directory.create('step_batch');
  const place = step.create('slurm');
  const task = step.create('user').create('task_0');
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 600_000)'], {
    argv0: `slurmstepd: [${jobId}.batch]`,
    stdio: 'ignore',
  });
  const gone = new Promise((fulfil) => child.once('close', fulfil));
  const end = async () => {
    child.kill('SIGKILL');
    await gone;
  };
  ended.push(end);
  const stepd = child.pid ?? expect.unreachable();
  await place.add(stepd);
  const { pid } = await sandbox.startSleeper(uid, new CgroupSet(host, [task]));
  const identity = { pid, startTime: parseProcStat(host.read(`/proc/${pid}/stat`)).startTime };
  return { directory, stepd, end, identity };
}

it('by its id while a slurmstepd tells it, by its SLUID afterwards; the other job stays', async () => {
  const mine = 'sEKNKTV3WPV500';
  const job = await addJob(mine, 55);
  const other = await addJob('sEKNKTV3WPV501', 56);
  const node = await sandbox.node();
  const report = await cleanJob({ jobId: 55 }, { node, ...quick, force: true });
  expect(report).toMatchObject({
    jobId: 55,
    sluid: mine,
    survivors: [],
    ended: [{ pid: job.identity.pid, uid, proof: expect.stringContaining(`/${mine}/step_batch/user/task_0`) }],
    spared: [{ pid: job.stepd, why: "is at slurmstepd's place in the job" }],
  });
  expect(host.stat(job.directory.directory)).toBeDefined();
  await job.end();
  const unknown = await cleanJob({ jobId: 55 }, { node, ...quick });
  expect(unknown).toMatchObject({ found: null, ended: [], removed: [] });
  expect(unknown.refused).toContain(
    `Cannot tell whether job 55 is on this node: 1 directory is named by a SLUID, and no slurmstepd of it is left`,
  );
  expect(await cleanJob({ sluid: mine }, { node, ...quick })).toMatchObject({
    jobId: null,
    sluid: mine,
    ended: [],
    left: [],
    removed: expect.arrayContaining([job.directory.directory]),
  });
  expect(host.stat(job.directory.directory)).toBeUndefined();
  expect(isThere(host, other.identity)).toBe(true);
});
