// A wait that something can cut short: who waits sleeps until the bell rings or the time is over. A ring that
// nobody waited for is kept until the next wait; many rings are one.

import type { Host } from './host.js';

export class Bell {
  readonly #host: Pick<Host, 'sleep'>;
  #rung = false;
  #waiting: AbortController | undefined;

  constructor(host: Pick<Host, 'sleep'>) {
    this.#host = host;
  }

  ring(): void {
    this.#rung = true;
    this.#waiting?.abort();
  }

  /** Until the next ring, or that long. Whether it rang. */
  async wait(timeoutMs: number): Promise<boolean> {
    const waiting = new AbortController();
    this.#waiting = waiting;
    try {
      if (!this.#rung) await this.#host.sleep(timeoutMs, waiting.signal);
    } catch (error) {
      if (!waiting.signal.aborted) throw error; // else the bell rang
    } finally {
      this.#waiting = undefined;
    }
    const rung = this.#rung;
    this.#rung = false;
    return rung;
  }
}
