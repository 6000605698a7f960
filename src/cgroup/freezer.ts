// Whether a cgroup is frozen. A process moved into a frozen one stops at once and cannot even be killed on
// v1 until somebody thaws it (measured: kill -9 leaves it in state D).

import { ifThere, isGone } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import type { Directory, Host } from '../machine/host.js';
import type { Cgroup } from './cgroup.js';
import { directoryOf } from './hierarchies.js';
import { cgroupPath, partsOf } from './path.js';

/**
 * The nearest cgroup, from this one up, that is frozen or being frozen: its directory; `undefined` when none
 * is. Also answers for hierarchies without a freezer: `undefined`.
 */
export function frozenAt(host: Host, cgroup: Cgroup): string | undefined {
  const { hierarchy } = cgroup;
  if (hierarchy.version === 1 && !hierarchy.controllers.includes('freezer')) return undefined;
  for (let parts = partsOf(cgroup.path); parts.length > 0; parts = parts.slice(0, -1)) {
    const directory = directoryOf(hierarchy, cgroupPath(`/${parts.join('/')}`));
    if (directory === undefined) return undefined; // above what the mount shows, and so not ours to see
    const state =
      hierarchy.version === 2
        ? readIfThere(host, `${directory}/cgroup.freeze`)
        : stateOnV1(host, directory, directory !== cgroup.directory);
    // v1: THAWED, FREEZING, FROZEN. v2: the wish, 0 or 1; the wish alone already stops what comes in.
    if (state !== undefined && state !== 'THAWED' && state !== '0') return directory;
  }
  return undefined;
}

/**
 * To read freezer.state the kernel walks everything below (freezer_read, kernel/cgroup/legacy_freezer.c): 1.8 ms
 * above 10,000 jobs against 13 µs at a leaf (measured). So of what is above only the wish is read, one flag.
 */
function stateOnV1(host: Host, directory: string, isAbove: boolean): string | undefined {
  const wish = isAbove ? readIfThere(host, `${directory}/freezer.self_freezing`) : undefined;
  return wish ?? readIfThere(host, `${directory}/freezer.state`); // there is no such flag before Linux 3.9
}

/** A root has no freezer file; neither has v2 before Linux 5.2. */
function readIfThere(host: Host, path: string): string | undefined {
  return ifThere(() => host.read(path).trim());
}

/** A cgroup whose directory is held open: what is frozen through it is thawed through it, whatever it is called by then. */
export interface HeldCgroup {
  readonly cgroup: Cgroup;
  readonly directory: Directory;
}

export interface FreezeOptions {
  readonly timeoutMs: number;
}

const thawAttempts = 3;

/**
 * How a v1 freezer that hangs in FREEZING is helped along. A fork bomb of 400 takes 50 ms to come to where it freezes,
 * if this process pauses between its tries, and each thaw is a start from nothing (measured: with one every 50 ms it
 * took up to a second, with one every few ms it was never frozen). So the first comes late, and the time doubles.
 */
const helping = { eagerTries: 10, pauseMs: 1, longestPauseMs: 16, firstThawMs: 500, thawMs: 2 };

/**
 * Freezes a cgroup and everything below, and waits until nothing in it runs any more. `false`: it did not get
 * there in time (a process that waits in the kernel, or processes arrive faster than they freeze); most of it stands
 * still then. The caller writes a note first (frozen-note.ts) and thaws in `finally`, whatever the answer.
 *
 * v1 can stay in FREEZING for three reasons: a task forked or was moved in after the walk over the tasks, one
 * waits uninterruptibly, one is traced. Writing FROZEN again walks again; an occasional short thaw lets those
 * through that are stuck behind a frozen one (so does opencontainers/cgroups, fs/freezer.go, and says why).
 */
export async function freeze(host: Host, { cgroup, directory }: HeldCgroup, options: FreezeOptions): Promise<boolean> {
  const start = host.now();
  const isOver = () => host.now() - start > options.timeoutMs;
  if (cgroup.hierarchy.version === 2) {
    directory.write('cgroup.freeze', '1');
    while (!/^frozen 1$/m.test(directory.read('cgroup.events'))) {
      if (isOver()) return false;
      await host.sleep(helping.pauseMs);
    }
    return true;
  }
  let [thawAfterMs, thawedAt] = [helping.firstThawMs, start];
  let pauseMs = helping.pauseMs;
  for (let attempt = 1; ; attempt++) {
    directory.write('freezer.state', 'FROZEN');
    if (directory.read('freezer.state').trim() === 'FROZEN') return true;
    if (isOver()) return false;
    if (host.now() - thawedAt > thawAfterMs) {
      directory.write('freezer.state', 'THAWED');
      await host.sleep(helping.thawMs);
      [thawAfterMs, thawedAt] = [thawAfterMs * 2, host.now()];
      pauseMs = helping.pauseMs;
    } else if (attempt > helping.eagerTries) {
      await host.sleep(pauseMs);
      pauseMs = Math.min(pauseMs * 2, helping.longestPauseMs);
    }
  }
}

/** Lets a cgroup run again; one that is gone needs no more. What an ancestor freezes stays frozen. */
export function thaw({ cgroup, directory }: HeldCgroup): void {
  const [file, value] =
    cgroup.hierarchy.version === 2 ? (['cgroup.freeze', '0'] as const) : (['freezer.state', 'THAWED'] as const);
  for (let attempt = 1; ; attempt++) {
    try {
      directory.write(file, value);
      return;
    } catch (error) {
      if (isGone(error)) return;
      // What stays frozen hangs unkillably: a refusal that passes must not be the last word.
      if (attempt === thawAttempts) throw error;
    }
  }
}

/** The same for the cgroup that is at that path now. */
export function thawAt(host: Host, cgroup: Cgroup): void {
  const directory = ifThere(() => host.open(cgroup.directory));
  if (directory === undefined) return;
  withHeld(directory, () => thaw({ cgroup, directory }));
}

/** Whether this very cgroup was told to freeze (by us, by Slurm, by its owner), not one above it. */
export function isToldToFreeze(host: Host, cgroup: Cgroup): boolean {
  const { hierarchy, directory } = cgroup;
  const file =
    hierarchy.version === 2
      ? 'cgroup.freeze'
      : hierarchy.controllers.includes('freezer')
        ? 'freezer.self_freezing'
        : undefined;
  return file !== undefined && readIfThere(host, `${directory}/${file}`) === '1';
}

/** Whether this hierarchy can freeze: v1's freezer, and v2 (from Linux 5.2 on, where the file is there). */
export function canFreeze(host: Host, cgroup: Cgroup): boolean {
  if (cgroup.hierarchy.version === 1) return cgroup.hierarchy.controllers.includes('freezer') && cgroup.path !== '/';
  return host.stat(`${cgroup.directory}/cgroup.freeze`) !== undefined;
}
