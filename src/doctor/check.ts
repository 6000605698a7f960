// One thing that was looked at on a node, and what came of it: a value, with the remedy where it is not as it should
// be. How the facts are gathered and what is checked is said in the files that make them.

import { type ErrorCode, hasCode, SlurmCgroupsError } from '../machine/errors.js';

/** `fail`: sessions or jobs are harmed. `warn`: something works less well than it could. `unknown`: it cannot be seen. */
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

/** Runs one check; what cannot be seen is `unknown` and says why, and the other checks go on. */
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
  ERR_NOT_RECORDED: 'ask the node itself, or record it again with this version',
  ERR_NOT_FOUND: 'see whether it should be there',
};

/** Why something is not known. */
export function unseen(error: SlurmCgroupsError): Finding {
  return unknown(...reasonOf(error));
}

/** What is wrong with something that was meant to be read. */
export function unreadable(error: SlurmCgroupsError): Finding {
  return hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED') ? unseen(error) : fail(...reasonOf(error));
}

/** Messages about configuration say what to do behind a semicolon. */
function reasonOf(error: SlurmCgroupsError): readonly [detail: string, remedy: string] {
  const [detail = error.message, ...said] = error.message.split('; ');
  const remedy = said.length > 0 ? said.join('; ') : remedies[error.code];
  return [detail, remedy ?? 'see to what it names, then ask again'];
}

/** The first few of a list, and how many more there are. */
export function some(names: readonly string[], most = 4): string {
  const rest = names.length - most;
  return rest <= 0 ? names.join(', ') : `${names.slice(0, most).join(', ')} and ${rest} more`;
}
