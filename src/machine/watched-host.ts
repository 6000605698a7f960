// A host that says of each call what it is, just before it is made: what the hosts of tests that fail a call, or let
// another act before it, have in common. Calls through directories, connections and pidfds that it gives count too.

import type { Directory, Host, Libc } from './host.js';
import type { Connection } from './socket.js';

/** A call that reached the host: its name and what it was about. */
export interface HostCall {
  readonly call: string;
  readonly path: string;
}

export interface WatchedHost extends Host {
  readonly calls: readonly HostCall[];
  /** Directories opened and connections made through this host, and not closed. */
  readonly openDirectories: () => number;
}

/** Wraps `host`: `before` gets the number of each call, from 1, and what it is. Where it throws, the call is not made. */
export function watchedHost(host: Host, before: (number: number, call: HostCall) => void): WatchedHost {
  const calls: HostCall[] = [];
  const stillOpen = new Set<Directory | Connection>();
  const check = (call: string, path: string) => {
    const one = { call, path };
    calls.push(one);
    before(calls.length, one);
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
  const wrapLibc = (libc: Libc): Libc => ({
    holdForSignal: (pid) => {
      check('hold', `/proc/${pid}`);
      const held = libc.holdForSignal(pid);
      return {
        send: (signal) => {
          check('signal', `/proc/${pid}`);
          held.send(signal);
        },
        close: () => held.close(),
      };
    },
    tryLock: (directory) => {
      check('lock', directory);
      return libc.tryLock(directory);
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
    append: (path, text) => {
      check('append', path);
      host.append(path, text);
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
    libc: async () => {
      const libc = await host.libc();
      return libc === undefined ? undefined : wrapLibc(libc);
    },
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
