// When the extern steps of jobs began, as far as it can be seen without a question to slurmstepd. A cgroup's mtime can be made
// "now" by any user's `ls` (FACTS section 3); the socket of the step keeps its times, and the start of its slurmstepd
// is on a clock that is never set.

import { defined } from '../machine/defined.js';
import { ifReadable, SlurmCgroupsError } from '../machine/errors.js';
import { isFolderOf } from '../machine/ownership.js';
import type { Job } from './job.js';
import type { SlurmNode } from './node.js';
import { externStepdStart } from './stepd/process.js';
import { socketOf, socketTime } from './stepd/sockets.js';

/**
 * The same jobs with `extern.socketNs` and `extern.stepdStartTicks`, where these are to be seen: a look at one socket
 * and the processes of one directory each, so it is for jobs that are to be compared. Never throws for what is gone,
 * hidden or not recorded.
 */
export function withExternTimes<T extends Job>(jobs: readonly T[], node: SlurmNode): readonly T[] {
  const believed = believedSpools(node);
  return jobs.map((job) => {
    if (job.extern === undefined) return job;
    const socketNs = externSocketTime(job, node, believed);
    const stepdStartTicks = externStepdStart(node, job);
    return {
      ...job,
      extern: {
        ...job.extern,
        ...defined({ socketNs, stepdStartTicks }),
      },
    };
  });
}

/**
 * When the extern step began at the latest, in ms since 1970: each sign of it can only be too late. `undefined`: there is
 * none.
 */
export function externStartMs({ extern }: Pick<Job, 'extern'>): number | undefined {
  const { cgroups = [], socketNs } = extern ?? {};
  const signs = [...cgroups.map(({ mtimeNs }) => mtimeNs), ...(socketNs === undefined ? [] : [socketNs])];
  return signs.length === 0 ? undefined : Math.min(...signs.map((ns) => Number(ns / 1_000_000n)));
}

/** Of a spool that others can write in nothing is believed. */
function believedSpools({ host, spools }: SlurmNode): ReadonlyMap<string, string> {
  const isBelieved = (spool: string) => {
    const above = ifReadable(() => host.stat(spool));
    return above !== undefined && isFolderOf(above);
  };
  return new Map([...spools].filter(([, spool]) => isBelieved(spool)));
}

function externSocketTime(
  { jobId, nodeName }: Job,
  { host, nodeName: here }: SlurmNode,
  spools: ReadonlyMap<string, string>,
): bigint | undefined {
  const name = nodeName ?? here;
  const spool = name === undefined ? undefined : spools.get(name);
  if (jobId === undefined || name === undefined || spool === undefined) return undefined;
  try {
    return socketTime(host, socketOf(spool, { nodeName: name, jobId, stepId: 'extern' }));
  } catch (error) {
    if (error instanceof SlurmCgroupsError || error instanceof RangeError) return undefined; // no such job has a socket
    throw error;
  }
}
