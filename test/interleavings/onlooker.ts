// What is true, past the product: the processes and cgroups of a scene, read from /proc and the trees by plain calls of
// the system. It shares no code with what it judges.

import fs from 'node:fs';

/** A hierarchy of the scene, and the folder in it to which everything of the scene belongs. */
export interface Tree {
  /** Controllers as /proc/PID/cgroup has them, sorted; `unified` on v2. */
  readonly key: string;
  readonly version: 1 | 2;
  readonly mount: string;
  /** Path of the scene's folder in the hierarchy. */
  readonly within: string;
}

export interface SeenProcess {
  readonly pid: number;
  readonly start: string;
  /** Real uid. */
  readonly uid: number;
  readonly comm: string;
  readonly parent: number;
  /** By the key of each tree: where its standing thread is. */
  readonly places: Readonly<Record<string, Place>>;
}

export interface Place {
  readonly path: string;
  /** Of the directory: a name can be another's by now. `undefined`: it is gone. */
  readonly inode: number | undefined;
}

export interface SeenDirectory {
  readonly key: string;
  readonly path: string;
  readonly inode: number;
  /** Told to freeze. */
  readonly frozen: boolean;
}

export interface Snapshot {
  /** Those that live. */
  readonly processes: ReadonlyMap<number, SeenProcess>;
  /** By key and inode. */
  readonly directories: ReadonlyMap<string, SeenDirectory>;
}

/** The trees of the scene in folder `within`, of the hierarchies named by `keys`. */
export function treesOf(within: string, keys: readonly string[]): readonly Tree[] {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line): Tree[] => {
      const [, mount = '', type, options = ''] = /^\d+ \d+ \S+ \/ (\S+) .* - (cgroup2?) \S+ (\S+)$/.exec(line) ?? [];
      if (type === undefined) return [];
      const key =
        type === 'cgroup2'
          ? 'unified'
          : options
              .split(',')
              .filter((one) => !['rw', 'ro', 'xattr', 'clone_children', 'noprefix'].includes(one))
              .filter((one) => !one.startsWith('release_agent'))
              .sort()
              .join();
      if (!keys.includes(key) || !fs.existsSync(`${mount}${within}`)) return [];
      return [{ key, version: type === 'cgroup2' ? 2 : 1, mount, within }];
    })
    .filter((tree, at, all) => all.findIndex((one) => one.key === tree.key) === at);
}

/** Looks at all cgroups of the scene, those of `pids` and all that are in these cgroups. */
export function look(trees: readonly Tree[], pids: Iterable<number>): Snapshot {
  const directories = new Map<string, SeenDirectory>();
  const known = new Set(pids);
  for (const tree of trees)
    walk(tree, tree.within, (path) => {
      const directory = `${tree.mount}${path}`;
      const inode = inodeOf(directory);
      if (inode === undefined) return;
      const frozen =
        read(`${directory}/${tree.version === 2 ? 'cgroup.freeze' : 'freezer.self_freezing'}`)?.trim() === '1';
      directories.set(`${tree.key} ${inode}`, { key: tree.key, path, inode, frozen });
      const threads = read(`${directory}/${tree.version === 2 ? 'cgroup.threads' : 'tasks'}`) ?? '';
      for (const tid of threads.split('\n')) if (tid !== '' && !known.has(Number(tid))) known.add(processOf(tid));
    });
  const processes = new Map<number, SeenProcess>();
  for (const pid of known) {
    const process = lookAt(trees, pid);
    if (process !== undefined) processes.set(pid, process);
  }
  return { processes, directories };
}

function walk(tree: Tree, path: string, visit: (path: string) => void): void {
  visit(path);
  let entries: readonly fs.Dirent[];
  try {
    entries = fs.readdirSync(`${tree.mount}${path}`, { withFileTypes: true });
  } catch {
    return; // it was removed
  }
  for (const entry of entries) if (entry.isDirectory()) walk(tree, `${path}/${entry.name}`, visit);
}

function lookAt(trees: readonly Tree[], pid: number): SeenProcess | undefined {
  const stat = statOf(`/proc/${pid}`);
  const status = read(`/proc/${pid}/status`);
  if (stat === undefined || status === undefined) return undefined;
  // A process lives in the thread that still does, where its first has ended.
  const thread = isOver(stat) ? livingThread(pid) : pid;
  if (thread === undefined) return undefined;
  const text = read(`/proc/${pid}/task/${thread}/cgroup`);
  if (text === undefined) return undefined;
  const places: Record<string, Place> = {};
  for (const line of text.trimEnd().split('\n')) {
    const [, controllers = '', ...rest] = line.split(':');
    const key = controllers === '' ? 'unified' : controllers.split(',').sort().join();
    const tree = trees.find((one) => one.key === key);
    if (tree === undefined) continue;
    const path = rest.join(':');
    places[key] = { path, inode: inodeOf(`${tree.mount}${path === '/' ? '' : path}`) };
  }
  const { comm, parent, start } = stat;
  return { pid, comm, parent, start, uid: Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? -1), places };
}

function livingThread(pid: number): number | undefined {
  let tids: readonly string[];
  try {
    tids = fs.readdirSync(`/proc/${pid}/task`);
  } catch {
    return undefined;
  }
  return tids.map(Number).find((tid) => {
    const stat = tid === pid ? undefined : statOf(`/proc/${pid}/task/${tid}`);
    return stat !== undefined && !isOver(stat);
  });
}

/** Dead, or on its way: v1 shows that one at the root of every hierarchy, wherever it was (PF_EXITING). */
function isOver({ state, flags }: Stat): boolean {
  return state === 'Z' || state === 'X' || (flags & 4) !== 0;
}

interface Stat {
  readonly comm: string;
  readonly state: string;
  readonly flags: number;
  readonly parent: number;
  readonly start: string;
}

function statOf(folder: string): Stat | undefined {
  const text = read(`${folder}/stat`);
  if (text === undefined) return undefined;
  const [, comm = '', rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(text) ?? [];
  const fields = rest.split(' ');
  const [state = 'X', parent, flags, start = ''] = [fields[0], fields[1], fields[6], fields[19]];
  return { comm, state, flags: Number(flags), parent: Number(parent), start };
}

/** Pid and start time: two processes never share both. */
export function identityOf(pid: number): string {
  return `${pid} ${statOf(`/proc/${pid}`)?.start}`;
}

function processOf(tid: string): number {
  return Number(/^Tgid:\s+(\d+)/m.exec(read(`/proc/${tid}/status`) ?? '')?.[1] ?? tid);
}

function inodeOf(directory: string): number | undefined {
  return fs.statSync(directory, { throwIfNoEntry: false })?.ino;
}

function read(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** Descriptors of this process for cgroups, for other processes and for sockets of slurmstepds: none but for a moment. */
export function heldDescriptors(trees: readonly Tree[]): readonly string[] {
  return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const link = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const isOfScene = trees.some(({ mount, within }) => link.startsWith(`${mount}${within}`));
      return isOfScene || /^\/proc\/\d+(?!.*\/fd$)/.test(link) || link.includes('[pidfd]') ? [link] : [];
    } catch {
      return []; // the one with which they are listed
    }
  });
}

/** Notes and locks below /run/slurm-cgroups that name one of these processes: an adoption's lock, a freeze's note. */
export function leftNotes(pids: Iterable<number>): readonly string[] {
  const all = [...pids];
  return ['adopting', 'frozen'].flatMap((name) => {
    const folder = `/run/slurm-cgroups/${name}`;
    if (!fs.existsSync(folder)) return [];
    return fs
      .readdirSync(folder)
      .filter((file) => all.some((pid) => file.startsWith(`${pid}-`) || file.includes(`-${pid}-`)))
      .map((file) => `${folder}/${file}`);
  });
}
