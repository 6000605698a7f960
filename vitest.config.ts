// The tiers of tests, one project each: `npx vitest run --project slurm`. CONTRIBUTING.md says what each needs.

import { defineConfig } from 'vitest/config';

const minute = 60_000;
/** Needs dist/ from the start; a unit test that runs the command has it built when it is loaded. */
const built = 'test/support/ensure-built.ts';

export default defineConfig({
  test: {
    // Without --project: the others need a machine or a Slurm of their own.
    project: ['unit'],
    // Many tests wait for a deadline: of two one does while the other works, also on a machine of two CPUs.
    maxWorkers: 2,
    teardownTimeout: minute,
    coverage: { provider: 'v8', include: ['src/**'], reporter: ['text', 'html'] },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          testTimeout: minute,
          hookTimeout: minute,
        },
      },
      // Somebody acts in the middle, everywhere: takes an hour and more (test/interleavings).
      {
        test: {
          name: 'interleavings',
          include: ['test/**/*.interleavings.ts'],
          testTimeout: 24 * 60 * minute,
          hookTimeout: 5 * minute,
        },
      },
      // Each file starts machines of its own (test/lab).
      {
        test: {
          name: 'guest',
          include: ['test/**/*.guest.ts'],
          globalSetup: [built, 'test/lab/setup.ts'],
          testTimeout: 5 * minute,
          hookTimeout: 5 * minute,
        },
      },
      // What runs in such a machine: tests of `unit`, and those that no other machine may run, since they set up the
      // kernel, exhaust it or hang it. Emulated: ten to thirty times slower than the host.
      {
        test: {
          name: 'inside',
          include: ['test/**/*.test.ts', 'test/**/*.inside.ts'],
          setupFiles: ['test/lab/inside-setup.ts'],
          testTimeout: 4 * minute,
          hookTimeout: 4 * minute,
          isolate: false, // each test file is a bundle with modules of its own
        },
      },
      // A real Slurm on this machine (test/slurm/cluster.ts): as root, with the packages it names.
      {
        test: {
          name: 'slurm',
          include: ['test/slurm/**/*.slurm.ts', ...(process.env['BY_HAND'] === '1' ? ['test/slurm/**/*.hand.ts'] : [])],
          globalSetup: [built],
          testTimeout: 4 * minute,
          hookTimeout: 4 * minute,
        },
      },
      // Real Slurms in machines of their own (test/matrix/run.mjs).
      {
        test: {
          name: 'matrix',
          include: ['test/matrix/*.matrix.ts'],
          globalSetup: [built, 'test/matrix/setup.ts'],
        },
      },
    ],
  },
});
