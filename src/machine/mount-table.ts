// Which file system a path lies on, told from /proc/self/mountinfo (proc_pid_mountinfo(5)) before the path is
// touched: one on another machine, or in a user's program, may never answer.

import type { Host } from './host.js';

/** A mounted file system: a line of mountinfo. Octal escapes are decoded in every name. */
export interface Mount {
  readonly id: string;
  /** Id of the mount it lies on. */
  readonly parent: string;
  /** What of the file system is seen at the mount point: `/`, or a folder in it. */
  readonly root: string;
  /** Absolute. */
  readonly point: string;
  /** Of the mount, as they are written: `rw,nosuid`. */
  readonly options: string;
  readonly type: string;
  /** As it was mounted: `filer:/export`, `/dev/sda1`, `sshfs#host:`. */
  readonly source: string;
  /** Of the file system, as they are written: `rw,hard`. */
  readonly superOptions: string;
}

/** The mounts of a mount namespace. */
export interface MountTable {
  /** In the order of the text. */
  readonly all: readonly Mount[];
  /**
   * The mount on which a path without symbolic links lies. A path is walked from the root, so what is mounted nearer to
   * it covers what lies below. The longest mount point would not do: `/a/b` may have been mounted before `/a`, and the
   * order of the lines tells nothing (systemd's root comes after its `/run`). `undefined`: the path is not absolute, or
   * the table does not tell.
   */
  at(path: string): Mount | undefined;
}

/** @throws SlurmCgroupsError when the mount table of this process cannot be read. */
export function readMountTable(host: Pick<Host, 'read'>): MountTable {
  return parseMountTable(host.read('/proc/self/mountinfo'));
}

/** The mounts in a mountinfo text; a line of another form is left out, so that what lies there counts as unknown. */
export function parseMountTable(text: string): MountTable {
  return mountTable(text.split('\n').flatMap((line) => parseMountLine(line) ?? []));
}

/**
 * A line of mountinfo: `36 35 98:0 /root /mount/point rw,relatime shared:1 - cgroup2 cgroup2 rw,nsdelegate`.
 * `undefined`: it is none.
 */
export function parseMountLine(line: string): Mount | undefined {
  // A blank cannot be part of a field (it is written \040). Behind the options stand any number of fields, then a dash.
  const fields = line.split(' ');
  const dash = fields.indexOf('-', 6);
  if (dash === -1) return undefined;
  const [id, parent, , root, point, options] = fields;
  const [type, source, superOptions] = [fields[dash + 1], fields[dash + 2], fields[dash + 3]];
  if (id === undefined || parent === undefined || root === undefined || point === undefined) return undefined;
  if (options === undefined || type === undefined || source === undefined || superOptions === undefined)
    return undefined;
  if (type === '' || !point.startsWith('/')) return undefined;
  return { id, parent, root: decode(root), point: decode(point), options, type, source: decode(source), superOptions };
}

/** Blank, tab, line break and backslash are written as three octal digits (fs/seq_file.c, mangle_path). */
function decode(field: string): string {
  if (!field.includes('\\')) return field;
  return field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

export function mountTable(all: readonly Mount[]): MountTable {
  const ids = new Set(all.map(({ id }) => id));
  // A root's own parent is not in the list (or, for the first one of all, itself).
  const isRoot = ({ id, parent }: Mount) => parent === id || !ids.has(parent);
  const roots = all.filter(isRoot);
  const byParent = new Map<string, Mount[]>();
  for (const mount of all) {
    if (isRoot(mount)) continue;
    const siblings = byParent.get(mount.parent);
    if (siblings === undefined) byParent.set(mount.parent, [mount]);
    else siblings.push(mount);
  }
  return {
    all,
    at: (path) => {
      if (!path.startsWith('/')) return undefined;
      let found: Mount | undefined;
      let below: readonly Mount[] = roots;
      // A table in which mounts lie on each other in a circle ends the walk, too.
      for (let steps = 0; steps <= all.length; steps++) {
        const next = nearestToRoot(below, path);
        if (next === undefined) break;
        found = next;
        below = byParent.get(next.id) ?? [];
      }
      return found;
    },
  };
}

/** Of several mounts beside each other on one point, which old kernels allow, the later. */
function nearestToRoot(mounts: readonly Mount[], path: string): Mount | undefined {
  let nearest: Mount | undefined;
  for (const mount of mounts) {
    if (covers(mount.point, path) && (nearest === undefined || mount.point.length <= nearest.point.length))
      nearest = mount;
  }
  return nearest;
}

function covers(point: string, path: string): boolean {
  // Without a string for each mount: there can be thousands, of containers.
  if (!path.startsWith(point)) return false;
  return path.length === point.length || point === '/' || path.charAt(point.length) === '/';
}

/**
 * File systems that answer by themselves. Whatever is not here is taken for one that may wait for another
 * machine or program (nfs, lustre, gpfs, beegfs, fuse, autofs, and those that do not exist yet). An overlay
 * over NFS cannot be told from others; it is the root of diskless nodes, where nothing runs once that hangs.
 */
// biome-ignore format: a list
const local: ReadonlySet<string> = new Set([
  'bcachefs', 'btrfs', 'devtmpfs', 'erofs', 'exfat', 'ext2', 'ext3', 'ext4', 'f2fs', 'iso9660', 'jfs', 'overlay',
  'ramfs', 'reiserfs', 'rootfs', 'squashfs', 'tmpfs', 'udf', 'vfat', 'xfs', 'zfs',
]);

/** Whether a file system of that type always answers at once. Not `proc`: some of its files wait for events. */
export function answersAtOnce(type: string | undefined): boolean {
  return type !== undefined && local.has(type);
}
