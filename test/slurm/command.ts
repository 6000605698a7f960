// slurm-cgroups as a person runs it, the built one, on the node of a test cluster: it finds the configuration by the
// slurmd that runs.

import { execFile } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';
import type { Cluster } from './cluster.js';

export const program: string = path.resolve(import.meta.dirname, '../../dist/bin/slurm-cgroups.js');

export interface Said {
  /** -1: it did not end by itself. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function command(cluster: Cluster, ...words: readonly string[]): Promise<Said> {
  return new Promise((fulfil) => {
    execFile(
      process.execPath,
      [program, ...words, '--node', cluster.nodeName],
      { env: {}, cwd: '/', timeout: 120_000, maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        fulfil({ code, stdout, stderr });
      },
    );
  });
}
