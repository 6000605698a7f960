import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Job } from '../../../src/jobs/job.js';
import {
  changesBetween,
  directoryKeyOf,
  isSameDirectory,
  type JobChange,
  type SeenJob,
} from '../../../src/jobs/watch/changes.js';

const controllers = ['freezer', 'memory'] as const;

interface Sample {
  readonly jobId: number;
  readonly uid: number;
  /** Inode of its directory in each hierarchy that has it. */
  readonly inodes: Partial<Record<(typeof controllers)[number], number>>;
  readonly steps: readonly string[];
}

function seen({ jobId, uid, inodes, steps }: Sample): SeenJob {
  const cgroups = Object.keys(inodes).map((hierarchy) => ({
    hierarchy,
    controllers: [hierarchy],
    path: `/sys/fs/cgroup/${hierarchy}/slurm/uid_${uid}/job_${jobId}`,
  }));
  const job: Job = {
    jobId,
    uid,
    steps: steps.map((stepId) => ({ stepId, cgroups: [] })),
    cgroups,
    externMissingIn: [],
  };
  return { job, inodes: new Map(Object.entries(inodes).map(([hierarchy, inode]) => [hierarchy, BigInt(inode)])) };
}

function look(...samples: readonly Sample[]): ReadonlyMap<string, SeenJob> {
  return new Map(samples.map(seen).map((one) => [directoryKeyOf(one.job), one]));
}

const brief = (changes: readonly JobChange[]) =>
  changes.map((one) => [one.event, one.jobId, ...('stepId' in one ? [one.stepId] : [])].join(' '));

const one: Sample = { jobId: 1, uid: 10, inodes: { freezer: 100, memory: 200 }, steps: ['extern'] };

describe('changesBetween()', () => {
  it.each<[string, readonly Sample[], readonly Sample[], readonly string[]]>([
    ['nothing', [one], [one], []],
    ['a job that comes, with its steps', [], [one], ['added 1', 'step-added 1 extern']],
    ['a job that goes, with its steps', [one], [], ['step-removed 1 extern', 'removed 1']],
    [
      'a directory made again under the same name: the old job went, a new one came',
      [one],
      [{ ...one, inodes: { freezer: 101, memory: 201 } }],
      ['step-removed 1 extern', 'removed 1', 'added 1', 'step-added 1 extern'],
    ],
    ['one hierarchy made again, the other kept', [one], [{ ...one, inodes: { freezer: 100, memory: 201 } }], []],
    ['a hierarchy that comes late', [{ ...one, inodes: { freezer: 100 } }], [one], ['changed 1']],
    [
      'steps',
      [one],
      [{ ...one, steps: ['batch', '0'] }],
      ['step-removed 1 extern', 'step-added 1 batch', 'step-added 1 0'],
    ],
    [
      'the same id of another user',
      [one],
      [{ ...one, uid: 11 }],
      ['step-removed 1 extern', 'removed 1', 'added 1', 'step-added 1 extern'],
    ],
  ])('tells of %s', (_, before, after, expected) => {
    expect(brief(changesBetween(look(...before), look(...after), { steps: true }))).toEqual(expected);
  });

  it('leaves steps out unless they are asked for', () => {
    expect(brief(changesBetween(look(one), look({ ...one, steps: ['0'] }), { steps: false }))).toEqual([]);
    expect(brief(changesBetween(look(), look(one), { steps: false }))).toEqual(['added 1']);
  });

  it('tells that the owner and the id behind a SLUID became known', () => {
    const job: Job = {
      sluid: 'sEKNKTV3WPV500',
      steps: [],
      externMissingIn: [],
      cgroups: [{ hierarchy: 'unified', controllers: [], path: '/cg/system.slice/slurmstepd.scope/sEKNKTV3WPV500' }],
    };
    const inodes = new Map([['unified', 5n]]);
    const known = { ...job, jobId: 7, uid: 10 };
    expect(directoryKeyOf(known)).toBe(directoryKeyOf(job));
    const changes = changesBetween(
      new Map([[directoryKeyOf(job), { job, inodes }]]),
      new Map([[directoryKeyOf(known), { job: known, inodes }]]),
      { steps: false },
    );
    expect(changes).toEqual([{ event: 'changed', jobId: 7, sluid: 'sEKNKTV3WPV500', uid: 10, job: known }]);
  });

  const samples = fc.uniqueArray(
    fc.record({
      jobId: fc.integer({ min: 1, max: 4 }),
      uid: fc.integer({ min: 10, max: 11 }),
      inodes: fc.record(
        { freezer: fc.integer({ min: 1, max: 3 }), memory: fc.integer({ min: 1, max: 3 }) },
        { requiredKeys: ['freezer'] },
      ),
      steps: fc.uniqueArray(fc.constantFrom('extern', 'batch', '0', '1')),
    }),
    { selector: ({ jobId, uid }) => `${uid} ${jobId}`, maxLength: 8 },
  );

  it('events told over the first look give the second', () => {
    fc.assert(
      fc.property(samples, samples, fc.boolean(), (first, second, steps) => {
        const [before, after] = [look(...first), look(...second)];
        const told = new Map([...before].map(([key, { job }]) => [key, { job, steps: stepIds(job) }]));
        for (const change of changesBetween(before, after, { steps })) {
          const key = directoryKeyOf(change.job);
          const known = told.get(key);
          if (change.event === 'added') {
            expect(known).toBeUndefined(); // comes once
            told.set(key, { job: change.job, steps: new Set() });
          } else if (change.event === 'removed') {
            if (steps) expect(known?.steps).toEqual(new Set()); // after its steps
            expect(told.delete(key)).toBe(true); // goes once
          } else if (change.event === 'changed') {
            expect(known).toBeDefined();
            told.set(key, { job: change.job, steps: known?.steps ?? new Set() });
          } else if (change.event === 'step-added') {
            expect(known?.steps.has(change.stepId)).toBe(false);
            known?.steps.add(change.stepId);
          } else expect(known?.steps.delete(change.stepId)).toBe(true);
        }
        expect(new Set(told.keys())).toEqual(new Set(after.keys()));
        for (const [key, { job }] of after) {
          expect(told.get(key)?.job.cgroups).toEqual(job.cgroups);
          if (steps) expect(told.get(key)?.steps).toEqual(stepIds(job));
        }
      }),
    );
  });

  it('a job is another exactly where it kept no directory', () => {
    fc.assert(
      fc.property(samples, samples, (first, second) => {
        const [before, after] = [look(...first), look(...second)];
        const changes = changesBetween(before, after, { steps: false });
        const added = new Set(
          changes.flatMap((change) => (change.event === 'added' ? [directoryKeyOf(change.job)] : [])),
        );
        for (const [key, now] of after) {
          const was = before.get(key);
          expect(added.has(key)).toBe(was === undefined || !isSameDirectory(was, now));
        }
      }),
    );
  });
});

function stepIds(job: Job): Set<string> {
  return new Set(job.steps.map(({ stepId }) => stepId));
}
