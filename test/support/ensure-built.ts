// Builds dist/ unless it is newer than its sources; of several test files at once the first does it. It installs no
// packages: those that run the tests must not change under them.

import { execFileSync } from 'node:child_process';
import path from 'node:path';

const repository = path.resolve(import.meta.dirname, '../..');

export default function ensureBuilt(): void {
  const build = [process.execPath, path.join(repository, 'scripts/build.mjs'), '--if-needed'];
  execFileSync('flock', [path.join(repository, 'node_modules/.build-lock'), ...build], {
    cwd: repository,
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: 300_000,
  });
}
