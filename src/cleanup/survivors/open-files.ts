// What a process holds open, from the links of its descriptors: files, devices others wait for, listening
// ports. Links are read, never followed.

import { isGone } from '../../machine/errors.js';
import type { Directory } from '../../machine/host.js';

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
export function socketInodes({ links }: OpenLinks): ReadonlySet<string> {
  return new Set([...links.values()].flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}

const listening = '0A'; // TCP_LISTEN, include/net/tcp_states.h

/** `127.0.0.1:8080` for each socket of these that listens, from the text of net/tcp or net/tcp6 (proc_pid_net(5)). */
export function listeningPorts(table: string, inodes: ReadonlySet<string>): readonly string[] {
  return table.split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const [, local, , state] = fields;
    const inode = fields[9];
    if (local === undefined || state !== listening || inode === undefined || !inodes.has(inode)) return [];
    return formatAddress(local) ?? [];
  });
}

/** `0100007F:1F90`: 32-bit words in the host's byte order, then the port as a number. */
function formatAddress(text: string): string | undefined {
  const [, address, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(text) ?? [];
  if (address === undefined || port === undefined) return undefined;
  const words = address.match(/.{8}/g)?.map((word) => Number.parseInt(word, 16)) ?? [];
  // Through memory of this machine, whose byte order is the kernel's.
  const bytes = new Uint8Array(Uint32Array.from(words).buffer);
  const number = Number.parseInt(port, 16);
  return bytes.length === 4 ? `${bytes.join('.')}:${number}` : `[${formatIpv6(bytes)}]:${number}`;
}

/** RFC 5952: the longest run of zero groups, the first of equals, as `::`. */
function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0));
  let best = { from: 0, length: 0 };
  for (let from = 0; from < 8; from++) {
    const end = groups.findIndex((group, at) => at >= from && group !== 0);
    const length = (end === -1 ? 8 : end) - from;
    if (length > best.length) best = { from, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.length < 2) return hex.join(':');
  return `${hex.slice(0, best.from).join(':')}::${hex.slice(best.from + best.length).join(':')}`;
}
