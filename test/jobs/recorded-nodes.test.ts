// Every recorded node, in both spellings of Slurm's top directory, against answers that were written without
// the product: what is there, whose it is, which is newest, where each process stands, what a login gets.

import { describe, expect, it } from 'vitest';
import { decideSession } from '../../src/adopt/session.js';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { cgroupAt } from '../../src/cgroup/hierarchies.js';
import { hierarchyKey } from '../../src/cgroup/membership.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import type { Job, Step } from '../../src/jobs/job.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { verify } from '../../src/jobs/verification.js';
import { recordedHost } from '../../src/machine/recording.js';
import { newestJob } from '../../src/policy/newest.js';
import { defaultOptions } from '../../src/policy/options.js';
import {
  type ExpectedJob,
  type ExpectedName,
  type ExpectedNewest,
  expectedFor,
  loadRecording,
  recordingNames,
  respelled,
} from '../recordings/recordings.js';

const spellings = recordingNames.flatMap((name) => [
  { name, spelling: 'recorded', text: loadRecording(name) } as const,
  { name, spelling: 'respelled', text: respelled(name) } as const,
]);

const now = { ...defaultOptions, waitForJobMs: 0 };

function nameOf(job: { readonly jobId?: number; readonly sluid?: string; readonly nodeName?: string }): ExpectedName {
  return {
    jobId: job.jobId ?? null,
    ...(job.sluid === undefined ? {} : { sluid: job.sluid }),
    ...(job.nodeName === undefined ? {} : { nodeName: job.nodeName }),
  };
}

function setOf(node: SlurmNode, step: Step): CgroupSet {
  return new CgroupSet(
    node.host,
    step.cgroups.flatMap(({ hierarchy: key, path }) => {
      const hierarchy = node.hierarchies.get(key);
      return hierarchy === undefined ? [] : [new Cgroup(node.host, hierarchy, cgroupPath(cgroupAt(hierarchy, path)))];
    }),
  );
}

/** A job in the form of the expected answers. */
async function listed(node: SlurmNode, job: Job): Promise<Omit<ExpectedJob, 'real'>> {
  return {
    ...nameOf(job),
    uid: job.uid ?? null,
    hierarchies: job.cgroups.map(({ hierarchy }) => hierarchy).sort(),
    externMissingIn: [...job.externMissingIn].sort(),
    steps: await Promise.all(
      job.steps.map(async (step) => ({
        stepId: step.stepId,
        pids: (await setOf(node, step).procs()).map(({ pid }) => pid),
        hierarchies: step.cgroups.map(({ hierarchy }) => hierarchy).sort(),
      })),
    ),
  };
}

const byName = (a: ExpectedName, b: ExpectedName) => (JSON.stringify(nameKey(a)) < JSON.stringify(nameKey(b)) ? -1 : 1);
const nameKey = ({ jobId, sluid, nodeName }: ExpectedName) => [nodeName ?? '', jobId ?? 0, sluid ?? ''];

function among(jobs: readonly Job[], group: ExpectedNewest): readonly Job[] {
  switch (group.among) {
    case 'all':
      return jobs;
    case 'node':
      return jobs.filter(({ nodeName }) => nodeName === group.nodeName);
    case 'owner':
      return jobs.filter(({ uid }) => uid === group.uid);
  }
}

describe.each(spellings)('$name, $spelling', ({ name, spelling, text }) => {
  const host = recordedHost(text);
  const expected = expectedFor(name, spelling);
  const twoNodes = name.endsWith('-two-nodes');

  it('readNode() finds the trees, the names and the spools', async () => {
    const node = await readNode({ host });
    expect(node.hierarchies.mode).toBe(expected.mode);
    expect([...new Set(node.tops.map(({ hierarchy }) => hierarchy.key))].sort()).toEqual(expected.slurmIn);
    expect(node.tops.every(({ version }) => version === (expected.mode === 'unified' ? 2 : 1))).toBe(true);
    expect(node.evidence).toMatch(/^Slurm's cgroup "/);
    if (twoNodes && spelling === 'recorded') {
      expect(node.nodeName).toBeUndefined();
      expect([...node.spools]).toEqual([
        ['vm1', '/var/spool/lab/vm1'],
        ['vm2', '/var/spool/lab/vm2'],
      ]);
    } else if (!twoNodes) {
      expect(node.nodeName).toBe('vm');
      expect([...node.spools]).toEqual([['vm', '/var/spool/lab/spool']]);
    }
  });

  it('discoverJobs() lists the jobs, their steps and who is in them', async () => {
    const node = await readNode({ host });
    const found = await Promise.all(discoverJobs(node).map((job) => listed(node, job)));
    expect([...found].sort(byName)).toEqual(expected.list.map(({ real, ...job }) => job).sort(byName));
  });

  it('discoverJobs() for one uid gives that uid’s jobs on v1, and all on v2', async () => {
    const node = await readNode({ host });
    const all = discoverJobs(node);
    for (const uid of [1001, 1002, 4242]) {
      const own = all.filter((job) => job.uid === uid || job.uid === undefined);
      expect(discoverJobs(node, { uid })).toEqual(own);
    }
  });

  it('findOwners() tells the owner of every batch job and of no other job by name', async () => {
    const node = await readNode({ host });
    const jobs = await findOwners(discoverJobs(node), { node });
    for (const { real, ...job } of expected.list) {
      const name = nameKey(job).join(' ');
      const found = jobs.find((one) => nameKey(nameOf(one)).join(' ') === name);
      // Of two nodes on one machine of which one has no name, the spool of the nameless one is not known.
      const isSpoolKnown = !(twoNodes && spelling === 'respelled' && job.nodeName === undefined);
      const hasScript = job.jobId !== null && isSpoolKnown && job.steps.some(({ stepId }) => stepId === 'batch');
      const ownerFrom = job.uid !== null ? 'path' : hasScript ? 'slurm_script' : undefined;
      const uid = ownerFrom === undefined ? undefined : real.uid;
      expect({ uid: found?.uid, ownerFrom: found?.ownerFrom }, name).toEqual({ uid, ownerFrom });
    }
  });

  it('newestJob() is right by our rule and by the author’s', async () => {
    const jobs = discoverJobs(await readNode({ host }));
    for (const group of expected.newest) {
      const candidates = among(jobs, group);
      const ranked = (rank: 'newest' | 'step-extern-mtime') => {
        const newest = newestJob(candidates, { rank });
        return newest === undefined ? undefined : nameOf(newest.job);
      };
      expect({ newest: ranked('newest'), author: ranked('step-extern-mtime') }, JSON.stringify(group)).toEqual({
        newest: group.newest,
        author: group.stepExternMtime,
      });
    }
  });

  it('verify() proves the place of every process', async () => {
    const node = await readNode({ host });
    for (const { role, ...one } of expected.verify) {
      const found = await verify(one.pid, { node });
      expect(
        {
          pid: found.pid,
          verdict: found.verdict,
          job: found.job === null ? null : { ...nameOf(found.job), stepId: found.job.stepId },
          missingIn: found.hierarchies
            .filter(({ state }) => state === 'missing')
            .map(({ controllers }) => hierarchyKey(controllers))
            .sort(),
        },
        role,
      ).toEqual(one);
      expect(found.inJob).toBe(one.verdict === 'contained');
    }
  });

  it('decideSession() decides on a login of each owner', async () => {
    const node = await readNode({ host });
    for (const { uid, action, jobId, ...rest } of expected.decide) {
      const { decision } = await decideSession({ uid }, { node, options: now });
      const target = decision.action === 'adopt' && decision.target.kind === 'job' ? decision.target : undefined;
      expect(
        { action: decision.action, jobId: target?.jobId ?? null, nodeName: target?.job.nodeName },
        rest.why,
      ).toEqual({
        action,
        jobId,
        nodeName: 'nodeName' in rest ? rest.nodeName : undefined,
      });
    }
  });

  it('decideSession() never says "no jobs" to a user while the owner of a job is unknown', async () => {
    const node = await readNode({ host });
    const unknown = (await findOwners(discoverJobs(node), { node })).some(({ uid }) => uid === undefined);
    const { decision } = await decideSession({ uid: 4242 }, { node, options: now });
    if (node.nodeName === undefined) expect(decision).toMatchObject({ action: 'ignore', rule: 'node-unknown' });
    else if (unknown) expect(decision).toMatchObject({ action: 'ignore', rule: 'jobs-unknown' });
    else expect(decision).toMatchObject({ action: 'deny', rule: 'no-jobs' });
  });
});

describe('readNode() on a machine with two nodes', () => {
  it.each(['slurm-24.11-v2-two-nodes', 'slurm-26.05-v2-two-nodes'])(
    '%s: shows one of them by its name',
    async (name) => {
      const host = recordedHost(loadRecording(name));
      const node = await readNode({ host, nodeName: 'vm2' });
      expect(node.nodeName).toBe('vm2');
      expect([...node.spools]).toEqual([['vm2', '/var/spool/lab/vm2']]);
      const jobs = discoverJobs(node);
      expect(jobs.length).toBeGreaterThan(0);
      expect(jobs.every(({ nodeName }) => nodeName === 'vm2')).toBe(true);
    },
  );
});
