// The rows that are compared in the guests of the matrix: what other releases, cgroup v2 and SLUIDs make different.
// Two jobs of alice's, `first` and `second`, whose ids and starts are in that order; one of bob's; carol has none.

import { differs, of, type Row } from './rows.js';

/** What of a guest decides which rows it has, and what pam_slurm_adopt does there. */
export interface GuestKind {
  readonly slurm: string;
  readonly cgroup: 'v1' | 'v2' | 'hybrid';
  readonly boot: 'bare' | 'systemd';
  readonly jobIdPaths?: boolean;
}

/** At most 12 a guest: each costs seconds there. */
export function rowsInGuest({ slurm, cgroup, boot, jobIdPaths = false }: GuestKind): readonly Row[] {
  const isV2 = cgroup === 'v2';
  // Where only the names of directories differ from another guest's, what takes long is left to that one.
  const isThorough = boot === 'systemd' && !jobIdPaths;
  const rows = [
    ...of('no job', ['wait_for_job=0', 'refused', { user: 'carol' }]),
    ...of('one job', ...(isThorough ? [] : [['', "in bob's", { user: 'bob' }] as const]), [
      'single_job_skip_rpc=0 action_unknown=deny',
      ...(slurm === '26.05'
        ? (["in bob's", { user: 'bob', from: 'outside' }] as const)
        : (['refused', { user: 'bob', from: 'outside', ...differs('one-job-is-no-doubt', "in bob's") }] as const)),
    ]),
    ...of(
      'one job',
      isV2
        ? ['', 'in no job', { user: 'bob', process: 'dead', ...differs('believes-the-kernel', 'refused') }]
        : ['', 'refused', { user: 'bob', process: 'dead' }],
    ),
    ...of(
      'two jobs',
      // With 24.11 on v1 it depends on who looked last, below.
      ...(slurm === '26.05' || (!isV2 && slurm === '24.11') ? [] : [['', 'in second'] as const]),
      ['action_unknown=deny', 'refused'],
      ['action_unknown=deny', 'in first', { from: 'first' }],
      ['action_unknown=deny', 'refused', { from: 'first', mapped: true, ...differs('v4-mapped', 'in first') }],
      ['', "in bob's", { from: "bob's", ...differs('only-into-own-jobs', 'in second') }],
      ...(isThorough ? [['', 'in first', { by: 'ssh', from: 'first' }] as const] : []),
    ),
    ...(!isV2 && slurm === '22.05'
      ? of('an srun in the older of two jobs', ['', 'in first', differs('newest-by-beginning', 'in second')])
      : []),
    ...(!isV2 && slurm === '24.11'
      ? of('an ls of the older of two jobs', ['', 'in first', differs('newest-by-beginning', 'in second')])
      : []),
    // Its comparison reads other memory than the jobs' (FACTS 3): of four it was the oldest each time, of two either.
    ...(slurm === '26.05'
      ? of('two jobs', [
          '',
          'in first',
          { sometimes: ['in second'], ...differs('newest-by-beginning', 'in second') },
        ]).concat(
          of('four jobs', [
            '',
            'in first',
            { sometimes: ['in second', 'in third', 'in fourth'], ...differs('newest-by-beginning', 'in fourth') },
          ]),
        )
      : []),
    ...(isV2 && isThorough
      ? of('the only job is suspended', ['', "hangs in bob's", { user: 'bob', ...differs('suspended', 'refused') }])
      : []),
    // The last: an adopter that asks every slurmstepd of the node hangs from here on.
    ...(isV2 && !jobIdPaths
      ? of('a stopped slurmstepd of another user', ['', 'hangs', differs('no-strangers-asked', 'in second')])
      : []),
  ];
  // The whole table is for 22.05 on v1, on the host.
  const isHosts = slurm === '22.05' && !isV2;
  return isHosts ? rows.filter(({ situation, mapped }) => situation !== 'one job' && mapped === undefined) : rows;
}
