// Asks the slurmstepd of a step through its socket. Whatever listens there may be stopped, ending, or no
// slurmstepd at all: every call has one deadline over all it does, and what is no answer is a value that says why.
// Slurm has no time-outs of its own: one stopped slurmstepd of a stranger hangs each of its logins (measured).

import type { Deadline } from '../../machine/deadline.js';
import { quote, SystemCallError } from '../../machine/errors.js';
import { type Directory, type Host, isSocket } from '../../machine/host.js';
import { Slots } from '../../machine/slots.js';
import { failureOf, readFrom, type StepdAnswer, StepdConnection, StepdError, type StepdFailure } from './connection.js';
import { encodeVersion, offeredVersions, readVersion, type StepdAnswers, type StepdQuestion } from './protocol.js';
import { rootOwns, type StepSocket, type TrustedOwners, whyStrange } from './sockets.js';

export interface StepdOptions {
  readonly host: Host;
  /** Over all of the call: connecting and asking. The reason of its signal is thrown. */
  readonly deadline: Deadline;
  /** Whose spool is believed. Default: root's. */
  readonly trusted?: TrustedOwners;
}

/**
 * Connects to the slurmstepd of a step: only to a socket, by no symbolic link, in a folder that only those trusted
 * can write in. The folder is held open meanwhile, so what was looked at is what is asked.
 */
export async function openStepd(
  socket: StepSocket,
  { host, deadline, trusted = rootOwns }: StepdOptions,
): Promise<StepdAnswer<StepdConnection>> {
  const failed = (failure: StepdFailure, why: string, cause?: unknown) => ({
    outcome: failure,
    error: new StepdError(failure, { socket, why }, cause),
  });
  deadline.signal?.throwIfAborted();
  if (deadline.isOver()) return failed('silent', 'the time was over before its turn came');
  let folder: Directory | undefined;
  try {
    folder = host.open(socket.folder);
    const strange = whyStrange(requireStat(folder.stat(), socket.folder), trusted);
    if (strange !== undefined) return failed('untrusted', `${quote(socket.folder)} is not believed: ${strange}`);
    const stat = folder.stat(socket.name);
    if (stat === undefined) return failed('absent', 'there is no such socket: the step has ended, or is to come');
    if (!isSocket(stat)) return failed('untrusted', 'it is no socket');
    if (!trusted.has(stat.uid)) return failed('untrusted', `it belongs to uid ${stat.uid}`);
    for (const version of offeredVersions) {
      const connection = await folder.connect(socket.name, deadline.wait());
      let used = false;
      try {
        connection.send(encodeVersion(version));
        const answer = await readFrom(connection, readVersion(), deadline);
        if (answer === 'refused') continue;
        used = true;
        return { outcome: 'answered', value: new StepdConnection({ socket, connection, ...answer }) };
      } finally {
        if (!used) connection.close();
      }
    }
    return failed('refused', 'it takes none of the protocol versions that this program speaks');
  } catch (error) {
    const { failure, why } = failureOf(error);
    return failed(failure, why, error);
  } finally {
    folder?.close();
  }
}

/** What one slurmstepd answered, and why not all. */
export interface StepdReport {
  readonly socket: StepSocket;
  readonly serverVersion?: number;
  readonly answers: Partial<StepdAnswers>;
  readonly failures: readonly StepdError[];
}

/** Asks one slurmstepd several questions on one connection, with one deadline for all. */
export async function askStepd(
  socket: StepSocket,
  questions: readonly StepdQuestion[],
  options: StepdOptions,
): Promise<StepdReport> {
  const opened = await openStepd(socket, options);
  if (opened.outcome !== 'answered') return { socket, answers: {}, failures: [opened.error] };
  const stepd = opened.value;
  const answers: { -readonly [question in StepdQuestion]?: StepdAnswers[question] } = {};
  const failures: StepdError[] = [];
  try {
    const all = await stepd.askAll(questions, options.deadline);
    for (const [at, question] of questions.entries()) {
      const answer = all[at];
      if (answer?.outcome === 'answered') Object.assign(answers, { [question]: answer.value });
      else if (answer !== undefined) failures.push(answer.error);
    }
  } finally {
    stepd.close();
  }
  return { socket, serverVersion: stepd.serverVersion, answers, failures };
}

export interface AskStepsOptions extends StepdOptions {
  /** For each of them, so that stopped ones do not use up the time of all. Default 1000. */
  readonly eachTimeoutMs?: number;
  /** Shared by all that connect at the same time. Default: eight. */
  readonly slots?: Slots;
}

/** Asks many, each in a slot; reports in the order of `sockets`. The deadline is over all. */
export function askSteps(
  sockets: readonly StepSocket[],
  questions: readonly StepdQuestion[],
  options: AskStepsOptions,
): Promise<readonly StepdReport[]> {
  const { host, deadline, eachTimeoutMs = 1000, slots = new Slots(host) } = options;
  return slots.each(sockets, deadline, (socket, left) =>
    askStepd(socket, questions, { ...options, deadline: left.part(eachTimeoutMs) }),
  );
}

function requireStat<T>(stat: T | undefined, path: string): T {
  if (stat === undefined) throw new SystemCallError('look at', path, 'ENOENT');
  return stat;
}
