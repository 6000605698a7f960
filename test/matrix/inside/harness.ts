// Stands in for vitest in a cell: one file of tests, one after the other, in this process. To start vitest takes an
// emulated machine longer than the tests do (measured: 71 s of 150). Matchers and diffs are vitest's own.

import fs from 'node:fs';
import process from 'node:process';
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  addCustomEqualityTesters,
  chai,
  GLOBAL_EXPECT,
  getState,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';
import { processError } from '@vitest/utils/error';
import type { TestReport } from '../../lab/reporter.js';

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);

const bare = (value: unknown, message?: string): unknown => chai.expect(value, message);
export const expect: typeof bare = Object.assign(
  bare,
  chai.expect,
  Reflect.get(globalThis, ASYMMETRIC_MATCHERS_OBJECT),
  {
    addEqualityTesters: addCustomEqualityTesters,
    unreachable(message = 'this is not to be reached'): never {
      throw new Error(message);
    },
  },
);
Reflect.set(globalThis, GLOBAL_EXPECT, expect);
// biome-ignore lint/suspicious/noExplicitAny: its type is vitest's
setState({ ...getState(expect as any), assertionCalls: 0, isExpectingAssertions: false }, expect as any);

type Act<T extends unknown[] = []> = (...args: T) => unknown;
interface Task {
  readonly name: string;
  readonly act: Act;
}

const usualMs = 240_000;
const [tasks, before] = [[] as Task[], [] as Act[]];
const afterEvery: Act<[{ readonly task: { readonly name: string } }]>[] = [];
let suite = '';

/** @throws Error at the deadline; what is late goes on, and is heard of no more. */
function within(ms: number, act: Act): Act {
  return async () => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`It did not end within ${ms} ms`)), ms);
    });
    try {
      await Promise.race([act(), late]);
    } finally {
      clearTimeout(timer);
    }
  };
}

export function describe(name: string, act: () => void): void {
  suite = name;
  act();
  suite = '';
}

export function it(name: string, act: Act, ms: number = usualMs): void {
  tasks.push({ name: suite === '' ? name : `${suite} > ${name}`, act: within(ms, act) });
}

export function beforeAll(act: Act, ms: number = usualMs): void {
  before.push(within(ms, act));
}

export function afterEach(act: Act<[{ readonly task: { readonly name: string } }]>): void {
  afterEvery.push(act);
}

async function failureOf(act: Act): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    const { message, diff, stack } = processError(error);
    const at = /^ *at .*\.inside\..*$/m.exec(stack ?? '')?.[0].trim();
    return [message, at, diff].filter((part) => part !== undefined).join('\n');
  }
}

export interface CellReport {
  readonly tests: readonly TestReport[];
  readonly errors: readonly string[];
  readonly ended: boolean;
}

const tests: TestReport[] = [];
const errors: string[] = [];

/** After each test: at a deadline the host has what was done until then. */
function report(ended: boolean): void {
  const file = '/lab/out/report.json';
  fs.writeFileSync(`${file}.new`, JSON.stringify({ tests, errors, ended } satisfies CellReport));
  fs.renameSync(`${file}.new`, file);
}

/** Without what all the tests need none is run, and each has failed by that. */
async function runAll(): Promise<void> {
  for (const act of before) errors.push(...[(await failureOf(act)) ?? []].flat());
  const prepared = errors.length === 0;
  for (const { name, act } of tasks) {
    const why = prepared ? await failureOf(act) : 'it was never run';
    tests.push(why === undefined ? { name, state: 'passed' } : { name, state: 'failed', why });
    for (const each of afterEvery) await each({ task: { name: name.replace(/^.* > /, '') } });
    report(false);
  }
  report(true);
}

for (const event of ['unhandledRejection', 'uncaughtException'])
  process.on(event, (error) => errors.push(`${event}: ${error instanceof Error ? error.stack : error}`));

// Once the file that imports this has said what its tests are.
setImmediate(() => void runAll().then(() => process.exit(0)));
