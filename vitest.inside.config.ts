// For the vitest that runs in a guest: the repository's tests, and those that no other machine may run
// (`*.inside.ts`: they set up the kernel, exhaust it, or hang it).

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: '/repository',
    include: ['test/**/*.test.ts', 'test/**/*.inside.ts'],
    reporters: ['default', './test/lab/reporter.ts'],
    // Emulated: ten to thirty times slower than the host.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
    setupFiles: ['test/lab/inside-setup.ts'],
    maxWorkers: 2,
    // Each test file is a bundle with modules of its own.
    isolate: false,
  },
});
