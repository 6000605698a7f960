// What is checked of a run of this repository's tests in a guest: every file ran, nothing failed, nothing was
// skipped but what is known, and the demo did the main job there.

import { beforeAll, describe, expect, it } from 'vitest';
import { countOf, failuresOf, type GuestTests, runTestsInGuest, summaryOf } from './guest-tests.js';

export interface Layout {
  readonly cgroup: 'v1' | 'v2';
  /** What the demo says of it. */
  readonly demo: string;
  readonly tests: readonly string[];
  readonly leaveOut?: RegExp;
  /** Tests that are skipped there, by full name, and why. */
  readonly skipped?: readonly (readonly [RegExp, string])[];
}

export function testsOn({ cgroup, demo, tests, leaveOut, skipped = [] }: Layout): void {
  let ran: GuestTests;
  beforeAll(async () => {
    ran = await runTestsInGuest({
      cgroup,
      tests,
      first: ['node', 'dist/bin/slurm-cgroups.js', 'demo'],
      timeoutMs: 1_500_000,
      env: { CI: 'false' }, // what is skipped is judged here
      ...(leaveOut === undefined ? {} : { leaveOut }),
    });
    const reports = [...ran.files.values()].map(summaryOf);
    console.log(reports.concat(`${cgroup}: ${ran.seconds.toFixed(0)} s in all`).join('\n'));
  }, 1_600_000);

  it('the demo does the main job', () => {
    expect(ran.first.output).toContain(demo);
    expect(ran.first.exitCode, ran.first.output).toBe(0);
  });

  it('ran, all that were asked for', () => {
    expect(ran.errors).toEqual([]);
    expect([...ran.files.keys()].sort()).toEqual([...tests].sort());
  });

  describe.each(tests)('%s', (file) => {
    const reportOf = () => {
      const report = ran.files.get(file);
      if (report === undefined) throw new Error('The guest did not come to it');
      return report;
    };
    it('passes', () => {
      expect(failuresOf(reportOf())).toBe('');
      expect(countOf(reportOf(), 'passed')).toBeGreaterThan(0);
    });

    it('skips what is known to be skipped, and nothing else', () => {
      const known = ({ name }: { readonly name: string }) => skipped.some(([pattern]) => pattern.test(name));
      expect(reportOf().tests.filter((test) => test.state === 'skipped' && !known(test))).toEqual([]);
    });
  });
}
