// Which run of this program wrote a note below /run/slurm-cgroups, so that another can tell whether it still runs.

import { hasCode, ifThere, isGone } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { Pace } from '../machine/pace.js';
import { eachProcess, identityOf, isThere } from './process.js';

/** A process of this program, named so that no later one is taken for it. */
export interface NoteOwner {
  readonly bootId: string;
  /**
   * `pid:[4026531836]`, as /proc/self/ns/pid says: pids of another namespace are other processes. Notes of 0.1.0 lack it:
   * they are of the namespace of the process that reads them.
   */
  readonly pidNamespace?: string;
  readonly pid: number;
  /** Clock ticks since boot, as text: JSON has no bigint. */
  readonly startTime: string;
}

/** This process, as the owner of a note. */
export function selfAsOwner(host: Host): NoteOwner {
  const { pid, startTime } = identityOf(host, host.self().pid);
  return {
    bootId: bootIdOf(host),
    pidNamespace: namespaceOf(host, 'self'),
    pid,
    startTime: startTime.toString(),
  };
}

/**
 * Whether the owner may run. `false`: it has certainly ended. Of another pid namespace no pid can be looked up from
 * here. Only the first namespace sees all processes: there an owner has ended where no process is in its namespace any
 * more. Elsewhere it counts as running, and so it does where the time is over before all were looked at.
 */
export async function isOwnerRunning(host: Host, owner: NoteOwner, pace: Pace): Promise<boolean> {
  if (owner.bootId !== bootIdOf(host)) return false;
  const own = namespaceOf(host, 'self');
  const { pidNamespace = own } = owner;
  if (pidNamespace === own) return isThere(host, { pid: owner.pid, startTime: BigInt(owner.startTime) });
  return own !== firstNamespace || mayBeInUse(host, pidNamespace, pace);
}

async function mayBeInUse(host: Host, namespace: string, pace: Pace): Promise<boolean> {
  const end = await eachProcess(host, pace, (pid) => (mayBeIn(host, namespace, pid) ? 'stop' : undefined));
  return end !== 'all'; // unknown is not over
}

function mayBeIn(host: Host, namespace: string, pid: number): boolean {
  try {
    return namespaceOf(host, String(pid)) === namespace;
  } catch (error) {
    if (isGone(error)) return false; // ended, or a zombie
    if (!hasCode(error, 'ERR_NOT_PERMITTED')) throw error;
    return !isOfFirst(host, pid);
  }
}

/** By the pids that it has, one for each namespace that it is seen in: every user may read those, of every process. */
function isOfFirst(host: Host, pid: number): boolean {
  const status = ifThere(() => host.read(`/proc/${pid}/status`));
  return status === undefined || /^NSpid:\t\d+$/m.test(status); // NSpid: from Linux 4.1 on
}

/** PROC_PID_INIT_INO of include/linux/proc_ns.h. */
const firstNamespace = `pid:[${0xeffffffc}]`;

function namespaceOf(host: Host, pid: string): string {
  return host.readlink(`/proc/${pid}/ns/pid`);
}

/** Whether the pids that its owner wrote name the same processes here: of an earlier boot none is left. */
export function isOfThisNamespace(host: Host, owner: NoteOwner): boolean {
  const own = namespaceOf(host, 'self');
  return owner.bootId !== bootIdOf(host) || (owner.pidNamespace ?? own) === own;
}

/** The owner in a parsed note; `undefined` where it is none. */
export function ownerIn(value: unknown): NoteOwner | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const [bootId, pidNamespace, pid, startTime]: readonly unknown[] = ['bootId', 'pidNamespace', 'pid', 'startTime'].map(
    (key) => Reflect.get(value, key),
  );
  if (typeof bootId !== 'string' || typeof pid !== 'number') return undefined;
  if (typeof startTime !== 'string' || !/^\d+$/.test(startTime)) return undefined;
  if (pidNamespace === undefined) return { bootId, pid, startTime };
  if (typeof pidNamespace !== 'string') return undefined;
  // A frozen note of 0.2.0 had the number alone while that was built.
  return { bootId, pidNamespace: pidNamespace.replace(/^\d+$/, 'pid:[$&]'), pid, startTime };
}

/** Whether two notes are of the same run. */
export function isSameOwner(one: NoteOwner, other: NoteOwner): boolean {
  return (
    one.bootId === other.bootId &&
    one.pidNamespace === other.pidNamespace &&
    one.pid === other.pid &&
    one.startTime === other.startTime
  );
}

export function bootIdOf(host: Host): string {
  return host.read('/proc/sys/kernel/random/boot_id').trim();
}
