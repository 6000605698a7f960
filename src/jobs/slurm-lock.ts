// Slurm's lock on a cgroup hierarchy: flock(LOCK_EX) on the directory of its root cgroup (on v1 each
// controller's mount point), held while it makes or removes job directories (Slurm src/interfaces/cgroup.c,
// common_cgroup_lock). Any user can hold it (measured), so it is tried, and never waited for without end.

import type { Cgroup } from '../cgroup/cgroup.js';
import type { Deadline } from '../machine/deadline.js';
import { isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host, Libc, RunResult } from '../machine/host.js';

/** Between two tries; a try without koffi starts a program. */
const lockPauseMs = { own: 20, child: 100 } as const;

/** An empty cgroup that is still there, and why. */
export interface KeptCgroup {
  readonly path: string;
  readonly why: string;
}

/**
 * Removes empty cgroups, each while this process, or a child of it, holds Slurm's lock on its hierarchy. The deadline is
 * one for all of them: each is tried once before any is tried again, so a lock that another process holds keeps only
 * what it covers.
 */
export async function removeUnderSlurmLock(
  host: Host,
  cgroups: readonly Cgroup[],
  deadline: Deadline,
): Promise<{ readonly removed: readonly string[]; readonly kept: readonly KeptCgroup[] }> {
  const libc = await host.libc();
  const removed: string[] = [];
  const kept: KeptCgroup[] = [];
  for (let waiting = cgroups; waiting.length > 0; ) {
    const locked: Cgroup[] = [];
    for (const cgroup of waiting) {
      const outcome = await tryToRemove(host, libc, cgroup, deadline);
      if (outcome === 'removed') removed.push(cgroup.directory);
      else if (outcome === 'locked') locked.push(cgroup);
      else kept.push({ path: cgroup.directory, why: outcome.why });
    }
    waiting = locked;
    if (waiting.length === 0) break;
    if (deadline.isOver()) {
      for (const { directory, hierarchy } of waiting)
        kept.push({ path: directory, why: `another process holds Slurm's lock on ${quote(hierarchy.mountPoint)}` });
      break;
    }
    await host.sleep(
      Math.min(libc === undefined ? lockPauseMs.child : lockPauseMs.own, deadline.leftMs()),
      deadline.signal,
    );
  }
  return { removed, kept };
}

type Outcome = 'removed' | 'locked' | { readonly why: string };

async function tryToRemove(host: Host, libc: Libc | undefined, cgroup: Cgroup, deadline: Deadline): Promise<Outcome> {
  try {
    if (libc === undefined) return await removeInChild(host, cgroup, deadline);
    const unlock = libc.tryLock(cgroup.hierarchy.mountPoint);
    if (unlock === undefined) return 'locked';
    try {
      cgroup.remove();
      return 'removed';
    } finally {
      unlock();
    }
  } catch (error) {
    if (isGone(error)) return 'removed';
    if (error instanceof SlurmCgroupsError) return { why: error.message };
    throw error;
  }
}

/** A child gets so much at least: one that starts is not cut off at once. */
const leastChildMs = 500;

/** Without koffi: flock(1) takes the lock and removes the cgroup in one child, which holds it no longer than that takes. */
async function removeInChild(host: Host, cgroup: Cgroup, deadline: Deadline): Promise<Outcome> {
  const [flock, rmdir] = [programAt(host, 'flock'), programAt(host, 'rmdir')];
  if (flock === undefined || rmdir === undefined)
    return { why: "it is removed under Slurm's lock only, which needs flock(1) or the optional package koffi" };
  const words = ['-x', '-n', cgroup.hierarchy.mountPoint, rmdir, '--', cgroup.directory];
  const timeoutMs = Math.max(leastChildMs, deadline.leftMs());
  return outcomeOf(await host.run(flock, words, { timeoutMs }), host, cgroup.directory);
}

/** flock(1) says nothing when the lock is held, rmdir(1) says why it failed; both exit with 1. */
function outcomeOf({ exitCode, stderr, timedOut }: RunResult, host: Host, directory: string): Outcome {
  if (exitCode === 0 || host.stat(directory) === undefined) return 'removed';
  if (timedOut) return { why: "flock(1), which removes it under Slurm's lock, did not end in time" };
  if (exitCode === 1 && stderr === '') return 'locked';
  return { why: `Cannot remove ${quote(directory)}: ${stderr.trim().split(': ').at(-1)}` };
}

function programAt(host: Host, name: string): string | undefined {
  return [`/usr/bin/${name}`, `/bin/${name}`].find((file) => host.stat(file) !== undefined);
}
