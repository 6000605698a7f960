// Which process a login is: for sshd the one that watches over the connection, which is the caller of PAM itself or,
// where PAM ran in a process of its own (keyboard-interactive), one above it. For every other program it is the caller.
// Never the sshd that listens, and never that of another connection.

import { type HeldProcess, holdProcess, type ProcessIdentity } from '../cgroup/process.js';
import { isMonitor, rootExecutable } from '../jobs/protected.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import {
  type Endpoint,
  isConnected,
  listening,
  parseEndpoint,
  readTcpTables,
  socketInodes,
  socketsWith,
  type TcpConnection,
  type TcpSocket,
} from '../machine/tcp-table.js';
import { type FoundConnection, parseSshConnection } from './connection.js';

export interface LoginProcess {
  readonly process: ProcessIdentity;
  /** No connection says whose it is, but the one that asks through PAM (AdoptOptions). */
  readonly asksItself: boolean;
}

/** sshd, the process of the session below it, and the one of keyboard-interactive are three. */
const mostLevels = 8;

/**
 * The process that a login puts into the job.
 *
 * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS where the caller has ended; ERR_PROTECTED where no sshd holds the
 * connection that the caller names.
 */
export function processOfLogin(host: Host, caller: ProcessIdentity, connectionText: string | undefined): LoginProcess {
  const held = holdProcess(host, caller.pid);
  try {
    if (held.startTime !== caller.startTime)
      throw new SlurmCgroupsError('ERR_NO_SUCH_PROCESS', `Process ${caller.pid} is another by now`, {
        pid: caller.pid,
      });
    if (!isSshd(host, held)) return { process: identityOf(held), asksItself: true };
    const found = connectionOf(connectionText);
    // Behind a pipe, a unix socket or a vsock. There is a process of keyboard-interactive there, too.
    if ('why' in found) return { process: topmost(host, held, () => true) ?? identityOf(held), asksItself: true };
    return { process: monitorOf(host, held, found.connection), asksItself: false };
  } finally {
    held.close();
  }
}

function connectionOf(text: string | undefined): FoundConnection {
  return text === undefined ? { why: 'it has none' } : parseSshConnection(text);
}

function isSshd(host: Host, held: HeldProcess): boolean {
  const name = rootExecutable(host, held);
  return name !== undefined && isMonitor(name);
}

function identityOf({ pid, startTime }: HeldProcess): ProcessIdentity {
  return { pid, startTime };
}

/** The one that has the connection, whatever its state: a client may have closed its side already. */
function monitorOf(host: Host, caller: HeldProcess, { source, destination }: TcpConnection): ProcessIdentity {
  const isEnd = (text: string, { address, port }: Endpoint) => {
    const end = parseEndpoint(text);
    return end?.port === port && end.address.text === address.text;
  };
  const isIt = (one: TcpSocket) => isConnected(one) && isEnd(one.local, destination) && isEnd(one.remote, source);
  const look = () => topmost(host, caller, (sockets) => sockets.some(isIt));
  // The kernel's table changes while it is read and may lack a row: then it is looked for a second time.
  const found = look() ?? look();
  if (found !== undefined) return found;
  throw new SlurmCgroupsError(
    'ERR_PROTECTED',
    `No sshd from process ${caller.pid} upwards holds the connection of this login`,
    { pid: caller.pid },
  );
}

/**
 * The topmost of root's sshds from the caller on upwards, one above the other, of which none listens, by its TCP sockets.
 * An sshd that was started in a session (by sudo) has the programs of that session between itself and the other.
 */
function topmost(
  host: Host,
  caller: HeldProcess,
  isWanted: (sockets: readonly TcpSocket[]) => boolean,
): ProcessIdentity | undefined {
  // Of one network, and read once: a table costs the kernel one to two milliseconds.
  const tables = readTcpTables(caller.directory);
  let found: ProcessIdentity | undefined;
  let one: HeldProcess = caller;
  try {
    for (let level = 0; level < mostLevels && isSshd(host, one); level++) {
      const sockets = socketsWith(tables, socketInodes(one.directory));
      if (sockets.some(({ state }) => state === listening)) break;
      if (isWanted(sockets)) found = identityOf(one);
      const above = parentOf(host, one);
      if (above === undefined) break;
      if (one !== caller) one.close();
      one = above;
    }
  } finally {
    if (one !== caller) one.close();
  }
  return found;
}

/** Its parent, as long as it still is: read again once it is held. */
function parentOf(host: Host, one: HeldProcess): HeldProcess | undefined {
  const { ppid } = one.stat();
  if (ppid <= 1) return undefined;
  const above = holdProcess(host, ppid);
  let isStill = false;
  try {
    isStill = one.stat().ppid === ppid;
  } finally {
    if (!isStill) above.close();
  }
  return isStill ? above : undefined;
}
