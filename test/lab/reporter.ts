// Runs in the guest: hands the results of vitest there to the vitest on the host, with the reasons of what was
// skipped, which its JSON leaves out.

import fs from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

/** Where the guest leaves its report, and its name among the files of a run. */
export const reportFile = '/lab/out/report.json';

export interface TestReport {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped. */
  readonly why?: string;
}

export interface FileReport {
  /** Below the repository: `test/cgroup/cgroup.test.ts`. */
  readonly file: string;
  readonly tests: readonly TestReport[];
  /** What failed outside of any test. */
  readonly errors: readonly string[];
  readonly seconds: number;
}

export interface RunReport {
  readonly files: readonly FileReport[];
  /** What no file can be blamed for. */
  readonly errors: readonly string[];
}

export default class ReportToHost implements Reporter {
  readonly #files: FileReport[] = [];

  /** File by file: at a deadline the host has what was done until then. */
  onTestModuleEnd(module: TestModule): void {
    this.#files.push(reportOf(module));
    this.#write(['it did not come to its end']);
  }

  onTestRunEnd(_modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    this.#write(errors.map(textOf));
  }

  #write(errors: readonly string[]): void {
    const report: RunReport = { files: this.#files, errors };
    fs.writeFileSync(`${reportFile}.new`, JSON.stringify(report));
    fs.renameSync(`${reportFile}.new`, reportFile);
  }
}

function reportOf(module: TestModule): FileReport {
  const suites = [...module.children.allSuites()];
  return {
    file: module.relativeModuleId,
    tests: [...module.children.allTests()].map((test): TestReport => {
      const result = test.result();
      const name = test.fullName;
      if (result.state === 'passed') return { name, state: 'passed' };
      if (result.state === 'failed') return { name, state: 'failed', why: result.errors.map(textOf).join('\n') };
      return {
        name,
        state: 'skipped',
        why: result.state === 'skipped' ? (result.note ?? 'no reason given') : 'it was never run',
      };
    }),
    errors: [...module.errors(), ...suites.flatMap((suite) => suite.errors())].map(textOf),
    seconds: module.diagnostic().duration / 1000,
  };
}

function textOf(error: SerializedError): string {
  const place = error.stacks?.[0];
  const at = place === undefined ? '' : ` (${place.file.replace(/^\/repository\//, '')}:${place.line})`;
  return `${error.message}${at}${error['diff'] === undefined ? '' : `\n${error['diff']}`}`;
}
