// This repository's own tests that work on real cgroups, on a machine with nothing but cgroup v2: no test of
// the host can mount that.

import process from 'node:process';
import { beforeAll, describe, expect, it } from 'vitest';
import { runInGuest } from './guest.js';
import { countOf, failuresOf, type GuestTests, realCgroupTests, runTestsInGuest, summaryOf } from './guest-tests.js';

/** Not test/cli/commands: each test starts the program several times, and the demo runs the same commands. */
const folders = ['test/cgroup', 'test/adopt', 'test/cleanup'];
const files = ['test/jobs/leaves.test.ts', 'test/cli/sandbox.test.ts'];

/** Minutes of emulation for what the host proves too; `FULL=1 npm run test:guest` runs them. */
const slow = process.env['FULL'] === '1' ? undefined : /in any call|whatever call fails|300 processes|a tree of 2,000/;

/** Skipped there for a reason that no v2 machine can remove; any other reason is a failure. */
const onlyElsewhere = /^needs a writable hierarchy of (?!unified\b)|\bv1\b/;

describe('On pure cgroup v2, kernel 6.1', () => {
  it('the demo does the main job', async () => {
    const command = ['node', 'dist/bin/slurm-cgroups.js', 'demo'];
    const { exitCode, output } = await runInGuest({ cgroup: 'v2', command, timeoutMs: 120_000 });
    expect(output).toContain('(cgroup v2)');
    expect(exitCode, output).toBe(0);
  });

  describe('the tests on real cgroups', () => {
    const tests = [...realCgroupTests(...folders), ...files];
    let ran: GuestTests;
    beforeAll(async () => {
      // A skip is judged here, by its reason: the host runs what v2 cannot.
      ran = await runTestsInGuest({
        cgroup: 'v2',
        tests,
        timeoutMs: 600_000,
        env: { CI: 'false' },
        ...(slow === undefined ? {} : { leaveOut: slow }),
      });
      console.log(
        [...ran.files.values()]
          .map(summaryOf)
          .concat(`${ran.seconds.toFixed(0)} s in all`)
          .join('\n'),
      );
    }, 900_000);

    it('ran, all that were asked for', () => {
      expect(ran.errors).toEqual([]);
      expect([...ran.files.keys()].sort()).toEqual([...tests].sort());
      expect([...ran.files.values()].reduce((sum, report) => sum + countOf(report, 'passed'), 0)).toBeGreaterThan(100);
    });

    it.each(tests)('%s', (file) => {
      const report = ran.files.get(file);
      if (report === undefined) throw new Error(`The guest did not come to it:\n${ran.output}`);
      expect(failuresOf(report)).toBe('');
      expect(report.tests.filter((test) => test.state === 'skipped' && !onlyElsewhere.test(test.why ?? ''))).toEqual(
        [],
      );
    });
  });
});
