// The cgroup file systems among the lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)). What they mean
// together, which one to use when one is mounted twice, is said in hierarchies.ts.

import { ParseError, quote } from '../machine/errors.js';
import { pastedText } from '../machine/kernel-text.js';
import { type Mount, mountTable, parseMountLine } from '../machine/mount-table.js';
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
 * Parses the text of /proc/PID/mountinfo, as read or as pasted (the last line break may be missing or double, and line
 * breaks may be those of Windows), and gives its cgroup mounts, in the order of the file. A mount that another one
 * hides is left out: at its mount point something else is seen.
 *
 * @example parseMountInfo('36 35 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw')[0].mountPoint // '/sys/fs/cgroup'
 * @throws ParseError with the 1-based line.
 */
export function parseMountInfo(text: string): readonly CgroupMount[] {
  return parseCgroupMounts(pastedText(text));
}

/**
 * Parses mountinfo exactly as the kernel writes it: in a text that was cut, a mount may be missing that hides another.
 *
 * @throws ParseError with the 1-based line.
 */
export function parseCgroupMounts(text: string): readonly CgroupMount[] {
  const all: Mount[] = [];
  const cgroups: { readonly mount: Mount; readonly cgroup: CgroupMount }[] = [];
  let line = 0;
  for (let start = 0; start < text.length; ) {
    line++;
    const end = text.indexOf('\n', start);
    if (end === -1) throw new ParseError(`Cannot read the mount table: line ${line} is cut off`, { line });
    const row = text.slice(start, end);
    const mount = parseMountLine(row);
    if (mount === undefined) throw unreadable(row, line);
    all.push(mount);
    const cgroup = cgroupMount(mount, row, line);
    if (cgroup !== undefined) cgroups.push({ mount, cgroup });
    start = end + 1;
  }
  const table = mountTable(all);
  return cgroups.filter(({ mount }) => table.at(mount.point) === mount).map(({ cgroup }) => cgroup);
}

function unreadable(row: string, line: number): ParseError {
  return new ParseError(`Cannot read the mount table: line ${line} is ${quote(row.slice(0, 200))}`, { line });
}

function cgroupMount(mount: Mount, row: string, line: number): CgroupMount | undefined {
  const { type, point, root, options, superOptions } = mount;
  if (type !== 'cgroup' && type !== 'cgroup2') return undefined;
  // SELinux puts a context that holds commas between quotes (security/selinux/hooks.c, selinux_sb_show_options).
  const superWords = superOptions.replace(/="[^"]*"/g, '=').split(',');
  const version = type === 'cgroup' ? 1 : 2;
  try {
    return {
      version,
      mountPoint: point,
      root: cgroupPath(root),
      controllers: version === 1 ? superWords.filter(isController) : [],
      readOnly: options.split(',').includes('ro') || superWords.includes('ro'),
    };
  } catch {
    throw unreadable(row, line); // its root is not the path of a cgroup
  }
}

function isController(option: string): boolean {
  if (option.startsWith('name=')) return true;
  return option !== '' && !option.includes('=') && !plainOptions.has(option);
}
