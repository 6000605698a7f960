// The program of its own in which Slurm and other runs of the product act, and this process waits for it.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';
import { Obedient } from '../support/puppets.js';
import type { NodeOfScene } from './node.js';

export type Request =
  | {
      readonly do: 'listen';
      readonly socket: string;
      readonly jobId: number;
      readonly uid: number;
      /** The pid that it gives as its own. */
      readonly daemon: number;
      /** Cgroups into which it moves a process that it is told of. */
      readonly leaves: readonly string[];
    }
  | { readonly do: 'mode'; readonly socket: string; readonly mode: 'normal' | 'silent' | 'late' }
  | { readonly do: 'close'; readonly socket: string }
  | { readonly do: 'adopt'; readonly pid: number; readonly jobId: number; readonly scene: NodeOfScene }
  | { readonly do: 'clean'; readonly jobId: number; readonly scene: NodeOfScene };

export class Others {
  readonly #program: Obedient;
  readonly #folder: string;

  private constructor(program: Obedient, folder: string) {
    this.#program = program;
    this.#folder = folder;
  }

  static async start(): Promise<Others> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-others-'));
    const outfile = `${folder}/others.mjs`;
    await build({
      entryPoints: [path.join(import.meta.dirname, 'others-program.ts')],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      external: ['koffi'],
      logLevel: 'warning',
    });
    // Beside the packages, of which koffi is one.
    fs.symlinkSync(path.resolve(import.meta.dirname, '../../node_modules'), `${folder}/node_modules`);
    return new Others(new Obedient(process.execPath, [outfile]), folder);
  }

  ask(request: Request): unknown {
    return JSON.parse(this.#program.ask(JSON.stringify(request)));
  }

  close(): void {
    this.#program.close();
    fs.rmSync(this.#folder, { recursive: true });
  }
}
