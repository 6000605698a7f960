// One time limit over everything that is waited for: a moment on the host's clock, handed on from call to call.

/** How long to wait at most, and what ends the waiting before that (its reason is thrown). */
export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** What tells the time: a `Host` does. */
export interface Clock {
  /** Milliseconds of a clock that never steps back. */
  now(): number;
}

/** A moment after which nothing is waited for. A value: handing it on keeps the one limit over all that is done. */
export interface Deadline {
  /** The moment, in ms on the clock of `host.now()`; Infinity: no limit. */
  readonly atMs: number;
  readonly signal?: AbortSignal;
  /** What is left, in ms: never negative. */
  leftMs(): number;
  isOver(): boolean;
  /** An earlier moment: `mostMs` from now, and never later than this one. */
  part(mostMs: number): Deadline;
  /** What is left, as the options of what waits. */
  wait(mostMs?: number): WaitOptions;
}

/** A deadline that many ms from now. `signal` ends what waits before it. */
export function deadlineIn(host: Clock, ms: number, signal?: AbortSignal): Deadline {
  return deadlineAt(host, host.now() + ms, signal);
}

/** A deadline at a moment of `host.now()`. */
export function deadlineAt(host: Clock, atMs: number, signal?: AbortSignal): Deadline {
  const leftMs = () => Math.max(0, atMs - host.now());
  return {
    atMs,
    ...(signal === undefined ? {} : { signal }),
    leftMs,
    isOver: () => host.now() >= atMs,
    part: (mostMs) => deadlineAt(host, Math.min(atMs, host.now() + mostMs), signal),
    wait: (mostMs = Number.POSITIVE_INFINITY) => ({
      timeoutMs: Math.min(mostMs, leftMs()),
      ...(signal === undefined ? {} : { signal }),
    }),
  };
}
