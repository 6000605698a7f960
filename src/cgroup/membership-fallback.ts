// Where a process is when /proc/PID/cgroup does not tell: its cgroup is deeper than a path may be long, or has a
// line break in its name. Then the kernel's other word counts, the list of the cgroup in which it was seen.

import { ParseError, SystemCallError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Cgroup, procsAt, threadsAt, type WalkedCgroup } from './cgroup.js';
import { hierarchyKey, type Membership, parseMemberships } from './membership.js';

/**
 * Linux before 6.8 refuses to tell a path longer than PATH_MAX (proc_cgroup_show, kernel/cgroup/cgroup.c; later ones
 * cut it), and before 5.13 rename(2) could put a line break into a cgroup's name on v1 (cgroup1_rename). Users can do
 * both where they own their step's directory, with their own processes: those of others cannot be moved there.
 */
export function isUntold(error: unknown): boolean {
  return error instanceof ParseError || (error instanceof SystemCallError && error.errno === 'ENAMETOOLONG');
}

/** The cgroup in which a process was seen, and what it lists now. */
export interface Place {
  readonly cgroup: Cgroup;
  procs(): readonly number[];
  threads(): readonly number[];
}

export function seenPlace(seenIn: Cgroup | Place): Place {
  return seenIn instanceof Cgroup
    ? { cgroup: seenIn, procs: () => seenIn.procs(), threads: () => seenIn.threads() }
    : seenIn;
}

/** The cgroup that a walk visits: asked by the directory that is held, however deep it is. */
export function placeAt(at: WalkedCgroup): Place {
  return {
    get cgroup() {
      return at.value;
    },
    procs: () => procsAt(at),
    threads: () => threadsAt(at),
  };
}

/** A process, or one thread of it. */
export interface Task {
  readonly pid: number;
  readonly tid?: number;
}

/**
 * Memberships of a task. Where the kernel does not tell them, the one in `seenIn`, if it is listed there now; in which
 * cgroups of other hierarchies it is, is not known then. Where a cgroup is deeper than a path may be long, the nearest
 * above that is not stands for it.
 */
export function membershipsOf(
  host: Host,
  { pid, tid }: Task,
  seenIn: Cgroup | Place,
  parse: (text: string) => readonly Membership[] = parseMemberships,
): readonly Membership[] {
  try {
    return parse(host.read(tid === undefined ? `/proc/${pid}/cgroup` : `/proc/${pid}/task/${tid}/cgroup`));
  } catch (error) {
    if (!isUntold(error)) throw error;
    const place = seenPlace(seenIn);
    const isListed = tid === undefined ? place.procs().includes(pid) : place.threads().includes(tid);
    if (!isListed) return [];
    const ours = parseMemberships(host.read('/proc/self/cgroup')); // which number and which order of controllers
    return ours
      .filter(({ controllers }) => hierarchyKey(controllers) === place.cgroup.hierarchy.key)
      .map((one) => ({ ...one, path: place.cgroup.nameable.path, deleted: false }));
  }
}
