// A note that says: this cgroup was frozen by us, by that process. Written before freezing, removed after
// thawing: what a killed run left frozen the next one finds and thaws, and nothing else. Slurm's own
// suspensions have no note and stay.

import { hasCode, isGone, SlurmCgroupsError, SystemCallError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';
import { makeStateFolder, removeStateFile, requireRootsFolder, stateFolder } from '../machine/state-folder.js';
import { Cgroup } from './cgroup.js';
import { thawAt } from './freezer.js';
import { type Hierarchies, hierarchyOfKey } from './hierarchies.js';
import { bootIdOf } from './note-owner.js';
import { type CgroupPath, cgroupPath } from './path.js';
import { identityOf, isThere, listPids } from './process.js';

/** A folder that somebody else can write to could tell us to thaw whatever he likes. */
const folder = stateFolder('frozen');

interface Note {
  readonly bootId: string;
  /** In which `pid` is meant: the inode of /proc/self/ns/pid. Notes of 0.1.0 lack it: they are of ours. */
  readonly pidNamespace?: string;
  readonly hierarchy: string;
  readonly path: string;
  readonly inode: string;
  /** Who froze it. */
  readonly pid: number;
  readonly startTime: string;
}

/** A note that was written; `remove` it once the cgroup is thawed. */
export interface FrozenNote {
  remove(): void;
}

/**
 * Writes the note for a cgroup, held open, that is about to be frozen by this process.
 *
 * @throws SlurmCgroupsError when it cannot be written: then nothing may be frozen.
 */
export function writeFrozenNote(host: Host, cgroup: Cgroup, held: Pick<Directory, 'stat'>): FrozenNote {
  const inode = held.stat()?.ino;
  if (inode === undefined)
    throw new SlurmCgroupsError('ERR_CGROUP_GONE', `Cannot freeze "${cgroup.directory}": the cgroup is gone`, {
      path: cgroup.directory,
    });
  const { pid, startTime } = identityOf(host, host.self().pid);
  const note: Note = {
    bootId: bootIdOf(host),
    pidNamespace: namespaceOf(host, 'self'),
    hierarchy: cgroup.hierarchy.key,
    path: cgroup.path,
    inode: inode.toString(),
    pid,
    startTime: startTime.toString(),
  };
  makeStateFolder(host, folder);
  const name = `${folder}/${cgroup.hierarchy.key.replace(/[^\w,=.-]/g, '_')}-${inode}-${pid}-${startTime}`;
  // This process may be freezing it twice at once.
  for (let number = 1; ; number++) {
    const file = `${name}-${number}`;
    try {
      host.create(file, `${JSON.stringify(note)}\n`);
      return { remove: () => removeStateFile(host, file) };
    } catch (error) {
      if (!(error instanceof SystemCallError && error.errno === 'EEXIST')) throw error;
    }
  }
}

/**
 * Thaws what runs before this one froze and could not thaw, since they were killed. A cgroup that is gone or
 * was made anew, or a note of an earlier boot, is only forgotten; what a living process froze is left to it, also where
 * it lives in a container: its pid there is another process here.
 * Gives the directories that were thawed.
 */
export function thawLeftovers(host: Host, hierarchies: Hierarchies): readonly string[] {
  const thawed: string[] = [];
  for (const name of notesIn(host)) {
    const file = `${folder}/${name}`;
    const note = readNote(host, file);
    if (note !== undefined && note.bootId === bootIdOf(host) && mayLive(host, note)) continue;
    const cgroup = note === undefined || note.bootId !== bootIdOf(host) ? undefined : cgroupOf(host, hierarchies, note);
    if (cgroup !== undefined) {
      thawAt(host, cgroup);
      thawed.push(cgroup.directory);
    }
    removeStateFile(host, file);
  }
  return thawed;
}

/** Whether the process that froze it may be at work still. */
function mayLive(host: Host, note: Note): boolean {
  const own = namespaceOf(host, 'self');
  if (note.pidNamespace === undefined || note.pidNamespace === own)
    return isThere(host, { pid: note.pid, startTime: BigInt(note.startTime) });
  // Of another namespace no pid can be looked up. The first one sees all processes: none is in a namespace that is over.
  if (own !== firstNamespace) return true;
  return listPids(host).some((pid) => {
    try {
      return namespaceOf(host, String(pid)) === note.pidNamespace;
    } catch (error) {
      if (isGone(error)) return false; // ended, or a zombie
      if (hasCode(error, 'ERR_NOT_PERMITTED')) return true; // unknown is not over
      throw error;
    }
  });
}

/** PROC_PID_INIT_INO of include/linux/proc_ns.h. */
const firstNamespace = String(0xeffffffc);

/** Its number, of `pid:[4026531836]`. */
function namespaceOf(host: Host, pid: string): string {
  return host.readlink(`/proc/${pid}/ns/pid`).replace(/\D/g, '');
}

function notesIn(host: Host): readonly string[] {
  const stat = host.stat(folder);
  if (stat === undefined) return [];
  requireRootsFolder(host, folder);
  return host.names(folder);
}

function readNote(host: Host, file: string): Note | undefined {
  try {
    const value: unknown = JSON.parse(host.read(file));
    return isNote(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isGone(error)) return undefined; // cut off by a full file system, or removed by another cleaner
    throw error;
  }
}

function isNote(value: unknown): value is Note {
  if (typeof value !== 'object' || value === null) return false;
  const text = (key: string): boolean => typeof Reflect.get(value, key) === 'string';
  return (
    ['bootId', 'hierarchy', 'path'].every(text) &&
    ['inode', 'startTime'].every((key) => /^\d+$/.test(String(Reflect.get(value, key)))) &&
    ['undefined', 'string'].includes(typeof Reflect.get(value, 'pidNamespace')) &&
    typeof Reflect.get(value, 'pid') === 'number'
  );
}

function cgroupOf(host: Host, hierarchies: Hierarchies, note: Note): Cgroup | undefined {
  const hierarchy = hierarchyOfKey(hierarchies, note.hierarchy);
  if (hierarchy === undefined) return undefined;
  const path = pathIn(note);
  if (path === undefined) return undefined;
  const cgroup = new Cgroup(host, hierarchy, path);
  return host.stat(cgroup.directory)?.ino.toString() === note.inode ? cgroup : undefined;
}

function pathIn(note: Note): CgroupPath | undefined {
  try {
    return cgroupPath(note.path);
  } catch (error) {
    if (hasCode(error, 'ERR_PARSE')) return undefined;
    throw error;
  }
}
