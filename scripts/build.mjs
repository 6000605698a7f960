// Builds dist/: the library with its types (tsc), the command (esbuild), and the recorded node of the demo. The
// command is CommonJS in four files, each whole in itself: an ES module in chunks took 1.65 times as long to
// start as an empty node, this takes 1.2 times (adopt --dry-run, measured; npm run bench).

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { isBuilt, sayBuilt } from './built.mjs';

if (process.argv.includes('--if-needed')) {
  if (isBuilt()) process.exit(); // by the run that this one waited for
  console.error('Building …');
}
const begin = new Date();
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8'));

fs.rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], {
  stdio: ['ignore', 2, 2],
});

/** node: modules as they are: esbuild would copy their hundreds of names at each start. Packages import names of them. */
const builtins = {
  name: 'builtins',
  setup(esbuild) {
    esbuild.onResolve({ filter: /^node:/ }, ({ path: name, kind, importer }) =>
      kind === 'import-statement' && !importer.includes('/node_modules/')
        ? { path: name, namespace: 'builtin' }
        : undefined,
    );
    esbuild.onLoad({ filter: /./, namespace: 'builtin' }, ({ path: name }) => ({
      contents: `export default require('${name}')`,
    }));
  },
};
/** main.ts loads one of the others, each with all it needs; chokidar, an ES module, only `watch` loads. */
const neighbours = {
  name: 'neighbours',
  setup(esbuild) {
    esbuild.onResolve({ filter: /^\.\/(?:login|program)\.js$|^chokidar$/ }, ({ path: name, kind }) =>
      kind === 'dynamic-import' ? { path: name === 'chokidar' ? './chokidar.js' : name, external: true } : undefined,
    );
  },
};
fs.mkdirSync('dist/bin');
fs.copyFileSync('test/recordings/slurm-22.05-v1.jsonl', 'dist/bin/demo-node.jsonl');
fs.writeFileSync('dist/bin/package.json', '{"type":"commonjs"}\n');
await build({
  entryPoints: {
    'slurm-cgroups': 'src/cli/main.ts',
    login: 'src/cli/login.ts',
    program: 'src/cli/program.ts',
    chokidar: 'chokidar',
  },
  outdir: 'dist/bin',
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node20.19',
  supported: { 'dynamic-import': false },
  banner: { js: '#!/usr/bin/env node' },
  minify: true, // long names too: a hundred kilobytes take a tenth of an empty node's start to read and compile
  legalComments: 'none',
  external: ['pino', 'fs-extra', 'commander', 'koffi', 'systeminformation'],
  define: { packageVersion: JSON.stringify(version), 'import.meta.dirname': '__dirname' },
  plugins: [builtins, neighbours],
  logLevel: 'warning',
});
fs.chmodSync('dist/bin/slurm-cgroups.js', 0o755);
sayBuilt(begin);
