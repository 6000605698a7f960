import { defineConfig } from 'vitest/config';

// Tests against a real Slurm on this machine (test/slurm/cluster.ts): as root, with the packages it names.
export default defineConfig({
  test: {
    include: ['test/slurm/**/*.slurm.ts'],
    testTimeout: 240_000,
    hookTimeout: 240_000,
    fileParallelism: false,
  },
});
