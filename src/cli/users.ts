// User names, for people to read. `getent` may ask LDAP or sssd, so it has a deadline; without an answer the number is
// shown instead.

import { hasCode, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { askUsers, getent, getentMs, isUserName, type User } from '../machine/users.js';
import { usageError } from './exit.js';

/** Names in one call: far fewer than fit on a command line. */
const batch = 500;
/** The name under which a recording keeps them: it cannot ask. */
const usersAnswer = 'users';

/** Names of users, of those that were known in time. */
export type UserNames = (uid: number) => string | undefined;

export async function namesOf(host: Host, uids: Iterable<number>): Promise<UserNames> {
  if (host.source === 'recording') {
    const recorded = new Map(recordedUsers(host).map(({ name, uid }) => [uid, name]));
    return (uid) => recorded.get(uid);
  }
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
  if (host.source === 'recording') {
    const recorded = recordedUsers(host).find(({ name }) => name === user);
    if (recorded === undefined)
      throw usageError(`The recording does not hold the uid of ${quote(user)}: give it with --uid`);
    return recorded.uid;
  }
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

/** A line of a recording: the names of these users, those that were known in time. */
export async function usersLine(host: Host, uids: Iterable<number>): Promise<string> {
  const wanted = [...new Set(uids)];
  const names = await namesOf(host, wanted);
  const users = wanted.flatMap((uid) => {
    const name = names(uid);
    return name === undefined ? [] : [{ name, uid }];
  });
  return JSON.stringify({ read: usersAnswer, text: JSON.stringify(users) });
}

/** Nothing in a recording of version 1, and where somebody wrote in it. */
function recordedUsers(host: Host): readonly User[] {
  try {
    const told: unknown = JSON.parse(host.read(usersAnswer));
    return Array.isArray(told) ? told.filter(isUser) : [];
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, 'ERR_NOT_RECORDED')) return [];
    throw error;
  }
}

function isUser(value: unknown): value is User {
  if (typeof value !== 'object' || value === null) return false;
  const [name, uid]: readonly unknown[] = [Reflect.get(value, 'name'), Reflect.get(value, 'uid')];
  return typeof name === 'string' && typeof uid === 'number' && Number.isInteger(uid);
}
