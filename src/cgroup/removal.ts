// Removing trees of cgroups, children first, as far as they are empty.

import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { type Cgroup, type WalkedCgroup, walkCgroups } from './cgroup.js';

export interface RemovalOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Why one of the tops, and all below it, stays; asked before each removal. */
  readonly spare?: (top: Cgroup) => string | undefined;
  /** Whether to give up waiting for what is still in use; asked before each pause. */
  readonly isHopeless?: () => boolean | Promise<boolean>;
}

export interface Removal {
  /** Directories removed, in the order of removal. */
  readonly removed: readonly string[];
  /** Directories that stay, with the reason. */
  readonly left: readonly { readonly path: string; readonly why: string }[];
}

const pauses = { firstMs: 1, longestMs: 100 };

/** The time that each pass has at least: what is empty is removed also when the time limit has passed. */
const leastMs = 150;

/**
 * Removes trees of cgroups. EBUSY means a process (also a zombie, or one that is still dying), or a child made
 * meanwhile: it is tried again with growing pauses until the deadline, then the directory is left and said. So is what
 * could not be looked through: it is too deep or too wide, or changes too fast.
 */
export async function removeTrees(host: Host, tops: readonly Cgroup[], options: RemovalOptions): Promise<Removal> {
  const deadline = deadlineIn(host, options.timeoutMs, options.signal);
  const paths = new ReportedPaths();
  const removed: string[] = [];
  for (let pause = pauses.firstMs; ; pause = Math.min(pause * 2, pauses.longestMs)) {
    const left: Left[] = [];
    for (const top of tops)
      left.push(...(await new TreeRemoval(top, { host, deadline, removed, paths, spare: options.spare }).run()));
    const isPassing = left.some((one) => one.passes);
    if (!isPassing || deadline.isOver() || (await options.isHopeless?.()) === true)
      return { removed, left: left.map(({ path, why }) => ({ path, why })) };
    await host.sleep(Math.min(pause, deadline.leftMs()), options.signal);
  }
}

interface Left {
  readonly path: string;
  readonly why: string;
  /** Whether trying again may help. */
  readonly passes: boolean;
}

interface Removing {
  readonly host: Host;
  readonly deadline: Deadline;
  readonly removed: string[];
  readonly paths: ReportedPaths;
  readonly spare: RemovalOptions['spare'];
}

/** Directories of one tree that are said to be left one by one; of the others only how many. */
const mostLeft = 1000;

/** One pass over one tree. */
class TreeRemoval {
  readonly #top: Cgroup;
  readonly #removing: Removing;
  readonly #left: Left[] = [];
  #unnamed = 0;
  #spared: string | undefined;

  constructor(top: Cgroup, removing: Removing) {
    this.#top = top;
    this.#removing = removing;
  }

  async run(): Promise<readonly Left[]> {
    const { host, deadline } = this.#removing;
    try {
      const { unknown } = await walkCgroups(this.#top, {
        pace: new Pace(host, deadline.atLeast(leastMs)),
        enter: () => undefined,
        leave: (at) => this.#remove(at),
      });
      if (this.#spared !== undefined) return [this.#leave(this.#top, this.#spared, false)];
      // What is too deep or too wide now may not be so when the rest is gone.
      if (unknown !== undefined) this.#left.push(this.#leave(this.#top, unknown, true));
    } catch (error) {
      if (isGone(error)) return []; // another removed it: slurmd does that too
      if (!(error instanceof SlurmCgroupsError)) throw error;
      return [this.#leave(this.#top, error.message, false)];
    }
    if (this.#unnamed > 0)
      this.#left.push(this.#leave(this.#top, `${this.#unnamed} more directories below it stay, too`, false));
    return this.#left;
  }

  #remove(at: WalkedCgroup): 'stop' | undefined {
    this.#spared = this.#removing.spare?.(this.#top);
    if (this.#spared !== undefined) return 'stop';
    try {
      at.remove();
    } catch (error) {
      if (isGone(error) || !(error instanceof SlurmCgroupsError)) throw error; // removed by another, or renamed
      const isBusy = error.code === 'ERR_CGROUP_BUSY';
      if (this.#left.length < mostLeft)
        this.#left.push(
          this.#leave(at.value, isBusy ? 'the kernel says that it is still in use' : error.message, isBusy),
        );
      else this.#unnamed++;
      return undefined;
    }
    this.#removing.removed.push(this.#removing.paths.of(at.value));
    return undefined;
  }

  #leave(cgroup: Cgroup, why: string, passes: boolean): Left {
    return { path: cgroup.shown, why, passes };
  }
}

/** In all, in characters: users can make far more. */
const mostReported = 1 << 24;

/** Paths for a report, whole as long as they do not fill the memory. */
class ReportedPaths {
  #left = mostReported;

  of(cgroup: Cgroup): string {
    const path = this.#left > 0 ? cgroup.shown : cgroup.named;
    this.#left -= path.length;
    return path;
  }
}
