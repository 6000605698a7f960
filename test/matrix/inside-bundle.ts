// A file of test/matrix/inside as one program: with all that it imports, its packages too, and in the place of vitest
// the harness beside it. Over 9p each file costs.

import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';

const repository = path.resolve(import.meta.dirname, '../..');

export async function programOf(file: string): Promise<string> {
  const { outputFiles } = await build({
    absWorkingDir: repository,
    entryPoints: [file],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    external: ['koffi'], // it loads a library of its own
    alias: { vitest: path.join(repository, 'test/matrix/inside/harness.ts') },
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire('/repository/x.js');" },
    logLevel: 'warning',
    plugins: [{ name: 'directories', setup: ({ onLoad }) => onLoad({ filter: /\.ts$/ }, knowingItsDirectory) }],
  });
  return outputFiles[0]?.text ?? '';
}

/** A module asks for its own directory, where it is in the guest. */
async function knowingItsDirectory({ path: file }: { readonly path: string }) {
  const directory = path.join('/repository', path.relative(repository, path.dirname(file)));
  const text = await fs.promises.readFile(file, 'utf8');
  return { contents: text.replaceAll('import.meta.dirname', JSON.stringify(directory)), loader: 'ts' as const };
}
