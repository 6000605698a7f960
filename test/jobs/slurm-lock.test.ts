import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { removeUnderSlurmLock } from '../../src/jobs/slurm-lock.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { holdLocks, mountedAt } from '../support/lock-holder.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { TestCgroups } from '../support/test-cgroups.js';

const host = liveHost();
const without = (...missing: readonly string[]): Host => ({
  ...host,
  libc: async () => undefined,
  stat: (path) => (missing.includes(path) ? undefined : host.stat(path)),
});

describe.skipIf(!canUseCgroups && mayBeSkipped)('removeUnderSlurmLock() (needs root and cgroups)', () => {
  let made: TestCgroups;
  let users: readonly Cgroup[];
  beforeEach(() => {
    made = TestCgroups.create();
    users = made.all.cgroups.map((top) => {
      const hierarchy = mountedAt(top.hierarchy, top.path);
      return made.mkdir(new Cgroup(host, hierarchy, top.path), 'uid_64801');
    });
  });
  afterEach(() => made.remove());
  const isThere = ({ directory }: Cgroup) => fs.existsSync(directory);
  const directories = () => users.map(({ directory }) => directory);

  it.each([
    ['koffi', host],
    ['flock(1)', without()],
  ])('removes each under the lock, by %s, and lets go of it', async (_, on) => {
    expect(await removeUnderSlurmLock(on, users, deadlineIn(host, 2000))).toEqual({ removed: directories(), kept: [] });
    expect(users.some(isThere)).toBe(false);
    const { release } = await holdLocks(users.map(({ hierarchy }) => hierarchy.mountPoint));
    await release();
  });

  it.each([
    ['koffi', host],
    ['flock(1)', without()],
  ])('keeps what another process holds the lock of, by %s: one deadline for all', async (_, on) => {
    const points = users.map(({ hierarchy }) => hierarchy.mountPoint);
    const { release } = await holdLocks(points);
    try {
      const start = host.now();
      const { removed, kept } = await removeUnderSlurmLock(on, users, deadlineIn(host, 1000));
      expect(host.now() - start).toBeLessThan(30_000);
      expect([removed, kept]).toEqual([
        [],
        users.map(({ directory, hierarchy }) => ({
          path: directory,
          why: `another process holds Slurm's lock on "${hierarchy.mountPoint}"`,
        })),
      ]);
      expect(users.every(isThere)).toBe(true);
    } finally {
      await release();
    }
  });

  it('removes the others, and this one once the lock is free', async () => {
    const [first] = users;
    const { release } = await holdLocks([first?.hierarchy.mountPoint ?? expect.unreachable()]);
    const [outcome] = await Promise.all([
      removeUnderSlurmLock(host, users, deadlineIn(host, 10_000)),
      host.sleep(200).then(release),
    ]);
    expect(outcome).toEqual({ removed: [...directories().slice(1), first?.directory], kept: [] });
  });

  it('keeps what is not empty, and says what the kernel says', async () => {
    for (const user of users) made.mkdir(user, 'job_2');
    const { kept } = await removeUnderSlurmLock(host, users, deadlineIn(host, 300));
    expect(kept).toEqual(directories().map((path) => ({ path, why: `Cannot remove "${path}": it is busy` })));
    const byChild = await removeUnderSlurmLock(without(), users, deadlineIn(host, 300));
    expect(byChild.kept).toEqual(
      directories().map((path) => ({ path, why: `Cannot remove "${path}": Device or resource busy` })),
    );
  });

  it('takes what is gone as removed', async () => {
    for (const user of users) fs.rmdirSync(user.directory);
    for (const on of [host, without()])
      expect(await removeUnderSlurmLock(on, users, deadlineIn(host, 300))).toEqual({
        removed: directories(),
        kept: [],
      });
  });

  it('keeps it where there is neither koffi nor flock(1)', async () => {
    const bare = without('/usr/bin/flock', '/bin/flock');
    const why = "it is removed under Slurm's lock only, which needs flock(1) or the optional package koffi";
    expect(await removeUnderSlurmLock(bare, users, deadlineIn(host, 300))).toEqual({
      removed: [],
      kept: directories().map((path) => ({ path, why })),
    });
  });
});
