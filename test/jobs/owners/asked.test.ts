import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { askOwners } from '../../../src/jobs/owners/asked.js';
import { type FindOwnersOptions, findOwners } from '../../../src/jobs/owners/find.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { recordedHost } from '../../../src/machine/recording.js';
import { expectedFor, loadRecording } from '../../recordings/recordings.js';
import { mixed, nodeOfStepds, type Stepd, scope } from '../../support/stepd-node.js';
import { recordedStepds, speakAs } from '../../support/stepd-server.js';
import { type Sandbox, spoolUser, unixSandbox } from '../../support/unix-server.js';

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = unixSandbox();
});
afterEach(() => sandbox.close());

const sluid = (at: number) => `s000000000000${at}`;
const slow = { timeoutMs: 20_000, eachTimeoutMs: 10_000 };

/** What is answered, job by job: `jobId:uid`, or why not. */
async function ask(
  stepds: readonly Stepd[],
  options: Omit<FindOwnersOptions, 'node'> = slow,
  more: Parameters<typeof nodeOfStepds>[2] = {},
) {
  const { node, asked } = await nodeOfStepds(sandbox, stepds, more);
  const answers = await askOwners(discoverJobs(node), {
    node,
    ...options,
    deadline: deadlineIn(node.host, options.timeoutMs ?? 2000, options.signal),
  });
  return { node, asked, answers: answers.map((one) => ('why' in one ? one.why : `${one.jobId}:${one.uid}`)) };
}

describe('askOwners()', () => {
  it('is told by the slurmstepd that stands in the directory', async () => {
    const { answers, asked } = await ask([
      { directory: 'job_7', jobId: 7, pid: 500, uid: 1001 },
      { directory: 'job_8', jobId: 8, pid: 501, uid: 1002 },
    ]);
    expect(answers).toEqual(['7:1001', '8:1002']);
    for (const numbers of asked.values()) expect(numbers.slice(1)).toEqual([9, 20]); // once, on one connection
  });

  it('believes no slurmstepd that stands elsewhere', async () => {
    const elsewhere = '/system.slice/slurmstepd.scope/job_9/step_extern/slurm';
    const { answers } = await ask([{ directory: 'job_7', jobId: 7, pid: 500, place: elsewhere }]);
    expect(answers).toEqual(['what answers at node1_7.4294967292 is not the slurmstepd of job 7']);
  });

  it('finds the job of a directory named by SLUID by the SLUID or the place that is answered', async () => {
    const { answers } = await ask([
      { directory: sluid(1), jobId: 7, pid: 500, seq: '1', uid: 11, place: '/elsewhere' },
      { directory: sluid(2), jobId: 8, pid: 501, uid: 12, server: 43 },
      { directory: sluid(3), jobId: 9, pid: 502, is: 'dead' },
    ]);
    expect(answers).toEqual(['7:11', '8:12', 'no slurmstepd that answers is its own']);
  });

  it('gives the deadline of each to those that are silent, all at a time, and the others answer', async () => {
    const silent = [1, 2, 3, 4].map((jobId) => ({
      directory: `job_${jobId}`,
      jobId,
      pid: 500 + jobId,
      is: 'silent' as const,
    }));
    const others = [5, 6, 7, 8, 9, 10].map((jobId) => ({
      directory: `job_${jobId}`,
      jobId,
      pid: 500 + jobId,
      uid: jobId,
    }));
    // One after the other the silent ones would take more than there is for all.
    const { answers } = await ask([...silent, ...others], { timeoutMs: 20_000, eachTimeoutMs: 6000 });
    expect(answers.slice(4)).toEqual(others.map(({ jobId, uid }) => `${jobId}:${uid}`));
    for (const answer of answers.slice(0, 4))
      expect(answer).toMatch(/^Cannot ask slurmstepd at .*: it does not answer in time$/);
  });

  it('asks another step of a job whose extern step is silent, and two silent ones are enough', async () => {
    const of = (stepId: string, pid: number, is?: 'silent'): Stepd => ({
      ...{ directory: 'job_7', jobId: 7, stepId, pid, uid: 5 },
      ...(is === undefined ? {} : { is }),
    });
    const first = await ask([of('extern', 500, 'silent'), of('0', 501)], { ...slow, eachTimeoutMs: 300 });
    expect(first.answers).toEqual(['7:5']);
    await sandbox.close();
    sandbox = unixSandbox();
    const second = await ask([of('extern', 500, 'silent'), of('0', 501, 'silent'), of('1', 502)], {
      ...slow,
      eachTimeoutMs: 100,
    });
    expect(second.answers).toEqual([expect.stringContaining('it does not answer in time')]);
  });

  it('is over when its time is, whichever has not answered', async () => {
    const silent = Array.from({ length: 20 }, (_, at) => ({
      ...{ directory: `job_${at + 1}`, jobId: at + 1, pid: 500 + at, is: 'silent' as const },
    }));
    const begun = performance.now();
    const { answers } = await ask(silent, { timeoutMs: 500, eachTimeoutMs: 400 });
    expect(performance.now() - begun).toBeLessThan(30_000);
    expect(answers).toHaveLength(20);
    for (const answer of answers) expect(answer).toContain('Cannot ask slurmstepd at');
  });

  it('says so of a job that has no slurmstepd', async () => {
    const { answers } = await ask([{ directory: 'job_7', jobId: 7, pid: 500 }], slow, {
      directories: [`${scope}/job_8/step_extern/user/task_0`],
    });
    expect(answers).toEqual(['7:1001', 'no slurmstepd of it has a socket here']);
  });

  it('stops where it is told to', async () => {
    const [stop, reason] = [new AbortController(), new Error('enough')];
    setTimeout(() => stop.abort(reason), 50);
    const asking = ask([{ directory: 'job_7', jobId: 7, pid: 500, is: 'silent' }], { ...slow, signal: stop.signal });
    await expect(asking).rejects.toBe(reason);
  });
});

describe('findOwners() on a node that answers', () => {
  it('sees the job in the place of its slurmstepd, and asks for the owner alone', async () => {
    const { node, asked } = await nodeOfStepds(sandbox, [{ directory: sluid(1), jobId: 7, pid: 500, seq: '2' }]);
    expect(await findOwners(discoverJobs(node), { node })).toMatchObject([
      { jobId: 7, sluid: sluid(1), uid: 1001, ownerFrom: 'stepd' },
    ]);
    expect(asked.size).toBe(1);
  });

  it('keeps the id that its place says where no slurmstepd answers', async () => {
    const { node } = await nodeOfStepds(sandbox, [{ directory: sluid(1), jobId: 7, pid: 500, is: 'dead' }]);
    const [job] = await findOwners(discoverJobs(node), { node });
    expect(job).toMatchObject({ jobId: 7, unknownWhy: expect.stringContaining('slurmstepd') });
    expect(job?.uid).toBeUndefined();
  });

  it('asks no slurmstepd on v1, nor about a job that is known', async () => {
    const { node, asked } = await nodeOfStepds(sandbox, [{ directory: 'job_7', jobId: 7, pid: 500 }]);
    const known = discoverJobs(node).map((job) => ({ ...job, uid: 1, ownerFrom: 'stepd' as const }));
    expect(await findOwners(known, { node })).toEqual(known);
    const onV1 = known.map(({ ownerFrom, ...job }) => job);
    expect(await findOwners(onV1, { node })).toEqual(onV1.map((job) => ({ ...job, ownerFrom: 'path' })));
    expect([...asked.values()]).toEqual([[]]);
  });
});

describe('findOwners() on every recorded node of v2, whose slurmstepds answer as they did', () => {
  const recorded = recordedStepds();
  const names = [...new Set(recorded.map(([name]) => name.split(' ')[0] ?? ''))].filter((name) => name.includes('-v2'));
  it.each(names)('%s: gives every job the id and the owner that Slurm knows', async (name) => {
    for (const [, stepd] of recorded.filter(([one]) => one.startsWith(`${name} `)))
      await sandbox.serve(stepd.socket, speakAs(stepd));
    const base = await readNode({ host: recordedHost(loadRecording(name)) });
    const host = mixed(base.host, sandbox.folder);
    const spools = new Map([...base.spools.keys()].map((nodeName) => [nodeName, sandbox.folder]));
    const plain = { files: [], nodes: [], places: new Map(), notes: [] };
    const configuration = { ...plain, slurmUser: String(spoolUser) };
    const node = { ...base, host, spools, configuration };
    const byName = (one: { readonly nodeName?: string; readonly jobId?: number }) => `${one.nodeName} ${one.jobId}`;
    const jobs = await findOwners(discoverJobs(node), { node, ...slow });
    expect(jobs.map((job) => [byName(job), job.uid, job.ownerFrom]).sort()).toEqual(
      expectedFor(name)
        .list.map(({ nodeName, real }) => [
          byName({ ...(nodeName && { nodeName }), jobId: real.jobId }),
          real.uid,
          'stepd',
        ])
        .sort(),
    );
  });
});
