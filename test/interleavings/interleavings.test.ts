// A part of the search for each run of the tests: so many interleavings of each kernel, operation and setting, chosen by
// a seed. All of it: `npm run test:interleavings`. A failure names the run; REPLAY="…" npm run test:interleavings repeats it.

import process from 'node:process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { onKernels } from '../support/kernel-jobs.js';
import { operations } from './operations.js';
import { nameOf, parseName, type Ran, randomOf, Search, settings, shuffled } from './search.js';

/** In all less than five minutes on a machine that is busy: a run takes a tenth of a second, there two seconds. */
const { SEED = '1', INTERLEAVINGS = '5' } = process.env;
const minutes = 4;

describe('Somebody acts in the middle', () => {
  let search: Search;
  beforeAll(async () => {
    search = await Search.open();
  });
  afterAll(() => search?.close());

  onKernels(({ name: kernel }) => {
    for (const operation of operations)
      for (const setting of settings)
        it(
          `of ${operation.name}, ${setting}, seed ${SEED}: the laws hold`,
          async () => {
            const random = randomOf(Number(SEED));
            const plan = await search.plan({ kernel, operation, setting }, { random, rest: 5, pairs: 100 });
            // Other ways to adopt share most calls with the first.
            const runs = Math.ceil(Number(INTERLEAVINGS) / (operation.name.startsWith('adopt-') ? 3 : 1));
            for (const one of shuffled(plan, random).slice(0, runs)) {
              const { complaints, calls } = await search.run(one);
              const before = one.steps.map(({ n }) => `${calls[n - 1]?.call} ${calls[n - 1]?.path}`).join(', ');
              expect(complaints, `REPLAY="${nameOf(one)}" (before ${before})`).toEqual([]);
            }
          },
          minutes * 60_000,
        );
  });
});

describe('What the whole search has found', () => {
  let search: Search;
  beforeAll(async () => {
    search = await Search.open();
  });
  afterAll(() => search?.close());

  onKernels(({ name: kernel }) => {
    it(
      'a pid that is given away before the process is put back moves nobody else',
      async () => {
        const run = (...steps: readonly (readonly [number, string])[]) =>
          search.run(parseName(`${kernel} adopt alone ${steps.flat().join(' ')}`));
        const numberOf = (calls: Ran['calls'], path: RegExp) =>
          calls.findIndex((one) => one.call === 'write' && path.test(String(one.path))) + 1;
        const usual = await search.run({ ...parseName(`${kernel} adopt alone 1 exits`), steps: [] });
        const into = numberOf(usual.calls, /\/step_extern\/.*cgroup\.procs$/);
        const back = numberOf((await run([into, 'step-frozen'])).calls, /\/outside\/session\/cgroup\.procs$/);
        expect([into, back].every((n) => n > 0)).toBe(true);
        // Calls come and go with what is waited for: those around it are tried too.
        for (let n = back - 5; n <= back + 5; n++)
          expect((await run([into, 'step-frozen'], [n, 'pid-to-other-job'])).complaints, `before call ${n}`).toEqual(
            [],
          );
      },
      minutes * 60_000,
    );
  });
});

describe('The name of an interleaving', () => {
  it('says all that replays it', () => {
    const name = 'v1 adopt slurmstepd 37 exits 52 step-frozen';
    expect(nameOf(parseName(name))).toBe(name);
  });

  it('names acts and operations that there are', () => {
    expect(() => parseName('v1 adopt alone 3 sings')).toThrow(RangeError);
    expect(() => parseName('v1 adopts alone 3 exits')).toThrow(RangeError);
    expect(() => parseName('v1 adopt alone 0 exits')).toThrow(RangeError);
  });

  it('is chosen by a seed, and the same for the same', () => {
    const numbers = Array.from({ length: 50 }, (_, at) => at);
    const [one, again, other] = [7, 7, 8].map((seed) => shuffled(numbers, randomOf(seed)));
    expect(one).toEqual(again);
    expect(one).not.toEqual(other);
    expect([...(one ?? [])].sort((a, b) => a - b)).toEqual(numbers);
  });
});
