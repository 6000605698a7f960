import { defineConfig } from 'vitest/config';

// Tests that need a machine of their own: each file starts guests (test/lab), two at a time.
export default defineConfig({
  test: {
    include: ['test/**/*.guest.ts'],
    globalSetup: ['test/lab/setup.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    maxWorkers: 2,
  },
});
