import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A cgroup that a killed test left behind must not fail the next: names are unique, nothing is shared.
    fileParallelism: true,
    // Many tests wait for a deadline: of two one does while the other works, also on a machine of two CPUs.
    maxWorkers: 2,
  },
});
