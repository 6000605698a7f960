// Jobs whose processes wait for a file system that does not answer: a clean-up says so in time, in one sentence
// each, and touches nothing of it. In a guest, for no process can be freed by force from what hangs there.

import { spawnSync } from 'node:child_process';
import { beforeEach, describe, expect, it } from 'vitest';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import type { CleanReport } from '../../src/cleanup/report.js';
import { Sandbox, type Sleeper } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { mountSilentNfs } from '../support/silent-nfs.js';
import { afterwards, mountSilentFuse, stateOf, until } from '../support/stuck-processes.js';

const host = liveHost();
const uid = 64_747;
/** Who can end has to have ended by then: long in a machine that is emulated on a busy one. */
const timeoutMs = 6000;
/** For looking at the survivors, in a machine that is emulated. */
const slackMs = 30_000;

let sandbox: Sandbox;
let job: CgroupSet;
beforeEach(async () => {
  sandbox = await Sandbox.create(host, 'slurm-cgroups-test-hung');
  afterwards(() => sandbox.remove()); // after the mounts are undone: only then can all end
  job = await sandbox.addJob({ jobId: 1, uid });
});

async function clean() {
  const begin = host.now();
  const report = await cleanJob({ jobId: 1 }, { node: await sandbox.node(), graceMs: 0, timeoutMs });
  return { report, tookMs: host.now() - begin };
}

/**
 * The survivor as it is described once it has taken the signal, and its kernel stack, which alone proves what it waits
 * for, was read in time: a child does that, and an emulated machine on a busy one owes it no time.
 */
async function described(first: CleanReport): Promise<CleanReport['survivors'][number] | undefined> {
  let [survivor] = first.survivors;
  const isEarly = () => survivor?.state !== 'D' || JSON.stringify(survivor).includes('no answer within');
  for (let tries = 1; tries < 20 && isEarly(); tries++) {
    [survivor] = (await clean()).report.survivors;
  }
  return survivor;
}

/** The survivor ends, and then nothing is left of the job. */
async function endsWhen(freed: () => void, survivor: Sleeper): Promise<void> {
  freed();
  await survivor.exited;
  const { report } = await clean();
  expect(report).toMatchObject({ ended: [], survivors: [], left: [] });
  expect(report.removed.some((path) => path.endsWith('/job_1'))).toBe(true);
}

describe('cleanJob() of a job with a process that waits', () => {
  it('for an NFS server, to write: names server and mount; who only reads from it ends', async () => {
    const { folder, heldBack, answer } = await mountSilentNfs();
    // What was written goes to the server at the close, which no signal interrupts; a read can be.
    const writer = await sandbox.startScript(uid, `exec 3>>${folder}/empty; echo x >&3; exec 3>&-; exec sleep 60`, job);
    const reader = await sandbox.startScript(uid, `exec cat ${folder}/full`, job);
    await heldBack(1, 1);
    await until('both wait in the kernel', () => stateOf(writer.pid) === 'D' && stateOf(reader.pid) === 'D');
    const { report, tookMs } = await clean();
    expect(tookMs).toBeLessThan(timeoutMs + slackMs);
    expect(report.survivors.map(({ pid }) => pid)).toEqual([writer.pid]);
    expect(await described(report)).toMatchObject({
      pid: writer.pid,
      state: 'D',
      why: `pid ${writer.pid} (sh) waits in the kernel for the NFS server 127.0.0.1:/export of ${folder}: it ends when the server answers`,
      evidence: { mount: { point: folder, type: 'nfs', sure: true } },
    });
    expect(report.ended.map(({ pid }) => pid)).toEqual([reader.pid]);
    expect(report.left.length).toBeGreaterThan(0);
    await endsWhen(answer, writer);
  });

  it('for the program behind a FUSE file system: names program and mount', async () => {
    const { folder, file, taken } = await mountSilentFuse('silent-server');
    const reader = await sandbox.startScript(uid, `exec cat ${file}`, job);
    await taken();
    await until('it waits in the kernel', () => stateOf(reader.pid) === 'S');
    const { report, tookMs } = await clean();
    expect(tookMs).toBeLessThan(timeoutMs + slackMs);
    expect(report.survivors.map(({ pid }) => pid)).toEqual([reader.pid]);
    expect(await described(report)).toMatchObject({
      pid: reader.pid,
      state: 'D',
      why: `pid ${reader.pid} (cat) waits in the kernel for the program behind the FUSE file system silent-server of ${folder} (fuse): it ends when that program answers or ends`,
    });
    expect([report.ended, report.left.length > 0]).toEqual([[], true]);
    await endsWhen(() => void spawnSync('umount', ['-f', folder]), reader);
  });
});
