// Whether times can be believed that say which job began last. A cgroup's mtime is true up to Slurm 23.02 only: later,
// any `ls -l` or reclaim of its inode makes it "now". The socket of the extern step never changes (measured).

import { type Finding, ok, warn } from './check.js';

/** What is seen of when an extern step began, in ns since 1970. */
export interface ExternTimes {
  /** Of its directory, in each hierarchy. */
  readonly mtimes: readonly bigint[];
  /** The earlier of ctime and mtime of its socket. */
  readonly socketNs?: bigint;
}

/** slurmstepd makes directory and socket one after the other, within this (measured: below 0.3 s). */
const togetherNs = 2_000_000_000n;

/** The default rank goes by the earliest sign of a step, so that late mtimes mislead nobody; other ranks believe them. */
export function clocks(steps: readonly ExternTimes[], now: bigint | undefined): Finding {
  if (steps.length === 0) return ok('no extern step to compare');
  const future = steps.filter(({ mtimes, socketNs }) =>
    [...mtimes, ...(socketNs === undefined ? [] : [socketNs])].some(
      (time) => now !== undefined && time > now + togetherNs,
    ),
  );
  if (future.length > 0)
    return warn(
      `${future.length} of ${steps.length} extern steps began in the future: the clock was set back, and "newest" can be wrong`,
      'let chrony or ntpd keep the clock, and step it only at the boot',
    );
  const compared = steps.filter(({ mtimes, socketNs }) => mtimes.length > 0 && socketNs !== undefined);
  if (compared.length === 0) return ok('no socket to hold the mtimes against');
  const late = compared.filter(({ mtimes, socketNs }) => mtimes.some((time) => time > (socketNs ?? time) + togetherNs));
  if (late.length === 0) return ok('mtimes of the extern steps agree with their sockets');
  return ok(
    'mtimes of extern steps are later than the steps (after ls or reclaim, Slurm 23.11 on): the default rank goes by the sockets',
  );
}
