// The pieces of the PAM module that need no PAM, under the address and undefined behaviour sanitizers.

import { execFileSync } from 'node:child_process';
import { expect } from 'vitest';
import { Programs } from './programs.js';

const programs = new Programs(['pieces']);

programs.test('options, requests, replies, /proc and paths: tables, and 50,000 random changes of each', false, () => {
  const said = execFileSync(programs.path('pieces'), ['50000'], { encoding: 'utf8' });
  expect(said).toMatch(/^\d{6,} held, 0 failed\n$/);
});
