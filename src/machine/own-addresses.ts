// Which addresses are this machine's own, from two files of a network namespace: the routing table of IPv4, where
// what is delivered here is LOCAL, and the list of IPv6 addresses.

import { ifReadable } from './errors.js';
import type { Directory } from './host.js';
import { type IpAddress, isLoopback } from './ip-address.js';

/** Whether an address is one of that network namespace; `undefined`: its files do not tell. */
export function isOwnAddress(process: Pick<Directory, 'read'>, address: IpAddress): boolean | undefined {
  if (isLoopback(address)) return true;
  // Not in every kernel, and not for every user.
  return ifReadable(() =>
    address.family === 4
      ? isInFibTrie(process.read('net/fib_trie'), address)
      : isInInet6(process.read('net/if_inet6'), address),
  );
}

/**
 * net/fib_trie: a leaf `|-- 192.0.2.2`, and below it its routes, `/32 host LOCAL`. A shorter prefix can be local too:
 * 127.0.0.0/8 is, and what an administrator so routes.
 */
export function isInFibTrie(text: string, { bytes }: IpAddress): boolean {
  const wanted = numberOf(bytes);
  let leaf: number | undefined;
  for (const line of text.split('\n')) {
    const address = /\|-- (\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(line);
    if (address !== null) {
      leaf = numberOf(address.slice(1).map(Number));
      continue;
    }
    const length = /^\s+\/(\d+) \w+ LOCAL\b/.exec(line)?.[1];
    if (length === undefined || leaf === undefined || Number(length) > 32) continue;
    const size = 2 ** (32 - Number(length));
    if (Math.floor(leaf / size) === Math.floor(wanted / size)) return true;
  }
  return false;
}

function numberOf(bytes: readonly number[]): number {
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0);
}

/** net/if_inet6: the 32 digits of an address first, in network order. */
export function isInInet6(text: string, { bytes }: IpAddress): boolean {
  const digits = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return text.split('\n').some((line) => line.startsWith(`${digits} `));
}
