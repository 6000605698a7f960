import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ageOf, JobTable, type PageOptions, pageOf, type SortBy } from '../../src/cli/watch-page.js';
import type { Job } from '../../src/jobs/job.js';
import type { JobEvent } from '../../src/jobs/watch/watch.js';

const time = '2026-11-24T10:00:00.000Z';
const start = Date.parse(time);

function job(jobId: number, more: Partial<Job> = {}): Job {
  return {
    jobId,
    uid: 1001,
    steps: ['extern', 'batch'].map((stepId) => ({ stepId, cgroups: [] })),
    cgroups: [{ hierarchy: 'freezer', controllers: ['freezer'], path: `/cg/freezer/slurm/uid_1001/job_${jobId}` }],
    externMissingIn: [],
    ...more,
  };
}

const about = (one: Job) => ({ job: one, jobId: one.jobId ?? 0, time });

function table(events: readonly JobEvent[], steps = false): JobTable {
  const made = new JobTable(steps);
  for (const event of events) made.apply(event);
  return made;
}

function page(
  shown: JobTable,
  options: Partial<PageOptions> = {},
  style = (_: string, text: string) => text,
): Promise<readonly string[]> {
  return pageOf(
    shown,
    {
      node: 'n1',
      mode: 'unified',
      nowMs: start + 65_000,
      size: { rows: 20, columns: 50 },
      steps: false,
      names: (uid) => (uid === 1001 ? 'alice' : undefined),
      processes: async (_, stepId) => (stepId === 'batch' ? 12 : 1),
      ...options,
    },
    { style },
  );
}

const ready: JobEvent = { time, event: 'ready', jobs: 0 };

describe('pageOf()', () => {
  const jobs = [
    { event: 'added', ...about(job(7)) },
    { event: 'added', ...about(job(8, { uid: 5 })) },
    ready,
  ] satisfies readonly JobEvent[];

  it('with a view names the keys, sorts, begins where it is told to, and marks what is suspended', async () => {
    const shown = table([
      { event: 'added', ...about(job(9, { uid: 5 })) },
      { event: 'added', ...about(job(7)) },
      { event: 'added', ...about(job(8, { uid: 5, steps: [{ stepId: 'extern', cgroups: [] }] })) },
      ready,
    ]);
    const namesOf = (lines: readonly string[]) => lines.slice(4).flatMap((line) => /^\d+/.exec(line)?.[0] ?? []);
    const by = async (sortBy: SortBy, first = 0) => namesOf(await page(shown, { view: { sortBy, first } }));
    expect(await by('newest')).toEqual(['9', '8', '7']);
    expect(await by('job')).toEqual(['7', '8', '9']);
    expect(await by('user')).toEqual(['9', '8', '7']); // "5" stands before "alice"
    expect(await by('steps')).toEqual(['9', '7', '8']);
    expect(await by('job', 1)).toEqual(['8', '9']);
    const lines = await page(shown, {
      view: { sortBy: 'job', first: 2 },
      isSuspended: ({ jobId }) => jobId === 9,
      size: { rows: 20, columns: 80 },
    });
    expect(lines[1]).toBe('by job, from row 3  ·  s sort  ↑↓ PgUp PgDn scroll  q quit');
    expect(lines[4]).toMatch(/^9 .* suspended 13 /);
  });

  it('shows jobs, users, steps, processes and ages, the youngest first, and what happened lately', async () => {
    const lines = await page(table([...jobs, { event: 'removed', ...about(job(9)) }]));
    expect(lines[0]).toMatch(/^node n1 {2}2 jobs, unified cgroups +\d\d:\d\d:\d\d$/);
    expect(lines[0]).toHaveLength(50);
    expect(lines.slice(1, 6)).toEqual([
      '',
      'JOB  USER   STEPS         PROCESSES     AGE',
      '8    uid 5  extern batch         13  1m 05s',
      '7    alice  extern batch         13  1m 05s',
      '',
    ]);
    expect(lines.slice(6).map((line) => line.slice(10))).toEqual(['job 9 ended']);
  });

  it('with steps, a line for each', async () => {
    expect((await page(table([{ event: 'added', ...about(job(7)) }, ready], true), { steps: true })).slice(2)).toEqual([
      'JOB  USER              PROCESSES     AGE',
      '7    alice                    13  1m 05s',
      '            ├─ extern          1',
      '            └─ batch          12',
    ]);
  });

  it('says what is not shown, and that it is looking, and that there is none', async () => {
    const many = Array.from({ length: 50 }, (_, at): JobEvent => ({ event: 'added', ...about(job(at + 1)) }));
    const lines = await page(table([...many, ready]), { size: { rows: 10, columns: 50 } });
    expect(lines).toHaveLength(10);
    expect(lines.at(-1)).toBe('… and 44 older jobs');
    expect((await page(table(many)))[0]).toContain('50 jobs so far, ');
    expect((await page(table([])))[3]).toBe('looking …');
    expect((await page(table([ready])))[3]).toBe('no job');
  });

  it('makes visible what could steer the terminal', async () => {
    const odd = job(7, { steps: [{ stepId: '\u001b[2J\u202e', cgroups: [] }], uid: 9 });
    const text = (await page(table([{ event: 'added', ...about(odd) }, ready]), { names: () => 'a\u0007b' })).join(
      '\n',
    );
    expect(text).toContain('a\\x07b');
    expect(text).toContain('\\x1b[2J\\u202e');
    for (const hidden of ['\u001b', '\u0007', '\u202e']) expect(text).not.toContain(hidden);
  });

  it('follows steps, owners and notes', async () => {
    const shown = table([...jobs]);
    shown.apply({ event: 'step-added', stepId: '0', ...about(job(7, { steps: [{ stepId: '0', cgroups: [] }] })) });
    shown.apply({ event: 'note', time, note: 'looking every second' });
    const lines = await page(shown);
    expect(lines[1]).toBe('note: looking every second');
    expect(lines.find((line) => line.startsWith('7'))).toContain('alice  0 ');
    expect(lines.some((line) => line.includes('began'))).toBe(false);
  });

  it('takes the earliest sign of the extern step for the beginning', () => {
    const cgroup = { hierarchy: 'freezer', controllers: [], path: '/x', inode: 1n };
    const extern = { cgroups: [{ ...cgroup, mtimeNs: BigInt(start - 60_000) * 1_000_000n }] };
    expect(table([{ event: 'added', ...about(job(7, { extern })) }]).jobs[0]?.startedMs).toBe(start - 60_000);
  });

  it('is never more than the screen holds', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ id: fc.nat(), user: text, steps: fc.array(text, { maxLength: 6 }) }), { maxLength: 30 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 200 }),
        fc.boolean(),
        async (list, rows, columns, steps) => {
          const shown = table(
            list.map(({ id, steps: names }) => ({
              event: 'added' as const,
              ...about(job(id, { steps: names.map((stepId) => ({ stepId, cgroups: [] })) })),
            })),
            steps,
          );
          const lines = await page(shown, { size: { rows, columns }, steps, names: () => list[0]?.user });
          expect(lines.length).toBeLessThanOrEqual(rows);
          for (const line of lines) expect([...line].length).toBeLessThanOrEqual(columns);
        },
      ),
    );
  });
});

describe('ageOf()', () => {
  it.each([
    [-5, '0s'],
    [42_000, '42s'],
    [192_000, '3m 12s'],
    [5 * 3_600_000 + 420_000, '5h 07m'],
    [52 * 3_600_000, '2d 04h'],
  ])('%i ms: %s', (ms, text) => {
    expect(ageOf(ms)).toBe(text);
  });
});
