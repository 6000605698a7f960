// A host before whose nth call another acts: what a function makes of a machine that changes in the middle of it.
// It counts calls, and what is held open, as failingHost does.

import type { Host } from './host.js';
import { type HostCall, type WatchedHost, watchedHost } from './watched-host.js';

export type ActingHost = WatchedHost;

/**
 * Wraps `host`: `act` runs once, to its end, just before the call with number `n` (from 1) is made. It gets that call,
 * and uses another host than this one, whose calls are counted. What waits in it must wait by itself (a child process
 * through spawnSync): the call goes on when it returns. What it throws, the call throws, and is not made.
 *
 * @example
 * const host = actingHost(liveHost(), 3, () => process.kill(pid, 'SIGKILL'));
 */
export function actingHost(host: Host, n: number, act: (call: HostCall) => void): ActingHost {
  if (!Number.isSafeInteger(n) || n < 1)
    throw new RangeError(`actingHost() takes the number of a call from 1, not ${n}`);
  return watchedHost(host, (number, call) => {
    if (number === n) act(call);
  });
}
