// Whether dist/, and the PAM module, are newer than all that they are made of.

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

export const moduleFolder = at('native/pam/build');

export function isModuleBuilt() {
  const sources = fs.readdirSync(at('native/pam')).filter((name) => /\.[ch]$/.test(name));
  const from = [...sources.map((name) => at('native/pam', name)), at('scripts/build-native.mjs')];
  return time(path.join(moduleFolder, 'pam_slurm_cgroups.so')) > Math.max(...from.map(time));
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
