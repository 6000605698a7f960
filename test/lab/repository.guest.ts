// This repository's own tests that need a real kernel, on a machine with nothing but cgroup v2: no test of the
// host can mount that.

import { beforeAll, describe, expect, it } from 'vitest';
import { runInGuest } from './guest.js';
import { countOf, failuresOf, type GuestTests, realKernelTests, runTestsInGuest, summaryOf } from './guest-tests.js';

const folders = ['test/cgroup', 'test/jobs', 'test/adopt', 'test/cleanup', 'test/cli'];

/** Skipped there for a reason that no v2 machine can remove; any other reason is a failure. */
const onlyElsewhere = /^needs a writable hierarchy of (?!unified\b)|\bv1\b/;

describe('On pure cgroup v2, kernel 6.1', () => {
  it('the demo does the main job', async () => {
    const { exitCode, output } = await runInGuest({ cgroup: 'v2', command: ['node', 'dist/bin/slurm-cgroups.js', 'demo'], timeoutMs: 120_000 });
    expect(output).toContain('(cgroup v2)');
    expect(exitCode, output).toBe(0);
  });

  const tests = realKernelTests(...folders);
  let ran: GuestTests;
  beforeAll(async () => {
    ran = await runTestsInGuest({ cgroup: 'v2', tests, timeoutMs: 600_000, env: { CI: 'false' } });
    console.log([...ran.files.values()].map(summaryOf).concat(`${ran.seconds.toFixed(0)} s in all`).join('\n'));
  }, 900_000);

  it('the guest runs vitest without an error of its own', () => {
    expect(ran.errors).toEqual([]);
    expect([...ran.files.keys()].sort()).toEqual(tests);
  });

  it.each(tests)('%s', (file) => {
    const report = ran.files.get(file);
    if (report === undefined) throw new Error(`The guest did not run it:\n${ran.output}`);
    expect(failuresOf(report)).toBe('');
    expect(countOf(report, 'passed')).toBeGreaterThan(0);
    expect(report.tests.filter((test) => test.state === 'skipped' && !onlyElsewhere.test(test.why ?? ''))).toEqual([]);
  });
});
