// User names, for people. `getent` asks whatever the machine asks (files, LDAP, sssd), so it has a deadline;
// without an answer the number stands for the name.

import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { usageError } from './exit.js';

const getent = '/usr/bin/getent';
const timeoutMs = 2000;
/** Keys in one call: far below what a command line may hold. */
const batch = 500;

/** Names of users, as far as they are known in time. */
export type UserNames = (uid: number) => string | undefined;

export async function namesOf(host: Host, uids: Iterable<number>): Promise<UserNames> {
  const names = new Map<number, string>();
  const wanted = [...new Set(uids)];
  for (let at = 0; at < wanted.length; at += batch) {
    const lines = await ask(host, wanted.slice(at, at + batch).map(String));
    for (const line of lines ?? []) {
      const [name, , uid] = line.split(':');
      if (name !== undefined && uid !== undefined && /^\d+$/.test(uid)) names.set(Number(uid), name);
    }
    if (lines === undefined) break; // no answer in time: the next would not come either
  }
  return (uid) => names.get(uid);
}

/**
 * @throws SlurmCgroupsError ERR_USAGE for an unknown user, ERR_TIMEOUT when nobody answers.
 */
export async function uidOfUser(host: Host, user: string): Promise<number> {
  // A name that begins with a dash would be an option, one of digits a uid.
  if (!/^[^-:\s\d][^:\s]*$/.test(user)) throw usageError(`${quote(user)} is not the name of a user`);
  const lines = await ask(host, [user]);
  if (lines === undefined)
    throw new SlurmCgroupsError(
      'ERR_TIMEOUT',
      `Cannot tell the uid of ${quote(user)}: "${getent} passwd" did not answer`,
    );
  const uid = lines.map((line) => line.split(':')).find(([name]) => name === user)?.[2];
  if (uid === undefined || !/^\d+$/.test(uid)) throw usageError(`There is no user ${quote(user)}`);
  return Number(uid);
}

async function ask(host: Host, keys: readonly string[]): Promise<readonly string[] | undefined> {
  try {
    const { stdout, timedOut } = await host.run(getent, ['passwd', ...keys], { timeoutMs });
    return timedOut ? undefined : stdout.split('\n');
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // no getent here, or a recording
    throw error;
  }
}
