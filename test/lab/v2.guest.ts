// On a machine with nothing but cgroup v2, which no test of the host can mount: this repository's own tests that
// work on real cgroups, and those that no other machine may run.

import process from 'node:process';
import { describe } from 'vitest';
import { testsOn } from './layout.js';

/** Minutes of emulation for what the host proves too; `FULL=1 npm run test:guest` runs them. */
const slow =
  /(?:in|at) any call|(?:what|which)ever call fails|where a call fails|300 processes|a tree of 2,000|SIGKILL of the cleaner|come and go without end/;

/** v2 has not what they are about. */
const onlyOnV1: readonly (readonly [RegExp, string])[] = [
  [/\(memory[\w,]*\)$|^Cgroup in (?:memory|cpuset) /, 'the same rule in hierarchies of v1; its other half runs'],
  [/cpuset/, 'a cpuset that accepts no process: v2 fills it in by itself'],
  [/the cgroup that is, freezer$|frozenAt\(\) sees a frozen v1 cgroup/, 'the freezer of v1; that of v2 has a test too'],
  [
    /through tasks|makes threads without pause|looks again for threads|counts every thread|passes over a thread|stand apart|stood apart|first thread is there|has one of its threads/,
    'v1 lets single threads move between any two cgroups',
  ],
  [
    /^CgroupSet(?:\.at\(\)|\.procs\(\) is the union|\.children\(\)|\.create\(\)| lists what is left)|undoes the first two|could not be put back/,
    'several hierarchies',
  ],
  [/has the freezer last|goes on after a refusal|where its number was written into a cgroup/, 'several hierarchies'],
];

const full = process.env['FULL'] === '1';
/** What it adds to adopt() is decided in this program: the host shows it on its own v2, the matrix with logins. */
const decided = ['test/adopt/session.test.ts'];

describe('On pure cgroup v2, kernel 6.1', () => {
  testsOn({
    cgroup: 'v2',
    demo: '(cgroup v2)',
    tests: [
      ...(full ? decided : []),
      'test/adopt/adoption.test.ts',
      'test/cgroup/cgroup-set.test.ts',
      'test/cgroup/cgroup.test.ts',
      'test/cgroup/freezer.test.ts',
      'test/cgroup/frozen-note.test.ts',
      'test/cgroup/killing-first-thread.test.ts',
      'test/cgroup/killing.test.ts',
      'test/cgroup/move.test.ts',
      'test/cgroup/pid-reuse.inside.ts',
      'test/cgroup/removal.test.ts',
      'test/cleanup/ending-sluid.inside.ts',
      'test/cleanup/ending.test.ts',
      'test/cleanup/hung-mounts.inside.ts',
      'test/cleanup/pid-reuse.inside.ts',
      'test/cleanup/strays/find.test.ts',
      'test/cleanup/survivors/describe.test.ts',
      'test/cli/sandbox.test.ts',
      'test/jobs/leaves.test.ts',
      'test/jobs/many-descriptors.inside.ts',
    ],
    skipped: onlyOnV1,
    ...(full ? {} : { leaveOut: slow }),
  });
});
