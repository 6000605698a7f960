// Every cell, two machines at a time: with a third, deadlines of seconds pass on two CPUs (measured). What their tests say is said again here, case by case.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, describe, expect, it } from 'vitest';
import { type CellResult, runCell, tableOf } from './cell.js';
import { cells } from './cells.js';

const wanted = (process.env['MATRIX_CELLS'] ?? '').split(',').filter((name) => name !== '');
/** Those that take longest first: none is left alone at the end. */
const waiting = cells
  .filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  .sort((a, b) => Number(b.boot === 'systemd') - Number(a.boot === 'systemd'));
const unknown = wanted.filter((name) => cells.every((cell) => cell.name !== name));
if (unknown.length > 0)
  throw new Error(`No cell is named ${unknown.join(', ')}; there are: ${cells.map(({ name }) => name).join(', ')}`);
const results: CellResult[] = [];

/** Where recordings of the cells are kept, when they are wanted. */
const keepIn = process.env['MATRIX_KEEP'];

async function runThem(): Promise<void> {
  for (let cell = waiting.shift(); cell !== undefined; cell = waiting.shift()) {
    let result = await runCell(cell);
    if (!result.isUp) {
      console.log(`${cell.name}: its Slurm did not come up, so it is begun once more. ${result.errors.join('\n')}`);
      result = await runCell(cell);
    }
    results.push(result);
    const failures = result.tests.flatMap(({ name, state, why }) => (state === 'passed' ? [] : [`${name}\n${why}`]));
    const { times = '', 'differential.md': compared = '' } = result.files;
    console.log([tableOf([result]).split('\n')[1], ...result.errors, ...failures, compared, times].join('\n'));
    if (keepIn === undefined) continue;
    for (const [name, text] of Object.entries(result.files)) {
      const file = path.join(keepIn, cell.name.replaceAll(' ', '-'), name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text);
    }
  }
}

await Promise.all([runThem(), runThem()]);
results.sort((a, b) => cells.indexOf(a.cell) - cells.indexOf(b.cell));

describe.each(results.map((result) => ({ ...result, name: result.cell.name })))('$name', ({ tests, errors }) => {
  it('comes up, and runs what was asked for', () => {
    expect(errors).toEqual([]);
    expect(tests.length).toBeGreaterThan(0);
  });

  it.for(tests)('$name', ({ state, why }) => {
    // Nothing is skipped in a cell: what does not apply there is not among its files.
    expect(`${state}${why === undefined ? '' : `: ${why}`}`).toBe('passed');
  });
});

afterAll(() => console.log(`\n${tableOf(results)}\n`));
