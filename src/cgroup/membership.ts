// Which cgroup a process is in, hierarchy by hierarchy: the lines of /proc/PID/cgroup (cgroups(7)).

import { ParseError, quote } from '../machine/errors.js';
import { encodeKernelText, pastedText } from '../machine/kernel-text.js';
import { type CgroupPath, cgroupPath } from './path.js';

/** One line of /proc/PID/cgroup. */
export interface Membership {
  /** 0 for v2; for v1 a number that changes with each boot. */
  readonly hierarchyId: number;
  /** v1: `['cpu', 'cpuacct']`, `['name=systemd']`; empty for v2. */
  readonly controllers: readonly string[];
  /**
   * Relative to the reader's cgroup namespace: `/..` in front of what lies outside it. Of one that is longer than a
   * path may be, the beginning: a cgroup above.
   */
  readonly path: CgroupPath;
  /** The kernel wrote ` (deleted)` behind the path (a living cgroup of such a name cannot be told apart here). */
  readonly deleted: boolean;
}

const deletedSuffix = ' (deleted)';

/** PATH_MAX without its NUL: from Linux 6.8 on a longer path is cut here (measured: 6.18), before it is refused. */
const longest = 4095;

/**
 * Parses the text of /proc/PID/cgroup, as read or as pasted: the last line break may be missing or double, and line
 * breaks may be those of Windows.
 *
 * @example parseProcCgroup('4:memory:/slurm/uid_1000/job_7\n0::/init.scope')[0].controllers // ['memory']
 * @throws ParseError with the 1-based line.
 */
export function parseProcCgroup(text: string): readonly Membership[] {
  return parseMemberships(pastedText(text));
}

/**
 * Parses /proc/PID/cgroup exactly as the kernel writes it: a text that ends in the middle of a line was cut, and may
 * name a cgroup above the one that it is about.
 *
 * @throws ParseError with the 1-based line.
 */
export function parseMemberships(text: string): readonly Membership[] {
  if (text === '') return [];
  if (!text.endsWith('\n')) {
    const last = text.split('\n').length;
    throw new ParseError(`Cannot read memberships: line ${last} is cut off`, { line: last });
  }
  return text.slice(0, -1).split('\n').map(parseLine);
}

function parseLine(line: string, index: number): Membership {
  // Neither a controller nor the name of a hierarchy can hold a colon; a path can.
  const [, id, names, place] = /^(\d{1,10}):([^:]*):(\/.*)$/s.exec(line) ?? [];
  if (id === undefined || names === undefined || place === undefined) {
    throw new ParseError(`Cannot read memberships: line ${index + 1} is ${quote(line.slice(0, 200))}`, {
      line: index + 1,
    });
  }
  // A cgroup may be called ` (deleted)`: what stands behind a slash is a name.
  const before = place.endsWith(deletedSuffix) ? place.slice(0, -deletedSuffix.length) : '/';
  const deleted = !before.endsWith('/');
  const path = whole(deleted ? before : place);
  try {
    return {
      hierarchyId: Number(id),
      controllers: names === '' ? [] : names.split(','),
      path: cgroupPath(path),
      deleted,
    };
  } catch {
    throw new ParseError(`Cannot read memberships: line ${index + 1} has the path ${quote(path)}`, { line: index + 1 });
  }
}

/** What was cut may be cut in the middle of a name, or behind a slash: the last name is left out. */
function whole(path: string): string {
  const isCut = path.length * 3 >= longest && Buffer.byteLength(encodeKernelText(path)) >= longest;
  return isCut ? path.slice(0, Math.max(1, path.lastIndexOf('/'))) : path;
}

/** Paths and in which hierarchies they are, as one line: `/a in memory, cpuset; /b in freezer`. */
export function placesLine(places: readonly Pick<Membership, 'controllers' | 'path'>[]): string {
  const byPath = new Map<string, string[]>();
  for (const { controllers, path } of places)
    byPath.set(path, [...(byPath.get(path) ?? []), hierarchyKey(controllers)]);
  return [...byPath].map(([path, keys]) => `${path} in ${keys.join(', ')}`).join('; ');
}

/**
 * The name by which hierarchies and memberships find each other: controllers joined by a comma (`cpu,cpuacct`,
 * `name=systemd`), `unified` for v2.
 */
export function hierarchyKey(controllers: readonly string[]): string {
  return controllers.length === 0
    ? 'unified'
    : controllers.length === 1
      ? controllers.join()
      : [...controllers].sort().join();
}
