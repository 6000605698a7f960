// Accounting: the slurmstepd of the extern step is told of a process that already stands in the job, so that Slurm
// counts what it uses. No answer is believed about where the process is afterwards: /proc says that.

import type { Move } from '../cgroup/move.js';
import type { HeldProcess } from '../cgroup/process.js';
import { isExiting } from '../cgroup/process-end.js';
import type { Job } from '../jobs/job.js';
import { isJobIn } from '../jobs/leaves.js';
import type { SlurmNode } from '../jobs/node.js';
import type { StepdConnection } from '../jobs/stepd/connection.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import type { Deadline } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Counted } from './route.js';

/**
 * accepted: slurmstepd said that it counts the process; refused: it said no, is ending, or has died, so the process
 * would outlive the job; untold: it does not know of the process, and never will; unanswered: it was told, and may
 * still accept the process; ended: the process is gone, so there is nothing to count.
 */
export type Registration =
  | { readonly outcome: 'accepted' }
  | { readonly outcome: 'ended' }
  | { readonly outcome: 'refused' | 'untold' | 'unanswered'; readonly error: SlurmCgroupsError };

export interface RegistrationRequest {
  readonly node: SlurmNode;
  readonly job: Job;
  /** The connection on which slurmstepd said that it runs. Absent: it did not answer then, and is asked once more. */
  readonly stepd: StepdConnection | undefined;
  readonly process: HeldProcess;
  readonly deadline: Deadline;
  /** How long slurmstepd may take to say that it runs, where a new connection is needed. */
  readonly stepdTimeoutMs: number;
}

/**
 * Tells slurmstepd of the process.
 *
 * Where it was told and is silent, the answer is waited for until the deadline, and it is not told again: the request
 * lies in its socket until it reads it, whatever we do, and each ADD_EXTERN_PID that it reads is one more entry in its
 * list of tasks, whose figures it adds up (Slurm 22.05 and 26.05 src/common/slurm_jobacct_gather.c,
 * jobacct_gather_add_task). A new connection is tried once: where it was not told at all, or where the connection broke.
 */
export async function register(request: RegistrationRequest): Promise<Registration> {
  const { stepd } = request;
  if (stepd === undefined) return registerAnew(request);
  const { isBroken, ...first } = await registerOn(stepd, request);
  if (!isBroken) return first;
  try {
    const second = await registerAnew(request);
    return second.outcome === 'untold' ? first : second;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return first;
    throw error;
  }
}

async function registerAnew(request: RegistrationRequest): Promise<Registration> {
  const { node, job, deadline, stepdTimeoutMs } = request;
  const toAnswer = deadline.part(stepdTimeoutMs);
  if (toAnswer.isOver()) return { outcome: 'untold', error: noTimeLeft(request) };
  const reached = await reachExternStepd(node, job, toAnswer);
  switch (reached.outcome) {
    case 'ending':
      return isExiting(request.process) ? { outcome: 'ended' } : { outcome: 'refused', error: reached.error };
    case 'unasked': {
      const about = defined({ jobId: job.jobId });
      return { outcome: 'untold', error: new SlurmCgroupsError('ERR_STEPD', reached.why, about) };
    }
    case 'ready':
      try {
        const { isBroken: _, ...answer } = await registerOn(reached.stepd, request);
        return answer;
      } finally {
        reached.stepd.close();
      }
  }
}

/** `isBroken`: what came is no answer, and none can come on this connection any more. */
async function registerOn(
  stepd: StepdConnection,
  request: RegistrationRequest,
): Promise<Registration & { readonly isBroken: boolean }> {
  const { process, deadline } = request;
  // The pid is sent as a number: once its process is reaped, another process can have it.
  if (isExiting(process)) return { outcome: 'ended', isBroken: false };
  if (deadline.isOver()) return { outcome: 'untold', error: noTimeLeft(request), isBroken: false };
  const answer = await stepd.addPid(process.pid, deadline);
  if (answer.outcome === 'answered') return { outcome: 'accepted', isBroken: false };
  if (isExiting(process)) return { outcome: 'ended', isBroken: false }; // v1 refuses a process that is gone
  switch (answer.outcome) {
    case 'silent':
    case 'garbled':
    case 'unreachable':
      return { outcome: 'unanswered', error: answer.error, isBroken: answer.outcome !== 'silent' };
    default:
      return { outcome: 'refused', error: answer.error, isBroken: false };
  }
}

function noTimeLeft({ process: { pid } }: RegistrationRequest): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_TIMEOUT', `No time was left to tell slurmstepd of process ${pid}`, { pid });
}

/** What a registration comes to: by its answer, and by where /proc shows the process afterwards. */
export interface Accounted {
  readonly accounting: 'stepd' | 'none' | 'refused';
  readonly uncountedWhy?: string;
  /** Why the process cannot stay as it is. */
  readonly error?: SlurmCgroupsError;
  /** Lines for an administrator. */
  readonly trace: readonly string[];
}

/** Looks again where the process is: slurmstepd may have moved it on. */
export function settle(node: SlurmNode, move: Move, { job, goals }: Counted, registration: Registration): Accounted {
  const { pid } = move.process;
  const said = accounted(pid, registration);
  if (registration.outcome === 'ended') return said;
  const trace = [...said.trace];
  try {
    move.observe((hierarchy) => isJobIn(node, job, hierarchy), goals);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    if (!isExiting(move.process)) return { ...said, error };
    trace.push(`process ${pid} has ended`);
  }
  // Also of a process that has ended meanwhile: a step that refuses it kills it (measured).
  const error = registration.outcome === 'refused' ? registration.error : whyIncomplete(move);
  return { ...said, ...defined({ error }), trace };
}

function accounted(pid: number, registration: Registration): Accounted {
  switch (registration.outcome) {
    case 'ended':
      return {
        accounting: 'none',
        uncountedWhy: 'it has ended',
        trace: [`process ${pid} has ended: slurmstepd has nothing to count`],
      };
    case 'accepted':
      return { accounting: 'stepd', trace: ['slurmstepd has accepted it: Slurm counts its use'] };
    case 'refused': {
      const why = registration.error.message;
      return { accounting: 'refused', uncountedWhy: why, trace: [`slurmstepd refuses it: ${why}`] };
    }
    case 'untold':
    case 'unanswered': {
      const why = registration.error.message;
      const later = registration.outcome === 'unanswered' ? [mayStillAccept(pid)] : [];
      return {
        accounting: 'none',
        uncountedWhy: why,
        trace: [`limited by the job, but not counted: ${why}`, ...later],
      };
    }
  }
}

/** What slurmstepd was told it may still do (measured): the reader of a trace has to know. */
export function mayStillAccept(pid: number): string {
  return `slurmstepd was told to accept process ${pid} and may still do so, even if the pid is another process's by then`;
}

/** Why a move is not complete; undefined where it is. */
export function whyIncomplete(move: Move): SlurmCgroupsError | undefined {
  if (move.complete) return undefined;
  return (
    move.report.find((one) => one.error !== undefined)?.error ??
    new SlurmCgroupsError('ERR_CGROUP_REFUSED', `Cannot move process ${move.process.pid}`)
  );
}
