// All of the search: `npm run test:interleavings`. By the environment: SEED (default: the time of day; it is printed), REST
// and PAIRS (how many calls beyond one of each kind, and pairs of acts), ONLY (kernel, operation, setting, as `v1 adopt`),
// ACT (one act by its name), RUNS (of each kernel, operation and setting only so many), PART (`2/3`: the second third, by the
// names of the runs; parts may run at the same time), REPLAY (the name of one run).

import process from 'node:process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { operations } from './operations.js';
import { nameOf, parseName, randomOf, Search, settings, shuffled } from './search.js';

const {
  SEED = String(Date.now() % 1_000_000),
  REST = '20',
  PAIRS = '200',
  RUNS,
  ACT,
  ONLY = '',
  PART = '1/1',
  REPLAY,
} = process.env;

const [part = 1, parts = 1] = PART.split('/').map(Number);

let search: Search;
beforeAll(async () => {
  search = await Search.open();
});
afterAll(() => search?.close());

it.runIf(REPLAY !== undefined)(`${REPLAY}`, async () => {
  const interleaving = parseName(REPLAY ?? '');
  const { acted, calls, complaints, outcome } = await search.run(interleaving);
  for (const { n } of interleaving.steps) console.log(`call ${n} is ${calls[n - 1]?.call} ${calls[n - 1]?.path}`);
  console.log(`${acted.join(', ') || 'nothing was done'}; ${outcome}`);
  expect(complaints).toEqual([]);
});

it.skipIf(REPLAY !== undefined)(`every interleaving, seed ${SEED}`, async () => {
  const random = randomOf(Number(SEED));
  const failures: string[] = [];
  for (const kernel of search.kernels)
    for (const operation of operations)
      for (const setting of settings) {
        const circumstances = { kernel, operation, setting };
        const words = `${kernel} ${operation.name} ${setting}`;
        if (ONLY !== '' && !`${words} `.startsWith(`${ONLY.trim()} `)) continue;
        const beginMs = performance.now();
        let runs = 0;
        const whole = await search.plan(circumstances, { random, rest: Number(REST), pairs: Number(PAIRS) });
        const plan = whole
          .filter(({ steps }) => ACT === undefined || steps.some(({ act }) => act.name === ACT))
          .filter((one) => numberOf(nameOf(one)) % parts === part - 1);
        const counts = new Map<string, number>();
        const add = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
        for (const one of RUNS === undefined ? plan : shuffled(plan, random).slice(0, Number(RUNS))) {
          runs++;
          const { acted, complaints, outcome, calls } = await search.run(one);
          add(acted.length === 0 ? 'nothing was done' : outcome);
          if (complaints.length === 0) continue;
          add('FAILED');
          const before = one.steps.map(({ n }) => `${calls[n - 1]?.call} ${calls[n - 1]?.path}`).join(', ');
          failures.push(nameOf(one));
          console.log(`REPLAY="${nameOf(one)}" (before ${before}; ${outcome}): ${complaints.join('; ')}`);
        }
        const seconds = ((performance.now() - beginMs) / 1000).toFixed();
        const said = [...counts].map(([what, count]) => `${what} ${count}`).join(', ');
        console.log(`${words}: ${runs} runs of ${plan.length} in ${seconds} s: ${said}`);
      }
  expect(failures).toEqual([]);
});

/** The same for the same text (FNV-1a): a plan is not of the same length each time, so that places in it divide nothing. */
function numberOf(text: string): number {
  let number = 0x811c9dc5;
  for (const character of text) number = Math.imul(number ^ character.charCodeAt(0), 0x01000193) >>> 0;
  return number >>> 8;
}
