// A sleep that can be cut short. A notification that comes while nothing sleeps is kept until the next wait; several
// count as one.

import type { Host } from './host.js';

export class Wakeup {
  readonly #host: Pick<Host, 'sleep'>;
  #notified = false;
  #waiting: AbortController | undefined;

  constructor(host: Pick<Host, 'sleep'>) {
    this.#host = host;
  }

  notify(): void {
    this.#notified = true;
    this.#waiting?.abort();
  }

  /** Sleeps until the next notification, or that long. Gives whether it was notified. */
  async wait(timeoutMs: number): Promise<boolean> {
    const waiting = new AbortController();
    this.#waiting = waiting;
    try {
      if (!this.#notified) await this.#host.sleep(timeoutMs, waiting.signal);
    } catch (error) {
      if (!waiting.signal.aborted) throw error; // else it was notified
    } finally {
      this.#waiting = undefined;
    }
    const notified = this.#notified;
    this.#notified = false;
    return notified;
  }
}
