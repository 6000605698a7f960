// One check of a node and its result: a value, with a remedy unless all is well. The other files of this room gather the
// facts and decide what they mean.

import { type ErrorCode, hasCode, SlurmCgroupsError } from '../machine/errors.js';

/** `fail`: sessions or jobs are harmed. `warn`: something works less well than it could. `unknown`: it could not be found out. */
export type CheckOutcome = 'ok' | 'warn' | 'fail' | 'unknown';

/** A check that is not `ok` has a remedy, one line. */
export type Check =
  | { readonly name: string; readonly outcome: 'ok'; readonly detail: string }
  | {
      readonly name: string;
      readonly outcome: Exclude<CheckOutcome, 'ok'>;
      readonly detail: string;
      readonly remedy: string;
    };

/** A check without its name. */
export type Finding =
  | { readonly outcome: 'ok'; readonly detail: string }
  | { readonly outcome: Exclude<CheckOutcome, 'ok'>; readonly detail: string; readonly remedy: string };

export const ok = (detail: string): Finding => ({ outcome: 'ok', detail });
export const warn = (detail: string, remedy: string): Finding => ({ outcome: 'warn', detail, remedy });
export const fail = (detail: string, remedy: string): Finding => ({ outcome: 'fail', detail, remedy });
export const unknown = (detail: string, remedy: string): Finding => ({ outcome: 'unknown', detail, remedy });

/** Runs one check. What cannot be read is `unknown` with the reason, and the other checks go on. */
export async function check(name: string, find: () => Finding | Promise<Finding>): Promise<Check> {
  try {
    return { name, ...(await find()) };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { name, ...unseen(error) };
  }
}

const remedies: Partial<Readonly<Record<ErrorCode, string>>> = {
  ERR_NOT_PERMITTED: 'run it as root',
  ERR_NOT_RECORDED: 'run it on the node itself, or record the node again with this version',
  ERR_NOT_FOUND: 'check whether it should exist',
};

/** Why something is not known. */
export function unseen(error: SlurmCgroupsError): Finding {
  return unknown(...reasonOf(error));
}

/** A file that exists and cannot be used fails; one that this user or recording cannot read is unknown. */
export function unreadable(error: SlurmCgroupsError): Finding {
  return hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED') ? unseen(error) : fail(...reasonOf(error));
}

/** Messages about configuration name the remedy after a semicolon. */
function reasonOf(error: SlurmCgroupsError): readonly [detail: string, remedy: string] {
  const [detail = error.message, ...said] = error.message.split('; ');
  const remedy = said.length > 0 ? said.join('; ') : remedies[error.code];
  return [detail, remedy ?? 'correct what the message names, then run it again'];
}
