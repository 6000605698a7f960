// The laws of the search, each broken once: a search whose laws hold for anything finds nothing.

import { describe, expect, it } from 'vitest';
import type { AdoptionResult } from '../../src/adopt/result.js';
import type { CleanReport } from '../../src/cleanup/report.js';
import type { StraysReport } from '../../src/cleanup/strays/find.js';
import type { Verification } from '../../src/jobs/verification.js';
import type { HostCall } from '../../src/testing.js';
import { broken, type Came, type Span } from './laws.js';
import type { SeenProcess, Snapshot } from './onlooker.js';
import { jobs, Scene, users, type Workshop } from './scene.js';

const keys = ['freezer', 'memory'] as const;
const within = '/box';
const paths = {
  outside: '/box/outside/session',
  target: `/box/slurm/uid_${users.alice}/job_${jobs.target}`,
  leaf: `/box/slurm/uid_${users.alice}/job_${jobs.target}/step_extern`,
  foreign: `/box/slurm/uid_${users.bob}/job_${jobs.foreign}/step_batch`,
} as const;
type Where = keyof typeof paths;
const names = Object.keys(paths) as Where[];
/** Of each directory a number of its own, the same in both hierarchies. */
const inodeOf = (where: Where) => names.indexOf(where) + 10;

function scene(): Scene {
  const trees = keys.map((key) => ({ key, version: 1 as const, mount: `/sys/fs/cgroup/${key}`, within }));
  // All that the laws ask of it.
  const workshop = { kernel: { name: 'v1' }, box: { within }, trees } as unknown as Workshop;
  const made = new Scene(workshop, false);
  made.subject = 500;
  return made;
}

interface Seen extends Partial<Omit<SeenProcess, 'places'>> {
  readonly at: Where | Readonly<Record<(typeof keys)[number], Where>>;
}

function snapshot(processes: readonly Seen[], frozen: readonly Where[] = []): Snapshot {
  const directories = keys.flatMap((key) =>
    names.map((where) => {
      const directory = { key, path: paths[where], inode: inodeOf(where), frozen: frozen.includes(where) };
      return [`${key} ${inodeOf(where)}`, { ...directory, frozen: key === 'freezer' && directory.frozen }] as const;
    }),
  );
  return {
    directories: new Map(directories),
    processes: new Map(
      processes.map(({ at, ...one }) => {
        const where = (key: (typeof keys)[number]) => (typeof at === 'string' ? at : at[key]);
        const places = keys.map((key) => [key, { path: paths[where(key)], inode: inodeOf(where(key)) }] as const);
        const seen = { pid: 500, start: '1', uid: users.alice, comm: 'session', parent: 1, ...one };
        return [seen.pid, { ...seen, places: Object.fromEntries(places) }];
      }),
    ),
  };
}

/** Without an act between them. */
const quiet = (from: Snapshot, to: Snapshot): readonly Span[] => [{ from, to, callsBefore: 0 }];

function complaints(
  came: Came,
  spans: readonly Span[],
  { on = scene(), calls = [] }: { readonly on?: Scene; readonly calls?: readonly HostCall[] } = {},
): readonly string[] {
  return broken({ scene: on, came, spans, calls, after: calls });
}

const adopted = { outcome: 'adopted', hierarchies: [], descendants: [], trace: [] } as unknown as AdoptionResult;
const adopt = (value: Partial<AdoptionResult> = {}, error?: unknown): Came => ({
  operation: 'adopt',
  value: error === undefined ? { ...adopted, ...value } : undefined,
  error,
});
const cleaned = { ended: [], survivors: [], spared: [], removed: [], left: [], notes: [] } as unknown as CleanReport;
const clean = (value: Partial<CleanReport> = {}): Came => ({
  operation: 'clean',
  value: { ...cleaned, ...value },
  error: undefined,
});

describe('Of an adoption', () => {
  const before = snapshot([{ at: 'outside' }]);
  const [inJob, half] = [snapshot([{ at: 'leaf' }]), snapshot([{ at: { freezer: 'leaf', memory: 'outside' } }])];

  it('holds where the process is in the job, and where it is back', () => {
    expect(complaints(adopt(), quiet(before, inJob))).toEqual([]);
    expect(complaints(adopt({ outcome: 'undone' }), quiet(before, before))).toEqual([]);
  });

  it('is broken by a process that is not where it is said to be', () => {
    expect(complaints(adopt(), quiet(before, half))).toEqual([`adopted, and it is in memory at ${paths.outside}`]);
    expect(complaints(adopt({ outcome: 'undone' }), quiet(before, half))).toEqual([
      `undone, and it is in freezer at ${paths.leaf}`,
    ]);
    const hierarchies = [{ controllers: ['memory'], path: paths.leaf, outcome: 'moved' as const }];
    expect(complaints(adopt({ outcome: 'partial', hierarchies }), quiet(before, half))).toEqual([
      `moved, and it is in memory at ${paths.outside}`,
    ]);
  });

  it('holds where an act moved it after the last look, also where another act followed; not where it was looked at again', () => {
    const foreign = snapshot([{ at: 'foreign' }]);
    const spans = [
      { from: before, to: inJob, callsBefore: 0 },
      { from: foreign, to: foreign, callsBefore: 1 },
      { from: foreign, to: foreign, callsBefore: 2 },
    ];
    const calls = (...last: readonly string[]) =>
      ['/proc/500/cgroup', ...last].map((path) => ({ call: 'read', path })) as readonly HostCall[];
    expect(complaints(adopt(), spans, { calls: calls('/proc/500/stat', '/proc/500/stat') })).toEqual([]);
    expect(complaints(adopt(), spans, { calls: calls('/proc/500/cgroup', '/proc/500/stat') })).toHaveLength(2);
  });

  it('is broken by an error that nobody meant', () => {
    expect(complaints(adopt({}, new TypeError('x is not a function')), quiet(before, before))).toEqual([
      'it threw TypeError: x is not a function',
    ]);
  });

  it('is broken by one who is ended, moved, or left frozen', () => {
    const bob = { pid: 600, uid: users.bob, comm: 'other', at: 'foreign' } as const;
    const from = snapshot([{ at: 'outside' }, bob]);
    expect(complaints(adopt(), quiet(from, inJob))).toEqual(['process 600 (other) was ended']);
    expect(complaints(adopt(), quiet(from, snapshot([{ at: 'leaf' }, { ...bob, at: 'leaf' }])))).toEqual([
      `process 600 (other) was moved in freezer, memory to ${paths.leaf}`,
    ]);
    expect(complaints(adopt(), quiet(before, snapshot([{ at: 'leaf' }], ['leaf'])))).toEqual([
      `${paths.leaf} is left frozen in freezer`,
    ]);
  });

  it('is broken by a session that is said to be in what was frozen before it was looked at', () => {
    const spans = [
      { from: before, to: before, callsBefore: 0 },
      { from: snapshot([{ at: 'outside' }], ['leaf']), to: snapshot([{ at: 'leaf' }], ['leaf']), callsBefore: 0 },
    ];
    const calls = [{ call: 'read', path: `/sys/fs/cgroup/freezer${paths.leaf}/freezer.state` }] as readonly HostCall[];
    expect(complaints(adopt(), spans, { calls })).toEqual([
      `adopted into ${paths.leaf}, which was frozen before the product looked`,
    ]);
    expect(complaints(adopt({ outcome: 'suspended' }), [spans[0] ?? expect.unreachable()], { calls })).toEqual([]);
  });

  describe('with its children', () => {
    const child = { pid: 501, start: '2', comm: 'child', parent: 500 } as const;
    const on = scene();
    on.family.add('501 2');
    const from = snapshot([{ at: 'outside' }, { ...child, at: 'outside' }]);
    const to = (where: Seen['at']) => quiet(from, snapshot([{ at: 'leaf' }, { ...child, at: where }]));

    it('holds where all are in the job', () => {
      expect(complaints(adopt(), to('leaf'), { on })).toEqual([]);
    });

    it('is broken by one that is left, or half moved, without a word', () => {
      expect(complaints(adopt(), to('outside'), { on })).toEqual([
        `adopted, and its child process 501 (child) is in ${paths.outside}, ${paths.outside}`,
      ]);
      const half = to({ freezer: 'outside', memory: 'leaf' });
      expect(complaints(adopt(), half, { on })).toEqual([
        `its child process 501 (child) is in ${paths.outside}, ${paths.leaf}, and that is not said`,
      ]);
      const descendants = [{ pid: 501, outcome: 'partial' as const }];
      expect(complaints(adopt({ descendants }), half, { on })).toEqual([]);
    });

    it('is broken by one that stays in the job where all is said to be undone', () => {
      const spans = quiet(from, snapshot([{ at: 'outside' }, { ...child, at: 'leaf' }]));
      expect(complaints(adopt({ outcome: 'undone' }), spans, { on })).toEqual([
        `undone, and its child process 501 (child) is in ${paths.leaf}, ${paths.leaf}`,
      ]);
    });
  });

  it('is broken by a login that is answered twice, or before the process is in the job, or of one that is not adopted', () => {
    const login = (proven: readonly Snapshot[], value: Partial<AdoptionResult> = {}): Came =>
      ({ ...adopt(value), proven }) as Came;
    expect(complaints(login([inJob]), quiet(before, inJob))).toEqual([]);
    expect(complaints(login([inJob, inJob]), quiet(before, inJob))).toEqual(['the login was answered 2 times']);
    expect(complaints(login([half]), quiet(before, inJob))).toEqual([
      `the login was answered, and the process was in memory at ${paths.outside}`,
    ]);
    expect(complaints(login([inJob], { outcome: 'undone' }), quiet(before, before))).toEqual([
      'undone, after the login was answered',
    ]);
  });
});

describe('Of a clean', () => {
  const before = snapshot([{ at: 'leaf' }]);
  const ended = { pid: 500, startTime: '1', comm: 'session' };

  it('holds where all of the job has ended, or is named', () => {
    expect(complaints(clean({ ended: [ended] } as object), quiet(before, snapshot([])))).toEqual([]);
    expect(complaints(clean({ survivors: [ended] } as object), quiet(before, before))).toEqual([]);
  });

  it('is broken by one that lives in the job and is named nowhere', () => {
    const calls = [{ call: 'read', path: '/proc/500/stat' }] as readonly HostCall[];
    expect(complaints(clean(), quiet(before, before), { calls })).toEqual([
      `process 500 (session) lives in ${paths.leaf}, ${paths.leaf}, and is named nowhere`,
    ]);
  });

  it('is broken by one that is said to have ended, and lives, or never was in the job', () => {
    expect(complaints(clean({ ended: [ended] } as object), quiet(before, before))).toContain(
      'process 500 (session) is said to have ended, and lives',
    );
    const outside = quiet(snapshot([{ at: 'outside' }]), snapshot([]));
    expect(complaints(clean({ ended: [ended] } as object), outside)).toEqual([
      'process 500 (session) was ended, and never was in the job',
      'process 500 (session) is said to have been ended, and never was in the job',
    ]);
  });

  it('is broken by a job that is left frozen: a thaw is missing', () => {
    const survivors = { survivors: [ended] } as object;
    expect(complaints(clean(survivors), quiet(before, snapshot([{ at: 'leaf' }], ['target'])))).toEqual([
      `${paths.target} is left frozen in freezer`,
    ]);
  });

  it('is broken by a slurmstepd that is ended, and by what is ended after all was refused', () => {
    const on = scene();
    on.stepd = 700;
    const stepd = { pid: 700, uid: 0, comm: 'slurmstepd', at: 'leaf' } as const;
    expect(complaints(clean(), quiet(snapshot([stepd]), snapshot([])), { on })).toEqual(['slurmstepd was ended']);
    const both = clean({ ended: [ended], refused: 'slurmstepd runs' } as object);
    expect(complaints(both, quiet(before, snapshot([])))).toEqual(['it refused, and ended something']);
  });
});

describe('Of a verification', () => {
  const inJob = snapshot([{ at: 'leaf' }]);
  const says = (verdict: Verification['verdict'], where: Where): Came => {
    const hierarchies = keys.map((key) => ({ controllers: [key], path: paths[where] }));
    const value = { pid: 500, uid: users.alice, comm: 'session', verdict, hierarchies };
    return { operation: 'verify', value: value as unknown as Verification, error: undefined };
  };

  it('holds for what was so, and is broken by what never was', () => {
    expect(complaints(says('contained', 'leaf'), quiet(inJob, inJob))).toEqual([]);
    expect(complaints(says('contained', 'outside'), quiet(inJob, inJob))).toEqual([
      'what it says is of no one process at any time',
    ]);
    expect(complaints(says('outside', 'leaf'), quiet(inJob, inJob))).toEqual(['it says outside, and it was contained']);
  });
});

describe('Of strays', () => {
  const carol = { pid: 800, uid: users.carol, comm: 'stray', at: 'outside' } as const;
  const all = snapshot([{ at: 'leaf' }, carol]);
  const says = (strays: readonly object[], complete = true): Came => {
    const value = { strays, complete, notes: [] } as unknown as StraysReport;
    return { operation: 'strays', value, error: undefined };
  };
  const stray = { pid: 800, startTime: '1', uid: users.carol, comm: 'stray' };

  it('holds where each is named, or the list is not complete', () => {
    expect(complaints(says([stray]), quiet(all, all))).toEqual([]);
    expect(complaints(says([], false), quiet(all, all))).toEqual([]);
  });

  it('is broken by one that is not named, and by one who is none', () => {
    expect(complaints(says([]), quiet(all, all))).toEqual(['process 800 (stray) is a stray, and is not named']);
    const session = { pid: 500, startTime: '1', uid: users.alice, comm: 'session' };
    expect(complaints(says([stray, session]), quiet(all, all))).toEqual([
      'process 500 (session) is called a stray, and never was one',
    ]);
  });
});
