// The product as the measurements use it: its functions, bundled as the command is, and the built command itself.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const root = path.resolve(import.meta.dirname, '..');

/** The built command, and the recorded node that it comes with. */
export const command = path.join(root, 'dist/bin/slurm-cgroups.js');
export const recordedNode = path.join(root, 'dist/bin/demo-node.jsonl');

/** The functions of product.ts. */
export async function loadProduct() {
  return load('product');
}

/** Those of tests.ts, without a test runner. */
export async function loadTests() {
  // Where the cluster's janitor lies.
  return load('tests', { 'import.meta.dirname': JSON.stringify(path.join(root, 'test/slurm')) });
}

/** `watchJobs` of the built library, with nothing of the product beside it: what it takes in memory is measured. */
export async function loadWatch() {
  return import(pathToFileURL(path.join(root, 'dist/jobs/watch/watch.js')).href);
}

async function load(name, define = {}) {
  const { build } = await import('esbuild'); // only here: it would be in what `watch` measures
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-bench-'));
  try {
    const outfile = path.join(folder, `${name}.mjs`);
    await build({
      entryPoints: [path.join(root, `bench/${name}.ts`)],
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20.19',
      external: ['koffi'],
      define,
      logLevel: 'error',
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}
