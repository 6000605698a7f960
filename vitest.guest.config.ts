import { defineConfig } from 'vitest/config';

// Tests that need a machine of their own: each starts guests (test/lab), one at a time, for they take all of
// this machine.
export default defineConfig({
  test: {
    include: ['test/**/*.guest.ts'],
    globalSetup: ['test/lab/setup.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    fileParallelism: false,
    maxConcurrency: 2,
  },
});
