import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Job } from '../../src/jobs/job.js';
import type { RankName } from '../../src/policy/newest.js';
import { newestJob, rankJobs, rankNames } from '../../src/policy/newest.js';
import type { Sample } from '../support/sample-jobs.js';
import { job, ns } from '../support/sample-jobs.js';

/** Alice's jobs as recorded (fixtures: tree.txt, spool-stat.txt). */
const recorded = {
  '20.11 v1': [
    job(2, {
      extern: {
        'cpu,cpuacct': '1795508778.1325885700',
        cpuset: '1795508778.1073889500',
        devices: '1795508778.1240216300',
        freezer: '1795508778.0800244800',
        memory: '1795508778.1357921400',
      },
      socket: '1795508778.0280000000',
      own: { memory: '1795508780.0242220100' },
    }),
    job(4, {
      extern: {
        'cpu,cpuacct': '1795508782.7095153600',
        cpuset: '1795508782.6769324200',
        devices: '1795508782.6975705100',
        freezer: '1795508782.6067467500',
        memory: '1795508782.7115807800',
      },
      socket: '1795508782.4840000000',
      own: { memory: '1795508783.5550520600' },
    }),
    job(5, {
      extern: {
        'cpu,cpuacct': '1795508782.7179678800',
        cpuset: '1795508782.6449058100',
        devices: '1795508782.6932868900',
        freezer: '1795508782.5168348400',
        memory: '1795508782.7248375100',
      },
      socket: '1795508782.3800000000',
      own: { memory: '1795508783.8951684700' },
    }),
    job(6, {
      extern: {
        'cpu,cpuacct': '1795508785.4905931300',
        cpuset: '1795508785.4740419700',
        devices: '1795508785.4832657100',
        freezer: '1795508785.4499126600',
        memory: '1795508785.5069051900',
      },
      socket: '1795508785.4080000000',
      own: { memory: '1795508788.9764754900' },
    }),
  ],
  '22.05 v1': [
    job(4, {
      extern: { freezer: '1795478424.4430530520', memory: '1795478424.4646216800' },
      own: { memory: '1795478651.1233221770' },
    }),
    job(5, {
      extern: { freezer: '1795478424.4637738950', memory: '1795478424.4648517110' },
      own: { memory: '1795478424.4800069620' },
    }),
  ],
  '24.11 v1': [
    job(1, { extern: { freezer: '1795504414.852', memory: '1795504414.880' }, socket: '1795504414.608' }),
    job(3, { extern: { freezer: '1795504425.400', memory: '1795504425.416' }, socket: '1795504425.312' }),
    job(4, { extern: { freezer: '1795504425.348', memory: '1795504425.392' }, socket: '1795504425.264' }),
    job(5, { extern: { freezer: '1795504430.416', memory: '1795504430.420' }, socket: '1795504430.368' }),
  ],
  // step_extern of job 1 came into memory with its first adoption, 17 s after the job.
  '26.05 v1, job 1 adopted into': [
    job(1, {
      extern: { cpuset: '1795504327.244', freezer: '1795504327.276', memory: '1795504344.716' },
      socket: '1795504327.124',
    }),
    job(3, { extern: { cpuset: '1795504334.848', freezer: '1795504334.892' }, socket: '1795504334.728' }),
    job(4, { extern: { cpuset: '1795504335.220', freezer: '1795504335.244' }, socket: '1795504335.116' }),
    job(5, { extern: { cpuset: '1795504339.004', freezer: '1795504339.036' }, socket: '1795504338.848' }),
  ],
  '26.05 v2': [
    job(1, { extern: { unified: '1795504660.2994695280' }, socket: '1795504660.2914695280' }),
    job(3, { extern: { unified: '1795504663.7314695280' }, socket: '1795504663.7034695280' }),
    job(4, { extern: { unified: '1795504663.5354695280' }, socket: '1795504663.5234695280' }),
    job(5, { extern: { unified: '1795504665.4914695280' }, socket: '1795504665.4914695280' }),
  ],
  // The kernel dropped unused inodes: the mtimes mean nothing any more, the sockets' times stay.
  '26.05 v2, inodes reclaimed': [
    job(1, { extern: { unified: '1795504675.0594695280' }, socket: '1795504660.2914695280' }),
    job(3, { extern: { unified: '1795504675.0714695280' }, socket: '1795504663.7034695280' }),
    job(4, { extern: { unified: '1795504675.0634695280' }, socket: '1795504663.5234695280' }),
    job(5, { extern: { unified: '1795504675.0674695280' }, socket: '1795504665.4914695280' }),
  ],
} as const;

const expected: readonly (readonly [keyof typeof recorded, RankName, readonly number[]])[] = [
  ['20.11 v1', 'newest', [6, 4, 5, 2]],
  ['20.11 v1', 'step-extern-mtime', [6, 5, 4, 2]],
  ['20.11 v1', 'pam_slurm_adopt-15.08', [6, 4, 5, 2]],
  ['20.11 v1', 'pam_slurm_adopt-20.02', [6, 5, 4, 2]],
  ['20.11 v1', 'pam_slurm_adopt-26.05', [6, 5, 4, 2]],
  ['22.05 v1', 'newest', [5, 4]],
  ['22.05 v1', 'step-extern-mtime', [5, 4]],
  // A later step of job 4 touched its directory.
  ['22.05 v1', 'pam_slurm_adopt-15.08', [4, 5]],
  ['22.05 v1', 'pam_slurm_adopt-20.02', [4, 5]],
  ['24.11 v1', 'newest', [5, 3, 4, 1]],
  ['24.11 v1', 'step-extern-mtime', [5, 3, 4, 1]],
  ['24.11 v1', 'pam_slurm_adopt-26.05', [5, 4, 3, 1]],
  ['26.05 v1, job 1 adopted into', 'newest', [5, 4, 3, 1]],
  ['26.05 v1, job 1 adopted into', 'step-extern-mtime', [5, 4, 3, 1]],
  ['26.05 v2', 'newest', [5, 3, 4, 1]],
  ['26.05 v2', 'step-extern-mtime', [5, 3, 4, 1]],
  ['26.05 v2', 'pam_slurm_adopt-20.02', [5, 4, 3, 1]],
  ['26.05 v2', 'pam_slurm_adopt-26.05', [5, 4, 3, 1]],
  ['26.05 v2, inodes reclaimed', 'newest', [5, 3, 4, 1]],
  ['26.05 v2, inodes reclaimed', 'step-extern-mtime', [3, 5, 4, 1]],
];

const ids = (jobs: readonly Job[]) => jobs.map((one) => one.jobId);

describe('rankJobs() on recorded nodes', () => {
  it.each(expected)('%s by %s is %j', (node, rank, order) => {
    expect(ids(rankJobs(recorded[node], { rank }).jobs)).toEqual(order);
  });
});

describe('newestJob()', () => {
  it('gives nothing for no jobs, by every rank', () => {
    for (const rank of rankNames) expect(newestJob([], { rank })).toBeUndefined();
  });

  it('compares nanoseconds that a number cannot hold', () => {
    const jobs = [
      job(9, { extern: { memory: '1795478424.464621680' } }),
      job(1, { extern: { memory: '1795478424.464621681' } }),
    ];
    expect(newestJob(jobs, { rank: 'step-extern-mtime' })?.job.jobId).toBe(1);
  });

  it('takes jobs less than 4 ms apart as equal and then the greatest id, and a whole tick as a difference', () => {
    const at = (time: string): Sample => ({ socket: time });
    expect(newestJob([job(1, at('100.003999999')), job(2, at('100'))])?.job.jobId).toBe(2);
    expect(newestJob([job(1, at('100.004')), job(2, at('100'))])?.job.jobId).toBe(1);
    expect(newestJob([job(1, at('100.003')), job(2, at('100'))])?.trace).toEqual([
      'newest by the earliest sign of its extern step: job 2',
      'equally new: job 2, job 1: the greatest job id decides',
    ]);
  });

  it('settles chains of near times round the latest', () => {
    const chain = [job(3, { socket: '100' }), job(2, { socket: '100.003' }), job(1, { socket: '100.006' })];
    expect(ids(rankJobs(chain).jobs)).toEqual([2, 1, 3]);
  });

  it('believes the slurmstepds where the clock was set back, and says so', () => {
    const jobs = [job(1, { socket: 2000, ticks: 100 }), job(2, { socket: 1000, ticks: 101 })];
    const newest = newestJob(jobs);
    expect(newest?.job.jobId).toBe(2);
    expect(newest?.trace).toEqual([
      'newest by the earliest sign of its extern step: job 1, 1000 s after job 2',
      'their slurmstepds started in another order (boot clock), which decides: job 2, job 1',
    ]);
  });

  it('does not use starts of slurmstepds that are known of some jobs only', () => {
    const jobs = [job(1, { socket: 2000 }), job(2, { socket: 1000, ticks: 101 }), job(3, { socket: 1500, ticks: 90 })];
    expect(newestJob(jobs)?.job.jobId).toBe(1);
  });

  it('orders by time where slurmstepds began in one tick', () => {
    const jobs = [job(1, { socket: '100.009', ticks: 7 }), job(2, { socket: '100', ticks: 7 })];
    expect(newestJob(jobs)).toMatchObject({
      job: { jobId: 1 },
      trace: [
        'newest by the earliest sign of its extern step: job 1, 0.009 s after job 2',
        'their slurmstepds started in the same order',
      ],
    });
  });

  it('puts jobs of which no time is known last, and says so', () => {
    const { jobs, trace } = rankJobs([job(8), job(1, { socket: 5 })]);
    expect(ids(jobs)).toEqual([1, 8]);
    expect(trace).toContain('no time is known for job 8: last');
  });

  it('takes the greatest id where no time is known at all, and says so', () => {
    const newest = newestJob([job(8), job(9)]);
    expect(newest?.job.jobId).toBe(9);
    expect(newest?.trace).toEqual([
      'no time is known from the earliest sign of its extern step: the greatest job id decides: job 9, job 8',
    ]);
  });

  it('ranks a job without id by its time, in a tie below those with one, then by SLUID', () => {
    const [older, newer] = ['s9BNM865MKYJ00', 's9BNM865N29Y00'];
    const jobs = [
      job(undefined, { sluid: older, socket: 7 }),
      job(undefined, { sluid: newer, socket: 7 }),
      job(1, { socket: 7 }),
    ];
    expect(rankJobs(jobs).jobs.map((one) => one.jobId ?? one.sluid)).toEqual([1, newer, older]);
    expect(newestJob([...jobs, job(undefined, { sluid: older, socket: 8 })])?.job.sluid).toBe(older);
  });
});

describe("newestJob() by 'step-extern-mtime'", () => {
  const rank = 'step-extern-mtime';

  it('reads in memory and says so', () => {
    expect(newestJob(recorded['22.05 v1'], { rank })?.trace).toEqual([
      'newest by step_extern in memory: job 5, 0.000230031 s after job 4',
    ]);
  });

  it('reads all jobs in one fallback where memory does not have them all', () => {
    expect(newestJob(recorded['26.05 v1, job 1 adopted into'], { rank })?.trace).toEqual([
      'step_extern is not in memory for every job: read in cpuset',
      'newest by step_extern in cpuset: job 5, 3.784 s after job 4',
    ]);
  });

  it('follows the configured order, by hierarchy or by controller', () => {
    const jobs = [
      job(1, { extern: { 'cpu,cpuacct': 9, freezer: 1 } }),
      job(2, { extern: { 'cpu,cpuacct': 8, freezer: 2 } }),
    ];
    expect(newestJob(jobs, { rank, controllers: ['freezer'] })?.job.jobId).toBe(2);
    expect(newestJob(jobs, { rank, controllers: ['cpuacct', 'freezer'] })?.job.jobId).toBe(1);
    expect(newestJob(jobs, { rank, controllers: ['cpu,cpuacct'] })?.job.jobId).toBe(1);
  });

  it('falls back to hierarchies that the order does not name', () => {
    expect(
      newestJob([job(1, { extern: { pids: 9 } }), job(2, { extern: { pids: 8 } })], { rank, controllers: [] })?.job
        .jobId,
    ).toBe(1);
  });

  it('reads each job where it can, and says so, where they have no hierarchy in common', () => {
    const newest = newestJob([job(1, { extern: { memory: 9 } }), job(2, { extern: { freezer: 10 } })], { rank });
    expect(newest?.job.jobId).toBe(2);
    expect(newest?.trace[0]).toBe(
      'no hierarchy has step_extern for all of these jobs: each job is read in the first that has it',
    );
  });

  it('lets a job without step_extern not spoil the choice of a hierarchy', () => {
    const { jobs } = rankJobs([job(1, { extern: { memory: 9 } }), job(2), job(3, { extern: { memory: 8 } })], { rank });
    expect(ids(jobs)).toEqual([1, 3, 2]);
  });
});

describe('newestJob() by the ranks of pam_slurm_adopt', () => {
  const equals = [3, 1, 2].map((id) => job(id, { own: { memory: `100.${id}` } }));

  it('15.08 takes the first of equal seconds, 20.02 the last', () => {
    expect(newestJob(equals, { rank: 'pam_slurm_adopt-15.08' })?.job.jobId).toBe(1);
    expect(newestJob(equals, { rank: 'pam_slurm_adopt-20.02' })?.job.jobId).toBe(3);
  });

  it('20.02 falls back from memory, 15.08 does not', () => {
    const jobs = [job(1, { own: { freezer: 9, cpuset: 5 } }), job(2, { own: { freezer: 8, cpuset: 6 } })];
    expect(newestJob(jobs, { rank: 'pam_slurm_adopt-20.02' })?.job.jobId).toBe(2);
    expect(newestJob(jobs, { rank: 'pam_slurm_adopt-15.08' })?.trace[0]).toMatch(
      /^no time is known from its directory in memory/,
    );
  });

  it('26.05 means the latest socket in whole seconds, then the greatest id', () => {
    const jobs = [job(1, { socket: '100.9' }), job(2, { socket: '100.1' }), job(3, { socket: '99.9' })];
    expect(newestJob(jobs, { rank: 'pam_slurm_adopt-26.05' })?.job.jobId).toBe(2);
  });
});

const time = fc.oneof(
  fc.integer({ min: 0, max: 12 }).map((ms) => `100.${String(ms).padStart(3, '0')}`),
  fc.integer({ min: 1, max: 3 }),
);
const place = fc.constantFrom('memory', 'cpuset', 'freezer', 'cpu,cpuacct', 'unified');
const sample = fc.record(
  {
    extern: fc.dictionary(place, time),
    socket: time,
    ticks: fc.integer({ min: 1, max: 4 }),
    own: fc.dictionary(place, time),
  },
  { requiredKeys: [] },
);
const jobs = fc
  .uniqueArray(fc.record({ id: fc.integer({ min: 1, max: 9 }), named: fc.boolean(), sample }), {
    selector: ({ id }) => id,
  })
  .map((list) =>
    list.map(({ id, named, sample }) =>
      job(named ? id : undefined, { ...sample, ...(named ? {} : { sluid: `s${id}` }) }),
    ),
  );

describe('rankJobs() on any jobs', () => {
  it('does not depend on the order in which they are listed', () => {
    const shuffled = jobs.chain((list) =>
      fc.record({ list: fc.constant(list), other: fc.shuffledSubarray(list, { minLength: list.length }) }),
    );
    fc.assert(
      fc.property(shuffled, fc.constantFrom(...rankNames), ({ list, other }, rank) => {
        expect(rankJobs(other, { rank })).toEqual(rankJobs(list, { rank }));
      }),
    );
  });

  it('gives each of them once, those of which a time is known first, with a trace that names the first', () => {
    fc.assert(
      fc.property(jobs, fc.constantFrom(...rankNames), (list, rank) => {
        const ranking = rankJobs(list, { rank });
        expect(new Set(ranking.jobs)).toEqual(new Set(list));
        expect(ranking.jobs).toHaveLength(list.length);
        expect(newestJob(list, { rank })?.job).toBe(ranking.jobs[0]);
        const first = ranking.jobs[0];
        if (first !== undefined) expect(ranking.trace.join('\n')).toContain(`${first.jobId ?? first.sluid}`);
      }),
    );
  });

  it('never puts a job first that another is 4 ms and more after, without starts of slurmstepds', () => {
    fc.assert(
      fc.property(fc.array(time, { minLength: 1, maxLength: 8 }), (times) => {
        const newest = newestJob(times.map((socket, index) => job(index + 1, { socket })));
        const chosen = newest?.job.extern?.socketNs ?? 0n;
        expect(times.every((other) => ns(other) - chosen < 4_000_000n)).toBe(true);
      }),
    );
  });
});
