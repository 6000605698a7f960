// A note that says: this cgroup was frozen by us, by that process. Written before freezing, removed after
// thawing: what a killed run left frozen the next one finds and thaws, and nothing else. Slurm's own
// suspensions have no note and stay.

import type { Deadline } from '../machine/deadline.js';
import { hasCode, isGone, SlurmCgroupsError, SystemCallError } from '../machine/errors.js';
import type { Directory, Host } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { makeStateFolder, removeStateFile, requireRootsFolder, stateFolder } from '../machine/state-folder.js';
import { Cgroup } from './cgroup.js';
import { thawAt } from './freezer.js';
import { directoryOf, type Hierarchies, hierarchyOfKey } from './hierarchies.js';
import { bootIdOf, isOwnerRunning, type NoteOwner, ownerIn, selfAsOwner } from './note-owner.js';
import { type CgroupPath, cgroupPath, pathBelow, rootPath } from './path.js';
import { isThere } from './process.js';

/** A user who could write to it could have any cgroup thawed. */
const folder = stateFolder('frozen');

/** What was frozen, and which run froze it. */
interface Note extends NoteOwner {
  readonly hierarchy: string;
  readonly path: string;
  readonly inode: string;
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
  const owner = selfAsOwner(host);
  const note: Note = {
    ...owner,
    hierarchy: cgroup.hierarchy.key,
    path: cgroup.path,
    inode: inode.toString(),
  };
  makeStateFolder(host, folder);
  const name = `${folder}/${cgroup.hierarchy.key.replace(/[^\w,=.-]/g, '_')}-${inode}-${owner.pid}-${owner.startTime}`;
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
 *
 * @param within only what is in this cgroup of each hierarchy: the rest is another's to thaw.
 * @returns the directories that were thawed.
 */
export async function thawLeftovers(
  host: Host,
  hierarchies: Hierarchies,
  { deadline, within = rootPath }: { readonly deadline: Deadline; readonly within?: CgroupPath },
): Promise<readonly string[]> {
  const thawed: string[] = [];
  const pace = new Pace(host, deadline);
  for (const name of notesIn(host)) {
    const file = `${folder}/${name}`;
    const note = readNote(host, file);
    if (note !== undefined && !isWithin(note, within)) continue;
    if (note === undefined ? isBeingWritten(host, name) : await isOwnerRunning(host, note, pace)) continue;
    const ofThisBoot = note === undefined || note.bootId !== bootIdOf(host) ? undefined : note;
    if (ofThisBoot !== undefined && !isInView(hierarchies, ofThisBoot)) continue;
    const cgroup = ofThisBoot === undefined ? undefined : cgroupOf(host, hierarchies, ofThisBoot);
    if (cgroup !== undefined) {
      thawAt(host, cgroup);
      thawed.push(cgroup.directory);
    }
    removeStateFile(host, file);
  }
  return thawed;
}

/** A note comes into being empty. Without it, what its living writer freezes next would stay so if that were killed then. */
function isBeingWritten(host: Host, name: string): boolean {
  const [, pid, startTime] = /-(\d+)-(\d+)-\d+$/.exec(name) ?? [];
  if (pid === undefined || startTime === undefined) return false;
  return isThere(host, { pid: Number(pid), startTime: BigInt(startTime) });
}

/** Where a note names no path, it says nothing: anyone forgets it. */
function isWithin(note: Note, within: CgroupPath): boolean {
  const path = pathIn(note);
  return path === undefined || pathBelow(path, within) !== undefined;
}

/** What this run has not mounted, or only a part of, is not gone: the note is left to one that sees it. */
function isInView(hierarchies: Hierarchies, note: Note): boolean {
  const path = pathIn(note);
  if (path === undefined) return true; // no path at all: the note says nothing
  const hierarchy = hierarchyOfKey(hierarchies, note.hierarchy);
  return hierarchy !== undefined && directoryOf(hierarchy, path) !== undefined;
}

function notesIn(host: Host): readonly string[] {
  const stat = host.stat(folder);
  if (stat === undefined) return [];
  requireRootsFolder(host, folder);
  return host.names(folder);
}

function readNote(host: Host, file: string): Note | undefined {
  try {
    return noteIn(JSON.parse(host.read(file)));
  } catch (error) {
    if (error instanceof SyntaxError || isGone(error)) return undefined; // cut off by a full file system, or removed by another cleaner
    throw error;
  }
}

function noteIn(value: unknown): Note | undefined {
  const owner = ownerIn(value);
  if (owner === undefined || typeof value !== 'object' || value === null) return undefined;
  const [hierarchy, path, inode]: readonly unknown[] = ['hierarchy', 'path', 'inode'].map((key) =>
    Reflect.get(value, key),
  );
  if (typeof hierarchy !== 'string' || typeof path !== 'string') return undefined;
  return typeof inode === 'string' && /^\d+$/.test(inode) ? { ...owner, hierarchy, path, inode } : undefined;
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
