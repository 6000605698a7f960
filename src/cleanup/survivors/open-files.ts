// What a process holds open, from the links of its descriptors: files, devices others wait for, listening
// ports. Links are read, never followed.

import { isGone } from '../../machine/errors.js';
import type { Directory } from '../../machine/host.js';
import { formatEndpoint, listening, parseEndpoint, socketsWith } from '../../machine/tcp-table.js';

/** The links behind a process's descriptors. */
export interface OpenLinks {
  readonly links: ReadonlyMap<number, string>;
  /** How many descriptors were not looked at. */
  readonly left: number;
}

/** A link costs 3 µs, and a process may hold a million. */
const mostLinks = 4096;

/**
 * @param folder `fd`, or `task/TID/fd` where the first thread has ended: it then has none any more
 * @throws SlurmCgroupsError when the descriptors cannot be listed or seen.
 */
export function readOpenLinks(process: Directory, folder = 'fd'): OpenLinks {
  const fds = process
    .names(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
  const links = new Map<number, string>();
  for (const fd of fds.slice(0, mostLinks)) {
    try {
      links.set(fd, process.readlink(`${folder}/${fd}`));
    } catch (error) {
      if (!isGone(error)) throw error; // closed between being listed and being looked at
    }
  }
  return { links, left: Math.max(0, fds.length - mostLinks) };
}

/** The name of a file whose link says that it was removed. */
export function withoutDeleted(link: string): string {
  return link.replace(/ \(deleted\)$/, '');
}

/** Devices of which there are few, and which the next job needs: GPUs and InfiniBand. */
const scarce = /^\/dev\/(?:nvidia[^/]*|nvidia-caps\/.+|kfd|dri\/.+|infiniband\/.+|accel\/.+|habanalabs\/.+|hl\d+)$/;

export function scarceDevices({ links }: OpenLinks): readonly string[] {
  return [...new Set([...links.values()].map(withoutDeleted).filter((link) => scarce.test(link)))].sort();
}

/** Inodes of the sockets among the descriptors. */
export function socketInodesAmong({ links }: OpenLinks): ReadonlySet<string> {
  return new Set([...links.values()].flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}

/** `127.0.0.1:8080` for each socket of these that listens, from the text of net/tcp or net/tcp6 (proc_pid_net(5)). */
export function listeningPorts(table: string, inodes: ReadonlySet<string>): readonly string[] {
  return socketsWith([table], inodes).flatMap(({ local, state }) => {
    const endpoint = state === listening ? parseEndpoint(local) : undefined;
    return endpoint === undefined ? [] : [formatEndpoint(endpoint)];
  });
}
