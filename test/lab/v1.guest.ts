// On a machine with cgroup v1 alone: what no other machine may run. The rest of v1 is tried on the host.

import process from 'node:process';
import { describe } from 'vitest';
import { testsOn } from './layout.js';

/** Minutes of emulation for what the host shows on v1 too; `FULL=1 npm run test:guest` runs them. */
const full = process.env['FULL'] === '1';

describe('On pure cgroup v1, kernel 6.1', () => {
  testsOn({
    cgroup: 'v1',
    demo: '(cgroup v1)',
    tests: [
      ...(full ? ['test/attacks/bystanders.test.ts'] : []),
      'test/attacks/held.test.ts',
      'test/attacks/names.test.ts',
      'test/machine/libc.test.ts',
      'test/cgroup/pid-reuse.inside.ts',
      'test/cleanup/hung-mounts.inside.ts',
      'test/cleanup/pid-reuse.inside.ts',
      'test/cli/bad-input.inside.ts',
      'test/cli/sandbox.test.ts',
    ],
  });
});
