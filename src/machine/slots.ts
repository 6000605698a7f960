// At most so many at a time: for what must not be done by all at once. The others wait for a slot.

import type { Deadline } from './deadline.js';
import type { Host } from './host.js';

/** Connections of one program at a time: Node's connect does not wait where a server's queue is full (measured). */
export const maxConnections = 8;

/** A fixed number of slots, given out in the order in which they are asked for. */
export class Slots {
  readonly #host: Pick<Host, 'sleep'>;
  readonly #count: number;
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(host: Pick<Host, 'sleep'>, count: number = maxConnections) {
    this.#host = host;
    this.#count = count;
    this.#free = count;
  }

  /** Waits for a slot. Gives what releases it, or `undefined` when the time is over. */
  async acquire(deadline: Deadline): Promise<(() => void) | undefined> {
    const { signal } = deadline;
    signal?.throwIfAborted();
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    };
    if (this.#free > 0) {
      this.#free--;
      return release;
    }
    const over = new AbortController();
    const turn = new Promise<'mine'>((fulfil) => this.#waiting.push(() => fulfil('mine')));
    const stop = signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]);
    const late = this.#host.sleep(deadline.leftMs(), stop);
    try {
      if ((await Promise.race([turn, late])) === 'mine') return release;
    } catch (error) {
      void turn.then(release);
      throw error;
    } finally {
      over.abort();
      late.catch(() => {}); // stopped by the line above
    }
    void turn.then(release); // when its turn comes, it is passed on
    return undefined;
  }

  /**
   * Does something for each item, in a slot of its own, and gives what came of it in the order of the items. Where no
   * slot came free in time `act` is called without one, with a deadline that is over: all that it can do is to say so.
   *
   * @throws what `act` throws first, or the reason of the deadline's signal. Nothing is begun after that, and what was
   * begun is waited for.
   */
  async each<T, R>(
    items: readonly T[],
    deadline: Deadline,
    act: (item: T, deadline: Deadline) => Promise<R>,
  ): Promise<readonly R[]> {
    const results: R[] = [];
    const queue = items.entries();
    let failure: { readonly error: unknown } | undefined;
    const work = async () => {
      for (const [at, item] of queue) {
        if (failure !== undefined) return;
        let release: (() => void) | undefined;
        try {
          release = await this.acquire(deadline);
          results[at] = await act(item, release === undefined ? deadline.part(0) : deadline);
        } catch (error) {
          failure ??= { error };
        } finally {
          release?.();
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#count, items.length) }, work));
    if (failure !== undefined) throw failure.error;
    return results;
  }
}
