// Processes of people in no job, over any processes in any places of recorded nodes, and on the real kernel.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findOutside } from '../../../src/cleanup/strays/outside.js';
import { readNode } from '../../../src/jobs/node.js';
import { recordedHost } from '../../../src/machine/recording.js';
import { alice, bob, inWorld, onKernels } from '../../support/kernel-jobs.js';
import { anyProcesses, randomNode } from '../../support/random-node.js';

describe('findOutside() over any processes', () => {
  it.each(['slurm-22.05-v1', 'slurm-24.11-v2', 'slurm-26.05-v2'])(
    '%s: nobody in a job, and all of people in none',
    async (name) => {
      let seen = 0;
      await fc.assert(
        fc.asyncProperty(anyProcesses, async (added) => {
          const node = randomNode(name, { added, mostly: '' });
          const { outside } = await findOutside({ node: await readNode({ host: recordedHost(node.text) }) });
          const pids = outside.map(({ pid }) => pid);
          seen += pids.length;
          for (const one of node.added) {
            if (one.jobs.size > 0) expect(pids).not.toContain(one.pid);
            else if (one.kind === 'plain') expect(pids).toContain(one.pid);
          }
          for (const { uid, proof } of outside) {
            expect(uid).toBeGreaterThanOrEqual(1000);
            expect(proof).toMatch(/^in no job's cgroup/);
          }
        }),
        { numRuns: 40 },
      );
      expect(seen).toBeGreaterThan(5);
    },
  );
});

onKernels((kernel) => {
  describe('findOutside()', () => {
    inWorld(kernel, 'names what users with and without a job run outside, and nothing in a job', async (world) => {
      const { pid: member } = await world.box.startSleeper(alice, await world.box.addJob({ jobId: 101, uid: alice }));
      const [hers, his] = [await world.session(alice), await world.session(bob)];
      const node = await world.node();
      const of = async (uid: number) => findOutside({ node, uid });
      const [ofAlice, ofBob] = [await of(alice), await of(bob)];
      expect(ofAlice).toMatchObject({ complete: true, notes: [] });
      const place = `${world.box.within}/outside`;
      const keys = { startTime: expect.any(String), comm: 'sleep', cgroup: place, memoryBytes: expect.any(Number) };
      expect(ofAlice.outside).toMatchObject([
        {
          pid: hers,
          uid: alice,
          hasJob: true,
          proof: "in no job's cgroup, though its user has a job on this node",
          ...keys,
        },
      ]);
      expect(ofBob.outside).toMatchObject([
        {
          pid: his,
          uid: bob,
          hasJob: false,
          proof: "in no job's cgroup, and its user has no job on this node",
          ...keys,
        },
      ]);
      expect(ofBob.outside[0]?.ageSeconds).toBeGreaterThanOrEqual(0);
      const all = (await findOutside({ node })).outside.map(({ pid }) => pid);
      expect(all).toEqual(expect.arrayContaining([hers, his]));
      expect(all).not.toContain(member);
    });

    inWorld(kernel, 'says null where whose jobs are here is not known, and names it all the same', async (world) => {
      await world.twoJobs();
      const pid = await world.session(bob);
      const node = { ...(await world.node()), evidence: undefined };
      const report = await findOutside({ node, uid: bob });
      expect(report.outside).toMatchObject([{ pid, hasJob: null }]);
      expect(report.notes).toEqual([expect.stringMatching(/^Of some users it is not known whether they have a job: /)]);
    });
  });
});
