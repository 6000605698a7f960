// Directories held for many things at once (each child of a session, each cgroup it came from) with few descriptors: of
// all that are opened through a pool the ones used last are really open. One that was closed is opened again when it
// is used, and compared with what it was: another process or cgroup of the same path is never taken for it.

import { SystemCallError } from './errors.js';
import type { Directory, Host } from './host.js';

/** Others of this program need descriptors too: the session, its targets, sockets, each read of a file. */
const mostOpen = 128;

interface Entry {
  readonly path: string;
  readonly identity: string;
  /** Closed, to be opened again when it is used: `undefined`. */
  open: Directory | undefined;
  users: number;
}

/** The same host; of the directories opened through it at most `most` are open at once. Same paths share one. */
export function poolingHost(host: Host, most: number = Math.min(mostOpen, limitOf(host))): Host {
  const entries = new Map<string, Entry>();
  /** Those that are really open; the one used last stands last. */
  const inUse = new Set<Entry>();

  const closeOthers = (): void => {
    for (const entry of inUse) {
      if (inUse.size <= most) return;
      inUse.delete(entry);
      entry.open?.close();
      entry.open = undefined;
    }
  };

  const use = (entry: Entry): Directory => {
    if (entry.open === undefined) {
      const opened = host.open(entry.path);
      if (identityOf(opened) !== entry.identity) {
        opened.close();
        throw new SystemCallError('open', entry.path, entry.path.startsWith('/proc/') ? 'ESRCH' : 'ENODEV');
      }
      entry.open = opened;
    }
    inUse.delete(entry);
    inUse.add(entry);
    closeOthers();
    return entry.open;
  };

  const open = (path: string): Directory => {
    const opened = host.open(path);
    let entry: Entry;
    try {
      const identity = identityOf(opened);
      const key = keyOf({ path, identity });
      entry = entries.get(key) ?? { path, identity, open: undefined, users: 0 };
      if (entry.open === undefined) entry.open = opened;
      else opened.close();
      entry.users++;
      entries.set(key, entry);
    } catch (error) {
      opened.close();
      throw error;
    }
    use(entry);
    let isOpen = true;
    const held = (): Directory => {
      if (!isOpen) throw new TypeError(`The directory ${path} was closed`);
      return use(entry);
    };
    return {
      path,
      read: (name) => held().read(name),
      names: (name) => held().names(name),
      entries: (name, most) => held().entries(name, most),
      readlink: (name) => held().readlink(name),
      stat: (name) => held().stat(name),
      write: (name, text) => held().write(name, text),
      // What is opened through it is not counted: it is closed before the next is opened.
      open: (name, knownAs) => held().open(name, knownAs),
      rmdir: (name) => held().rmdir(name),
      connect: (name, options) => held().connect(name, options),
      close: () => {
        if (!isOpen) return;
        isOpen = false;
        if (--entry.users > 0) return;
        entries.delete(keyOf(entry));
        inUse.delete(entry);
        entry.open?.close();
        entry.open = undefined;
      },
    };
  };

  return { ...host, open };
}

function keyOf({ path, identity }: Pick<Entry, 'path' | 'identity'>): string {
  return `${identity} ${path}`;
}

/**
 * A cgroup is its inode. The inode of /proc/PID is not the process's for long, so a process is its start time (field 22
 * of stat, the twentieth behind the name).
 */
function identityOf(directory: Directory): string {
  if (/^\/proc\/\d+$/.test(directory.path)) {
    const stat = directory.read('stat');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  }
  const is = directory.stat();
  if (is === undefined) throw new SystemCallError('look at', directory.path, 'ENODEV');
  return `${is.dev}:${is.ino}`;
}

/** A quarter of what this process may have open. */
function limitOf(host: Host): number {
  const soft = /^Max open files\s+(\d+)/m.exec(host.read('/proc/self/limits'))?.[1];
  return soft === undefined ? mostOpen : Math.max(1, Math.floor(Number(soft) / 4));
}
