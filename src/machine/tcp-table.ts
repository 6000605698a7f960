// TCP connections as the kernel lists them: net/tcp and net/tcp6 of a process are those of its network namespace
// (proc_net(5)), and the inode of a socket says which processes hold it. It only looks.

import { ifThere } from './errors.js';
import type { Directory } from './host.js';
import { addressOf, type IpAddress } from './ip-address.js';

/** One side of a TCP connection. */
export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** A TCP connection: `source` has opened it. */
export interface TcpConnection {
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

/** As the table writes them: `0100007F:1F90`, each 32-bit word in the byte order of the machine. */
export interface TcpSocket {
  readonly local: string;
  readonly remote: string;
  readonly state: string;
  /** Who made it. */
  readonly uid: number;
  /** `0`: no process has it any more. */
  readonly inode: string;
}

/** States of net/tcp (include/net/tcp_states.h). */
export const established = '01';
export const listening = '0A';

/** ESTABLISHED, FIN_WAIT1 and 2, CLOSE_WAIT, LAST_ACK, CLOSING: one side may have closed it, and data still comes. */
const connections: ReadonlySet<string> = new Set(['01', '04', '05', '08', '09', '0B']);

/** Whether it has another end, however it stands; a socket that was only made or bound has none. */
export function isConnected({ state }: Pick<TcpSocket, 'state'>): boolean {
  return connections.has(state);
}

/** Both tables of the network namespace of a process, held open; a kernel without IPv6 has one. */
export function readTcpTables(process: Pick<Directory, 'read' | 'stat'>): readonly string[] {
  return ['net/tcp', 'net/tcp6'].flatMap((name) => (process.stat(name) === undefined ? [] : [process.read(name)]));
}

function rowOf(line: string): TcpSocket | undefined {
  const [, local, remote, state, , , , uid = '', , inode = ''] = line.trim().split(/\s+/);
  if (local === undefined || remote === undefined || state === undefined) return undefined;
  return isNumber(uid) && isNumber(inode) ? { local, remote, state, uid: Number(uid), inode } : undefined;
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}

/** What stands around a place in a table: its row, and where that ends. */
function rowAround(table: string, at: number): { readonly row: TcpSocket | undefined; readonly end: number } {
  const next = table.indexOf('\n', at);
  const end = next === -1 ? table.length : next;
  return { row: rowOf(table.slice(table.lastIndexOf('\n', at) + 1, end)), end };
}

/** So many numbers at once are looked for: of thousands V8 makes no regular expression. */
const atOnce = 64;

/**
 * The rows of the sockets with these inodes, each once: a table that changes while it is read may show a row twice. Its
 * text is searched for the numbers, and only where one of them stands is it parsed (measured, 200,000 rows: 15 ms; where
 * each is parsed, 830).
 *
 * @param inodes digits alone.
 */
export function socketsWith(tables: readonly string[], inodes: Iterable<string>): readonly TcpSocket[] {
  const wanted = new Set(inodes);
  const found = new Map<string, TcpSocket>();
  for (const some of groups([...wanted], atOnce)) {
    const numbers = new RegExp(` (?:${some.join('|')}) `, 'g');
    for (const table of tables) {
      for (let hit = numbers.exec(table); hit !== null; hit = numbers.exec(table)) {
        const { row, end } = rowAround(table, hit.index);
        // A uid or a time that reads the same is no socket.
        if (row !== undefined && wanted.has(row.inode) && !found.has(row.inode)) found.set(row.inode, row);
        numbers.lastIndex = end;
      }
    }
  }
  return [...found.values()];
}

function groups<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, at) => all.slice(at * size, (at + 1) * size));
}

/** `127.0.0.1:8080`, `[2001:db8::1]:8080`. */
export function formatEndpoint({ address, port }: Endpoint): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

/** What a table means by `0100007F:1F90`; `undefined`: it is no endpoint. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const [, hex, port] = /^((?:[0-9A-F]{8}){1}|(?:[0-9A-F]{8}){4}):([0-9A-F]{4})$/.exec(text) ?? [];
  if (hex === undefined || port === undefined) return undefined;
  const bytes = (hex.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16));
  return { address: addressOf(turned(bytes)), port: Number.parseInt(port, 16) };
}

/**
 * The established sockets from `local` to `remote` that a process has. The text of the tables is searched for the two,
 * in the forms that a kernel writes: of thousands of rows none but the right one is parsed.
 */
export function socketsBetween(tables: readonly string[], local: Endpoint, remote: Endpoint): readonly TcpSocket[] {
  const sockets: TcpSocket[] = [];
  const remotes = formsOf(remote);
  for (const [at, form] of formsOf(local).entries()) {
    const wanted = ` ${form} ${remotes[at]} ${established} `;
    for (const table of tables) {
      for (let found = table.indexOf(wanted); found !== -1; found = table.indexOf(wanted, found + 1)) {
        const { row } = rowAround(table, found);
        if (row !== undefined && row.inode !== '0') sockets.push(row);
      }
    }
  }
  return sockets;
}

/**
 * The same, of the network namespace of a process, held open. A table costs the kernel one to two milliseconds, however
 * few rows it has (measured: it walks a hash table made for the memory of the machine), so the second is read only for
 * an IPv4 connection that is not in the first: one of IPv6 is in net/tcp6 alone.
 */
export function findSockets(
  process: Pick<Directory, 'read' | 'stat'>,
  local: Endpoint,
  remote: Endpoint,
): readonly TcpSocket[] {
  for (const name of local.address.family === 4 ? ['net/tcp', 'net/tcp6'] : ['net/tcp6']) {
    if (process.stat(name) === undefined) continue; // a kernel without IPv6
    const found = socketsBetween([process.read(name)], local, remote);
    if (found.length > 0) return found;
  }
  return [];
}

/** An IPv4 endpoint stands in net/tcp, or mapped in net/tcp6 where the socket is one of IPv6. */
function formsOf({ address: { family, bytes }, port }: Endpoint): readonly string[] {
  const mapped = [...Array<number>(10).fill(0), 0xff, 0xff, ...bytes];
  const digits = (all: readonly number[]) =>
    turned(all)
      .map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'))
      .join('');
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return (family === 4 ? [bytes, mapped] : [bytes]).map((all) => `${digits(all)}${suffix}`);
}

const isLittleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** From network order to words of this machine, and back. */
function turned(bytes: readonly number[]): readonly number[] {
  if (!isLittleEndian) return bytes;
  return bytes.map((_, at) => bytes[at - (at % 4) + 3 - (at % 4)] ?? 0);
}

/** The inodes of all sockets that a process, held open, has as a descriptor. */
export function socketInodes(process: Pick<Directory, 'names' | 'readlink'>): ReadonlySet<string> {
  return new Set(process.names('fd').flatMap((fd) => socketInodeAt(process, fd) ?? []));
}

/** Of one of its descriptors; `undefined`: it is no socket, or was closed meanwhile. */
export function socketInodeAt(process: Pick<Directory, 'readlink'>, fd: string): string | undefined {
  return ifThere(() => /^socket:\[(\d+)\]$/.exec(process.readlink(`fd/${fd}`))?.[1]);
}

/** The TCP sockets that a process, held open, has. */
export function tcpSocketsOf(process: Pick<Directory, 'names' | 'readlink' | 'read' | 'stat'>): readonly TcpSocket[] {
  const inodes = socketInodes(process);
  if (inodes.size === 0) return [];
  return socketsWith(readTcpTables(process), inodes);
}
