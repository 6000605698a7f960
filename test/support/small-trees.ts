// Small trees of cgroups in memory, for what no recorded node has: odd names, forgeries, other mounts. They are
// recordings, so that what is tested reads them as it reads a machine.

import { type Host, recordedHost } from '../../src/testing.js';

export interface Tree {
  /** `memory`, `cpu,cpuacct`, `name=systemd`, or `unified`, each mounted at `/sys/fs/cgroup/<hierarchy>`. */
  readonly hierarchies: readonly string[];
  /** Directories below a mount point: `memory/slurm/uid_1/job_1`. Those above are made. */
  readonly directories: readonly string[];
  /** Owners of directories that are not root's. */
  readonly owners?: Readonly<Record<string, number>>;
  /** Names that stand there, but are files or links. */
  readonly others?: Readonly<Record<string, 'file' | 'symlink'>>;
  /** Modification times in ns, else the same for all. */
  readonly times?: Readonly<Record<string, bigint>>;
  /** Other files of the machine, by path. */
  readonly files?: Readonly<Record<string, string>>;
}

export const mountPoint = '/sys/fs/cgroup';

const someTime = 1_795_504_327_244_000_000n;

/** The text of a recording of the tree. */
export function treeText(tree: Tree): string {
  const kinds = new Map<string, 'directory' | 'file' | 'symlink'>();
  const add = (name: string, kind: 'directory' | 'file' | 'symlink') => {
    const parts = name.split('/');
    for (let length = 1; length < parts.length; length++) kinds.set(parts.slice(0, length).join('/'), 'directory');
    kinds.set(name, kind);
  };
  for (const hierarchy of tree.hierarchies) add(hierarchy, 'directory');
  for (const directory of tree.directories) add(directory, 'directory');
  for (const [name, kind] of Object.entries(tree.others ?? {})) add(name, kind);
  const lines: object[] = [
    { recording: 'slurm-cgroups', version: 1, self: { pid: 999, uid: 0 } },
    { read: '/proc/self/mountinfo', text: tree.hierarchies.map(mountLine).join('') },
    { read: '/proc/sys/kernel/hostname', text: 'node1\n' },
    ...Object.entries(tree.files ?? {}).map(([path, text]) => ({ read: path, text })),
  ];
  let inode = 100;
  for (const [name, kind] of kinds) {
    const [mode, uid] = [{ directory: 0o40755, file: 0o100644, symlink: 0o120777 }[kind], tree.owners?.[name] ?? 0];
    const time = String(tree.times?.[name] ?? someTime);
    const below = [...kinds].filter(
      ([other]) => other.startsWith(`${name}/`) && !other.slice(name.length + 1).includes('/'),
    );
    const links = 2 + below.filter(([, of]) => of === 'directory').length;
    lines.push({ stat: `${mountPoint}/${name}`, is: [mode, uid, 0, 30, inode++, links, 0, time, time].map(String) });
    if (kind !== 'directory') continue;
    const entries = Object.fromEntries(below.map(([other, of]) => [other.slice(name.length + 1), of]));
    lines.push({ list: `${mountPoint}/${name}`, entries: { 'cgroup.procs': 'file', ...entries } });
  }
  return `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`;
}

export function treeHost(tree: Tree): Host {
  return recordedHost(treeText(tree));
}

function mountLine(hierarchy: string, at: number): string {
  const type = hierarchy === 'unified' ? 'cgroup2 cgroup2 rw' : `cgroup cgroup rw,${hierarchy}`;
  return `${30 + at} 24 0:${30 + at} / ${mountPoint}/${hierarchy} rw,nosuid - ${type}\n`;
}
