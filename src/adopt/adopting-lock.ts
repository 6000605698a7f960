// Two adoptions of one process exclude each other: the account phase and the session phase of a login, a command by
// hand beside them. A lock is a file that names its owner and what was moved from where, so that what a killed
// adoption left half done can be put back.

import {
  isOfThisNamespace,
  isOwnerRunning,
  isSameOwner,
  type NoteOwner,
  ownerIn,
  selfAsOwner,
} from '../cgroup/note-owner.js';
import { isThere, type ProcessIdentity } from '../cgroup/process.js';
import type { Deadline } from '../machine/deadline.js';
import { isGone, SlurmCgroupsError, SystemCallError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { makeStateFolder, removeStateFile, requireRootsFolder, stateFolder } from '../machine/state-folder.js';

const folder = stateFolder('adopting');
const pauseMs = { first: 1, longest: 20 };

/** What an adoption is about to move in one hierarchy. */
export interface NotedMove {
  /** Key of the hierarchy: its controllers. */
  readonly hierarchy: string;
  readonly from: string;
  readonly to: string;
}

interface Note {
  readonly owner: NoteOwner;
  /** What moves, noted before the first write. */
  readonly moves: readonly NotedMove[];
}

export interface AdoptingLock {
  /** Notes what is about to be moved. Nothing is moved before that. */
  note(moves: readonly NotedMove[]): void;
  /** Whether the file still is this adoption's: another may have taken it for one of a dead owner. */
  isHeld(): boolean;
  release(): void;
}

/** What a killed adoption of that process had begun to move. */
export interface Abandoned {
  readonly moves: readonly NotedMove[];
}

export interface TakenLock {
  readonly lock: AdoptingLock;
  /** Was it waited for? Then the process may stand elsewhere now. */
  readonly waited: boolean;
  readonly abandoned?: Abandoned;
}

/**
 * Takes the lock of a process. Waits for a living owner until the deadline.
 *
 * @throws SlurmCgroupsError ERR_BUSY where its owner keeps it; ERR_NOT_PERMITTED where others could write to the folder.
 */
export async function lockAdoption(host: Host, process: ProcessIdentity, deadline: Deadline): Promise<TakenLock> {
  makeStateFolder(host, folder);
  const file = `${folder}/${process.pid}-${process.startTime}`;
  const owner = selfAsOwner(host);
  const pace = new Pace(host, deadline);
  let waited = false;
  for (let pause = pauseMs.first; ; pause = Math.min(pause * 2, pauseMs.longest)) {
    const lock = tryLock(host, file, owner);
    if (lock !== undefined) return { lock, waited };
    const left = await takeFromTheDead(host, file, { owner, pace });
    if (left !== undefined) {
      const again = tryLock(host, file, owner);
      if (again !== undefined) return { lock: again, waited, abandoned: left };
    }
    if (deadline.isOver()) throw busy(process.pid, readNote(host, file));
    waited = true;
    await host.sleep(Math.min(pause, deadline.leftMs()), deadline.signal);
  }
}

/** At most so many are looked at, so that a full folder holds up no login. */
const mostLooked = 64;

/** Removes the locks of processes that have ended: a killed adoption leaves one for each process that it had locked. */
export function removeLeftLocks(host: Host): void {
  try {
    if (host.stat(folder) === undefined) return;
    requireRootsFolder(host, folder);
    for (const name of host.names(folder).slice(0, mostLooked)) {
      const [, pid, startTime] = /^(\d{1,10})-(\d{1,20})(?:\.|$)/.exec(name) ?? [];
      if (pid === undefined || startTime === undefined) continue;
      const file = `${folder}/${name}`;
      const note = readNote(host, file);
      if (note === 'gone' || (note !== 'broken' && !isOfThisNamespace(host, note.owner))) continue;
      // An adoption that still holds it finds it gone, as after another took it over: there is nothing left to exclude.
      if (!isThere(host, { pid: Number(pid), startTime: BigInt(startTime) })) removeQuietly(host, file);
    }
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // they stay until the next adoption
  }
}

/** Written whole under another name and then linked: no half of it is ever read. */
function tryLock(host: Host, file: string, owner: NoteOwner): AdoptingLock | undefined {
  const next = `${file}.${owner.pid}-${owner.startTime}.next`;
  let inode: bigint | undefined;
  try {
    write(host, next, { owner, moves: [] });
    inode = host.stat(next)?.ino;
    host.link(next, file);
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === 'EEXIST') return undefined;
    throw error;
  } finally {
    removeQuietly(host, next);
  }
  /** Where that cannot be seen, it is still ours: the lock of a living owner is never taken. */
  const isOthers = () => {
    try {
      return !isHeld();
    } catch (error) {
      if (error instanceof SlurmCgroupsError) return false;
      throw error;
    }
  };
  const isHeld = () => inode !== undefined && host.stat(file)?.ino === inode;
  return {
    isHeld,
    note: (moves) => {
      try {
        write(host, next, { owner, moves });
        const made = host.stat(next)?.ino;
        host.rename(next, file);
        inode = made;
      } catch (error) {
        removeQuietly(host, next);
        throw error;
      }
    },
    release: () => {
      if (inode !== undefined && !isOthers()) removeQuietly(host, file);
      inode = undefined;
    },
  };
}

/**
 * Moves the file of a dead owner aside, under a name that only this process uses, and reads it again there: in between
 * another may have taken it, and the file of any other owner goes back to its place at once: asking whether that one
 * runs could take its time, and meanwhile a third would find no lock.
 */
async function takeFromTheDead(
  host: Host,
  file: string,
  { owner, pace }: { readonly owner: NoteOwner; readonly pace: Pace },
): Promise<Abandoned | undefined> {
  const note = readNote(host, file);
  if (note === 'gone' || (note !== 'broken' && (await isOwnerRunning(host, note.owner, pace)))) return undefined;
  const aside = `${file}.${owner.pid}-${owner.startTime}.taken`;
  try {
    host.rename(file, aside);
  } catch (error) {
    if (isGone(error)) return undefined; // another was first
    throw error;
  }
  const taken = readNote(host, aside);
  if (taken !== 'gone' && taken !== 'broken' && !(note !== 'broken' && isSameOwner(taken.owner, note.owner))) {
    host.rename(aside, file);
    return undefined;
  }
  removeStateFile(host, aside);
  return { moves: taken === 'gone' || taken === 'broken' ? [] : taken.moves };
}

function busy(pid: number, note: Note | 'gone' | 'broken'): SlurmCgroupsError {
  const by = note === 'gone' || note === 'broken' ? 'another adoption' : `an adoption by process ${note.owner.pid}`;
  return new SlurmCgroupsError('ERR_BUSY', `Process ${pid} is being moved by ${by}`, { pid });
}

/** A new file, in the place of one that an earlier try left. */
function write(host: Host, file: string, note: Note): void {
  removeStateFile(host, file);
  host.create(file, `${JSON.stringify(note)}\n`);
}

/** `broken`: no adoption wrote that. */
function readNote(host: Host, file: string): Note | 'gone' | 'broken' {
  try {
    const value: unknown = JSON.parse(host.read(file));
    if (typeof value !== 'object' || value === null) return 'broken';
    const owner = ownerIn(Reflect.get(value, 'owner'));
    const moves: unknown = Reflect.get(value, 'moves');
    if (owner === undefined || !Array.isArray(moves)) return 'broken';
    return { owner, moves: moves.flatMap(moveIn) };
  } catch (error) {
    if (error instanceof SyntaxError) return 'broken';
    if (isGone(error)) return 'gone';
    throw error;
  }
}

function moveIn(value: unknown): readonly NotedMove[] {
  if (typeof value !== 'object' || value === null) return [];
  const [hierarchy, from, to]: readonly unknown[] = ['hierarchy', 'from', 'to'].map((key) => Reflect.get(value, key));
  if (typeof hierarchy !== 'string' || typeof from !== 'string' || typeof to !== 'string') return [];
  return [{ hierarchy, from, to }];
}

/**
 * What was done stands, whatever becomes of the file. Twice: a lock that stays is this process's until it ends, and
 * nothing else would adopt that process meanwhile.
 */
function removeQuietly(host: Host, file: string): void {
  for (let tries = 0; tries < 2; tries++) {
    try {
      removeStateFile(host, file);
      return;
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
    }
  }
}
