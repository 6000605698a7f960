// Caller ID: from which job does a connection come? Answered on this node where it begins here, else by the slurmd at its
// source. Whatever goes wrong is an answer, "unknown" with its reason, and comes in time: it refuses no login by itself.

import { SlurmCgroupsError } from '../../machine/errors.js';
import { callerHere } from './here.js';
import { type CallerIdAnswer, type CallerIdQuestion, unknownCaller } from './question.js';
import { rememberSilent, silentForMs } from './silent-sources.js';
import { askSlurmd } from './slurmd.js';

export interface CallerIdOptions {
  /** Remember a source that did not answer, so that it is not asked again for a minute. Not where nothing may be changed. */
  readonly remember: boolean;
}

/**
 * Asks from which job a connection comes. Answers before its deadline; throws the reason of the deadline's signal.
 *
 * The caller checks the answer: slurmd names a job of any user, wherever it runs.
 */
export async function askCallerId(question: CallerIdQuestion, { remember }: CallerIdOptions): Promise<CallerIdAnswer> {
  const { host } = question.node;
  if (host.source === 'recording') return unknownCaller('a recorded node cannot be asked');
  try {
    const here = await callerHere(question);
    if (here !== undefined) return here;
    const source = question.connection.source.address;
    const silentMs = silentForMs(host, source);
    if (silentMs > 0)
      return unknownCaller(
        `${source.text} did not answer lately, and is asked again in ${Math.ceil(silentMs / 1000)} s`,
      );
    const { answer, silent } = await askSlurmd(question);
    if (silent && remember) rememberSilent(host, source);
    return answer;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return unknownCaller(error.message);
    throw error;
  }
}
