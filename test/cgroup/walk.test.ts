// The walker on plain directories: any tree, trees that change meanwhile, and trees too large for a path or for memory.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type WalkEnd, type Walked, type WalkLimits, walk, walkLimits } from '../../src/cgroup/walk.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Directory, Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { Pace } from '../../src/machine/pace.js';
import { asCgroup, makeChain, withTree } from '../support/directory-trees.js';
import { descriptors } from '../support/test-cgroups.js';

const host = liveHost();

interface Seen extends WalkEnd {
  readonly entered: readonly string[];
  readonly left: readonly string[];
}

interface Settings {
  readonly on?: Host;
  readonly timeoutMs?: number;
  readonly limits?: WalkLimits;
  readonly likely?: readonly string[];
  readonly onlyEnter?: boolean;
  readonly visit?: (at: Walked<string>) => void;
}

/** Through a tree, by relative paths. */
async function through(top: string, settings: Settings = {}): Promise<Seen> {
  const { on = host, timeoutMs = 60_000, limits, likely, onlyEnter = false, visit } = settings;
  const [entered, left]: [string[], string[]] = [[], []];
  const end = await walk<string>(on, top, {
    pace: new Pace(on, deadlineIn(on, timeoutMs)),
    make: (at) => (at.parent === undefined ? '' : `${at.parent.value}/${at.name}`),
    enter: (at) => {
      entered.push(at.value);
      visit?.(at);
      return undefined;
    },
    ...(onlyEnter
      ? {}
      : {
          leave: (at: Walked<string>) => {
            left.push(at.value);
            return undefined;
          },
        }),
    ...(limits === undefined ? {} : { limits }),
    ...(likely === undefined ? {} : { likely }),
  });
  return { ...end, entered, left };
}

/** Relative paths of directories; those above are made, too. */
const anyTree = fc.array(fc.array(fc.constantFrom('a', 'b', 'c', 'task_0', 'é\udcff'), { maxLength: 6 }), {
  maxLength: 12,
});

function make(top: string, tree: readonly (readonly string[])[]): ReadonlySet<string> {
  const paths = new Set(['']);
  for (const names of tree) {
    for (let length = 1; length <= names.length; length++) {
      const below = `/${names.slice(0, length).join('/')}`;
      if (!paths.has(below)) host.mkdir(`${top}${below}`);
      paths.add(below);
    }
  }
  return paths;
}

describe('walk()', () => {
  it('finds each directory of any tree once, parents first, and leaves children first', async () => {
    await fc.assert(
      fc.asyncProperty(anyTree, fc.constantFrom(3, 4, 64), fc.boolean(), async (tree, held, onlyEnter) => {
        await withTree(async (top) => {
          const paths = make(top, tree);
          fs.writeFileSync(`${top}/file`, '');
          fs.symlinkSync('/', `${top}/link`);
          const watched = failingHost(host);
          let mostHeld = 0;
          const { entered, left, unknown } = await through(top, {
            on: watched,
            limits: { ...walkLimits, held },
            likely: ['task_0'],
            onlyEnter,
            visit: () => {
              mostHeld = Math.max(mostHeld, watched.openDirectories());
            },
          });
          expect(unknown).toBeUndefined();
          expect([...entered].sort()).toEqual([...paths].sort());
          if (!onlyEnter) expect([...left].sort()).toEqual([...paths].sort());
          for (const one of entered.filter((name) => name !== '')) {
            const above = path.posix.dirname(one).replace(/^\/$/, '');
            expect(entered.indexOf(above)).toBeLessThan(entered.indexOf(one));
            if (!onlyEnter) expect(left.indexOf(above)).toBeGreaterThan(left.indexOf(one));
          }
          expect(mostHeld).toBeLessThanOrEqual(held);
          expect(watched.openDirectories()).toBe(0);
        });
      }),
      { numRuns: 60 },
    );
  });

  it('misses none that stays, and finds none twice, whatever is renamed, removed and made meanwhile', async () => {
    const anyChange = fc.record({
      at: fc.nat(20),
      what: fc.constantFrom('rename', 'remove', 'make'),
      which: fc.nat(40),
    });
    await fc.assert(
      fc.asyncProperty(
        anyTree,
        fc.array(anyChange, { maxLength: 12 }),
        fc.boolean(),
        async (tree, changes, onlyEnter) => {
          await withTree(async (top) => {
            make(top, tree);
            const before = inodesBelow(top);
            const visits: bigint[] = [];
            const { unknown } = await through(top, {
              onlyEnter,
              likely: ['task_0'],
              limits: { ...walkLimits, held: 3 },
              visit: ({ inode }) => {
                for (const [index, one] of changes.entries()) if (one.at === visits.length) change(top, one, index);
                visits.push(inode);
              },
            });
            const after = inodesBelow(top);
            expect(new Set(visits).size).toBe(visits.length);
            if (unknown === undefined)
              expect(visits).toEqual(expect.arrayContaining([...before].filter((inode) => after.has(inode))));
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  it('says so when a directory is moved elsewhere while it is in there', async () => {
    await withTree(async (top) => {
      make(top, [['a', 'b', 'c', 'd', 'e', 'f'], ['z']]);
      const { unknown } = await through(top, {
        limits: { ...walkLimits, held: 3 },
        visit: ({ name }) => {
          if (name === 'f') fs.renameSync(`${top}/a/b`, `${top}/z/b`);
        },
      });
      expect(unknown).toMatch(/was moved elsewhere while it was looked through$/);
    });
  });

  it('says so when a directory has another name each time it is looked for', async () => {
    await withTree(async (top) => {
      make(top, [['still'], ['restless', 'inside']]);
      let round = 0;
      const renaming = (held: Directory): Directory => ({
        ...held,
        stat: (name = '') => {
          if (name.startsWith('restless')) fs.renameSync(`${top}/${name}`, `${top}/restless${round++}`);
          return held.stat(name);
        },
      });
      const on: Host = { ...host, open: (where) => renaming(host.open(where)) };
      const { unknown, entered } = await through(top, { on, limits: { ...walkLimits, listings: 5 } });
      expect(unknown).toBe(`what is below "${top}" is renamed or made faster than it can be listed`);
      expect([entered, round]).toEqual([['', '/still'], 5]);
    });
  });

  it.each([
    ['levels', { levels: 3 }, ['', '/a', '/a/a', '/a/a/a', '/b'], /nested more than 3 levels deep/],
    ['directories', { directories: 4 }, 4, /more than 4 directories/],
  ] as const)('stops at its limit of %s, and says so', async (_, limit, expected, why) => {
    await withTree(async (top) => {
      make(top, [['a', 'a', 'a', 'a', 'a'], ['b']]);
      const { entered, unknown } = await through(top, { limits: { ...walkLimits, ...limit } });
      expect(unknown).toMatch(why);
      if (typeof expected === 'number') expect(entered).toHaveLength(expected);
      else expect([...entered].sort()).toEqual(expected);
    });
  });

  it('looks at its deadline, and lets others run meanwhile', async () => {
    await withTree(async (top) => {
      make(
        top,
        Array.from({ length: 300 }, (_, at) => [`d${at}`]),
      );
      const busy = () => {
        for (const until = performance.now() + 1; performance.now() < until; );
      };
      let ticks = 0;
      const timer = setInterval(() => ticks++, 1);
      try {
        expect((await through(top, { visit: busy })).unknown).toBeUndefined();
        expect(ticks).toBeGreaterThan(10);
        const { entered, unknown } = await through(top, { timeoutMs: 30, visit: busy });
        expect(unknown).toBe(`the time was over before all below "${top}" was looked at`);
        expect(entered.length).toBeLessThan(100);
        const stopping = new AbortController();
        setTimeout(() => stopping.abort(new Error('stop')), 5);
        await expect(
          walk(host, top, {
            pace: new Pace(host, deadlineIn(host, 60_000, stopping.signal)),
            make: () => '',
            enter: () => {
              busy();
              return undefined;
            },
          }),
        ).rejects.toThrow('stop');
      } finally {
        clearInterval(timer);
      }
    });
  });

  it('closes what it holds whichever call fails, and is silent about none but what is gone', async () => {
    await withTree(async (top) => {
      make(top, [['a', 'b', 'c', 'd'], ['e', 'f'], ['g']]);
      const open = descriptors();
      for (const errno of ['EACCES', 'ENOENT']) {
        for (let nth = 1, isOver = false; !isOver; nth++) {
          const failing = failingHost(host, { nth, errno });
          const outcome = await through(top, { on: failing, limits: { ...walkLimits, held: 3 } }).catch(
            (error: unknown) => error,
          );
          isOver = failing.calls.length < nth;
          expect(failing.openDirectories()).toBe(0);
          if (!isOver && errno === 'EACCES') expect(outcome).toBeInstanceOf(SystemCallError);
        }
      }
      expect(descriptors()).toBe(open);
    });
  });

  it('throws where the top is not there', async () => {
    await expect(through('/dev/shm/slurm-cgroups-test-none')).rejects.toMatchObject({ errno: 'ENOENT' });
    await expect(asCgroup(host, '/dev/shm/slurm-cgroups-test-none').descendants()).rejects.toMatchObject({
      code: 'ERR_CGROUP_GONE',
    });
  });

  it('removes what it leaves', async () => {
    await withTree(async (top) => {
      make(top, [['a', 'b', 'c'], ['a', 'x'], ['d']]);
      fs.mkdirSync(`${top}/tree`);
      makeChain(`${top}/tree`, 200, 'n'.repeat(200));
      await walk(host, top, {
        pace: new Pace(host, deadlineIn(host, 60_000)),
        make: () => '',
        enter: () => undefined,
        leave: (at) => {
          if (at.depth > 0) at.remove();
          return undefined;
        },
      });
      expect(fs.readdirSync(top)).toEqual([]);
    });
  });

  it('holds a directory for longer than its visit, however deep it is', async () => {
    await withTree(async (top) => {
      makeChain(top, 40, 'n'.repeat(200));
      let deepest: Directory | undefined;
      await through(top, {
        visit: (at) => {
          if (at.depth === 40) deepest = at.hold();
        },
      });
      expect(deepest?.names()).toEqual([]);
      expect(deepest?.path.length).toBeLessThan(10_000);
      deepest?.close();
    });
  });
});

describe('Cgroup.descendants() of large trees, with a heap of 128 MB', () => {
  it('has 20,000 siblings, and 10,000 levels with names of 200 characters', async () => {
    await withTree(async (top) => {
      const file = `${top}/walk-child.mjs`;
      await build({
        entryPoints: [path.join(import.meta.dirname, '../support/walk-child.ts')],
        outfile: file,
        bundle: true,
        platform: 'node',
        format: 'esm',
        external: ['koffi'],
        logLevel: 'silent',
      });
      fs.mkdirSync(`${top}/wide`);
      for (let at = 0; at < 20_000; at++) fs.mkdirSync(`${top}/wide/d${at}`);
      fs.mkdirSync(`${top}/deep`);
      makeChain(`${top}/deep`, 10_000, 'n'.repeat(200));
      for (const [tree, count] of [
        ['wide', 20_000],
        ['deep', 10_000],
      ] as const) {
        const { stdout, stderr, status } = spawnSync(
          process.execPath,
          ['--max-old-space-size=128', file, `${top}/${tree}`],
          { encoding: 'utf8', timeout: 120_000 },
        );
        expect([status, stderr]).toEqual([0, '']);
        const told: unknown = JSON.parse(stdout);
        expect(told).toEqual({ found: count, removed: count + 1, longestShown: expect.any(Number), left: [] });
        expect(Reflect.get(Object(told), 'longestShown')).toBeLessThan(10_000);
      }
    });
  }, 300_000);
});

function change(top: string, { what, which }: { what: string; which: number }, index: number): void {
  const all = pathsBelow(top);
  const one = all[which % Math.max(1, all.length)];
  if (what === 'make') fs.mkdirSync(Buffer.concat([one ?? Buffer.from(top), Buffer.from(`/made${index}`)]));
  else if (one === undefined) return;
  else if (what === 'remove') {
    if (fs.readdirSync(one).length === 0) fs.rmdirSync(one);
  } else {
    const above = one.subarray(0, one.lastIndexOf('/'.charCodeAt(0)));
    fs.renameSync(one, Buffer.concat([above, Buffer.from(`/renamed${index}`)]));
  }
}

function pathsBelow(top: string): readonly Buffer[] {
  const below = (directory: Buffer): readonly Buffer[] =>
    fs
      .readdirSync(directory, { encoding: 'buffer' })
      .map((name) => Buffer.concat([directory, Buffer.from('/'), name]))
      .flatMap((one) => [one, ...below(one)]);
  return below(Buffer.from(top));
}

function inodesBelow(top: string): ReadonlySet<bigint> {
  return new Set(pathsBelow(top).map((one) => fs.statSync(one, { bigint: true }).ino));
}
