// At most so many at a time: for what must not be done by all at once. The others wait for a slot.

import type { Deadline } from './deadline.js';
import type { Host } from './host.js';
import type { WaitOptions } from './socket.js';

/** Connections of one program at a time: Node's connect does not wait where a server's queue is full (measured). */
export const maxConnections = 8;

/** A fixed number of slots, given out in the order in which they are asked for. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number = maxConnections) {
    this.#free = count;
  }

  /** Waits for a slot. Gives what releases it, or `undefined` when the time is over. */
  async acquire(host: Host, { timeoutMs, signal }: WaitOptions): Promise<(() => void) | undefined> {
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
    const late = host.sleep(timeoutMs, signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]));
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
   * Does something for each item, each in a slot of its own, and waits until all are done. Where no slot came free in
   * time `act` is called without one: `late` is true, and it has no time left to do anything but to say so.
   *
   * @throws what `act` throws first; the others are waited for.
   */
  async each<T, R>(
    host: Host,
    items: readonly T[],
    deadline: Pick<Deadline, 'wait'>,
    act: (item: T, slot: { readonly late: boolean }) => Promise<R>,
  ): Promise<readonly R[]> {
    const results = await Promise.allSettled(
      items.map(async (item) => {
        const release = await this.acquire(host, deadline.wait());
        try {
          return await act(item, { late: release === undefined });
        } finally {
          release?.();
        }
      }),
    );
    return results.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return one.value;
    });
  }
}
