// The PAM module of slurm-cgroups with the built command as its helper, for stacks of tests.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { program } from '../command.js';
import type { Site } from './adopter.js';

/** Builds the module into a folder and gives its path. */
export async function buildPamModule(folder: string): Promise<string> {
  const script = path.resolve(import.meta.dirname, '../../../scripts/build-native.mjs');
  const { buildModule } = (await import(script)) as { buildModule: (folder: string) => string };
  return buildModule(folder);
}

/** The words of its PAM line on that node. The helper is written where it is not there: `folder` is root's alone. */
export function moduleWords(
  { cluster, folder, module }: Required<Pick<Site, 'cluster' | 'folder' | 'module'>>,
  options: readonly string[],
): string {
  const helper = path.join(folder, 'helper');
  if (!fs.existsSync(helper)) {
    // The line of an interpreter takes one word and no environment: the file of the command is loaded by a script.
    const text = `#!${process.execPath}\nrequire(${JSON.stringify(program)});\n`;
    fs.writeFileSync(helper, text, { mode: 0o755 });
  }
  return [module, `helper=${helper}`, `nodename=${cluster.nodeName}`, ...options].join(' ');
}
