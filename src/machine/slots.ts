// So many at a time, and the others after them: for what must not be done by all at once.

import type { Host } from './host.js';
import type { WaitOptions } from './socket.js';

/** Connections of one program at a time: Node's connect does not wait where a server's queue is full (measured). */
export const maxConnections = 8;

/** So many at a time, the others in the order in which they came. */
export class Places {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number = maxConnections) {
    this.#free = count;
  }

  /** Waits for a place: gives what leaves it, or `undefined` when the time is over. */
  async enter(host: Host, { timeoutMs, signal }: WaitOptions): Promise<(() => void) | undefined> {
    signal?.throwIfAborted();
    let left = false;
    const leave = () => {
      if (left) return;
      left = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    };
    if (this.#free > 0) {
      this.#free--;
      return leave;
    }
    const over = new AbortController();
    const turn = new Promise<'mine'>((fulfil) => this.#waiting.push(() => fulfil('mine')));
    const late = host.sleep(timeoutMs, signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]));
    try {
      if ((await Promise.race([turn, late])) === 'mine') return leave;
    } catch (error) {
      void turn.then(leave);
      throw error;
    } finally {
      over.abort();
      late.catch(() => {}); // stopped by the line above
    }
    void turn.then(leave); // when its turn comes, it is passed on
    return undefined;
  }
}
