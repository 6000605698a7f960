// A host whose nth call fails: what a function leaves behind when the kernel says no in the middle. It
// also counts what is held open, so that a test can see that everything was closed.

import { SystemCallError } from './errors.js';
import type { Host } from './host.js';
import { type WatchedHost, watchedHost } from './watched-host.js';

export interface FailingOptions {
  /** 1-based number of the call that fails; nothing fails when absent. */
  readonly nth?: number;
  readonly errno?: string;
  /** Every later call whose name is among these fails too. */
  readonly thenAlways?: readonly string[];
}

export type FailingHost = WatchedHost;

/** Wraps `host`: the call with number `nth` is not made and throws SystemCallError with `errno`. */
export function failingHost(host: Host, options: FailingOptions = {}): FailingHost {
  const { nth = Number.POSITIVE_INFINITY, errno = 'EIO', thenAlways = [] } = options;
  return watchedHost(host, (number, { call, path }) => {
    if (number === nth || (number > nth && thenAlways.includes(call))) throw new SystemCallError(call, path, errno);
  });
}
