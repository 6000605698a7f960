// npm run test:matrix [-- [--full] [--keep FOLDER] [CELL …] [options of vitest]]: words are names of cells,
// `--full` runs what takes longer, `--keep` leaves there what the cells left (a recording of each).

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';

const [cells, options, env] = [[], [], { ...process.env }];
const words = process.argv.slice(2);
for (let word = words.shift(); word !== undefined; word = words.shift()) {
  if (word === '--full') env.MATRIX_FULL = '1';
  else if (word === '--keep') env.MATRIX_KEEP = path.resolve(words.shift() ?? '.');
  else if (word.startsWith('-')) options.push(word);
  else cells.push(word);
}
env.MATRIX_CELLS = cells.join(',');
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'matrix', ...options];
const { status } = spawnSync(process.execPath, vitest, { stdio: 'inherit', env });
process.exit(status ?? 1);
