// Every call of adopt() fails once, with every errno it can plausibly get: afterwards the process is in the job
// everywhere, or exactly where it was, or the result says precisely where it is. What is true is read past the
// failing host.

import { describe, expect } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import type { AdoptionResult } from '../../src/adopt/result.js';
import type { Job } from '../../src/jobs/job.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import { SlurmCgroupsError } from '../../src/machine/errors.js';
import { type FailingHost, type FailingOptions, failingHost } from '../../src/machine/failing.js';
import { ExternStep } from '../support/extern-step.js';
import { childrenOf, inWorld, onKernels, until, type World } from '../support/kernel-jobs.js';

const errnos: Readonly<Record<string, readonly string[]>> = {
  read: ['EACCES', 'ESRCH', 'ENOENT', 'EIO'],
  list: ['EACCES', 'ENOENT', 'EIO', 'ESRCH'],
  stat: ['EACCES', 'EIO'],
  readlink: ['EACCES', 'ENOENT', 'ESRCH'],
  open: ['EMFILE', 'ENOENT', 'EACCES'],
  write: ['EBUSY', 'ESRCH', 'EACCES', 'ENODEV', 'ENOENT', 'EINVAL', 'EAGAIN', 'ENOSPC', 'EROFS', 'ENOTSUP'],
};

interface Case {
  readonly onFailure: 'undo' | 'keep';
  readonly descendants: boolean;
  readonly thenAlways: readonly string[];
}

/** The first meets every errno; the others one or two of each kind, which stand for all. */
const cases: readonly Case[] = [
  { onFailure: 'undo', descendants: false, thenAlways: [] },
  { onFailure: 'undo', descendants: false, thenAlways: ['write'] },
  { onFailure: 'undo', descendants: false, thenAlways: ['read', 'write', 'open', 'list', 'stat'] },
  { onFailure: 'keep', descendants: false, thenAlways: [] },
  { onFailure: 'keep', descendants: false, thenAlways: ['write'] },
  { onFailure: 'undo', descendants: true, thenAlways: [] },
];

onKernels((kernel) => {
  describe('adopt() with a fault', () => {
    for (const one of cases) {
      const words = [
        `onFailure ${one.onFailure}`,
        one.descendants ? 'with children' : '',
        one.thenAlways.length > 0 ? `then always in ${one.thenAlways.join(', ')}` : 'once',
      ];
      inWorld(
        kernel,
        `in any call, ${words.filter((word) => word !== '').join(', ')}: it is in the job, or where it was, or the result says where`,
        async (world) => {
          await world.twoJobs();
          const job = await world.job(102);
          const pid = one.descendants ? await world.shell(`sleep ${world.lifetime} & wait`) : await world.session();
          if (one.descendants) await until('a child', () => childrenOf(pid).length === 1);
          const family = [pid, ...(one.descendants ? childrenOf(pid) : [])];
          const node = await world.node();
          const whole = await run(node, job, pid, one, {});
          expect(whole.outcome).toBe('adopted');
          const calls = [...whole.host.calls];
          let faults = 0;
          for (const [index, { call }] of calls.entries()) {
            for (const errno of (errnos[call] ?? ['EIO']).slice(
              0,
              one === cases[0] ? undefined : one.descendants ? 1 : 2,
            )) {
              // A kernel that says again and again that the process is gone is believed: that is no fault.
              if (one.thenAlways.includes('read') && ['ESRCH', 'ENOENT'].includes(errno)) continue;
              await reset(world, family);
              const done = await run(node, job, pid, one, { nth: index + 1, errno });
              faults++;
              check(
                world,
                family,
                done,
                `${errno} in call ${index + 1} of ${calls.length}, ${done.host.calls[index]?.call} ${done.host.calls[index]?.path}`,
              );
            }
          }
          expect(faults).toBeGreaterThanOrEqual(calls.length);
        },
      );
    }
  });
});

/** What stands for every errno where slurmstepd moves: what is read and written is the same as above. */
const ofEach: Readonly<Record<string, readonly string[]>> = {
  read: ['EIO', 'ESRCH'],
  list: ['EACCES'],
  stat: ['EACCES'],
  readlink: ['EACCES'],
  open: ['EMFILE'],
  connect: ['EACCES', 'ECONNREFUSED', 'ENOENT'],
  write: ['EBUSY', 'ENODEV'],
};

onKernels((kernel) => {
  describe('adopt() through slurmstepd with a fault', () => {
    for (const one of [cases[0], cases[2]]) {
      if (one === undefined) continue;
      inWorld(
        kernel,
        `in any call, ${one.thenAlways.length > 0 ? 'then always' : 'once'}: it is in the job, or where it was, or the result says where`,
        async (world) => {
          await world.twoJobs();
          await ExternStep.with(world, {}, async (step) => {
            const pid = await world.session();
            const node = await step.node();
            step.removeLeaf();
            const job = await world.job(102);
            const whole = await run(node, job, pid, one, {});
            expect(whole.result).toMatchObject({ outcome: 'adopted', moved: 'stepd' });
            const calls = [...whole.host.calls];
            expect(new Set(calls.map(({ call }) => call))).toContain('connect');
            for (const [index, { call }] of calls.entries()) {
              for (const errno of ofEach[call] ?? ['EIO']) {
                if (one.thenAlways.includes('read') && ['ESRCH', 'ENOENT'].includes(errno)) continue;
                await reset(world, [pid]);
                step.removeLeaf();
                const done = await run(node, job, pid, one, { nth: index + 1, errno });
                const what = `${errno} in call ${index + 1} of ${calls.length}, ${call} ${calls[index]?.path}`;
                const mayComeLater = done.result?.trace.some((line) => line.includes('may still do so')) === true;
                if (!mayComeLater) checkByStepd(world, pid, done, what);
                await step.idle();
              }
            }
          });
        },
      );
    }
  });
});

onKernels((kernel) => {
  describe('adopt() beside slurmstepd with a fault', () => {
    for (const one of [cases[0], cases[2], cases[3]]) {
      if (one === undefined) continue;
      const words = [`onFailure ${one.onFailure}`, one.thenAlways.length > 0 ? 'then always' : 'once'].join(', ');
      inWorld(
        kernel,
        `in any call, ${words}: it is in the job, or where it was, or the result says where`,
        async (world) => {
          await world.twoJobs();
          await ExternStep.with(world, {}, async (step) => {
            const pid = await world.session();
            const [node, job] = [await step.node(), await world.job(102)];
            const whole = await run(node, job, pid, one, {});
            expect(whole.result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'stepd' });
            const calls = [...whole.host.calls];
            const asking = calls.map(({ call }) => call);
            expect(asking).toContain('receive');
            for (const [index, { call }] of calls.entries()) {
              for (const errno of ofEach[call] ?? ['EIO', 'ECONNRESET', 'ETIMEDOUT']) {
                if (one.thenAlways.includes('read') && ['ESRCH', 'ENOENT'].includes(errno)) continue;
                await reset(world, [pid]);
                step.asked.length = 0;
                const done = await run(node, job, pid, one, { nth: index + 1, errno });
                const what = `${errno} in call ${index + 1} of ${calls.length}, ${call} ${calls[index]?.path}`;
                await step.idle();
                checkByStepd(world, pid, done, what);
                // What is said to be counted was told.
                if (done.result?.accounting === 'stepd') expect(step.asked, what).toContain(22);
                if (done.outcome === 'adopted' && done.result?.accounting === 'none')
                  expect(done.result.uncountedWhy, what).toBeDefined();
              }
            }
          });
        },
      );
    }
  });
});

/** As `check`, but a leaf that was never made is nowhere. */
function checkByStepd(world: World, pid: number, { host, outcome, result }: Done, what: string): void {
  expect(host.openDirectories(), what).toBe(0);
  const [places, outside] = [world.places(pid), world.everywhere('outside')];
  if (outcome === 'adopted') {
    expect(places, what).toEqual(world.leaves(102));
    return;
  }
  if (outcome !== 'partial') {
    expect(places, `${what}: ${outcome}`).toEqual(outside);
    expect(result?.moved ?? 'none', what).toBe('none');
    return;
  }
  for (const { controllers, outcome: leg, error } of result?.hierarchies ?? []) {
    const key = controllers.length === 0 ? 'unified' : controllers.join();
    if (leg === 'remains') expect(error, `${what}: ${key}`).toBeDefined();
    else if (leg === 'moved' || leg === 'already') expect(places[key], what).toBe(world.leaves(102)[key]);
    else expect(places[key], `${what}: ${key} ${leg}`).toBe(outside[key]);
  }
}

interface Done {
  readonly host: FailingHost;
  readonly outcome: AdoptionResult['outcome'] | 'threw';
  readonly result?: AdoptionResult;
}

async function run(node: SlurmNode, job: Job, pid: number, one: Case, options: FailingOptions): Promise<Done> {
  // A refusal that passes is waited for: here without the wait.
  const base = { ...node.host, sleep: async () => {} };
  const host = failingHost(base, { ...options, thenAlways: one.thenAlways });
  try {
    const result = await adopt(pid, job, {
      node: { ...node, host },
      onFailure: one.onFailure,
      descendants: one.descendants,
    });
    return { host, outcome: result.outcome, result };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { host, outcome: 'threw' };
  }
}

/** Back outside, by the kernel's own means. */
async function reset(world: World, family: readonly number[]): Promise<void> {
  const outside = JSON.stringify(world.everywhere('outside'));
  for (const pid of family) if (JSON.stringify(world.places(pid)) !== outside) await world.outside.add(pid);
}

function check(world: World, family: readonly number[], { host, outcome, result }: Done, what: string): void {
  const [session = 0] = family;
  const leaves = world.leaves(102);
  const outside = world.everywhere('outside');
  expect(host.openDirectories(), what).toBe(0);
  switch (outcome) {
    case 'adopted':
      for (const pid of family) expect(world.places(pid), what).toEqual(leaves);
      return;
    case 'threw':
    case 'untouched':
    case 'undone':
    case 'suspended':
      for (const pid of family) expect(world.places(pid), what).toEqual(outside);
      expect(result?.moved ?? 'none', what).toBe('none');
      return;
    case 'partial': {
      const places = world.places(session);
      for (const { controllers, path, outcome: leg, error } of result?.hierarchies ?? []) {
        const key = controllers.length === 0 ? 'unified' : controllers.join();
        const [inside, before] = [places[key] === leaves[key], places[key] === outside[key]];
        expect(path.endsWith(leaves[key] ?? '?'), what).toBe(true);
        if (leg === 'moved' || leg === 'already') expect(inside, `${what}: ${key} ${leg}`).toBe(true);
        else if (leg === 'remains') expect(error, `${what}: ${key} ${leg}`).toBeDefined();
        else expect(before, `${what}: ${key} ${leg}`).toBe(true);
        // Unproven either way is reported as "remains"; what is known to be elsewhere never is.
        if (leg === 'remains')
          expect(inside || error?.code !== 'ERR_CGROUP_REFUSED', `${what}: ${key} remains`).toBe(true);
      }
      return;
    }
  }
}
