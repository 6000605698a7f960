// The cgroup file systems among the lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)). What they mean
// together, which one to use when one is mounted twice, is said in hierarchies.ts.

import { ParseError, quote } from './errors.js';
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
  'seclabel', 'debug', 'sync', 'dirsync', 'mand', 'lazytime',
]); // biome-ignore format: a list

/**
 * Parses the text of /proc/self/mountinfo and gives its cgroup mounts, in the order of the file.
 *
 * @throws ParseError with the 1-based line.
 */
export function parseMountInfo(text: string): readonly CgroupMount[] {
  const mounts: CgroupMount[] = [];
  let line = 0;
  for (let start = 0; start < text.length; ) {
    line++;
    const end = text.indexOf('\n', start);
    if (end === -1) throw new ParseError(`Cannot read the mount table: line ${line} is cut off`, { line });
    const mount = parseLine(text.slice(start, end), line);
    if (mount !== undefined) mounts.push(mount);
    start = end + 1;
  }
  return mounts;
}

/** `36 35 98:0 /root /mount/point rw,relatime shared:1 - cgroup2 cgroup2 rw,nsdelegate` */
function parseLine(text: string, line: number): CgroupMount | undefined {
  // A blank cannot be part of a field (it is written \040), so the separator can only be the separator.
  const split = text.indexOf(' - ');
  const bad = () => new ParseError(`Cannot read the mount table: line ${line} is ${quote(text.slice(0, 200))}`, { line });
  if (split === -1) throw bad();
  const [type, , superOptions] = text.slice(split + 3).split(' ');
  if (type !== 'cgroup' && type !== 'cgroup2') return undefined;
  const [, , , root, mountPoint, options] = text.slice(0, split).split(' ');
  if (root === undefined || mountPoint === undefined || options === undefined || superOptions === undefined) throw bad();
  const superWords = superOptions.split(',');
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
