import { defineConfig } from 'vitest/config';

// Real Slurms in guests (test/matrix): `npm run test:matrix`.
export default defineConfig({
  test: {
    include: ['test/matrix/*.matrix.ts'],
    globalSetup: ['test/matrix/setup.ts'],
  },
});
