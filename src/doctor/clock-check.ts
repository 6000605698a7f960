// Whether the times can be trusted by which the newest job is chosen. A cgroup's mtime is right up to Slurm 23.02 only:
// later, any `ls -l` or reclaim of its inode sets it to now. The socket of the extern step keeps its times (measured).

import { type Finding, ok, warn } from './check.js';

/** When an extern step began, by each sign of it, in ns since 1970. */
export interface ExternTimes {
  /** Of its directory, in each hierarchy. */
  readonly mtimes: readonly bigint[];
  /** The earlier of ctime and mtime of its socket. */
  readonly socketNs?: bigint;
}

/** slurmstepd makes directory and socket one after the other, within this (measured: below 0.3 s). */
const togetherNs = 2_000_000_000n;

/** The default rank takes the earliest sign of a step, so late mtimes do no harm; other ranks go by the mtimes. */
export function clocks(steps: readonly ExternTimes[], now: bigint | undefined): Finding {
  if (steps.length === 0) return ok('no extern step to compare');
  const future = steps.filter(({ mtimes, socketNs }) =>
    [...mtimes, ...(socketNs === undefined ? [] : [socketNs])].some(
      (time) => now !== undefined && time > now + togetherNs,
    ),
  );
  if (future.length > 0)
    return warn(
      `${future.length} of ${steps.length} extern steps have a start time in the future: the clock was set back, and the wrong job can count as the newest`,
      'let chrony or ntpd keep the clock, and step it only at boot',
    );
  const compared = steps.filter(({ mtimes, socketNs }) => mtimes.length > 0 && socketNs !== undefined);
  if (compared.length === 0) return ok('no socket to compare the mtimes with');
  const late = compared.filter(({ mtimes, socketNs }) => mtimes.some((time) => time > (socketNs ?? time) + togetherNs));
  if (late.length === 0) return ok('mtimes of the extern steps agree with their sockets');
  return ok(
    'mtimes of extern steps are later than the steps (as ls or reclaim makes them, Slurm 23.11 on): the default rank uses the sockets',
  );
}
