// User names, for people to read. `getent` may ask LDAP or sssd, so it has a deadline; without an answer the number is
// shown instead.

import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { askUsers, getent, getentMs, isUserName, type User } from '../machine/users.js';
import { usageError } from './exit.js';

/** Names in one call: far fewer than fit on a command line. */
const batch = 500;

/** Names of users, of those that were known in time. */
export type UserNames = (uid: number) => string | undefined;

export async function namesOf(host: Host, uids: Iterable<number>): Promise<UserNames> {
  const names = new Map<number, string>();
  const wanted = [...new Set(uids)];
  for (let at = 0; at < wanted.length; at += batch) {
    const users = await ask(host, wanted.slice(at, at + batch).map(String));
    for (const { name, uid } of users ?? []) names.set(uid, name);
    if (users === undefined) break; // no answer in time: the next call would get none either
  }
  return (uid) => names.get(uid);
}

/**
 * @throws SlurmCgroupsError ERR_USAGE for an unknown user, ERR_TIMEOUT when there is no answer.
 */
export async function requireUid(host: Host, user: string): Promise<number> {
  if (!isUserName(user)) throw usageError(`${quote(user)} is not a valid user name`);
  const users = await ask(host, [user]);
  if (users === undefined)
    throw new SlurmCgroupsError(
      'ERR_TIMEOUT',
      `Cannot tell the uid of ${quote(user)}: "${getent} passwd" did not answer`,
    );
  const found = users.find(({ name }) => name === user);
  if (found === undefined) throw usageError(`There is no user ${quote(user)}`);
  return found.uid;
}

async function ask(host: Host, keys: readonly string[]): Promise<readonly User[] | undefined> {
  try {
    return await askUsers((program, args) => host.run(program, args, { timeoutMs: getentMs }), keys);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // no getent here, or a recording
    throw error;
  }
}
