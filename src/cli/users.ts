// User names, for people. `getent` asks whatever the machine asks (files, LDAP, sssd), so it has a deadline;
// without an answer the number stands for the name.

import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { askUsers, getent, isUserName, type User } from '../machine/users.js';
import { usageError } from './exit.js';

const timeoutMs = 2000;
/** Keys in one call: far below what a command line may hold. */
const batch = 500;

/** Names of users, as far as they are known in time. */
export type UserNames = (uid: number) => string | undefined;

export async function namesOf(host: Host, uids: Iterable<number>): Promise<UserNames> {
  const names = new Map<number, string>();
  const wanted = [...new Set(uids)];
  for (let at = 0; at < wanted.length; at += batch) {
    const users = await ask(host, wanted.slice(at, at + batch).map(String));
    for (const { name, uid } of users ?? []) names.set(uid, name);
    if (users === undefined) break; // no answer in time: the next would not come either
  }
  return (uid) => names.get(uid);
}

/**
 * @throws SlurmCgroupsError ERR_USAGE for an unknown user, ERR_TIMEOUT when nobody answers.
 */
export async function requireUid(host: Host, user: string): Promise<number> {
  if (!isUserName(user)) throw usageError(`${quote(user)} is not the name of a user`);
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
    return await askUsers((program, args) => host.run(program, args, { timeoutMs }), keys);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // no getent here, or a recording
    throw error;
  }
}
