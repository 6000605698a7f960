// Whose configuration is believed: root's, and SlurmUser's, once a file that is believed says who that is.
// That no other user can write there is checked in machine/guarded-files.ts.

import { ConfigError, hasCode, quote } from '../../machine/errors.js';
import { type ConfigFiles, formatMode, type LocatedFile, type Owned } from '../../machine/guarded-files.js';
import type { Host } from '../../machine/host.js';
import { askUsers, isUserName, parsePasswd, type User } from '../../machine/users.js';

/**
 * The account that every package of Slurm makes. A slurm.conf that is not root's can vouch for this one only,
 * by saying so itself; for another, root's word is needed: a slurm.conf of root's, or the option `slurmUser`.
 */
export const usualSlurmUser = 'slurm';

export interface TrustedUids {
  readonly uids: ReadonlySet<bigint>;
  /** Who they are besides root, for people. */
  readonly named: string | undefined;
  /** A recording, of a node where only a program could tell the uid of that name: there is nothing to guard. */
  readonly anyOwner: boolean;
}

export const rootOnly: TrustedUids = { uids: new Set([0n]), named: undefined, anyOwner: false };

/** Root and that user, if it is known. */
export async function trustAlso(host: Host, files: ConfigFiles, user: string): Promise<TrustedUids> {
  const uid = await uidOfUser(host, files, user);
  const named = uid === undefined ? `${user} (whose uid is not known)` : `${user} (uid ${uid})`;
  const uids = uid === undefined ? rootOnly.uids : new Set([0n, BigInt(uid)]);
  return { uids, named, anyOwner: uid === undefined && host.source === 'recording' };
}

/** The first owner of the file, or of what leads to it, who is not among those trusted. */
export function strangerAt(file: LocatedFile, trusted: TrustedUids): Owned | undefined {
  return trusted.anyOwner ? undefined : file.foreign.find(({ uid }) => !trusted.uids.has(uid));
}

/** @throws ConfigError that names the owner and what to do, unless all of its owners are trusted. */
export function requireTrusted(file: LocatedFile, trusted: TrustedUids): void {
  const stranger = strangerAt(file, trusted);
  if (stranger === undefined) return;
  const what = stranger.path === file.path ? 'it' : quote(stranger.path);
  const others = trusted.named === undefined ? '' : ` nor to SlurmUser ${trusted.named}`;
  const owner = `uid ${stranger.uid} (mode ${formatMode(stranger.mode)})`;
  throw new ConfigError(
    `Cannot trust ${quote(file.path)}: ${what} belongs to ${owner}, not to root${others}; ` +
      `give it to root (chown root ${quote(stranger.path)}), or name its owner as SlurmUser in a slurm.conf of root's`,
    { path: file.path, uid: Number(stranger.uid) },
  );
}

/**
 * The uid of a user, from /etc/passwd, else from `getent` (whose answer may come over the network).
 * `undefined`: there is no such user, or there was no answer in time.
 */
export async function uidOfUser(host: Host, files: ConfigFiles, user: string): Promise<number | undefined> {
  if (/^\d{1,10}$/.test(user)) return Number(user);
  if (!isUserName(user)) return undefined;
  const named = (users: readonly User[] | undefined) => users?.find(({ name }) => name === user)?.uid;
  const inPasswd = named(parsePasswd(await readPasswd(files)));
  if (inPasswd !== undefined || host.source === 'recording') return inPasswd;
  return named(await askUsers(files.run, [user]));
}

async function readPasswd(files: ConfigFiles): Promise<string> {
  try {
    const passwd = await files.locate('/etc/passwd');
    return passwd === undefined ? '' : await files.read(passwd, 64 << 20);
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED')) return '';
    throw error;
  }
}
