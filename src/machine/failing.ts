// A host whose nth call fails: what a function leaves behind when the kernel says no in the middle. It
// also counts what is held open, so that a test can see that everything was closed.

import { SystemCallError } from './errors.js';
import type { Directory, Host } from './host.js';
import type { Connection } from './socket.js';

/** A call that reached the host: its name and what it was about. */
export interface HostCall {
  readonly call: string;
  readonly path: string;
}

export interface FailingOptions {
  /** 1-based number of the call that fails; nothing fails when absent. */
  readonly nth?: number;
  readonly errno?: string;
  /** Every later call whose name is among these fails too. */
  readonly thenAlways?: readonly string[];
}

export interface FailingHost extends Host {
  readonly calls: readonly HostCall[];
  /** Directories opened and connections made through this host, and not closed. */
  readonly openDirectories: () => number;
}

/** Wraps `host`: the call with number `nth` is not made and throws SystemCallError with `errno`. */
export function failingHost(host: Host, options: FailingOptions = {}): FailingHost {
  const calls: HostCall[] = [];
  const stillOpen = new Set<Directory | Connection>();
  const check = (call: string, path: string) => {
    calls.push({ call, path });
    const nth = options.nth ?? Number.POSITIVE_INFINITY;
    const again = calls.length > nth && options.thenAlways?.includes(call);
    if (calls.length === nth || again) throw new SystemCallError(call, path, options.errno ?? 'EIO');
  };
  const track = (held: Directory): Directory => {
    stillOpen.add(held);
    return wrap(held);
  };
  const wrap = (held: Directory): Directory => ({
    path: held.path,
    read: (name) => {
      check('read', `${held.path}/${name}`);
      return held.read(name);
    },
    names: (name) => {
      check('list', `${held.path}/${name ?? ''}`);
      return held.names(name);
    },
    entries: (name, most) => {
      check('list', `${held.path}/${name ?? ''}`);
      return held.entries(name, most);
    },
    readlink: (name) => {
      check('readlink', `${held.path}/${name}`);
      return held.readlink(name);
    },
    stat: (name) => {
      check('stat', `${held.path}/${name ?? ''}`);
      return held.stat(name);
    },
    write: (name, text) => {
      check('write', `${held.path}/${name}`);
      held.write(name, text);
    },
    open: (name, knownAs) => {
      check('open', `${held.path}/${name}`);
      return track(held.open(name, knownAs));
    },
    rmdir: (name) => {
      check('rmdir', `${held.path}/${name}`);
      held.rmdir(name);
    },
    connect: async (name, options) => {
      check('connect', `${held.path}/${name}`);
      const connection = await held.connect(name, options);
      stillOpen.add(connection);
      return {
        get pending() {
          return connection.pending;
        },
        send: (bytes) => {
          check('send', `${held.path}/${name}`);
          connection.send(bytes);
        },
        receive: async (length, waitOptions) => {
          check('receive', `${held.path}/${name}`);
          return connection.receive(length, waitOptions);
        },
        close: () => {
          stillOpen.delete(connection);
          connection.close();
        },
      };
    },
    close: () => {
      stillOpen.delete(held); // closing twice is allowed, and counts once
      held.close();
    },
  });
  const sync =
    <T>(call: string, act: (path: string) => T) =>
    (path: string): T => {
      check(call, path);
      return act(path);
    };
  return {
    ...host,
    calls,
    openDirectories: () => stillOpen.size,
    read: sync('read', host.read),
    names: sync('list', host.names),
    entries: sync('list', host.entries),
    stat: sync('stat', host.stat),
    readlink: sync('readlink', host.readlink),
    mkdir: sync('mkdir', host.mkdir),
    rmdir: sync('rmdir', host.rmdir),
    open: sync('open', (path) => track(host.open(path))),
    write: (path, text) => {
      check('write', path);
      host.write(path, text);
    },
    create: (path, text) => {
      check('create', path);
      host.create(path, text);
    },
    link: (path, name) => {
      check('link', path);
      host.link(path, name);
    },
    rename: (from, to) => {
      check('rename', from);
      host.rename(from, to);
    },
    unlink: sync('unlink', host.unlink),
    signal: (pid, signal) => {
      check('signal', `/proc/${pid}`);
      host.signal(pid, signal);
    },
    run: async (file, args, runOptions) => {
      check('run', file);
      return host.run(file, args, runOptions);
    },
    start: async (file, args, startOptions) => {
      check('start', file);
      return host.start(file, args, startOptions);
    },
  };
}
