// The table: in which situation who logs in with which options, what pam_slurm_adopt 22.05 does with it on cgroup v1,
// and where slurm-cgroups differs on purpose: by the name of a section of docs/differences.md. Data alone: situations.ts
// makes the situations, table.slurm.ts holds the adopters against it.

import { orders, type SituationName } from './situations.js';

/**
 * What became of a login, in words: `in JOB` with the job's name in its situation, `in no job` (let in unadopted), `in
 * the user's cgroup`, `ignored`, `refused`, `hangs`, `hangs in JOB, unkillable`.
 */
export type Became = string;

export interface Difference {
  /** A section of docs/differences.md. */
  readonly name: string;
  readonly here: Became;
}

export interface Row {
  readonly situation: SituationName;
  /** Default: `alice`, whose jobs the situation is about. `bob` has one job throughout, `bob's`; `carol` none
   * (in guests); `unknown` is nobody. */
  readonly user?: 'alice' | 'bob' | 'carol' | 'root' | 'unknown';
  /** Default: sshd. */
  readonly service?: string;
  readonly options?: readonly string[];
  /** Where the connection begins: a job, `outside` of all, or `elsewhere`: a node without slurmd. Default: there is none. */
  readonly from?: string;
  readonly mapped?: boolean;
  /** The process to adopt, where it is not the login's own. */
  readonly process?: 'dead';
  /** slurm.conf names a spool that is not there. */
  readonly without?: 'spool';
  /** Real ssh to a real sshd, instead of pamtester and a call. */
  readonly by?: 'ssh';
  /** What pam_slurm_adopt does. */
  readonly there: Became;
  /** What it does at other times, where that is up to what lies in its memory. */
  readonly sometimes?: readonly Became[];
  /** Absent: slurm-cgroups does the same. */
  readonly differs?: Difference;
}

/** Rows of one situation: options, what became of it, and the rest of the row. */
export function of(
  situation: SituationName,
  ...rows: readonly (readonly [options: string, there: Became, rest?: Partial<Row>])[]
): readonly Row[] {
  return rows.map(([options, there, rest]) => ({
    situation,
    ...(options === '' ? {} : { options: options.split(' ') }),
    there,
    ...rest,
  }));
}

export const differs = (name: string, here: Became): Partial<Row> => ({ differs: { name, here } });

export const rows: readonly Row[] = [
  ...of(
    'no job',
    ['wait_for_job=0', 'refused'],
    ['wait_for_job=0 action_no_jobs=deny', 'refused'],
    ['wait_for_job=0 action_no_jobs=ignore', 'ignored'],
    ['wait_for_job=0 action_unknown=allow action_adopt_failure=allow action_generic_failure=allow', 'refused'],
    ['wait_for_job=0', 'refused', { from: 'outside' }],
    ['wait_for_job=0', 'refused', { from: "bob's" }],
    ['wait_for_job=0 single_job_skip_rpc=0', 'refused', { from: "bob's" }],
    ['', "in bob's", { user: 'bob' }],
    ['', 'ignored', { user: 'root' }],
    ['action_no_jobs=deny', 'ignored', { user: 'root' }],
    ['wait_for_job=0 ignore_root=0', 'ignored', { user: 'root', ...differs('root-like-every-user', 'refused') }],
    ['', 'refused', { user: 'unknown' }],
    ['', 'ignored', { service: 'login' }],
    ['wait_for_job=0 service=login', 'refused', { service: 'login' }],
    ['wait_for_job=0 service=*', 'refused', { service: 'login' }],
    ['service=login', 'ignored', { service: 'sshd' }],
  ),
  ...of('a job that is just starting', [
    'wait_for_job=60s budget=60s',
    'refused',
    differs('waits-for-a-starting-job', 'in starting'),
  ]),
  ...of(
    'a job that has ended, its epilog running',
    ['wait_for_job=0', 'refused'],
    ['wait_for_job=0 action_no_jobs=ignore', 'ignored'],
  ),
  ...of(
    'one job',
    ['', 'in only'],
    ['action_unknown=deny', 'in only'],
    ['action_unknown=allow', 'in only'],
    ['action_no_jobs=ignore action_adopt_failure=deny action_generic_failure=deny', 'in only'],
    ['single_job_skip_rpc=0', 'in only'],
    ['', 'in only', { from: 'outside' }],
    ['single_job_skip_rpc=0', 'in only', { from: 'only' }],
    ['single_job_skip_rpc=0', 'in only', { from: 'outside' }],
    [
      'single_job_skip_rpc=0 action_unknown=deny',
      'refused',
      { from: 'outside', ...differs('one-job-is-no-doubt', 'in only') },
    ],
    [
      'single_job_skip_rpc=0 action_unknown=allow',
      'in no job',
      { from: 'outside', ...differs('one-job-is-no-doubt', 'in only') },
    ],
    ['single_job_skip_rpc=0 action_unknown=deny', 'in only', { from: 'only' }],
    ['single_job_skip_rpc=0', 'in only', { from: 'elsewhere' }],
    ['', 'in only', { from: "bob's" }],
    ['single_job_skip_rpc=0', "in bob's", { from: "bob's", ...differs('only-into-own-jobs', 'in only') }],
    ['', 'ignored', { service: 'login' }],
    ['service=*', 'in only', { service: 'login' }],
    ['', 'in only', { by: 'ssh', from: 'outside' }],
    ['wait_for_job=0', 'refused', { without: 'spool', ...differs('without-a-spool', 'in only') }],
    // On v1 slurmstepd tries it four times, a second each; on v2 it says yes.
    ['', 'refused', { process: 'dead' }],
  ),
  ...of(
    'two jobs',
    ['', 'in newer'],
    ['action_unknown=newest', 'in newer'],
    ['action_unknown=allow', 'in no job'],
    ['action_unknown=deny', 'refused'],
    ['action_unknown=DENY', 'refused'],
    ['action_unknown=deny action_unknown=newest', 'in newer'],
    ['action_unknown=user', 'in newer', differs('own-cgroup', "in the user's cgroup")],
    ['', 'in older', { from: 'older' }],
    ['', 'in newer', { from: 'newer' }],
    ['action_unknown=deny', 'in older', { from: 'older' }],
    ['action_unknown=allow', 'in older', { from: 'older' }],
    ['', 'in newer', { from: 'outside' }],
    ['action_unknown=deny', 'refused', { from: 'outside' }],
    ['action_unknown=allow', 'in no job', { from: 'outside' }],
    ['', 'in newer', { from: 'elsewhere' }],
    ['action_unknown=deny', 'refused', { from: 'elsewhere' }],
    ['', "in bob's", { from: "bob's", ...differs('only-into-own-jobs', 'in newer') }],
    ['action_unknown=deny', "in bob's", { from: "bob's", ...differs('only-into-own-jobs', 'refused') }],
    ['', 'in newer', { from: 'older', mapped: true, ...differs('v4-mapped', 'in older') }],
    ['action_unknown=deny', 'refused', { from: 'older', mapped: true, ...differs('v4-mapped', 'in older') }],
    ['', "in bob's", { user: 'bob', from: 'older' }],
    ['', 'ignored', { service: 'login', from: 'older' }],
    ['', 'in older', { by: 'ssh', from: 'older' }],
    ['action_unknown=deny', 'refused', { by: 'ssh', from: 'outside' }],
    ['', "in bob's", { by: 'ssh', from: "bob's", ...differs('only-into-own-jobs', 'in newer') }],
  ),
  ...orders.flatMap((order) => {
    const [first, second, third] = order;
    return of(
      `three jobs, started ${first}, ${second}, ${third}`,
      ['', `in ${third}`],
      ['rank=pam_slurm_adopt-20.02', `in ${third}`],
      ['', `in ${first}`, { from: first }],
    );
  }),
  ...of(
    'an srun in the older of two jobs',
    ['', 'in older', differs('newest-by-beginning', 'in newer')],
    ['rank=pam_slurm_adopt-20.02', 'in older'],
    ['action_unknown=deny', 'refused'],
  ),
  ...of(
    'the slurmstepd of the job has been killed',
    ['wait_for_job=0', 'refused'],
    ['wait_for_job=0 action_adopt_failure=deny', 'refused'],
  ),
  ...of('a job that is ending', ['wait_for_job=0', 'refused'], ['wait_for_job=0 action_adopt_failure=deny', 'refused']),
  ...of(
    'the newer of two jobs is suspended',
    ['', 'hangs in suspended, unkillable', differs('suspended', 'refused')],
    ['action_suspended=allow', 'hangs in suspended, unkillable', differs('suspended', 'in no job')],
    ['action_suspended=next', 'hangs in suspended, unkillable', differs('suspended', 'in older')],
    ['', 'in older', { from: 'older' }],
    ['action_unknown=deny', 'refused'],
  ),
  ...of(
    'one job of three runs; one is ending, the slurmstepd of one has been killed',
    ['', 'in running'],
    ['action_unknown=deny', 'in running'],
    ['action_unknown=allow', 'in running'],
    ['action_unknown=user', 'in running'],
  ),
  ...of('a stopped slurmstepd of another user', ['', 'hangs', differs('no-strangers-asked', 'in only')]),
  ...of("a stopped slurmstepd of the user's own job", [
    '',
    'hangs',
    differs('every-question-has-a-deadline', 'in only'),
  ]),
];

/** A row as a person reads it. */
export function titleOf({ user, service, options, from, mapped, process, without, by }: Row): string {
  const parts = [
    ...(user === undefined ? [] : [user]),
    ...(by === undefined ? [] : [`by ${by}`]),
    ...(from === undefined ? [] : [`from ${from}${mapped === true ? ', IPv4 in IPv6' : ''}`]),
    ...(process === undefined ? [] : [`a ${process} process`]),
    ...(without === undefined ? [] : [`without ${without}`]),
    ...(service === undefined ? [] : [`PAM service ${service}`]),
    ...(options ?? []),
  ];
  return parts.length === 0 ? 'defaults' : parts.join(' ');
}
