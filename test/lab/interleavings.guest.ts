// Somebody acts in the middle, on a machine with nothing but cgroup v2: the part of the search that `npm test` runs.

import { describe } from 'vitest';
import { testsOn } from './layout.js';

describe('On pure cgroup v2, kernel 6.1', () => {
  testsOn({ cgroup: 'v2', demo: '(cgroup v2)', tests: ['test/interleavings/interleavings.test.ts'] });
});
