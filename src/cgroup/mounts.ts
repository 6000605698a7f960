// The cgroup file systems among the lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)). What they mean
// together, which one to use when one is mounted twice, is said in hierarchies.ts.

import { ParseError, quote } from '../machine/errors.js';
import { type CgroupPath, cgroupPath } from './path.js';

/** A mounted cgroup hierarchy. */
export interface CgroupMount {
  readonly version: 1 | 2;
  /** Absolute path in this mount namespace, octal escapes decoded. */
  readonly mountPoint: string;
  /** The cgroup that is seen at the mount point: `/`, or another one in containers. */
  readonly root: CgroupPath;
  /** v1: `['cpu', 'cpuacct']`, `['name=systemd']`; empty for v2. */
  readonly controllers: readonly string[];
  /** The mount or its file system is read-only. */
  readonly readOnly: boolean;
}

/**
 * Super options of a v1 hierarchy that are no controller (kernel/cgroup/cgroup-v1.c, cgroup1_show_options
 * and cgroup1_fs_parameters).
 */
const plainOptions: ReadonlySet<string> = new Set([
  'rw', 'ro', 'all', 'none', 'noprefix', 'clone_children', 'cpuset_v2_mode', 'xattr', 'favordynmods', 'nofavordynmods',
  'seclabel', 'sync', 'dirsync', 'mand', 'lazytime',
]); // biome-ignore format: a list

/**
 * Parses the text of /proc/self/mountinfo and gives its cgroup mounts, in the order of the file. One that
 * another mount hides is left out: at its mount point something else is seen.
 *
 * @throws ParseError with the 1-based line.
 */
export function parseMountInfo(text: string): readonly CgroupMount[] {
  const mounts: { readonly mount: CgroupMount; readonly place: Place }[] = [];
  const byParent = new Map<string, Place[]>();
  const byId = new Map<string, Place>();
  let line = 0;
  for (let start = 0; start < text.length; ) {
    line++;
    const end = text.indexOf('\n', start);
    if (end === -1) throw new ParseError(`Cannot read the mount table: line ${line} is cut off`, { line });
    const row = text.slice(start, end);
    const mount = parseLine(row, line);
    const place = placeOf(row);
    const siblings = byParent.get(place.parent);
    if (siblings === undefined) byParent.set(place.parent, [place]);
    else siblings.push(place);
    byId.set(place.id, place);
    if (mount !== undefined) mounts.push({ mount, place });
    start = end + 1;
  }
  return mounts.filter(({ place }) => !isHidden(place, byParent, byId)).map(({ mount }) => mount);
}

/** Where a mount stands: on the mount `parent`, at `point` (as written: equal escapes are equal names). */
interface Place {
  readonly id: string;
  readonly parent: string;
  readonly point: string;
}

function placeOf(row: string): Place {
  const [id = '', parent = '', , , point = ''] = row.split(' ', 5);
  return { id, parent, point };
}

/**
 * A mount is out of sight when another one stands on its root, or on a folder above it in the mount it stands
 * on, and so on upwards. The order of the lines says nothing: the root file system often comes after /sys.
 */
function isHidden(
  place: Place,
  byParent: ReadonlyMap<string, readonly Place[]>,
  byId: ReadonlyMap<string, Place>,
): boolean {
  if (byParent.get(place.id)?.some((other) => other !== place && other.point === place.point)) return true;
  const seen = new Set<Place>();
  for (let at: Place | undefined = place; at !== undefined && !seen.has(at); at = byId.get(at.parent)) {
    seen.add(at);
    const { point } = at;
    const isAbove = (other: Place) =>
      other.id !== other.parent && // the first mount of all is its own parent
      other.point !== point &&
      point.startsWith(other.point === '/' ? '/' : `${other.point}/`);
    if (byParent.get(at.parent)?.some(isAbove)) return true;
  }
  return false;
}

/** `36 35 98:0 /root /mount/point rw,relatime shared:1 - cgroup2 cgroup2 rw,nsdelegate` */
function parseLine(text: string, line: number): CgroupMount | undefined {
  // A blank cannot be part of a field (it is written \040), so the separator can only be the separator.
  const split = text.indexOf(' - ');
  const bad = () =>
    new ParseError(`Cannot read the mount table: line ${line} is ${quote(text.slice(0, 200))}`, { line });
  if (split === -1) throw bad();
  const [type, , superOptions] = text.slice(split + 3).split(' ');
  if (type !== 'cgroup' && type !== 'cgroup2') return undefined;
  const [, , , root, mountPoint, options] = text.slice(0, split).split(' ');
  if (root === undefined || mountPoint === undefined || options === undefined || superOptions === undefined)
    throw bad();
  // SELinux puts a context that holds commas between quotes (security/selinux/hooks.c, selinux_sb_show_options).
  const superWords = superOptions.replace(/="[^"]*"/g, '=').split(',');
  const point = decodeOctal(mountPoint);
  if (!point.startsWith('/')) throw bad();
  try {
    return {
      version: type === 'cgroup' ? 1 : 2,
      mountPoint: point,
      root: cgroupPath(decodeOctal(root)),
      controllers: type === 'cgroup' ? superWords.filter(isController) : [],
      readOnly: options.split(',').includes('ro') || superWords.includes('ro'),
    };
  } catch {
    throw bad();
  }
}

function isController(option: string): boolean {
  if (option.startsWith('name=')) return true;
  return option !== '' && !option.includes('=') && !plainOptions.has(option);
}

/** Space, tab, line break and backslash are written as three octal digits (fs/seq_file.c, mangle_path). */
function decodeOctal(field: string): string {
  return field.includes('\\')
    ? field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
    : field;
}
