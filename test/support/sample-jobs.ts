// Jobs for the tests of policy: short to write, with times as the recorded trees spell them.

import type { ExternCgroup, Job } from '../../src/jobs/job.js';

export const alice = 1001;
export const bob = 1002;

/** `1795478424.4646216800` (find's %T@) or a number of seconds, in ns. */
export function ns(time: string | number): bigint {
  const [seconds = '0', digits = ''] = String(time).split('.');
  return BigInt(seconds) * 1_000_000_000n + BigInt(digits.slice(0, 9).padEnd(9, '0'));
}

export interface Sample {
  readonly uid?: number | 'unknown';
  readonly sluid?: string;
  /** mtime of step_extern by hierarchy. */
  readonly extern?: Readonly<Record<string, string | number>>;
  readonly socket?: string | number;
  readonly ticks?: number;
  /** mtime of the job's own directory by hierarchy. */
  readonly own?: Readonly<Record<string, string | number>>;
}

export function job(jobId: number | undefined, sample: Sample = {}): Job {
  const top = (hierarchy: string) => `/sys/fs/cgroup/${hierarchy}/job_${jobId ?? sample.sluid}`;
  const controllers = (hierarchy: string) => (hierarchy === 'unified' ? [] : hierarchy.split(','));
  const externs = Object.entries(sample.extern ?? {}).map(
    ([hierarchy, time]): ExternCgroup => ({
      hierarchy,
      controllers: controllers(hierarchy),
      path: `${top(hierarchy)}/step_extern`,
      inode: 1n,
      mtimeNs: ns(time),
    }),
  );
  const own = Object.entries(sample.own ?? {}).map(([hierarchy, time]) => ({
    hierarchy,
    controllers: controllers(hierarchy),
    path: top(hierarchy),
    mtimeNs: ns(time),
  }));
  const plain = externs
    .filter(({ hierarchy }) => sample.own?.[hierarchy] === undefined)
    .map(({ hierarchy, controllers }) => ({ hierarchy, controllers, path: top(hierarchy) }));
  return {
    ...(jobId === undefined ? {} : { jobId }),
    ...(sample.sluid === undefined ? {} : { sluid: sample.sluid }),
    ...(sample.uid === 'unknown' ? {} : { uid: sample.uid ?? alice }),
    steps: [],
    cgroups: [...own, ...plain],
    extern: {
      cgroups: externs,
      ...(sample.socket === undefined ? {} : { socketNs: ns(sample.socket) }),
      ...(sample.ticks === undefined ? {} : { stepdStartTicks: BigInt(sample.ticks) }),
    },
    externMissingIn: [],
  };
}
