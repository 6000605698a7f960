// What the documents say can be done can be done: their commands, links, examples, and the cells that were tested.

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { adoptSpec } from '../src/cli/commands/adopt.js';
import { cleanSpec } from '../src/cli/commands/clean.js';
import { doctorSpec } from '../src/cli/commands/doctor.js';
import { listSpec } from '../src/cli/commands/list.js';
import { straysSpec } from '../src/cli/commands/strays.js';
import { verifySpec } from '../src/cli/commands/verify.js';
import { watchSpec } from '../src/cli/commands/watch.js';
import { parseWords } from '../src/cli/spec.js';
import { cells } from './matrix/cells.js';
import { blocks } from './support/code-blocks.js';

const root = path.resolve(import.meta.dirname, '..');
const textOf = (file: string) => fs.readFileSync(path.join(root, file), 'utf8');
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'ARCHITECTURE.md',
  'docs/differences.md',
  'docs/tested-on.md',
  'test/recordings/README.md',
];
const specs = [listSpec, verifySpec, adoptSpec, cleanSpec, straysSpec, watchSpec, doctorSpec];

describe.each(documents)('%s', (file) => {
  const text = textOf(file);

  it('links to what is there', () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map(([, link = '']) => link);
    expect(links.filter((link) => !fs.existsSync(path.resolve(root, path.dirname(file), link)))).toEqual([]);
  });

  it('names scripts, files of tests and folders that there are', () => {
    const scripts: Readonly<Record<string, string>> = JSON.parse(textOf('package.json')).scripts;
    const named = [...text.matchAll(/npm run ([\w:]+)/g)].map(([, name = '']) => name);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
    const files = [...text.matchAll(/(?<![\w/])(?:src|test|bench|scripts|\.ci)\/[\w./-]+/g)].map(([name]) =>
      name.replace(/\.$/, ''),
    );
    expect(files.filter((name) => !fs.existsSync(path.join(root, name)))).toEqual([]);
  });

  it('calls the command as it can be called', () => {
    for (const line of blocks(textOf(file), 'console').join('').split('\n')) {
      const [, name, words] = /^[$#] (?:slurm-cgroups|node dist\/bin\/slurm-cgroups\.js) (\w+) ?(.*)$/.exec(line) ?? [];
      if (name === undefined || words === undefined) continue;
      const spec = specs.find((one) => one.name === name) ?? expect.unreachable(line);
      const [command = ''] = words.split(/ +#| && /);
      parseWords(spec, command.match(/"[^"]*"|\S+/g) ?? []);
    }
  });
});

test('docs/tested-on.md has every cell of the matrix, and no other', () => {
  const rows = [...textOf('docs/tested-on.md').matchAll(/^\| (\d\d\.\d\d \S.*?) *\|/gm)].map(([, name]) => name);
  expect(rows).toEqual(cells.map(({ name }) => name));
});
