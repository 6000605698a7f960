import fs from 'node:fs';
import { expect } from 'vitest';
import { Cgroup, wayInto } from '../../src/cgroup/cgroup.js';
import { Move, type MoveTarget, OwnMove } from '../../src/cgroup/move.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { type HeldProcess, withProcess } from '../../src/cgroup/process.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Directory, Host } from '../../src/machine/host.js';
import {
  descriptors,
  isIn,
  kernelTest,
  put,
  putThread,
  type TestCgroups,
  threadIds,
  whereabouts,
} from '../support/test-cgroups.js';

/** Ours called `name` in each hierarchy, made where it is not there. */
function ensure(area: TestCgroups, name: string, keys: readonly string[]): readonly Cgroup[] {
  return keys.map((key) => {
    const there = new Cgroup(area.host, area.at(key).hierarchy, cgroupPath(`${area.at(key).path}/${name}`));
    return area.host.stat(there.directory) === undefined ? area.at(key).create(name) : there;
  });
}

interface Planned {
  readonly move: OwnMove;
  readonly held: HeldProcess;
  readonly targets: readonly MoveTarget[];
}

/** Plans a move, and lets go of everything afterwards; nothing may be left open. */
async function withMove(
  area: TestCgroups,
  pid: number,
  cgroups: readonly Cgroup[],
  act: (planned: Planned) => Promise<void>,
  wrap: (held: Directory) => Directory = (held) => held,
): Promise<void> {
  const before = descriptors();
  await withProcess(area.host, pid, async (held) => {
    const targets: MoveTarget[] = [];
    try {
      for (const cgroup of cgroups) targets.push({ cgroup, directory: wrap(area.host.open(cgroup.directory)) });
      const move = OwnMove.plan(area.host, held, targets);
      try {
        await act({ move, held, targets });
      } finally {
        move.close();
      }
    } finally {
      for (const target of targets) target.directory.close();
    }
  });
  expect(descriptors()).toBe(before);
}

/** What is no rule of v1's own holds on either. */
const layouts = [['memory', 'pids'], ['unified']];

/** The outcome of the first hierarchy, and that of the others. */
function each(keys: readonly string[], first: string, others: string = first): Readonly<Record<string, string>> {
  return Object.fromEntries(keys.map((key, at) => [key, at === 0 ? first : others]));
}

const outcomes = (move: Move) =>
  Object.fromEntries(move.report.map((one) => [one.controllers.join() || 'unified', one.outcome]));

kernelTest('OwnMove.plan() writes nothing, and has the freezer last', ['freezer', 'memory', 'pids'], async (area) => {
  const job = ensure(area, 'job', ['freezer', 'memory', 'pids']);
  const sleeper = await area.sleeper();
  const before = whereabouts(sleeper.pid);
  await withMove(area, sleeper.pid, job, async ({ move }) => {
    expect(move.report.map((one) => one.controllers.join())).toEqual(['memory', 'pids', 'freezer']);
    expect(outcomes(move)).toEqual({ memory: 'untouched', pids: 'untouched', freezer: 'untouched' });
    expect(move.complete).toBe(false);
  });
  expect(whereabouts(sleeper.pid)).toEqual(before);
});

for (const keys of [['memory', 'pids', 'freezer', 'unified'], ['unified']]) {
  kernelTest(`OwnMove.run() moves, prove() reads /proc, undo() puts back exactly (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const home = ensure(area, 'home', keys);
    const process = await area.threaded(...home);
    const before = whereabouts(process.pid);
    await withMove(area, process.pid, job, async ({ move }) => {
      await move.run(false);
      move.prove();
      expect(outcomes(move)).toEqual(Object.fromEntries(keys.map((key) => [key, 'moved'])));
      expect(move.complete).toBe(true);
      for (const cgroup of job) expect(isIn(process.pid, cgroup)).toBe(true);
      expect(new Set(move.sources.map(({ path }) => path))).toEqual(new Set([`/${area.name}/home`]));
      await move.undo();
      expect(outcomes(move)).toEqual(Object.fromEntries(keys.map((key) => [key, 'undone'])));
      expect(move.report.some((one) => one.error !== undefined)).toBe(false);
    });
    expect(whereabouts(process.pid)).toEqual(before);
  });
}

for (const keys of layouts) {
  kernelTest(`Move leaves alone where the process is already, also on undo (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const sleeper = await area.sleeper(...job.slice(0, 1));
    const before = whereabouts(sleeper.pid);
    await withMove(area, sleeper.pid, job, async ({ move }) => {
      await move.run(false);
      move.prove();
      expect(outcomes(move)).toEqual(each(keys, 'already', 'moved'));
      await move.undo();
      expect(outcomes(move)).toEqual(each(keys, 'already', 'undone'));
    });
    expect(whereabouts(sleeper.pid)).toEqual(before);
  });
}

kernelTest(
  'Move.undo() puts threads that stood apart back one by one, where a third hierarchy refuses',
  ['memory', 'pids', 'cpuset'],
  async (area) => {
    const [memory, pids] = ensure(area, 'job', ['memory', 'pids']);
    const bare = area.mkdir(area.at('cpuset'), 'job');
    const places = ['a', 'b', 'c'].map((name) => ensure(area, name, ['memory', 'pids']));
    const process = await area.threaded(...(places[0] ?? []));
    const tids = threadIds(process.pid);
    for (const [at, tid] of tids.entries()) for (const place of places[at % 3] ?? []) putThread(tid, place);
    const before = whereabouts(process.pid);
    expect(new Set(Object.values(before)).size).toBeGreaterThan(1);
    if (memory === undefined || pids === undefined) throw new Error('there are two');
    await withMove(area, process.pid, [memory, pids, bare], async ({ move }) => {
      await move.run(false);
      expect(outcomes(move)).toEqual({ memory: 'moved', pids: 'moved', cpuset: 'failed' });
      expect(isIn(process.pid, memory)).toBe(true);
      await move.undo();
      expect(outcomes(move)).toEqual({ memory: 'undone', pids: 'undone', cpuset: 'failed' });
      expect(move.report.at(-1)?.error).toMatchObject({ code: 'ERR_CGROUP_REFUSED' });
    });
    expect(whereabouts(process.pid)).toEqual(before);
  },
);

kernelTest('Move of a process whose first thread is there, others not, is no "already"', ['memory'], async (area) => {
  const job = ensure(area, 'job', ['memory']);
  const [home] = ensure(area, 'home', ['memory']);
  const process = await area.threaded(...job);
  const [, tid = 0] = threadIds(process.pid);
  if (home !== undefined) putThread(tid, home);
  const before = whereabouts(process.pid);
  await withMove(area, process.pid, job, async ({ move }) => {
    expect(outcomes(move)).toEqual({ memory: 'untouched' });
    await move.run(false);
    move.prove();
    expect(move.complete).toBe(true);
    for (const cgroup of job) expect(isIn(process.pid, cgroup)).toBe(true);
    await move.undo();
  });
  expect(whereabouts(process.pid)).toEqual(before);
});

kernelTest('Move.undo() puts a thread back into its threaded cgroup of v2', ['unified'], async (area) => {
  const [job, home] = ['job', 'home'].flatMap((name) => ensure(area, name, ['unified']));
  if (job === undefined || home === undefined) throw new Error('there are two');
  const threaded = home.create('threaded');
  fs.writeFileSync(`${threaded.directory}/cgroup.type`, 'threaded');
  const process = await area.threaded(home);
  const [, tid = 0] = threadIds(process.pid);
  fs.writeFileSync(`${threaded.directory}/cgroup.threads`, String(tid));
  const before = whereabouts(process.pid);
  expect(new Set(Object.values(before)).size).toBe(2);
  await withMove(area, process.pid, [job], async ({ move }) => {
    await move.run(false);
    move.prove();
    expect(outcomes(move)).toEqual({ unified: 'moved' });
    expect(isIn(process.pid, job)).toBe(true);
    await move.undo();
    expect(outcomes(move)).toEqual({ unified: 'undone' });
  });
  expect(whereabouts(process.pid)).toEqual(before);
});

kernelTest(
  'Move through tasks that is refused in the middle is undone thread by thread',
  ['memory', 'pids'],
  async (area) => {
    const job = ensure(area, 'job', ['memory', 'pids']);
    const home = ensure(area, 'home', ['memory', 'pids']);
    const process = await area.threaded(...home);
    const before = whereabouts(process.pid);
    let writes = 0;
    const oldKernel = (held: Directory): Directory => ({
      ...held,
      stat: (name) => (name === 'cgroup.procs' ? undefined : held.stat(name)),
      write: (name, text) => {
        if (held.path.includes('/pids/') && ++writes === 3)
          throw new SystemCallError('write', `${held.path}/${name}`, 'EACCES');
        held.write(name, text);
      },
    });
    await withMove(
      area,
      process.pid,
      job,
      async ({ move, targets }) => {
        expect(targets.map(({ directory }) => wayInto(directory))).toEqual(['tasks', 'tasks']);
        await move.run(false);
        expect(outcomes(move)).toEqual({ memory: 'moved', pids: 'remains' });
        await move.undo();
        expect(outcomes(move)).toEqual({ memory: 'undone', pids: 'failed' });
        expect(move.report.at(-1)?.error).toMatchObject({ code: 'ERR_NOT_PERMITTED' });
      },
      oldKernel,
    );
    expect(whereabouts(process.pid)).toEqual(before);
  },
);

kernelTest(
  'OwnMove.run() goes on after a refusal where it is to keep what it reaches',
  ['memory', 'cpuset', 'pids'],
  async (area) => {
    const [memory, pids] = ensure(area, 'job', ['memory', 'pids']);
    const bare = area.mkdir(area.at('cpuset'), 'job');
    if (memory === undefined || pids === undefined) throw new Error('there are two');
    const sleeper = await area.sleeper();
    await withMove(area, sleeper.pid, [bare, memory, pids], async ({ move }) => {
      await move.run(true);
      move.prove();
      expect(outcomes(move)).toEqual({ cpuset: 'failed', memory: 'moved', pids: 'moved' });
      expect(move.complete).toBe(false);
    });
    expect([isIn(sleeper.pid, memory), isIn(sleeper.pid, pids), isIn(sleeper.pid, bare)]).toEqual([true, true, false]);
  },
);

for (const keys of layouts) {
  kernelTest(`Move into a cgroup that was removed and made again moves into neither (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const sleeper = await area.sleeper();
    const before = whereabouts(sleeper.pid);
    await withMove(area, sleeper.pid, job, async ({ move }) => {
      job.at(-1)?.remove();
      ensure(area, 'job', keys.slice(-1));
      await move.run(false);
      expect(outcomes(move)).toEqual({ ...each(keys, 'moved'), [keys.at(-1) ?? '']: 'failed' });
      expect(move.report.at(-1)?.error).toMatchObject({ code: 'ERR_CGROUP_GONE' });
      await move.undo();
    });
    expect(whereabouts(sleeper.pid)).toEqual(before);
    expect(job.at(-1)?.procs()).toEqual([]);
  });
}

for (const keys of layouts) {
  kernelTest(
    `Move.undo() says what remains where the old cgroup is gone, also when another took its name (${keys})`,
    keys,
    async (area) => {
      const job = ensure(area, 'job', keys);
      const home = ensure(area, 'home', keys);
      const sleeper = await area.sleeper(...home);
      await withMove(area, sleeper.pid, job, async ({ move }) => {
        await move.run(false);
        home[0]?.remove();
        ensure(area, 'home', keys.slice(0, 1));
        await move.undo();
        expect(outcomes(move)).toEqual(each(keys, 'remains', 'undone'));
        expect(move.report[0]?.error).toMatchObject({ code: 'ERR_CGROUP_GONE' });
        for (const one of move.report.slice(1)) expect(one).not.toHaveProperty('error');
      });
      expect(home[0]?.procs()).toEqual([]);
      expect(job[0]?.procs()).toEqual([sleeper.pid]);
    },
  );
}

for (const keys of layouts) {
  kernelTest(`Move.undo() tries twice, and what then succeeds leaves no error behind (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const home = ensure(area, 'home', keys);
    const sleeper = await area.sleeper(...home);
    const before = whereabouts(sleeper.pid);
    let refused = 0;
    const host: Host = {
      ...area.host,
      open: (path) => {
        const held = area.host.open(path);
        return {
          ...held,
          write: (name, text) => {
            if (path.endsWith('/home') && refused++ === 0)
              throw new SystemCallError('write', `${path}/${name}`, 'EACCES');
            held.write(name, text);
          },
        };
      },
    };
    await withProcess(area.host, sleeper.pid, async (held) => {
      const targets = job.map((cgroup) => ({ cgroup, directory: area.host.open(cgroup.directory) }));
      const move = OwnMove.plan(host, held, targets);
      await move.run(false);
      await move.undo();
      expect(outcomes(move)).toEqual(each(keys, 'undone'));
      expect(move.report.some((one) => one.error !== undefined)).toBe(false);
      move.close();
      for (const target of targets) target.directory.close();
    });
    expect(refused).toBeGreaterThan(1);
    expect(whereabouts(sleeper.pid)).toEqual(before);
  });
}

for (const keys of layouts) {
  kernelTest(`OwnMove.prove() believes /proc, not the writes (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const [home] = ensure(area, 'home', keys.slice(0, 1));
    const process = await area.threaded();
    await withMove(area, process.pid, job, async ({ move }) => {
      await move.run(false);
      const [, tid = 0] = threadIds(process.pid);
      // Another moved one thread on; on v2 no thread stands apart from its process, but for threaded cgroups.
      if (home?.hierarchy.version === 1) putThread(tid, home);
      else if (home !== undefined) put(process.pid, home);
      move.prove();
      expect(outcomes(move)).toEqual(each(keys, 'remains', 'moved'));
      expect(move.report[0]?.error).toMatchObject({ code: 'ERR_CGROUP_REFUSED' });
      expect(move.complete).toBe(false);
    });
  });
}

for (const key of ['memory', 'unified']) {
  kernelTest(
    `OwnMove.prove() takes a cgroup whose name ends in " (deleted)" for what it is (${key})`,
    [key],
    async (area) => {
      const job = ensure(area, 'job (deleted)', [key]);
      const home = ensure(area, 'home (deleted)', [key]);
      const sleeper = await area.sleeper(...home);
      const before = whereabouts(sleeper.pid);
      await withMove(area, sleeper.pid, job, async ({ move }) => {
        await move.run(false);
        move.prove();
        expect(outcomes(move)).toEqual({ [key]: 'moved' });
        await move.undo();
        expect(outcomes(move)).toEqual({ [key]: 'undone' });
      });
      expect(whereabouts(sleeper.pid)).toEqual(before);
    },
  );
}

for (const keys of layouts) {
  kernelTest(
    `Move of a process that ended meanwhile moves nothing and nothing remains (${keys})`,
    keys,
    async (area) => {
      const job = ensure(area, 'job', keys);
      const before = await area.sleeper();
      await withMove(area, before.pid, job, async ({ move }) => {
        await before.end();
        await expect(move.run(false)).rejects.toMatchObject({ code: 'ERR_NO_SUCH_PROCESS' });
        expect(() => move.prove()).toThrow(expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' }));
        await move.undo();
        expect(Object.values(outcomes(move))).not.toContain('remains');
      });
      const after = await area.sleeper();
      await withMove(area, after.pid, job, async ({ move }) => {
        await move.run(false);
        await after.end();
        await move.undo();
        expect(outcomes(move)).toEqual(each(keys, 'undone'));
      });
    },
  );
}

for (const key of ['memory', 'unified']) {
  kernelTest(
    `OwnMove.plan() of a cgroup hierarchy /proc does not name is ERR_NO_CGROUPS and leaves nothing open (${key})`,
    [key],
    async (area) => {
      const [job] = ensure(area, 'job', [key]);
      if (job === undefined) throw new Error('there is one');
      const sleeper = await area.sleeper();
      const odd = new Cgroup(area.host, { ...job.hierarchy, key: 'nowhere' }, job.path);
      await expect(withMove(area, sleeper.pid, [job, odd], async () => {})).rejects.toMatchObject({
        code: 'ERR_NO_CGROUPS',
      });
    },
  );
}

for (const key of ['memory', 'unified']) {
  kernelTest(`Move of one process leaves others in the same cgroup where they are (${key})`, [key], async (area) => {
    const [job, home] = [...ensure(area, 'job', [key]), ...ensure(area, 'home', [key])];
    if (job === undefined || home === undefined) throw new Error('there are two');
    const [one, other] = [await area.sleeper(home), await area.sleeper(home)];
    await withMove(area, one.pid, [job], async ({ move }) => move.run(false));
    expect([job.procs(), home.procs()]).toEqual([[one.pid], [other.pid]]);
    put(one.pid, home);
  });
}

for (const keys of layouts) {
  kernelTest(
    `Move.observe() says what another did, and undo() puts that back exactly (${keys})`,
    keys,
    async (area) => {
      const job = ensure(area, 'job', keys);
      const process = await area.threaded(...ensure(area, 'home', keys));
      const before = whereabouts(process.pid);
      await withProcess(area.host, process.pid, async (held) => {
        const move = Move.follow(area.host, held, job);
        try {
          move.observe(() => true);
          expect(outcomes(move)).toEqual(each(keys, 'failed'));
          expect(move.complete).toBe(false);
          const leaves = job.map((cgroup) => cgroup.create('leaf'));
          for (const leaf of leaves) put(process.pid, leaf);
          move.observe(() => true);
          expect(outcomes(move)).toEqual(each(keys, 'moved'));
          expect(move.complete).toBe(true);
          expect(move.report.map(({ path }) => path)).toEqual(leaves.map(({ directory }) => directory));
          expect(move.report.some(({ error }) => error !== undefined)).toBe(false);
          await move.undo();
          expect(outcomes(move)).toEqual(each(keys, 'undone'));
        } finally {
          move.close();
        }
      });
      expect(whereabouts(process.pid)).toEqual(before);
    },
  );

  kernelTest(`Move.observe() tells neither here nor there, and what is no part of it (${keys})`, keys, async (area) => {
    const job = ensure(area, 'job', keys);
    const [elsewhere] = ensure(area, 'elsewhere', keys);
    const sleeper = await area.sleeper(...ensure(area, 'home', keys));
    const before = whereabouts(sleeper.pid);
    await withProcess(area.host, sleeper.pid, async (held) => {
      const move = Move.follow(area.host, held, job);
      try {
        if (elsewhere !== undefined) put(sleeper.pid, elsewhere);
        move.observe(() => false);
        expect(outcomes(move)).toEqual({ [keys[0] ?? '']: 'remains' });
        expect(move.report[0]?.error).toMatchObject({ code: 'ERR_CGROUP_REFUSED' });
        await move.undo();
      } finally {
        move.close();
      }
    });
    expect(whereabouts(sleeper.pid)).toEqual(before);
  });
}

kernelTest(
  'Move.observe() counts every thread, and undo() puts each back where it stood',
  ['memory', 'pids'],
  async (area) => {
    const keys = ['memory', 'pids'];
    const job = ensure(area, 'job', keys);
    const places = ['a', 'b'].map((name) => ensure(area, name, keys));
    const process = await area.threaded(...(places[0] ?? []));
    const tids = threadIds(process.pid);
    for (const [at, tid] of tids.entries()) for (const place of places[at % 2] ?? []) putThread(tid, place);
    const before = whereabouts(process.pid);
    await withProcess(area.host, process.pid, async (held) => {
      const move = Move.follow(area.host, held, job);
      try {
        for (const cgroup of job) putThread(process.pid, cgroup);
        move.observe(() => true);
        expect(outcomes(move)).toEqual(each(keys, 'remains'));
        for (const cgroup of job) put(process.pid, cgroup);
        move.observe(() => true);
        expect(outcomes(move)).toEqual(each(keys, 'moved'));
        await move.undo();
        expect(outcomes(move)).toEqual(each(keys, 'undone'));
      } finally {
        move.close();
      }
    });
    expect(whereabouts(process.pid)).toEqual(before);
  },
);

for (const key of ['memory', 'unified']) {
  kernelTest(`Move.observe() throws where the process has ended (${key})`, [key], async (area) => {
    const sleeper = await area.sleeper();
    await withProcess(area.host, sleeper.pid, async (held) => {
      const move = Move.follow(area.host, held, ensure(area, 'job', [key]));
      await sleeper.end();
      expect(() => move.observe(() => true)).toThrow(expect.objectContaining({ code: 'ERR_NO_SUCH_PROCESS' }));
      expect(outcomes(move)).toEqual({ [key]: 'untouched' });
      move.close();
    });
  });
}
