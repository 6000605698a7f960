// Accounting: the slurmstepd of an extern step told of a process that stands in the job already, so that Slurm counts
// its use. Whether the process is where it belongs afterwards, /proc says: no answer is believed here or there.

import { hasEnded } from '../cgroup/move.js';
import type { HeldProcess } from '../cgroup/process.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import type { StepdConnection } from '../jobs/stepd/connection.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import { SlurmCgroupsError } from '../machine/errors.js';

/**
 * taken: it said that it has; refused: it said no, is ending, or has died, so nobody would end the process with its
 * job; untold: it does not know of the process, and never will; unanswered: it was told, and may still take it in;
 * ended: there is no process any more that could be counted.
 */
export type Told =
  | { readonly outcome: 'taken' }
  | { readonly outcome: 'ended' }
  | { readonly outcome: 'refused' | 'untold' | 'unanswered'; readonly error: SlurmCgroupsError };

export interface Telling {
  readonly node: SlurmNode;
  readonly job: Job;
  /** The connection on which it said that it runs; absent: it did not answer then, and is asked once more. */
  readonly stepd: StepdConnection | undefined;
  readonly process: HeldProcess;
  /** By the host's clock. */
  readonly until: number;
  /** How long it may take to say that it runs, where a fresh connection is needed. */
  readonly stepdTimeoutMs: number;
}

/**
 * Has slurmstepd take a process in.
 *
 * One that is silent once it was told is waited for until the time is over, and not told again: what was said lies in
 * its socket until it reads it, whatever we do, and each ADD_EXTERN_PID that it reads is one more entry in its list of
 * tasks, whose uses it adds up (Slurm 22.05 and 26.05 src/common/slurm_jobacct_gather.c, jobacct_gather_add_task). A
 * fresh connection is tried once where it was not told at all, or where the one to it broke.
 */
export async function tellStepd(telling: Telling): Promise<Told> {
  const { stepd } = telling;
  if (stepd === undefined) return tellAfresh(telling);
  const { isBroken, ...told } = await tellOn(stepd, telling);
  if (!isBroken) return told;
  try {
    const again = await tellAfresh(telling);
    return again.outcome === 'untold' ? told : again;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return told;
    throw error;
  }
}

async function tellAfresh(telling: Telling): Promise<Told> {
  const { node, job, until, stepdTimeoutMs } = telling;
  const timeoutMs = Math.min(stepdTimeoutMs, until - node.host.now());
  if (timeoutMs <= 0) return { outcome: 'untold', error: noTimeLeft(telling) };
  const reached = await reachExternStepd(node, job, { timeoutMs });
  switch (reached.outcome) {
    case 'ending':
      return hasEnded(telling.process) ? { outcome: 'ended' } : { outcome: 'refused', error: reached.error };
    case 'unasked': {
      const about = job.jobId === undefined ? {} : { jobId: job.jobId };
      return { outcome: 'untold', error: new SlurmCgroupsError('ERR_STEPD', reached.why, about) };
    }
    case 'ready':
      try {
        const { isBroken: _, ...told } = await tellOn(reached.stepd, telling);
        return told;
      } finally {
        reached.stepd.close();
      }
  }
}

/** `isBroken`: what came is no answer, and none can come on this connection any more. */
async function tellOn(stepd: StepdConnection, telling: Telling): Promise<Told & { readonly isBroken: boolean }> {
  const { node, process, until } = telling;
  // The pid is sent as a number: once its process is reaped it can be a stranger's.
  if (hasEnded(process)) return { outcome: 'ended', isBroken: false };
  const timeoutMs = until - node.host.now();
  if (timeoutMs <= 0) return { outcome: 'untold', error: noTimeLeft(telling), isBroken: false };
  const answer = await stepd.addPid(process.pid, { timeoutMs });
  if (answer.outcome === 'answered') return { outcome: 'taken', isBroken: false };
  if (hasEnded(process)) return { outcome: 'ended', isBroken: false }; // v1 refuses one that is gone
  switch (answer.outcome) {
    case 'silent':
    case 'garbled':
    case 'unreachable':
      return { outcome: 'unanswered', error: answer.error, isBroken: answer.outcome !== 'silent' };
    default:
      return { outcome: 'refused', error: answer.error, isBroken: false };
  }
}

function noTimeLeft({ process: { pid } }: Telling): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_TIMEOUT', `No time was left to tell slurmstepd of process ${pid}`, { pid });
}
