// The laws of the rooms that a machine can hold: Biome's are broken once each here, to prove that they bite;
// the rest (the login path's imports, a test for every file, the public names) is checked directly.

import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { build, transformSync } from 'esbuild';
import { describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '..');
const biome = path.join(root, 'node_modules/@biomejs/biome/bin/biome');

/** Lints files in a tree of their own under this repository's laws: `path: line: rule` for each complaint. */
function lint(files: Readonly<Record<string, readonly string[]>>): readonly string[] {
  const tree = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-laws-'));
  try {
    const config: Record<string, unknown> = JSON.parse(fs.readFileSync(path.join(root, 'biome.json'), 'utf8'));
    fs.writeFileSync(
      path.join(tree, 'biome.json'),
      JSON.stringify({ ...config, $schema: undefined, vcs: undefined, root: true }),
    );
    for (const [file, lines] of Object.entries(files)) {
      fs.mkdirSync(path.join(tree, path.dirname(file)), { recursive: true });
      fs.writeFileSync(path.join(tree, file), lines.map((line) => `${line}\n`).join(''));
    }
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [biome, 'lint', '--reporter=github', '--max-diagnostics=none', '.'],
      { cwd: tree, encoding: 'utf8' },
    );
    const found = [...stdout.matchAll(/^::error title=([^,]*),file=([^,]*),line=(\d+)/gm)];
    if (found.length === 0) throw new Error(`biome said nothing: ${stdout}${stderr}`);
    return found.map(
      ([, rule, file, line]) =>
        `${path.relative(fs.realpathSync(tree), path.resolve(tree, file ?? ''))}: ${line}: ${rule?.replace(/^lint\//, '')}`,
    );
  } finally {
    fs.rmSync(tree, { recursive: true });
  }
}

const packages = ['fs-extra', 'pino', 'commander', 'chokidar', 'systeminformation', 'koffi'];
const importing = (what: string) => `export * as x${what.replace(/\W/g, '')} from '${what}';`;

/** What each room must not import. */
const forbidden: readonly (readonly [file: string, imports: readonly string[]])[] = [
  [
    'src/machine/broken.ts',
    ['../cgroup/cgroup.js', '../jobs/job.js', 'node:fs', 'node:fs/promises', 'node:process', ...packages],
  ],
  ['src/machine/live-host.ts', ['../cgroup/cgroup.js', ...packages]],
  ['src/machine/libc.ts', ['../jobs/job.js', 'node:fs', 'pino', 'commander']],
  ['src/machine/socket.ts', ['../jobs/job.js', 'node:fs', 'node:process', 'koffi']],
  ['src/cgroup/broken.ts', ['../jobs/job.js', '../policy/facts.js', 'node:fs', 'node:process', ...packages]],
  [
    'src/jobs/broken.ts',
    [
      '../policy/newest.js',
      '../adopt/session.js',
      '../doctor/check.js',
      '../cli/exit.js',
      'node:net',
      'node:fs/promises',
      ...packages,
    ],
  ],
  [
    'src/jobs/config/broken.ts',
    ['../../policy/newest.js', '../../doctor/check.js', '../../cli/exit.js', 'node:fs', ...packages],
  ],
  ['src/jobs/watch/broken.ts', ['../../policy/newest.js', '../../cleanup/ending.js', 'node:fs', 'pino', 'fs-extra']],
  [
    'src/policy/broken.ts',
    [
      '../jobs/node.js',
      '../jobs/discovery.js',
      '../jobs/config/read.js',
      '../machine/host.js',
      '../cgroup/cgroup.js',
      '../adopt/session.js',
      'node:path',
      'node:fs',
      ...packages,
    ],
  ],
  [
    'src/adopt/broken.ts',
    ['../cli/exit.js', '../cleanup/ending.js', '../doctor/check.js', '../serve/server.js', 'node:fs', ...packages],
  ],
  [
    'src/cleanup/broken.ts',
    [
      '../adopt/session.js',
      '../policy/newest.js',
      '../doctor/check.js',
      '../cli/exit.js',
      '../serve/server.js',
      'node:fs',
      ...packages,
    ],
  ],
  ['src/cleanup/strays/broken.ts', ['../../adopt/session.js', '../../policy/newest.js', 'node:fs', ...packages]],
  [
    'src/doctor/broken.ts',
    ['../adopt/session.js', '../cleanup/ending.js', '../policy/decision.js', '../cli/exit.js', 'node:fs', ...packages],
  ],
  ['src/serve/broken.ts', ['../cli/exit.js', '../doctor/check.js', 'node:net', 'node:fs', 'pino', 'commander']],
  ['src/cli/broken.ts', ['../index.js', 'node:fs', 'node:child_process', 'pino', 'fs-extra', 'chokidar', 'koffi']],
  ['src/cli/commands/broken.ts', ['../../index.js', 'node:fs', 'pino', 'fs-extra']],
  ['src/cli/spec.ts', ['commander', 'node:fs']],
  ['src/cli/commands/other.ts', ['systeminformation']],
  ['src/cli/record/machine-facts.ts', ['node:fs', 'pino', 'fs-extra', 'commander']],
  ['src/cli/record/file.ts', ['node:fs', 'pino', 'commander', 'systeminformation']],
];

/** What they may. */
const allowed: readonly (readonly [file: string, imports: readonly string[]])[] = [
  ['src/machine/fine.ts', ['./host.js', 'node:path']],
  ['src/machine/live-host.ts', ['node:fs', 'node:process']],
  ['src/machine/libc.ts', ['koffi']],
  ['src/machine/socket.ts', ['node:net']],
  ['src/cgroup/fine.ts', ['./path.js', '../machine/host.js', 'node:path']],
  ['src/jobs/fine.ts', ['../cgroup/cgroup.js', '../machine/host.js', './job.js', './config/read.js', 'node:path']],
  ['src/jobs/config/fine.ts', ['../../cgroup/cgroup.js', '../../machine/host.js', '../job.js', './values.js']],
  ['src/jobs/watch/fine.ts', ['../../machine/host.js', '../node.js', 'chokidar']],
  ['src/policy/fine.ts', ['../jobs/job.js', '../machine/errors.js', './facts.js']],
  ['src/adopt/fine.ts', ['../policy/decision.js', '../jobs/stepd/ask.js', '../cgroup/move.js']],
  ['src/cleanup/fine.ts', ['../jobs/node.js', '../cgroup/killing.js', './strays/find.js']],
  ['src/cleanup/strays/fine.ts', ['../../jobs/node.js', '../../cgroup/killing.js', '../report.js']],
  [
    'src/doctor/fine.ts',
    [
      '../policy/options.js',
      '../policy/pam-line.js',
      '../policy/config-file.js',
      '../jobs/node.js',
      '../cgroup/cgroup.js',
      '../machine/host.js',
    ],
  ],
  ['src/serve/fine.ts', ['../adopt/session.js', '../cleanup/ending.js', 'fs-extra']],
  ['src/serve/server.ts', ['node:net']],
  ['src/cli/fine.ts', ['../jobs/node.js', 'node:process', 'commander']],
  ['src/cli/log.ts', ['pino']],
  ['src/cli/sandbox.ts', ['fs-extra']],
  ['src/cli/demo/sshd.ts', ['fs-extra']],
  ['src/cli/record/file.ts', ['fs-extra', 'node:path']],
  ['src/cli/record/machine-facts.ts', ['systeminformation', 'node:process']],
  ['src/cli/spec.ts', ['node:util']],
];

const rules: readonly (readonly [rule: string, line: string])[] = [
  ['suspicious/noConsole', 'console.log(1);'],
  ['style/noDefaultExport', 'export default 1;'],
  ['suspicious/noExplicitAny', 'export const x1: any = 1;'],
  ['style/noNonNullAssertion', 'export const x2 = (y: number | undefined) => y!;'],
  ['correctness/noProcessGlobal', 'export const x3 = process.pid;'],
  ['style/noEnum', 'export enum X4 { a }'],
];

describe('The rooms', () => {
  const said = lint({
    ...Object.fromEntries(
      forbidden.map(([file, imports]) => [file.replace('/broken', '/forbidden'), imports.map(importing)]),
    ),
    'src/jobs/rules.ts': rules.map(([, line]) => line),
    'src/jobs/cycle-a.ts': ["import type { B } from './cycle-b.js';", 'export type A = B | 1;'],
    'src/jobs/cycle-b.ts': ["import type { A } from './cycle-a.js';", 'export type B = A[] | 2;'],
  });
  const fine = lint({
    ...Object.fromEntries(allowed.map(([file, imports]) => [file, imports.map(importing)])),
    'src/jobs/rules.ts': ['console.log(1);'],
  });

  it.each(
    forbidden.flatMap(([file, imports]) =>
      imports.map((what, at) => [file.replace('/broken', '/forbidden'), what, at + 1] as const),
    ),
  )('%s cannot import %s', (file, _what, line) => {
    expect(said).toContain(`${file}: ${line}: style/noRestrictedImports`);
  });

  it.each(allowed.flatMap(([file, imports]) => imports.map((what, at) => [file, what, at + 1] as const)))(
    '%s may import %s',
    (file, _what, line) => {
      expect(fine).not.toContain(`${file}: ${line}: style/noRestrictedImports`);
    },
  );

  it.each(rules.map(([rule], at) => [rule, at + 1] as const))('no file of src may break %s', (rule, line) => {
    expect(said).toContain(`src/jobs/rules.ts: ${line}: ${rule}`);
  });

  it('two files that import each other, even types alone, are refused', () => {
    expect(said.filter((one) => one.endsWith('suspicious/noImportCycles')).map((one) => one.split(':')[0])).toEqual(
      expect.arrayContaining(['src/jobs/cycle-a.ts', 'src/jobs/cycle-b.ts']),
    );
  });
});

/** Files that `entry` imports statically, and the packages and node: modules among its imports. */
async function closureOf(
  entry: string,
): Promise<{ readonly files: readonly string[]; readonly outside: readonly string[] }> {
  const { metafile } = await build({
    entryPoints: [path.join(root, entry)],
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    outdir: 'unused',
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
  });
  const seen = new Set<string>();
  const outside = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const one of metafile.inputs[file]?.imports ?? []) {
      if (one.kind !== 'import-statement') continue;
      if (one.external === true) outside.add(one.path);
      else visit(one.path);
    }
  };
  visit(entry);
  return { files: [...seen].sort(), outside: [...outside].sort() };
}

describe('The login path', () => {
  it.each(['src/cli/commands/adopt.ts', 'src/cli/login.ts'])('%s names no package', async (entry) => {
    const { files, outside } = await closureOf(entry);
    expect(files.length).toBeGreaterThan(20);
    expect(outside).toEqual(['node:fs', 'node:path', 'node:process']);
  });

  it('would be noticed if it named one', async () => {
    expect((await closureOf('src/cli/program.ts')).outside).toContain('commander');
  });
});

function filesBelow(folder: string): readonly string[] {
  return fs
    .readdirSync(path.join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(path.join(root, folder), path.join(entry.parentPath, entry.name)));
}

/** The text of each file of src. */
const sources: ReadonlyMap<string, string> = new Map(
  filesBelow('src').map((file) => [`src/${file}`, fs.readFileSync(path.join(root, 'src', file), 'utf8')]),
);

/** Names that more than one file makes and exports, with the files: a newcomer's map is grep. */
function exportedTwice(texts: ReadonlyMap<string, string>): readonly string[] {
  const made = new Map<string, string[]>();
  for (const [file, text] of texts)
    for (const [, name = ''] of text.matchAll(
      /^export (?:abstract |async )?(?:function\*?|const|let|class|interface|type) (\w+)/gm,
    ))
      made.set(name, [...(made.get(name) ?? []), file]);
  return [...made]
    .map(([name, files]) => [name, [...new Set(files)].sort()] as const) // an overloaded function is one
    .filter(([, files]) => files.length > 1)
    .map(([name, files]) => `${name}: ${files.join(', ')}`);
}

/** Whether a file has nothing but types: then there is nothing to run. */
function hasCode(file: string): boolean {
  const { code } = transformSync(fs.readFileSync(path.join(root, file), 'utf8'), { loader: 'ts', minifySyntax: true });
  return code.replace(/^(?:import|export) .*;$|\/\/.*$/gm, '').trim() !== '';
}

/** Files of src that some file of test imports, or that have a test of their own name (commands, run as programs). */
function testedFiles(): ReadonlySet<string> {
  const tested = new Set<string>();
  for (const file of filesBelow('test').filter((name) => name.endsWith('.ts'))) {
    const folder = path.join('test', path.dirname(file));
    const text = fs.readFileSync(path.join(root, 'test', file), 'utf8');
    for (const [, what = ''] of text.matchAll(/(?:from|import\() ?'(\.[^']+)\.js'/g)) {
      tested.add(`${path.join(folder, what)}.ts`);
    }
    if (file.endsWith('.test.ts')) tested.add(path.join('src', file.replace(/\.test\.ts$/, '.ts')));
  }
  return tested;
}

describe('The files', () => {
  const tested = testedFiles();

  it.each(filesBelow('src').map((file) => `src/${file}`))('%s is tested, or holds types alone', (file) => {
    expect(tested.has(file) || !hasCode(file)).toBe(true);
  });

  it('would be noticed if they were not', () => {
    expect(hasCode('src/cgroup/cgroup.ts')).toBe(true);
    expect(hasCode('src/cleanup/report.ts')).toBe(false);
    expect(tested.has('src/cgroup/nobody-tests-this.ts')).toBe(false);
  });

  it('each name is exported by one file', () => {
    expect(exportedTwice(sources)).toEqual([]);
  });

  it('would be noticed if two files exported it', () => {
    const twice = new Map([...sources, ['src/cgroup/again.ts', 'export async function discoverJobs() {}']]);
    expect(exportedTwice(twice)).toEqual(['discoverJobs: src/cgroup/again.ts, src/jobs/discovery.ts']);
  });

  it('the repository names no machine, no registry and no session', () => {
    const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' })
      .split('\0')
      .filter((file) => file !== '' && fs.existsSync(path.join(root, file)));
    const above = `${path.dirname(root)}/`;
    for (const file of tracked) {
      const text = fs.readFileSync(path.join(root, file), 'utf8');
      if (above !== '/') expect(text.includes(above), `${file} names ${above}`).toBe(false);
      expect(/"resolved": "https?:/.test(text), `${file} holds download addresses`).toBe(false);
    }
  });
});

/** Which folders of src import which, types too: `from` → `to`, of one room only, its own files left out. */
function importsBetweenFolders(texts: ReadonlyMap<string, string>): ReadonlyMap<string, ReadonlySet<string>> {
  const imports = new Map<string, Set<string>>();
  for (const [file, text] of texts) {
    const from = path.dirname(file);
    for (const [, what = ''] of text.matchAll(/\b(?:from|import\(|import) ?'(\.[^']+)\.js'/g)) {
      const to = path.dirname(path.join(from, what));
      const [, room, folder] = from.split('/');
      const [, otherRoom, otherFolder] = to.split('/');
      if (folder === undefined || otherFolder === undefined || room !== otherRoom || from === to) continue;
      imports.set(from, (imports.get(from) ?? new Set()).add(to));
    }
  }
  return imports;
}

/** Folders that a folder imports, and those that these import. */
function reachedFrom(folder: string, imports: ReadonlyMap<string, ReadonlySet<string>>): ReadonlySet<string> {
  const reached = new Set<string>();
  const visit = (from: string): void => {
    for (const to of imports.get(from) ?? []) {
      if (reached.has(to)) continue;
      reached.add(to);
      visit(to);
    }
  };
  visit(folder);
  return reached;
}

function foldersInCircles(texts: ReadonlyMap<string, string>): readonly string[] {
  const imports = importsBetweenFolders(texts);
  return [...imports.keys()].filter((folder) => reachedFrom(folder, imports).has(folder)).sort();
}

describe('The folders of a room', () => {
  it('do not import each other in a circle', () => {
    expect(importsBetweenFolders(sources).get('src/jobs/caller')).toContain('src/jobs/config');
    expect(foldersInCircles(sources)).toEqual([]);
  });

  it.each([
    ['two', [['config/broken.ts', '../caller/question.js']], ['caller', 'config']],
    [
      'three, by a type',
      [
        ['config/broken.ts', '../watch/changes.js'],
        ['watch/broken.ts', '../owners/find.js'],
        ['owners/broken.ts', '../config/read.js'],
      ],
      ['config', 'owners', 'watch'],
    ],
  ])('would be noticed if %s did', (_how, broken, folders) => {
    const added = broken.map(([file, what]) => [`src/jobs/${file}`, `import type { X } from '${what}';`] as const);
    const found = foldersInCircles(new Map([...sources, ...added]));
    expect(found).toEqual(expect.arrayContaining(folders.map((folder) => `src/jobs/${folder}`)));
  });
});

describe('ARCHITECTURE.md', () => {
  const text = fs.readFileSync(path.join(root, 'ARCHITECTURE.md'), 'utf8');
  /** Folders of src and native, without those of their own. */
  const foldersIn = (folder: string): readonly string[] =>
    fs.existsSync(path.join(root, folder))
      ? fs
          .readdirSync(path.join(root, folder), { withFileTypes: true })
          .filter((entry) => entry.isDirectory() && entry.name !== 'build') // what is made, and not kept
          .map((entry) => `${folder}/${entry.name}`)
      : [];
  const rooms = ['src', 'native'].flatMap(foldersIn);
  const rowOf = (room: string) => text.split('\n').find((line) => line.startsWith(`| \`${room}/\``));

  it.each(rooms)('has the room %s, with its folders', (room) => {
    const row = rowOf(room);
    expect(row).toBeDefined();
    for (const folder of foldersIn(room)) expect(row).toContain(`\`${path.basename(folder)}/\``);
  });

  it('has no room that is not there', () => {
    const named = [...text.matchAll(/^\| `((?:src|native)\/[\w/-]+)\/`/gm)].map(([, room]) => room);
    expect(named.sort()).toEqual([...rooms].sort());
  });

  it('names only files that are there', () => {
    const named = [...text.matchAll(/`((?:[\w-]+\/)+[\w.-]+\.\w+|[\w-]+\.(?:ts|json|md))`/g)].map(
      ([, file = '']) => file,
    );
    expect(named.length).toBeGreaterThan(20);
    const missing = named.filter((file) => ['', 'src'].every((from) => !fs.existsSync(path.join(root, from, file))));
    expect(missing).toEqual([]);
  });
});
