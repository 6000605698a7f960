// A gate between the account and the session phase of real logins.

import fs from 'node:fs';
import path from 'node:path';
import { until } from './cluster.js';

/**
 * Holds sessions up between their phases, by pam_exec, until it is opened. `elsewhere`: it moves them out of their job
 * before, in the freezer hierarchy alone, so that they do not stop with it.
 */
export class Gate {
  readonly program: string;
  readonly #folder: string;
  readonly #elsewhere: string | undefined;

  constructor(folder: string, { elsewhere }: { readonly elsewhere?: string } = {}) {
    this.#folder = fs.mkdtempSync(path.join(folder, 'gate-'));
    this.program = path.join(this.#folder, 'program');
    this.#elsewhere = elsewhere === undefined ? undefined : `/sys/fs/cgroup/freezer/${elsewhere}`;
    if (this.#elsewhere !== undefined) fs.mkdirSync(this.#elsewhere);
    const lines = [
      '#!/bin/sh',
      ...(this.#elsewhere === undefined
        ? []
        : [`for one in $PPID $$; do echo $one >${this.#elsewhere}/cgroup.procs; done`]),
      `: >${this.#folder}/waits-$$`,
      `while [ ! -e ${this.#folder}/open ]; do sleep 0.05; done`,
    ];
    fs.writeFileSync(this.program, `${lines.join('\n')}\n`, { mode: 0o755 });
  }

  /** How many have come to it. */
  get waiting(): number {
    return fs.readdirSync(this.#folder).filter((name) => name.startsWith('waits-')).length;
  }

  open(): void {
    fs.writeFileSync(`${this.#folder}/open`, '');
  }

  close(): void {
    for (const name of fs.readdirSync(this.#folder)) if (name !== 'program') fs.rmSync(path.join(this.#folder, name));
  }

  async remove(): Promise<void> {
    this.open();
    const elsewhere = this.#elsewhere;
    if (elsewhere === undefined) return;
    await until('nobody is elsewhere', () => fs.readFileSync(`${elsewhere}/cgroup.procs`, 'utf8') === '');
    fs.rmdirSync(elsewhere);
  }
}
