// The jobs of a node as last looked at, and what is learned of them beyond their directories: whose they are. What
// has changed since, it tells at each look; when to look is watch.ts's.

import { defined } from '../../machine/defined.js';
import { discoverJobs } from '../discovery.js';
import type { Job, OwnedJob } from '../job.js';
import type { SlurmNode } from '../node.js';
import { findOwners } from '../owners/find.js';
import { changesBetween, directoryKeyOf, isSameDirectory, type JobChange, type SeenJob } from './changes.js';
import { hasHiddenSteps } from './directories.js';

/** The first time to ask again for an unknown owner; each later one takes twice as long, up to the last. */
const firstAskMs = 100;
const maxAskMs = 60_000;

/** The jobs as last looked at. */
export class JobIndex {
  readonly #steps: boolean;
  #seen: ReadonlyMap<string, SeenJob> = new Map();
  /** Jobs of unknown owner or id: when to ask again, and how long to wait after that. */
  readonly #askAgain = new Map<string, { readonly at: number; readonly waitMs: number }>();

  constructor(steps: boolean) {
    this.#steps = steps;
  }

  get jobs(): readonly Job[] {
    return [...this.#seen.values()].map(({ job }) => job);
  }

  /** More is to be told of what is already here, without an event of the kernel. */
  get isUnsettled(): boolean {
    return this.#askAgain.size > 0 || (this.#steps && this.jobs.some(hasHiddenSteps));
  }

  /** Looks at the jobs of some users, or all, and gives what happened to them. */
  async look(node: SlurmNode, users: ReadonlySet<number> | 'all'): Promise<readonly JobChange[]> {
    // A v2 path names no user: there is one directory to read, for all.
    const only = users === 'all' || node.tops.some((top) => top.version === 2) ? undefined : users;
    const isAsked = ({ job }: SeenJob) => only === undefined || (job.uid !== undefined && only.has(job.uid));
    const found = only === undefined ? discoverJobs(node) : [...only].flatMap((uid) => discoverJobs(node, { uid }));
    const before = new Map([...this.#seen].filter(([, seen]) => isAsked(seen)));
    const after = await this.#learnOwners(node, before, new Map(found.flatMap((job) => seenNow(node, job))));
    this.#seen =
      only === undefined ? after : new Map([...[...this.#seen].filter(([, seen]) => !isAsked(seen)), ...after]);
    return changesBetween(before, after, { steps: this.#steps });
  }

  async #learnOwners(
    node: SlurmNode,
    before: ReadonlyMap<string, SeenJob>,
    found: ReadonlyMap<string, SeenJob>,
  ): Promise<ReadonlyMap<string, SeenJob>> {
    const after = new Map<string, SeenJob>();
    const unknown = new Map<string, SeenJob>();
    const time = node.host.now();
    for (const [key, seen] of found) {
      const known = before.get(key);
      const same = known !== undefined && isSameDirectory(known, seen) ? known : undefined;
      if (same === undefined) this.#askAgain.delete(key);
      const next = same === undefined ? seen : { ...seen, job: { ...learned(same.job), ...seen.job } };
      after.set(key, next);
      if (!isIdentified(next.job) && time >= (this.#askAgain.get(key)?.at ?? 0)) unknown.set(key, next);
    }
    for (const key of this.#askAgain.keys()) if (!after.has(key)) this.#askAgain.delete(key);
    if (unknown.size === 0) return after;
    const owned = await findOwners(
      [...unknown.values()].map(({ job }) => job),
      { node },
    );
    for (const [at, [key, seen]] of [...unknown].entries()) {
      const job = owned[at] ?? seen.job;
      after.set(key, { ...seen, job });
      const waitMs = this.#askAgain.get(key)?.waitMs ?? firstAskMs;
      if (isIdentified(job)) this.#askAgain.delete(key);
      else this.#askAgain.set(key, { at: time + waitMs, waitMs: Math.min(2 * waitMs, maxAskMs) });
    }
    return after;
  }
}

/** With the inodes of its directories; nothing, if they went meanwhile. */
function seenNow({ host }: SlurmNode, job: Job): readonly (readonly [string, SeenJob])[] {
  const inodes = new Map(
    job.cgroups.flatMap(({ hierarchy, path }) => {
      const inode = host.stat(path)?.ino;
      return inode === undefined ? [] : [[hierarchy, inode] as const];
    }),
  );
  return inodes.size === 0 ? [] : [[directoryKeyOf(job), { job, inodes }]];
}

function isIdentified(job: Job): boolean {
  return job.uid !== undefined && job.jobId !== undefined;
}

/** What does not stand in its directories. */
function learned(job: OwnedJob): Partial<OwnedJob> {
  const { jobId, sluid, uid, ownerFrom } = job;
  return {
    ...defined({ jobId, sluid, uid, ownerFrom }),
  };
}
