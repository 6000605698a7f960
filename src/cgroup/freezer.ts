// Whether a cgroup is frozen. A process moved into a frozen one stops at once and cannot even be killed on
// v1 until it is thawed (measured: kill -9 leaves it in state D).

import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { ifThere, isGone } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import type { Directory, Host } from '../machine/host.js';
import type { Cgroup, WalkedCgroup } from './cgroup.js';
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
  readonly signal?: AbortSignal;
}

const thawAttempts = 3;

/**
 * How a v1 freezer that hangs in FREEZING is helped along. A fork bomb of 400 takes 50 ms to come to where it freezes,
 * if this process pauses between its tries, and each thaw is a start from nothing (measured: with one every 50 ms it
 * took up to a second, with one every few ms it was never frozen). So the first comes late, and the time doubles.
 */
const helping = { eagerTries: 10, pauseMs: 1, longestPauseMs: 16, firstThawMs: 500, thawMs: 2 };

/** One of them on its way. */
class FreezeAttempt {
  readonly #host: Host;
  readonly #held: HeldCgroup;
  #tries = 0;
  #thawedMs: number;
  #thawAfterMs = helping.firstThawMs;
  /** Whether it was just thawed for a moment. */
  thawed = false;
  #frozen = false;

  constructor(host: Host, held: HeldCgroup) {
    this.#host = host;
    this.#held = held;
    this.#thawedMs = host.now();
  }

  /**
   * Tries, and looks. v1 can stay in FREEZING for three reasons: a task forked or was moved in after the walk over the
   * tasks, one waits uninterruptibly, one is traced. Writing FROZEN again walks again; an occasional short thaw lets
   * those through that are stuck behind a frozen one (so does opencontainers/cgroups, fs/freezer.go, and says why).
   */
  isFrozen(): boolean {
    if (this.#frozen) return true;
    this.thawed = false;
    const isOnV2 = this.#held.cgroup.hierarchy.version === 2;
    // In one that is gone nothing runs, either.
    this.#frozen = ifThere(() => (isOnV2 ? this.#isFrozenOnV2() : this.#isFrozenOnV1())) ?? true;
    return this.#frozen;
  }

  /** On v1 the next tries may follow at once. */
  get isEager(): boolean {
    return this.#held.cgroup.hierarchy.version === 1 && !this.thawed && this.#tries <= helping.eagerTries;
  }

  #isFrozenOnV2(): boolean {
    const { directory } = this.#held;
    if (this.#tries++ === 0) directory.write('cgroup.freeze', '1');
    return /^frozen 1$/m.test(directory.read('cgroup.events'));
  }

  #isFrozenOnV1(): boolean {
    const { directory } = this.#held;
    directory.write('freezer.state', 'FROZEN');
    this.#tries++;
    if (directory.read('freezer.state').trim() === 'FROZEN') return true;
    if (this.#host.now() - this.#thawedMs > this.#thawAfterMs) {
      directory.write('freezer.state', 'THAWED');
      this.thawed = true;
      [this.#thawAfterMs, this.#thawedMs] = [this.#thawAfterMs * 2, this.#host.now()];
    }
    return false;
  }
}

/**
 * Freezes cgroups and everything below them, and waits, once for all, until nothing in them runs any more. `false`: they
 * did not all get there in time (a process that waits in the kernel, or processes arrive faster than they freeze); most
 * of it stands still then. The caller writes notes first (frozen-note.ts) and thaws in `finally`, whatever the answer.
 */
export async function freezeAll(host: Host, held: readonly HeldCgroup[], deadline: Deadline): Promise<boolean> {
  const attempts = held.map((one) => new FreezeAttempt(host, one));
  for (let pauseMs = helping.pauseMs; ; pauseMs = Math.min(pauseMs * 2, helping.longestPauseMs)) {
    const waiting = attempts.filter((one) => !one.isFrozen());
    if (waiting.length === 0) return true;
    if (deadline.isOver()) return false;
    if (waiting.every((one) => one.isEager)) continue;
    if (waiting.some((one) => one.thawed)) pauseMs = helping.thawMs;
    await host.sleep(Math.min(pauseMs, deadline.leftMs()), deadline.signal);
  }
}

/** The same for one cgroup. */
export async function freeze(host: Host, held: HeldCgroup, options: FreezeOptions): Promise<boolean> {
  return freezeAll(host, [held], deadlineIn(host, options.timeoutMs, options.signal));
}

/** Lets a cgroup run again; one that is gone needs no more. What an ancestor freezes stays frozen. */
export function thaw({
  cgroup,
  directory,
}: {
  readonly cgroup: Cgroup;
  readonly directory: Pick<Directory, 'write'>;
}): void {
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
  return isTold(cgroup, (file) => host.read(`${cgroup.directory}/${file}`));
}

/** The same of one that a walk visits. */
export function isToldToFreezeAt(at: WalkedCgroup): boolean {
  return isTold(at.top.value, (file) => at.read(file));
}

function isTold({ hierarchy }: Cgroup, read: (file: string) => string): boolean {
  const file =
    hierarchy.version === 2
      ? 'cgroup.freeze'
      : hierarchy.controllers.includes('freezer')
        ? 'freezer.self_freezing'
        : undefined;
  return file !== undefined && ifThere(() => read(file).trim()) === '1';
}

/** Whether this hierarchy can freeze: v1's freezer, and v2 (from Linux 5.2 on, where the file is there). */
export function canFreeze(host: Host, cgroup: Cgroup): boolean {
  if (cgroup.hierarchy.version === 1) return cgroup.hierarchy.controllers.includes('freezer') && cgroup.path !== '/';
  return host.stat(`${cgroup.directory}/cgroup.freeze`) !== undefined;
}
