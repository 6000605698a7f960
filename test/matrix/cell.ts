// One cell: its machine boots, its Slurm comes up there, and the tests of test/matrix/inside run against it.

import process from 'node:process';
import { GuestError } from '../lab/guest.js';
import { type GuestTests, runTestsInGuest } from '../lab/guest-tests.js';
import type { TestReport } from '../lab/reporter.js';
import { type Cell, suites } from './cells.js';

export interface CellResult {
  readonly cell: Cell;
  readonly tests: readonly TestReport[];
  /** What kept tests from being run, or went wrong outside of any. */
  readonly errors: readonly string[];
  readonly seconds: number;
  /** What the tests left in /lab/out, by name. */
  readonly files: Readonly<Record<string, string>>;
}

/** Where two nodes share a machine, what is said of one must not be said of the other: those tests are their own. */
function filesOf(cell: Cell): readonly string[] {
  return [`test/matrix/inside/${cell.nodes === 2 ? 'two-nodes' : 'smoke'}.inside.ts`];
}

export async function runCell(cell: Cell): Promise<CellResult> {
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const tests = filesOf(cell);
  const full = process.env['MATRIX_FULL'] === '1';
  try {
    const ran = await runTestsInGuest({
      root: { suite: suites[cell.slurm], slurm: true },
      kernel: cell.kernel,
      boot: cell.boot,
      cgroup: cell.cgroup,
      tests,
      first: ['/bin/bash', 'test/matrix/up.sh'],
      timeoutMs: full ? 900_000 : 500_000,
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
        MATRIX_CELL: JSON.stringify({
          nodes: 1,
          jobIdPaths: false,
          ignoreSystemd: false,
          configless: false,
          ...cell,
          full,
        }),
      },
    });
    return { cell, tests: testsOf(ran), errors: errorsOf(ran, tests), seconds: seconds(), files: ran.left };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const files = error instanceof GuestError ? error.files : {};
    return { cell, tests: [], errors: [message], seconds: seconds(), files };
  }
}

function testsOf(ran: GuestTests): readonly TestReport[] {
  return [...ran.files.values()].flatMap((file) => file.tests);
}

function errorsOf(ran: GuestTests, asked: readonly string[]): readonly string[] {
  const { exitCode, output } = ran.first;
  return [
    ...(exitCode === 0 ? [] : [`Slurm did not come up (exit code ${exitCode}): ${output}`]),
    ...ran.errors,
    ...[...ran.files.values()].flatMap((file) => file.errors),
    ...asked.filter((file) => !ran.files.has(file)).map((file) => `${file} was not run`),
  ];
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
