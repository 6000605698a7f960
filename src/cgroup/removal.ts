// Removing cgroups that have become empty: children before parents, again while the kernel is still busy
// with what died in them.

import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { Cgroup } from './cgroup.js';

export interface RemovalOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Why one of the tops, and all below it, stays; asked before each removal. */
  readonly spare?: (top: Cgroup) => string | undefined;
  /** Whether to give up waiting for what is still in use; asked before each pause. */
  readonly isHopeless?: () => boolean;
}

export interface Removal {
  /** Directories removed, in the order of removal. */
  readonly removed: readonly string[];
  /** Directories that stay, with the reason. */
  readonly left: readonly { readonly path: string; readonly why: string }[];
}

const pauses = { firstMs: 1, longestMs: 100 };

/**
 * Removes trees of cgroups. EBUSY means a process (also a zombie, or one that is still dying), or a child made
 * meanwhile: it is tried again with growing pauses until the deadline, then the directory is left and said.
 */
export async function removeTrees(host: Host, tops: readonly Cgroup[], options: RemovalOptions): Promise<Removal> {
  const deadline = host.now() + options.timeoutMs;
  const removed: string[] = [];
  for (let pause = pauses.firstMs; ; pause = Math.min(pause * 2, pauses.longestMs)) {
    const left = tops.flatMap((top) => removeTree(top, { removed, spare: () => options.spare?.(top) }));
    if (left.every((one) => !one.passes) || host.now() > deadline || options.isHopeless?.() === true)
      return { removed, left: left.map(({ path, why }) => ({ path, why })) };
    await host.sleep(pause, options.signal);
  }
}

interface Left {
  readonly path: string;
  readonly why: string;
  /** Whether trying again may help. */
  readonly passes: boolean;
}

interface Removing {
  readonly removed: string[];
  readonly spare: () => string | undefined;
}

function removeTree(top: Cgroup, { removed, spare }: Removing): readonly Left[] {
  try {
    const left: Left[] = [];
    // Parents come before their children in descendants(): backwards it is children first.
    for (const cgroup of [top, ...top.descendants()].reverse()) {
      const why = spare();
      if (why !== undefined) return [{ path: top.directory, why, passes: false }];
      const refused = removeOne(cgroup, removed);
      if (refused !== undefined) left.push(refused);
    }
    return left;
  } catch (error) {
    if (isGone(error)) return []; // somebody else removed it: slurmd does that too
    if (error instanceof SlurmCgroupsError) return [{ path: top.directory, why: error.message, passes: false }];
    throw error;
  }
}

function removeOne(cgroup: Cgroup, removed: string[]): Left | undefined {
  try {
    cgroup.remove();
    removed.push(cgroup.directory);
    return undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    if (hasCode(error, 'ERR_CGROUP_BUSY'))
      return { path: cgroup.directory, why: 'the kernel says that it is still in use', passes: true };
    if (error instanceof SlurmCgroupsError) return { path: cgroup.directory, why: error.message, passes: false };
    throw error;
  }
}
