// Which run of this program wrote a note below /run/slurm-cgroups, so that another can tell whether it still runs.

import type { Host } from '../machine/host.js';
import { identityOf, isThere } from './process.js';

/** A process of this program, named so that no later one is taken for it. */
export interface NoteOwner {
  readonly bootId: string;
  /** `pid:[4026531836]`, as /proc/self/ns/pid says: pids of another namespace are other processes. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** Clock ticks since boot, as text: JSON has no bigint. */
  readonly startTime: string;
}

/** This process, as the owner of a note. */
export function selfAsOwner(host: Host): NoteOwner {
  const { pid, startTime } = identityOf(host, host.self().pid);
  return {
    bootId: bootIdOf(host),
    pidNamespace: host.readlink('/proc/self/ns/pid'),
    pid,
    startTime: startTime.toString(),
  };
}

/** Whether the owner runs. One in another pid namespace cannot be seen from here, so it counts as running. */
export function isOwnerRunning(host: Host, owner: NoteOwner): boolean {
  if (owner.bootId !== bootIdOf(host)) return false;
  if (owner.pidNamespace !== host.readlink('/proc/self/ns/pid')) return true;
  return isThere(host, { pid: owner.pid, startTime: BigInt(owner.startTime) });
}

/** Whether the pids that its owner wrote name the same processes here: of an earlier boot none is left. */
export function isOfThisNamespace(host: Host, owner: NoteOwner): boolean {
  return owner.bootId !== bootIdOf(host) || owner.pidNamespace === host.readlink('/proc/self/ns/pid');
}

/** The owner in a parsed note; `undefined` where it is none. */
export function ownerIn(value: unknown): NoteOwner | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const [bootId, pidNamespace, pid, startTime]: readonly unknown[] = ['bootId', 'pidNamespace', 'pid', 'startTime'].map(
    (key) => Reflect.get(value, key),
  );
  if (typeof bootId !== 'string' || typeof pidNamespace !== 'string') return undefined;
  if (typeof pid !== 'number' || typeof startTime !== 'string' || !/^\d+$/.test(startTime)) return undefined;
  return { bootId, pidNamespace, pid, startTime };
}

export function bootIdOf(host: Host): string {
  return host.read('/proc/sys/kernel/random/boot_id').trim();
}
