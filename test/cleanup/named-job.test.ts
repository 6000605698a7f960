// Jobs whose directories are named by SLUID, by the ids that people know: told by the place of a slurmstepd, or not.

import { describe, expect, it } from 'vitest';
import { cleanJob, planJob } from '../../src/cleanup/ending.js';
import { findNamedJobs } from '../../src/cleanup/named-job.js';
import type { JobName } from '../../src/jobs/layout.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { expectedFor, loadRecording } from '../recordings/recordings.js';
import { type Titles, titledNode } from '../support/titled-stepds.js';

const recorded = 'slurm-26.05-v2';
const [one, two] = ['s9BNM865MKYJ00', 's9BNM865MRM100'] as const;
const nodeOf = async (titles: Titles = {}, name: string = recorded) =>
  readNode({ host: recordedHost(titledNode(name, titles)) });
const messageOf = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    return error as Error;
  }
  return expect.unreachable('it found a job');
};
const pidsIn = (sluid: string) =>
  expectedFor(recorded)
    .list.filter((job) => job.sluid === sluid)
    .flatMap((job) => job.steps.flatMap((step) => step.pids))
    .sort((a, b) => a - b);

describe('a job named by SLUID, asked for by its id', () => {
  it.each([recorded, 'slurm-26.05-v2-ignoresystemd'])('%s: is the same plan as by its SLUID', async (name) => {
    const node = await nodeOf({}, name);
    const { list } = expectedFor(name);
    expect(list.length).toBeGreaterThan(2);
    for (const { sluid, real } of list) {
      if (sluid === undefined) continue;
      const byId = await planJob({ jobId: real.jobId }, { node, force: true });
      const pids = ({ members, spared }: typeof byId) => [members.map(({ pid }) => pid), spared];
      expect(pids(byId)).toEqual(pids(await planJob({ sluid }, { node, force: true })));
      expect([byId.job, byId.jobId, byId.refused]).toEqual([{ sluid }, real.jobId, undefined]);
      expect(byId.members.length).toBeGreaterThan(0);
      expect(byId.cgroups.map(({ directory }) => directory)).toEqual([expect.stringMatching(`/${sluid}$`)]);
      expect((await planJob({ jobId: real.jobId }, { node })).refused).toMatch(
        new RegExp(`^slurmstepd \\(\\d+\\) still runs job ${real.jobId}:`),
      );
    }
  });

  it.each<JobName>([{ jobId: 2 }, { sluid: two }])('%j: every process with its proof, and both names', async (name) => {
    const report = await cleanJob(name, { node: await nodeOf(), dryRun: true, force: true });
    expect([report.jobId, report.sluid, report.refused]).toEqual([2, two, undefined]);
    expect([...report.ended, ...report.spared].map(({ pid }) => pid).sort((a, b) => a - b)).toEqual(pidsIn(two));
    for (const { proof } of report.ended) expect(proof).toMatch(`member of /system.slice/vm_slurmstepd.scope/${two}/`);
    for (const { why } of report.spared) expect(why).toBe("is at slurmstepd's place in the job");
  });

  it('one slurmstepd of the job that lives is enough', async () => {
    const text = titledNode(recorded).replace(
      /("read":"[^"]*s9BNM865MRM100\/step_extern\/slurm\/cgroup\.procs","text":)"[^"]*"/,
      '$1""',
    );
    const node = await readNode({ host: recordedHost(text) });
    expect(findNamedJobs({ jobId: 2 }, node)).toMatchObject([{ jobId: 2, sluid: two }]);
  });

  it('a process of a user under such a title leads nowhere', async () => {
    const plan = await planJob({ sluid: one }, { node: await nodeOf(), force: true });
    const users = plan.members.map(({ pid }) => pid);
    const others = Object.fromEntries(users.map((pid) => [pid, 'slurmstepd: [2.extern]\0']));
    const alive = await nodeOf({ others });
    expect(findNamedJobs({ jobId: 2 }, alive)).toMatchObject([{ sluid: two }]);
    const node = await nodeOf({ others, dead: [one, two] });
    expect(messageOf(() => findNamedJobs({ jobId: 2 }, node))).toMatchObject({ code: 'ERR_STEPD' });
  });

  it('what two of them say is neither', async () => {
    const node = await nodeOf({ ids: { [one]: 2 } });
    const report = await cleanJob({ jobId: 2 }, { node, force: true });
    expect(report).toMatchObject({ jobId: 2, ended: [], removed: [] });
    expect(report.refused).toBe(`job 2 is there more than once (${one}, ${two}): name the SLUID`);
  });

  it('on two nodes of one machine: alone it is found, on both the node has to be named', async () => {
    const node = await nodeOf({}, 'slurm-26.05-v2-two-nodes');
    expect(await planJob({ jobId: 1 }, { node, force: true })).toMatchObject({
      jobId: 1,
      job: { sluid: 's4RSM866SVFV00' },
    });
    expect(await planJob({ jobId: 3 }, { node, force: true })).toMatchObject({
      members: [],
      refused: 'job 3 is there more than once (uids or nodes: vm1 ; vm2 ): name the node',
    });
  });

  it('a directory that has the job id for a name is meant first', async () => {
    const host = recordedHost(titledNode(recorded, { ids: { [one]: 5 } }).replaceAll(two, 'job_5'));
    expect(findNamedJobs({ jobId: 5 }, await readNode({ host }))).toEqual([
      expect.objectContaining({
        jobId: 5,
        cgroups: [expect.objectContaining({ path: expect.stringMatching('/job_5$') })],
      }),
    ]);
  });
});

describe('a job whose SLUID is not known', () => {
  it('one SLUID: says so in one line, and what to name', async () => {
    const node = await nodeOf({ dead: [two] });
    expect(messageOf(() => findNamedJobs({ jobId: 2 }, node))).toMatchObject({
      code: 'ERR_STEPD',
      message: `Cannot tell whether job 2 is on this node: 1 directory is named by a SLUID, and no slurmstepd of it is left to tell the job (${two}); if it is job 2, name the SLUID: "slurm-cgroups clean ${two}"`,
    });
    expect(findNamedJobs({ jobId: 1 }, node)).toMatchObject([{ sluid: one }]);
  });

  it('is unknown to clean, which is not "nothing is here"', async () => {
    const report = await cleanJob({ jobId: 2 }, { node: await nodeOf({ dead: [two] }) });
    expect(report).toMatchObject({ found: null, ended: [], removed: [] });
    expect(report.refused).toMatch(/^nothing was ended, .*Cannot tell whether job 2 is on this node: 1 directory/);
  });

  it('all five: counts them, and names three', async () => {
    const node = await readNode({ host: recordedHost(loadRecording(recorded)) });
    const { message } = messageOf(() => findNamedJobs({ jobId: 2 }, node));
    expect(message).toMatch(
      /5 directories are named by a SLUID, .* of them is left .*\(s9BNM865MKYJ00, \w+, \w+ and 2 more\); if one of them is job 2,/,
    );
  });

  it('the SLUID finds it all the same, and ends it without --force', async () => {
    const report = await cleanJob({ sluid: two }, { node: await nodeOf({ dead: [two] }), dryRun: true });
    expect([report.jobId, report.sluid, report.refused]).toEqual([null, two, undefined]);
    expect(report.ended.length).toBeGreaterThan(0);
  });

  it('where every job is known, another is not here', async () => {
    const node = await nodeOf();
    expect(findNamedJobs({ jobId: 99 }, node)).toEqual([]);
    expect(findNamedJobs({ sluid: 's0000000000000' }, node)).toEqual([]);
  });

  it("where neither Slurm's cgroups nor its spool were found, that is not known", async () => {
    const nowhere = { ...(await nodeOf()), tops: [], spools: new Map(), evidence: undefined };
    expect(messageOf(() => findNamedJobs({ jobId: 99 }, nowhere))).toMatchObject({ code: 'ERR_NOT_SLURM' });
  });
});
