import { defineConfig } from 'vitest/config';

// Tests against a real Slurm on this machine (test/slurm/cluster.ts): as root, with the packages it names.
export default defineConfig({
  test: {
    include: ['test/slurm/**/*.slurm.ts'],
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // Each has a cluster of its own, and most of its time is Slurm's.
    maxWorkers: 2,
  },
});
