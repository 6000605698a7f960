// Looking at a process of which not everything can be seen: what is refused is left out, and why is kept.

import { isGone, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';

/** Looks one by one; a refusal is kept as the reason why something is not known. */
export class Observer {
  readonly missing: Record<string, string> = {};
  /** The last refusal said that there is nothing (any more). */
  sawNothing = false;
  readonly #childMs: number;

  /** @param options childMs: how long a child may take over what only a child reads; 0, the default: there is none */
  constructor({ childMs = 0 }: { readonly childMs?: number } = {}) {
    this.#childMs = childMs;
  }

  see<T>(what: string, act: () => T): T | undefined {
    try {
      const seen = act();
      this.sawNothing = false;
      return seen;
    } catch (error) {
      return this.#refused(what, error);
    }
  }

  /** A file of /proc through a child, which is left behind where it does not come back. */
  async seeBounded(what: string, host: Host, file: string): Promise<string | undefined> {
    const timeoutMs = this.#childMs;
    if (timeoutMs <= 0) {
      this.missing[what] = 'not asked for: there are too many to look at each closely';
      return undefined;
    }
    try {
      const { exitCode, stdout, stderr, timedOut } = await host.run('/bin/cat', [file], { timeoutMs });
      if (timedOut) this.missing[what] = `no answer within ${timeoutMs} ms`;
      else if (exitCode === 0) return stdout;
      else this.missing[what] = stderr.trim().split(': ').at(-1) ?? 'it could not be read';
      return undefined;
    } catch (error) {
      return this.#refused(what, error);
    }
  }

  #refused(what: string, error: unknown): undefined {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    this.missing[what] = error.message;
    this.sawNothing = isGone(error);
    return undefined;
  }
}
