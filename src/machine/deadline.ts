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
  /** How long it was when it was made, in whole ms, for people. */
  readonly wholeMs: number;
  readonly signal?: AbortSignal;
  /** What is left, in ms: never negative. */
  leftMs(): number;
  isOver(): boolean;
  /** An earlier moment: `mostMs` from now, and never later than this one. */
  part(mostMs: number): Deadline;
  /** A later moment: no earlier than `leastMs` from now. For what must be done even where the time is over. */
  atLeast(leastMs: number): Deadline;
  /** What is left, as the options of what waits. */
  wait(mostMs?: number): WaitOptions;
}

/** A deadline that many ms from now. `signal` ends what waits before it. */
export function deadlineIn(host: Clock, ms: number, signal?: AbortSignal): Deadline {
  const now = host.now();
  return between(host, { now, atMs: now + ms }, signal);
}

function between(host: Clock, { now, atMs }: { now: number; atMs: number }, signal?: AbortSignal): Deadline {
  const leftMs = () => Math.max(0, atMs - host.now());
  return {
    atMs,
    wholeMs: Math.round(Math.max(0, atMs - now)),
    ...(signal === undefined ? {} : { signal }),
    leftMs,
    isOver: () => host.now() >= atMs,
    part: (mostMs) => {
      const then = host.now();
      return between(host, { now: then, atMs: Math.min(atMs, then + mostMs) }, signal);
    },
    atLeast: (leastMs) => {
      const then = host.now();
      return between(host, { now: then, atMs: Math.max(atMs, then + leastMs) }, signal);
    },
    wait: (mostMs = Number.POSITIVE_INFINITY) => ({
      timeoutMs: Math.min(mostMs, leftMs()),
      ...(signal === undefined ? {} : { signal }),
    }),
  };
}
