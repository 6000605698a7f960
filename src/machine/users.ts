// Users of this machine: names and uids by passwd(5) and getent(1), which asks whatever the machine asks (files, LDAP,
// sssd) and may wait for the network; and which uids are people's, by login.defs(5).

import { ifReadable } from './errors.js';
import type { Host, RunResult } from './host.js';

/** A line of passwd(5), as far as it is needed. */
export interface User {
  readonly name: string;
  readonly uid: number;
}

/** Whether a text can be the name of a user: `getent` would take a dash for an option, and digits for a uid. */
export function isUserName(text: string): boolean {
  return /^[^-:\s\d][^:\s]*$/.test(text);
}

/** The users in a text of passwd(5). */
export function parsePasswd(text: string): readonly User[] {
  return text.split('\n').flatMap((line) => {
    const [name, , uid] = line.split(':');
    return name !== undefined && uid !== undefined && /^\d+$/.test(uid) ? [{ name, uid: Number(uid) }] : [];
  });
}

/** How a program is run; `undefined`: it did not end in time. */
type Run = (program: string, args: readonly string[]) => Promise<RunResult | undefined>;

export const getent = '/usr/bin/getent';

/** How long it may take. It may ask LDAP or sssd over the network; without an answer a uid is shown or a name not used. */
export const getentMs = 2000;

/** The users of these names or uids, those that there are. `undefined`: no answer in time. */
export async function askUsers(run: Run, keys: readonly string[]): Promise<readonly User[] | undefined> {
  const result = await run(getent, ['passwd', ...keys]);
  return result === undefined || result.timedOut ? undefined : parsePasswd(result.stdout);
}

/** UID_MIN where login.defs(5) does not say. */
const usualUidMin = 1000;

/** nobody, and (uid_t) -1 of 16 bits: they have no account here. */
const nobody: ReadonlySet<number> = new Set([65_534, 65_535]);

/** The first uid of people: UID_MIN of /etc/login.defs, else 1000. */
export function readUidMin(host: Pick<Host, 'read'>): number {
  return ifReadable(() => parseUidMin(host.read('/etc/login.defs'))) ?? usualUidMin; // no such file, or not recorded
}

/** The last UID_MIN counts; one that would make root or every system account a person does not. */
export function parseUidMin(text: string): number {
  const value = [...text.matchAll(/^[ \t]*UID_MIN[ \t]+(\d+)[ \t]*(?:#.*)?$/gm)].at(-1)?.[1];
  const uid = value === undefined ? Number.NaN : Number(value);
  return uid >= 100 && uid < 65_534 ? uid : usualUidMin;
}

/** Whether a uid can be a person's. */
export function isPersonsUid(uid: number, uidMin: number): boolean {
  return uid > 0 && uid >= uidMin && !nobody.has(uid);
}
