// What `npm run …` needs on a fresh clone: the packages, and with --build the built product. Does nothing
// when everything is there and newer than its sources.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => path.join(root, ...parts);
const time = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`slurm-cgroups needs Node.js 20.19 or newer; this is ${process.version}`);
  process.exit(2);
}

if (time(at('node_modules/.package-lock.json')) < time(at('package-lock.json'))) {
  console.error('Installing packages (npm ci) …');
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: ['ignore', 2, 2] });
  fs.utimesSync(at('node_modules/.package-lock.json'), new Date(), new Date());
}

function newest(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((latest, entry) => Math.max(latest, time(path.join(entry.parentPath, entry.name))), 0);
}

if (process.argv.includes('--build')) {
  const built = time(at('dist/bin/slurm-cgroups.js'));
  if (built < Math.max(newest(at('src')), newest(at('scripts')), time(at('package.json')))) {
    console.error('Building …');
    execFileSync(process.execPath, [at('scripts/build.mjs')], { cwd: root, stdio: ['ignore', 2, 2] });
  }
}
