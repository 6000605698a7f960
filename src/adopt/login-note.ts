// What the account phase of a login leaves for its session phase: its reply, in a file named by the process that was
// adopted. The module reads it; a login that was never opened, or was cut off, leaves one behind, which the next removes.

import { isThere, type ProcessIdentity } from '../cgroup/process.js';
import { isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { makeStateFolder, removeStateFile, stateFolder } from '../machine/state-folder.js';

const folder = stateFolder('logins');

/** So many are looked at: what else lies there waits for the logins to come. */
const mostLooked = 64;

function fileOf({ pid, startTime }: ProcessIdentity): string {
  return `${folder}/${pid}-${startTime}`;
}

/** Keeps a reply, whole or not at all. An earlier one of that process is replaced. */
export function noteLogin(host: Host, process: ProcessIdentity, reply: string): void {
  makeStateFolder(host, folder);
  removeLeftLogins(host);
  const file = fileOf(process);
  // Only this program writes for that process: it holds the lock of its adoption, or asks nothing more.
  const next = `${file}.${host.self().pid}.next`;
  removeStateFile(host, next);
  host.create(next, reply);
  host.rename(next, file);
}

/** Forgets it: a login that is refused has no session. */
export function forgetLogin(host: Host, process: ProcessIdentity): void {
  removeStateFile(host, fileOf(process));
}

/** What was kept, for who explains it; the module reads the file itself. */
export function readLoginNote(host: Host, process: ProcessIdentity): string | undefined {
  try {
    return host.read(fileOf(process));
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Removes what processes left that have ended. */
function removeLeftLogins(host: Host): void {
  try {
    for (const name of host.names(folder).slice(0, mostLooked)) {
      const [, pid, startTime] = /^(\d{1,10})-(\d{1,20})(?:\.|$)/.exec(name) ?? [];
      if (pid === undefined || startTime === undefined) continue;
      if (!isThere(host, { pid: Number(pid), startTime: BigInt(startTime) }))
        removeStateFile(host, `${folder}/${name}`);
    }
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // they stay until the next login
  }
}
