// Long work in the one thread there is: others are served every few milliseconds, and the time limit is looked at.

import type { Deadline } from './deadline.js';
import type { Host } from './host.js';

/** How long others (timers, signals, connections) wait at most. */
const stretchMs = 5;

/**
 * A clock for loops. `if (pace.isDue()) await pace.pause()` at each turn costs one look at the clock; where one thing
 * is done in several loops they share one pace.
 */
export class Pace {
  readonly #host: Pick<Host, 'now' | 'turn'>;
  readonly deadline: Deadline;
  readonly #paused: { atMs: number };

  constructor(host: Pick<Host, 'now' | 'turn'>, deadline: Deadline, paused: { atMs: number } = { atMs: host.now() }) {
    this.#host = host;
    this.deadline = deadline;
    this.#paused = paused;
  }

  /** Whether others were kept waiting for long enough. */
  isDue(): boolean {
    return this.#host.now() - this.#paused.atMs >= stretchMs;
  }

  /** Lets others run. Rejects with the reason of the signal when it was aborted. */
  async pause(): Promise<void> {
    await this.#host.turn();
    this.deadline.signal?.throwIfAborted();
    this.#paused.atMs = this.#host.now();
  }

  isOver(): boolean {
    return this.deadline.isOver();
  }

  /** The same clock for one part of the work, which may take no longer than that. */
  part(mostMs: number): Pace {
    return new Pace(this.#host, this.deadline.part(mostMs), this.#paused);
  }
}
