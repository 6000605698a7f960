// The slurmstepd of a job's extern step, asked before a process is moved: whether it is this job's, lives, and accepts
// processes. A process moved into an ending step would be orphaned or killed with it.

import type { Deadline } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import { isEndingHere } from '../ending-job.js';
import { type Job, nameOfJob } from '../job.js';
import type { SlurmNode } from '../node.js';
import { openStepd } from './ask.js';
import type { StepdAnswer, StepdConnection, StepdError } from './connection.js';
import { JobSockets } from './find.js';
import { standsIn } from './process.js';
import type { StepSocket, TrustedOwners } from './sockets.js';

/**
 * ready: it runs, and the connection is the caller's to close; ending: no process is to be moved into that step any more;
 * unasked: nothing is known of it, and why.
 */
export type ExternStepd =
  | { readonly outcome: 'ready'; readonly stepd: StepdConnection }
  | { readonly outcome: 'ending'; readonly error: SlurmCgroupsError }
  | {
      readonly outcome: 'unasked';
      readonly why: string;
      /** It is there and did not answer in time: it may later. */
      readonly isSilent?: true;
    };

/** Connects to it and asks for its state. */
export async function reachExternStepd(node: SlurmNode, job: Job, deadline: Deadline): Promise<ExternStepd> {
  const { jobId, nodeName } = job;
  if (jobId === undefined) return { outcome: 'unasked', why: 'the id of the job is not known' };
  if (isEndingHere(node.host, job)) return endingStep(job, 'its epilog runs');
  const { sockets, trusted, isComplete, notes } = await new JobSockets(node).ofExtern({
    jobId,
    ...defined({ nodeName }),
  });
  if (sockets.length === 0 && isComplete)
    return endingStep(job, 'its extern step has no socket in the spool of slurmd, so it is ending, or has ended');
  const reasons: string[] = [];
  let isSilent = false;
  for (const socket of sockets) {
    const found = await reach({ node, job, socket, trusted }, deadline);
    if (found.outcome !== 'unasked') return found;
    reasons.push(found.why);
    isSilent ||= found.isSilent === true;
  }
  if (reasons.length > 0)
    return { outcome: 'unasked', why: reasons.join('; '), ...(isSilent && { isSilent: true as const }) };
  return {
    outcome: 'unasked',
    why: ['there is no spool of slurmd here, and no slurmstepd listens for it', ...notes].join('; '),
  };
}

interface Reaching {
  readonly node: SlurmNode;
  readonly job: Job;
  readonly socket: StepSocket;
  readonly trusted: TrustedOwners;
}

async function reach({ node, job, socket, trusted }: Reaching, deadline: Deadline): Promise<ExternStepd> {
  const opened = await openStepd(socket, { host: node.host, trusted, deadline });
  if (opened.outcome !== 'answered') return outcomeOfFailure(job, opened.error);
  const stepd = opened.value;
  let isReady = false;
  try {
    const pid = await stepd.ask('daemonPid', deadline);
    if (pid.outcome !== 'answered') return outcomeOfFailure(job, pid.error);
    if (!standsIn(node, job, pid.value))
      return { outcome: 'unasked', why: `what answers at ${socket.name} is not the slurmstepd of ${nameOfJob(job)}` };
    const state: StepdAnswer<string> = await stepd.ask('state', deadline);
    if (state.outcome !== 'answered') return outcomeOfFailure(job, state.error);
    if (state.value === 'ending') return endingStep(job, 'its extern step is ending');
    isReady = true;
    return { outcome: 'ready', stepd };
  } finally {
    if (!isReady) stepd.close();
  }
}

/** A slurmstepd that refuses, is gone or has died accepts no process, and would not end it with the job. */
function outcomeOfFailure(job: Job, error: StepdError): ExternStepd {
  switch (error.failure) {
    case 'refused':
    case 'absent':
    case 'dead':
      return endingStep(job, error.message, error);
    case 'silent':
      return { outcome: 'unasked', why: error.message, isSilent: true };
    case 'garbled':
    case 'untrusted':
    case 'unsupported':
    case 'unreachable':
      return { outcome: 'unasked', why: error.message };
  }
}

function endingStep(job: Job, why: string, cause?: unknown): ExternStepd {
  const error = new SlurmCgroupsError(
    'ERR_STEPD',
    `No process is moved into ${nameOfJob(job)}: ${why}`,
    defined({ jobId: job.jobId }),
    cause,
  );
  return { outcome: 'ending', error };
}
