// What a clean-up plans, over any processes in any places of recorded nodes: every member of the job, none that is
// protected, none outside; and nothing at all where a list cannot be read.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planJob } from '../../src/cleanup/ending.js';
import { type JobName, parseJobName } from '../../src/jobs/layout.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { anyProcesses, type PlacedProcess, type RandomNode, randomNode } from '../support/random-node.js';

/** A node, a job there, and what its directory is called. */
const jobs = [
  ['slurm-22.05-v1', 'job_4'],
  ['slurm-22.05-v1', 'job_5'],
  ['slurm-24.11-v2', 'job_1'],
  ['slurm-26.05-v2', 's9BNM865MKYJ00'],
] as const;

function nameOf(directory: string): JobName {
  const name = parseJobName(directory);
  if (name === undefined) throw new Error(`${directory} names no job`);
  return name;
}

async function planOf(text: string, directory: string) {
  const node = await readNode({ host: recordedHost(text) });
  return planJob(nameOf(directory), { node, force: true });
}

/** Known by construction: in the job somewhere, in no other, and none that is never ended. */
function isToEnd({ jobs: where, kind }: PlacedProcess, directory: string, isAtSlurmsPlace: boolean): boolean {
  const isProtected = kind === 'kernel-thread' || kind === 'slurmstepd' || isAtSlurmsPlace;
  return where.has(directory) && where.size === 1 && !isProtected;
}

/** On v2, `step_X/slurm`: no process of a user can be there, whatever it is. */
function atSlurmsPlace({ text }: RandomNode, pid: number): boolean {
  const line = text.split('\n').find((one) => one.startsWith(`{"read":"/proc/${pid}/cgroup"`));
  return /\.scope\/.*\/slurm\\n/.test(line ?? '');
}

describe('planJob() over any processes', () => {
  it.each(jobs)('%s, %s: every member, none protected, none outside', async (name, directory) => {
    let ended = 0;
    const recorded = (await planOf(randomNode(name, { added: [], mostly: directory }).text, directory)).members.map(
      (one) => one.pid,
    );
    await fc.assert(
      fc.asyncProperty(anyProcesses, async (added) => {
        const node = randomNode(name, { added, mostly: directory });
        const plan = await planOf(node.text, directory);
        const expected = node.added
          .filter((one) => isToEnd(one, directory, atSlurmsPlace(node, one.pid)))
          .map(({ pid }) => pid);
        ended += expected.length;
        expect(plan.refused).toBeUndefined();
        expect(plan.members.map((one) => one.pid).sort((a, b) => a - b)).toEqual(
          [...recorded, ...expected].sort((a, b) => a - b),
        );
        // What is in the job and not ended is reported, with the reason.
        const here = node.added.filter((one) => one.jobs.has(directory)).map(({ pid }) => pid);
        for (const { pid } of plan.spared) expect(plan.members.map((one) => one.pid)).not.toContain(pid);
        expect(plan.spared.map(({ pid }) => pid)).toEqual(
          expect.arrayContaining(here.filter((pid) => !expected.includes(pid))),
        );
      }),
      { numRuns: 100 },
    );
    expect(ended).toBeGreaterThan(20);
  });

  it.each(jobs)('%s, %s: nothing where a list cannot be read', async (name, directory) => {
    await fc.assert(
      fc.asyncProperty(
        anyProcesses,
        fc.nat(),
        fc.constantFrom('EACCES', 'EIO', 'ENOMEM'),
        async (added, nth, errno) => {
          const { text, lists } = randomNode(name, { added, mostly: directory });
          const files = lists.get(directory) ?? [];
          const file = files[nth % files.length] ?? expect.unreachable();
          const broken = text
            .split('\n')
            .map((line) =>
              line.startsWith(`{"read":${JSON.stringify(file)}`) ? JSON.stringify({ read: file, errno }) : line,
            )
            .join('\n');
          const plan = await planOf(broken, directory);
          expect([plan.members, plan.refused]).toEqual([[], expect.stringContaining('nothing was ended, since')]);
        },
      ),
      { numRuns: 40 },
    );
  });
});
