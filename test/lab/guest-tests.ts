// Test files of this repository in a guest: run there by vitest, reported here file by file.

import fs from 'node:fs';
import path from 'node:path';
import { GuestError, type GuestOptions, type GuestResult, runInGuest } from './guest.js';
import type { FileReport, RunReport } from './reporter.js';
import { lastLines } from './tool.js';

const repository = path.resolve(import.meta.dirname, '../..');

/** What a test file names when it works on real cgroups. */
const realCgroups = /\b(kernelTest|canUseCgroups)\b|from '\.[^']*\/(sandbox|kernel)\.js'/;

/** The test files below these folders that work on real cgroups: the others prove nothing new in a guest. */
export function realCgroupTests(...folders: readonly string[]): readonly string[] {
  return folders
    .flatMap((folder) =>
      fs
        .readdirSync(path.join(repository, folder), { recursive: true, encoding: 'utf8' })
        .map((name) => path.join(folder, name)),
    )
    .filter(
      (file) => file.endsWith('.test.ts') && realCgroups.test(fs.readFileSync(path.join(repository, file), 'utf8')),
    )
    .sort();
}

export interface GuestTestOptions extends Omit<GuestOptions, 'command'> {
  /** Test files, below the repository; `*.inside.ts` too. */
  readonly tests: readonly string[];
  /** Tests whose full name matches are neither run nor reported. */
  readonly leaveOut?: RegExp;
}

export interface GuestTests {
  readonly files: ReadonlyMap<string, FileReport>;
  readonly errors: readonly string[];
  readonly output: string;
  readonly seconds: number;
}

/** @throws Error when the guest or its vitest ended without a report, not even on some files. */
export async function runTestsInGuest({ tests, leaveOut, ...options }: GuestTestOptions): Promise<GuestTests> {
  const vitest = ['node', 'node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.inside.config.ts'];
  const names = leaveOut === undefined ? [] : ['--testNamePattern', `^(?!.*(${leaveOut.source}))`];
  const begin = performance.now();
  const { output, files, errors } = await run({ ...options, command: [...vitest, ...names, ...tests] });
  const seconds = (performance.now() - begin) / 1000;
  const text = files['report.json'];
  if (text === undefined)
    throw new Error(`vitest in the guest left no report:\n${errors.join()}${lastLines(output, 60)}`);
  const report: RunReport = JSON.parse(text);
  const reported = (file: FileReport): FileReport => ({
    ...file,
    tests: file.tests.filter((test) => !(test.state === 'skipped' && leaveOut?.test(test.name))),
  });
  return {
    files: new Map(report.files.map((file) => [file.file, reported(file)])),
    errors: [...errors, ...report.errors],
    output,
    seconds,
  };
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
