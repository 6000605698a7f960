// Which process a login is: for sshd the one that watches over the connection, which is the caller of PAM itself or,
// where PAM ran in a process of its own (keyboard-interactive), one above it. For every other program it is the caller.
// Never the sshd that listens, and never that of another connection.

import { type HeldProcess, holdProcess, type ProcessIdentity } from '../cgroup/process.js';
import { isMonitor, rootExecutable } from '../jobs/protected.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import {
  listening,
  readTcpTables,
  socketInodes,
  socketsBetween,
  socketsWith,
  type TcpConnection,
} from '../machine/tcp-table.js';
import { type FoundConnection, parseSshConnection } from './connection.js';

export interface LoginProcess {
  readonly process: ProcessIdentity;
  /** It is the process that asks, and no sshd with a connection of its own: nothing but its asking says whose it is. */
  readonly isCaller: boolean;
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
    const found = connectionOf(connectionText);
    if (!isSshd(host, held) || 'why' in found) return { process: identityOf(held), isCaller: true };
    return { process: monitorOf(host, held, found.connection), isCaller: false };
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

/** The topmost root's sshd, from the caller on upwards, that has the connection and does not listen. */
function monitorOf(host: Host, caller: HeldProcess, { source, destination }: TcpConnection): ProcessIdentity {
  // Of one network, and read once: a table costs the kernel one to two milliseconds.
  const tables = readTcpTables(caller.directory);
  const connection = socketsBetween(tables, destination, source).map(({ inode }) => inode);
  let found: ProcessIdentity | undefined;
  let one: HeldProcess = caller;
  try {
    for (let level = 0; level < mostLevels && isSshd(host, one); level++) {
      const own = socketInodes(one.directory);
      if (socketsWith(tables, own).some(({ state }) => state === listening)) break;
      if (connection.some((inode) => own.has(inode))) found = identityOf(one);
      const above = parentOf(host, one);
      if (above === undefined) break;
      if (one !== caller) one.close();
      one = above;
    }
  } finally {
    if (one !== caller) one.close();
  }
  if (found !== undefined) return found;
  throw new SlurmCgroupsError(
    'ERR_PROTECTED',
    `No sshd from process ${caller.pid} upwards holds the connection of this login`,
    { pid: caller.pid },
  );
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
