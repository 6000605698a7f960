// Which connection a session came over: what sshd says (SSH_CONNECTION), or what the kernel lists for the sshd that
// holds it. The text is a user's input, and /proc can change or be hidden: the answer is a connection or a reason.

import { type HeldProcess, holdProcess } from '../cgroup/process.js';
import { connectionsOfMonitor, isMonitor, rootExecutable } from '../jobs/protected.js';
import { quote, SlurmCgroupsError } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import type { Host } from '../machine/host.js';
import { parseAddress } from '../machine/ip-address.js';
import { type Endpoint, parseEndpoint, type TcpConnection } from '../machine/tcp-table.js';

/** A connection, or why it is not known: one line, safe to print, the end of a sentence. */
export type FoundConnection =
  | { readonly connection: TcpConnection }
  | {
      readonly why: string;
      /** sshd says that it does not know the caller. */
      readonly isUnknown?: boolean;
    };

/** Two addresses with zones, two ports, three blanks: OpenSSH writes 115 characters at most. */
const longestText = 160;

/**
 * Reads `SSH_CONNECTION`: source address and port, destination address and port. Never throws: for a text that is cut
 * off, has names for addresses (`UNKNOWN`), or is no connection at all, it gives a reason.
 */
export function parseSshConnection(text: string): FoundConnection {
  if (text.length > longestText) return { why: `it is ${text.length} characters long` };
  const fields = text.trim().split(/ +/);
  // What sshd writes for a connection that is no TCP socket: behind a pipe, AF_UNIX, AF_VSOCK (packet.c).
  if (isUnknownPeer(fields))
    return { why: `${quote(text)} names no addresses: the connection is not over TCP`, isUnknown: true };
  if (fields.length !== 4) return { why: `${quote(text)} does not have the four fields of a connection` };
  const [sourceAddress = '', sourcePort = '', destinationAddress = '', destinationPort = ''] = fields;
  const source = endpointFrom(sourceAddress, sourcePort);
  const destination = endpointFrom(destinationAddress, destinationPort);
  if (typeof source === 'string') return { why: source };
  if (typeof destination === 'string') return { why: destination };
  if (source.address.family !== destination.address.family)
    return { why: `${quote(text)} is IPv4 at one end and IPv6 at the other` };
  return { connection: { source, destination } };
}

/** `UNKNOWN 65535 UNKNOWN 65535`; one end alone may be known. */
function isUnknownPeer(fields: readonly string[]): boolean {
  return fields.length === 4 && [fields[0], fields[2]].includes('UNKNOWN');
}

function endpointFrom(addressText: string, portText: string): Endpoint | string {
  const address = parseAddress(addressText);
  if (address === undefined) return `${quote(addressText)} is not an IP address`;
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : 0;
  return port >= 1 && port <= 0xffff ? { address, port } : `${quote(portText)} is not a port`;
}

/** The one connection that the sshd of a session holds. */
export function connectionOfProcess(host: Host, pid: number): FoundConnection {
  try {
    return withHeld(holdProcess(host, pid), (held) => connectionOf(host, held));
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { why: error.message };
    throw error;
  }
}

function connectionOf(host: Host, held: HeldProcess): FoundConnection {
  const name = rootExecutable(host, held);
  if (name === undefined || !isMonitor(name)) return { why: `process ${held.pid} is not the sshd of a connection` };
  const own = connectionsOfMonitor(held);
  if (own === 'listens') return { why: `process ${held.pid} is the listening sshd` };
  const [socket] = own;
  if (socket === undefined || own.length > 1)
    return { why: `process ${held.pid} holds ${own.length === 0 ? 'no' : own.length} TCP connections` };
  const [destination, source] = [parseEndpoint(socket.local), parseEndpoint(socket.remote)];
  if (source === undefined || destination === undefined)
    return { why: `the connection of process ${held.pid} cannot be read` };
  return { connection: { source, destination } };
}
