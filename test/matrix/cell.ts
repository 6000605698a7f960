// One cell: its machine boots, its Slurm comes up there, and the tests of test/matrix/inside run against it.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { GuestError, type GuestOptions, runInGuest } from '../lab/guest.js';
import type { TestReport } from '../lab/reporter.js';
import { buildPamModule } from '../slurm/differential/pam-module.js';
import { type Cell, suites } from './cells.js';
import type { CellReport } from './inside/harness.js';
import { programOf } from './inside-bundle.js';

export interface CellResult {
  readonly cell: Cell;
  readonly tests: readonly TestReport[];
  /** What kept tests from being run, or went wrong outside of any. */
  readonly errors: readonly string[];
  /** Slurm's nodes were idle in time: the tests could begin. */
  readonly isUp: boolean;
  readonly seconds: number;
  /** What the tests left in /lab/out, by name. */
  readonly files: Readonly<Record<string, string>>;
}

let built: Promise<Buffer> | undefined;

/** Built once, here: it needs no newer glibc than the oldest guest has. */
function pamModule(): Promise<Buffer> {
  built ??= (async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-matrix-'));
    try {
      return fs.readFileSync(await buildPamModule(folder));
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  })();
  return built;
}

/** Where two nodes share a machine, what is said of one must not be said of the other: those tests are their own. */
function fileOf(cell: Cell): string {
  return `test/matrix/inside/${cell.nodes === 2 ? 'two-nodes' : 'smoke'}.inside.ts`;
}

const script = `
/bin/bash test/matrix/up.sh >/lab/out/up.output 2>&1 || { echo $? >/lab/out/up.failed; exit 1; }
exec node test/matrix/inside/cell.mjs`;

export async function runCell(cell: Cell): Promise<CellResult> {
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const full = process.env['MATRIX_FULL'] === '1';
  try {
    const ran = await ranInGuest({
      root: { suite: suites[cell.slurm], slurm: true },
      kernel: cell.kernel,
      boot: cell.boot,
      cgroup: cell.cgroup,
      replacing: { 'test/matrix/inside/cell.mjs': await programOf(fileOf(cell)) },
      files: { 'pam_slurm_cgroups.so': await pamModule() },
      command: ['/bin/sh', '-c', script],
      timeoutMs: full ? 1_500_000 : 900_000,
      env: {
        CI: 'false', // what is skipped is judged here
        BOOT: cell.boot,
        CG: cell.cgroup,
        NODES: String(cell.nodes ?? 1),
        CGCONF_EXTRA: [
          ...(cell.ignoreSystemd ? ['IgnoreSystemd=yes'] : []),
          ...(cell.jobIdPaths ? ['CgroupJobIdPaths=yes'] : []),
        ].join('\n'),
        ...(cell.configless ? { CONFIGLESS: '1' } : {}),
        ...(cell.container ? { CONTAINER: cell.container } : {}),
        ...(cell.accounting ? { ACCOUNTING: '1' } : {}),
        MATRIX_CELL: JSON.stringify({
          nodes: 1,
          jobIdPaths: false,
          ignoreSystemd: false,
          configless: false,
          accounting: false,
          ...cell,
          full,
        }),
      },
    });
    return { cell, ...ran, seconds: seconds() };
  } catch (error) {
    return { cell, tests: [], errors: [String(error)], isUp: false, seconds: seconds(), files: {} };
  }
}

/** Also at a deadline: what was done until then, and what kept the rest from it. */
async function ranInGuest(options: GuestOptions): Promise<Omit<CellResult, 'cell' | 'seconds'>> {
  const { output, files, errors } = await runInGuest(options).then(
    (ran) => ({ ...ran, errors: [] }),
    (error: unknown) => {
      if (!(error instanceof GuestError)) throw error;
      return { output: error.output, files: error.files, errors: [error.message] };
    },
  );
  const { 'report.json': text, 'up.output': up, 'up.failed': failed, ...left } = files;
  const report: CellReport = text === undefined ? { tests: [], errors: [], ended: false } : JSON.parse(text);
  return {
    tests: report.tests,
    // An emulated kernel now and then dies while it boots (measured, 6.12): then nothing was begun.
    isUp: failed === undefined && up !== undefined,
    errors: [
      ...errors,
      ...(failed === undefined ? [] : [`Slurm did not come up (exit code ${failed.trim()}): ${up}`]),
      ...report.errors,
      ...(report.ended ? [] : [`The tests did not come to their end: ${output.slice(-4000)}`]),
    ],
    files: left,
  };
}

/** `24.11 v2 systemd           14 cases  14 passed  0 failed  71 s`, under a head. */
export function tableOf(results: readonly CellResult[]): string {
  const rows = [
    ['cell', 'cases', 'passed', 'failed', 'seconds'],
    ...results.map(({ cell, tests, errors, seconds }) => {
      const passed = tests.filter(({ state }) => state === 'passed').length;
      return [cell.name, tests.length, passed, tests.length - passed + errors.length, Math.round(seconds)].map(String);
    }),
  ];
  const widths = [0, 1, 2, 3, 4].map((at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows
    .map((row) =>
      row.map((text, at) => (at === 0 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0))).join('  '),
    )
    .join('\n');
}
