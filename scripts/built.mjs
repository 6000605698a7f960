// Whether dist/ is newer than all that it is made of.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => path.join(root, ...parts);
const time = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** The last file of a build. Its mtime is when that began: what was edited meanwhile is newer. */
const last = at('dist/bin/slurm-cgroups.js');

export function isBuilt() {
  const sources = ['package.json', 'tsconfig.json', 'tsconfig.build.json'].map((name) => time(at(name)));
  return time(last) > Math.max(newest(at('src')), newest(at('scripts')), ...sources);
}

export function sayBuilt(begin) {
  fs.utimesSync(last, begin, begin);
}

/** Folders too: a file that was removed is seen by them alone. */
function newest(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true, recursive: true })
    .reduce((latest, entry) => Math.max(latest, time(path.join(entry.parentPath, entry.name))), time(folder));
}
