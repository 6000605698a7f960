// Test files of this repository in a guest: run there by vitest, reported here file by file.

import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';
import { GuestError, type GuestOptions, type GuestResult, runInGuest } from './guest.js';
import type { FileReport, RunReport } from './reporter.js';
import { lastLines } from './tool.js';

const repository = path.resolve(import.meta.dirname, '../..');

export interface GuestTestOptions extends Omit<GuestOptions, 'command'> {
  /** Test files, below the repository; `*.inside.ts` too. */
  readonly tests: readonly string[];
  /** Runs before the tests; its output is no test's. */
  readonly first?: readonly string[];
  /** Tests whose full name matches are neither run nor reported. */
  readonly leaveOut?: RegExp;
}

export interface GuestTests {
  readonly first: { readonly exitCode: number | undefined; readonly output: string };
  readonly files: ReadonlyMap<string, FileReport>;
  readonly errors: readonly string[];
  readonly output: string;
  readonly seconds: number;
  /** What else the tests left in /lab/out. */
  readonly left: Readonly<Record<string, string>>;
}

/** @throws Error when the guest or its vitest ended without a report, not even on some files. */
export async function runTestsInGuest({ tests, leaveOut, first, ...options }: GuestTestOptions): Promise<GuestTests> {
  const reporters = ['--reporter', 'default', '--reporter', './test/lab/reporter.ts'];
  const vitest = ['node', 'node_modules/vitest/vitest.mjs', 'run', '--project', 'inside', ...reporters];
  const names = leaveOut === undefined ? [] : ['--testNamePattern', `^(?!.*(${leaveOut.source}))`];
  const begin = performance.now();
  const command = [...vitest, ...names, ...tests];
  const both = ['/bin/sh', '-c', firstScript, first?.join(' ') ?? 'true', ...command];
  const replacing = await bundled(tests);
  const { output, files, errors } = await run({ ...options, replacing, command: both });
  const seconds = (performance.now() - begin) / 1000;
  const { 'report.json': text, ...left } = files;
  if (text === undefined)
    throw new Error(`vitest in the guest left no report:\n${errors.join()}${lastLines(output, 60)}`);
  const report: RunReport = JSON.parse(text);
  const reported = (file: FileReport): FileReport => ({
    ...file,
    tests: file.tests.filter((test) => !(test.state === 'skipped' && leaveOut?.test(test.name))),
  });
  return {
    first: { exitCode: numberIn(files['first.exit']), output: files['first.output'] ?? '' },
    files: new Map(report.files.map((file) => [file.file, reported(file)])),
    errors: [...errors, ...report.errors],
    output,
    seconds,
    left,
  };
}

const firstScript = '$0 >/lab/out/first.output 2>&1; echo $? >/lab/out/first.exit; exec "$@"';

function numberIn(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

/**
 * Each with all it imports of this repository: to compile and load some hundred small files one by one takes an
 * emulated machine longer than the tests do.
 */
async function bundled(tests: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const { outputFiles } = await build({
    absWorkingDir: repository,
    entryPoints: [...tests],
    outdir: repository,
    outbase: repository,
    outExtension: { '.js': '.ts' },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    sourcemap: 'inline',
    sourcesContent: false,
    logLevel: 'warning',
    plugins: [{ name: 'directories', setup: ({ onLoad }) => onLoad({ filter: /\.ts$/ }, knowingItsDirectory) }],
  });
  return Object.fromEntries(outputFiles.map((file) => [path.relative(repository, file.path), file.text]));
}

/** A module asks for its own directory, where it is in the guest. */
async function knowingItsDirectory({ path: file }: { readonly path: string }) {
  const directory = path.join('/repository', path.relative(repository, path.dirname(file)));
  const text = await fs.promises.readFile(file, 'utf8');
  return { contents: text.replaceAll('import.meta.dirname', JSON.stringify(directory)), loader: 'ts' as const };
}

async function run(options: GuestOptions): Promise<Pick<GuestTests, 'errors' | 'output'> & Pick<GuestResult, 'files'>> {
  try {
    return { ...(await runInGuest(options)), errors: [] };
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    return { output: error.output, files: error.files, errors: [error.message] };
  }
}

export function countOf(report: FileReport, state: 'passed' | 'failed' | 'skipped'): number {
  return report.tests.filter((test) => test.state === state).length;
}

/** `test/cgroup/cgroup.test.ts: 12 passed, 1 skipped (needs a writable hierarchy of freezer), 41 s`. */
export function summaryOf(report: FileReport): string {
  const [passed, failed, skipped] = [countOf(report, 'passed'), countOf(report, 'failed'), countOf(report, 'skipped')];
  const reasons = new Set(report.tests.flatMap((test) => (test.state === 'skipped' ? (test.why ?? []) : [])));
  return [
    `${report.file}: ${passed} passed`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(skipped > 0 ? [`${skipped} skipped (${[...reasons].join('; ')})`] : []),
    `${report.seconds.toFixed(0)} s`,
  ].join(', ');
}

/** What a person must see of a file that did not pass. */
export function failuresOf(report: FileReport): string {
  return [
    ...report.errors,
    ...report.tests.flatMap((test) => (test.state === 'failed' ? [`${test.name}\n${test.why}`] : [])),
  ].join('\n\n');
}
