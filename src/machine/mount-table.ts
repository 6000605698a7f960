// Which file system a path lies on, told from /proc/self/mountinfo (proc_pid_mountinfo(5)) before the path is
// touched: one on another machine, or in a user's program, may never answer.

/** What is needed of a mounted file system of any kind. */
export interface Mount {
  readonly id: string;
  /** Id of the mount it lies on. */
  readonly parent: string;
  /** Absolute, octal escapes decoded. */
  readonly point: string;
  readonly type: string;
}

/** The mounts in a mountinfo text; a line of another form is left out, so that what lies there counts as unknown. */
export function parseMounts(text: string): readonly Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [fields = '', end = ''] = line.split(' - ');
    const [id, parent, , , point] = fields.split(' ');
    const [type] = end.split(' ');
    if (id === undefined || parent === undefined || point === undefined || type === undefined || type === '') continue;
    mounts.push({ id, parent, point: decode(point), type });
  }
  return mounts;
}

/** Blank, tab, line break and backslash are written as three octal digits (fs/seq_file.c, mangle_path). */
function decode(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/**
 * The type of the file system on which a path without symbolic links lies. A path is walked from the root, so
 * what is mounted nearer to it covers what lies below. The longest mount point would not do: `/a/b` may have
 * been mounted before `/a`, and the order of the lines tells nothing (systemd's root comes after its `/run`).
 */
export function fileSystemAt(mounts: readonly Mount[], path: string): string | undefined {
  const ids = new Set(mounts.map(({ id }) => id));
  let type: string | undefined;
  // A root's own parent is not in the list (or, for the first one of all, itself).
  let below = mounts.filter(({ id, parent }) => parent === id || !ids.has(parent));
  for (let steps = 0; steps <= mounts.length; steps++) {
    const next = below
      .filter(({ point }) => covers(point, path))
      .reduce<Mount | undefined>((a, b) => (a !== undefined && a.point.length <= b.point.length ? a : b), undefined);
    if (next === undefined) break;
    type = next.type;
    below = mounts.filter(({ id, parent }) => parent === next.id && id !== parent);
  }
  return type;
}

function covers(point: string, path: string): boolean {
  return point === '/' || path === point || path.startsWith(`${point}/`);
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
