// What `npm run …` needs on a fresh clone: the packages, with --build the built product, and with --module the PAM module
// where this machine has what that takes. Does nothing when everything is there and newer than its sources.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildModule, missing } from './build-native.mjs';
import { isBuilt, isModuleBuilt, moduleFolder } from './built.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => path.join(root, ...parts);
const time = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const run = (file, ...words) => execFileSync(file, words, { cwd: root, stdio: ['ignore', 2, 2] });

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`slurm-cgroups needs Node.js 20.19 or newer; this is ${process.version}`);
  process.exit(2);
}

if (time(at('node_modules/.package-lock.json')) < time(at('package-lock.json'))) {
  console.error('Installing packages (npm ci) …');
  run('npm', 'ci', '--no-audit', '--no-fund', '--loglevel=error');
  fs.utimesSync(at('node_modules/.package-lock.json'), new Date(), new Date());
}

// Test files that need the product ask for it at the same time: the first builds, the others wait for it.
if (process.argv.includes('--build') && !isBuilt())
  run('flock', at('node_modules/.build-lock'), process.execPath, at('scripts/build.mjs'), '--if-needed');

// Only root's demo uses it. Where it cannot be built the demo says so, and shows the rest.
if (process.argv.includes('--module') && process.getuid?.() === 0 && !isModuleBuilt() && missing() === undefined) {
  console.error('Building the PAM module …');
  try {
    buildModule(moduleFolder);
  } catch (error) {
    console.error(error.message);
  }
}
