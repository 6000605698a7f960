// Where a process stands: its memberships read as jobs and steps, hierarchy by hierarchy, held against the
// hierarchies in which that job exists, and the limits it is under. It only looks.

import { Cgroup } from '../cgroup/cgroup.js';
import { frozenAt } from '../cgroup/freezer.js';
import { directoryOf, hierarchyOfKey } from '../cgroup/hierarchies.js';
import { type Limits, limitsAt } from '../cgroup/limits.js';
import { hierarchyKey, type Membership } from '../cgroup/membership.js';
import { cgroupPath } from '../cgroup/path.js';
import { type HeldProcess, placesOfOtherThreads, withProcess } from '../cgroup/process.js';
import { defined } from '../machine/defined.js';
import { ifReadable, SlurmCgroupsError } from '../machine/errors.js';
import { discoverJobs } from './discovery.js';
import { formatJobPath, isSameJob, type JobName, type JobPlace } from './layout.js';
import { type PlaceInJob, placeOf } from './membership-in-job.js';
import type { LocatedTop, SlurmNode } from './node.js';
import { findOwners } from './owners/find.js';
import { unplacedNote, unplacedOnNode } from './stepd/unplaced.js';

/**
 * contained: in the job in every hierarchy in which the job has a cgroup; partial: in some of them; outside:
 * in no job; conflict: in different jobs, hierarchy by hierarchy.
 */
export type Verdict = 'contained' | 'partial' | 'outside' | 'conflict';

/**
 * in-job: in the job's cgroup; missing: the job has a cgroup here, the process is elsewhere; other-job: in
 * another job than in most hierarchies; outside: the job has no cgroup here; unknown: it could not be seen.
 */
export type PlacementState = 'in-job' | 'missing' | 'other-job' | 'outside' | 'unknown';

export interface HierarchyPlacement {
  readonly hierarchyId: number;
  readonly version: 1 | 2;
  readonly controllers: readonly string[];
  /** As /proc/PID/cgroup writes it. */
  readonly path: string;
  readonly jobId?: number;
  readonly sluid?: string;
  readonly stepId?: string;
  readonly state: PlacementState;
}

export interface Verification {
  readonly pid: number;
  /** Effective uid. */
  readonly uid: number;
  readonly comm: string;
  readonly inJob: boolean;
  readonly job: {
    readonly jobId?: number;
    readonly sluid?: string;
    readonly uid?: number;
    readonly nodeName?: string;
    readonly stepId?: string;
  } | null;
  readonly verdict: Verdict;
  /** It is in a cgroup of its job that is frozen, as by `scontrol suspend`. Absent: in no job, or not to be seen. */
  readonly suspended?: boolean;
  readonly hierarchies: readonly HierarchyPlacement[];
  readonly limits: Limits;
  readonly notes: readonly string[];
}

export interface VerifyOptions {
  readonly node: SlurmNode;
  /** How long slurmstepds may be asked which job a directory named by SLUID is. Default 2000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Proves from /proc what a process belongs to. Which job a directory named by SLUID (26.05 on) is, its slurmstepd
 * tells, by its place or when asked (`timeoutMs`, default 2000); a note says where it is not known.
 *
 * @param pid a process id, or `self`
 * @throws SlurmCgroupsError ERR_NO_SUCH_PROCESS; ERR_NOT_PERMITTED where /proc is hidden from this user.
 */
export async function verify(pid: number | 'self', options: VerifyOptions): Promise<Verification> {
  const { node } = options;
  const one = pid === 'self' ? node.host.self().pid : pid;
  return withProcess(node.host, one, async (held) => withJobId(withSuspension(verifyHeld(node, held), node), options));
}

function withSuspension(found: Verification, node: SlurmNode): Verification {
  if (found.job === null) return found;
  try {
    const suspended = found.hierarchies
      .filter(({ state }) => state === 'in-job')
      .some(({ controllers, path }) => {
        const hierarchy = hierarchyOfKey(node.hierarchies, hierarchyKey(controllers));
        return (
          hierarchy !== undefined &&
          frozenAt(node.host, new Cgroup(node.host, hierarchy, cgroupPath(path))) !== undefined
        );
      });
    return { ...found, suspended };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return found;
    throw error;
  }
}

/** A process that is in no job that was found may be in one whose cgroup was not. */
function withUnplaced(found: Verification, node: SlurmNode): Verification {
  try {
    const note = unplacedNote(unplacedOnNode(node));
    return note === undefined
      ? found
      : { ...found, notes: [...found.notes, `${note}: whether this process is in it is not known`] };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { ...found, notes: [...found.notes, error.message] };
  }
}

async function withJobId(found: Verification, { node, ...options }: VerifyOptions): Promise<Verification> {
  const { sluid, nodeName } = found.job ?? {};
  if (found.job === null) return withUnplaced(found, node);
  if (sluid === undefined) return found;
  try {
    const jobs = discoverJobs(node, { only: { sluid } }).filter((job) => job.nodeName === nodeName);
    const [job] = await findOwners(jobs, { node, ...options });
    if (job?.jobId === undefined) {
      const why = job?.unknownWhy ?? 'it is gone';
      return { ...found, notes: [...found.notes, `the id of the job is not known: ${why}`] };
    }
    const { jobId, uid } = job;
    const isThat = (one: HierarchyPlacement) => one.sluid === sluid;
    return {
      ...found,
      job: { ...found.job, jobId, ...defined({ uid }) },
      hierarchies: found.hierarchies.map((one) => (isThat(one) ? { ...one, jobId } : one)),
    };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { ...found, notes: [...found.notes, `the id of the job is not known: ${error.message}`] };
  }
}

interface Placed {
  readonly membership: Membership;
  readonly place: JobPlace | undefined;
}

function verifyHeld(node: SlurmNode, held: HeldProcess): Verification {
  const notes: string[] = [];
  const placed = held.memberships().map((membership): Placed => ({ membership, place: placeOf(node, membership) }));
  const places = placed.flatMap(({ place }) => (place?.job === undefined ? [] : [{ ...place, job: place.job }]));
  const main = mostNamed(places);
  const hierarchies = placed.map((one) => placementState(node, one, main, notes));
  const count = (state: PlacementState) => hierarchies.filter((one) => one.state === state).length;
  const verdict: Verdict =
    main === undefined
      ? 'outside'
      : count('other-job') > 0
        ? 'conflict'
        : count('missing') + count('unknown') > 0
          ? 'partial'
          : 'contained';
  const steps = [
    ...new Set(
      places.filter((one) => main !== undefined && isSameJob(one.job, main.job)).flatMap((one) => one.stepId ?? []),
    ),
  ];
  if (steps.length > 1) notes.push(`it is in different steps: ${steps.join(', ')}`);
  noteThreads(held, placed, notes);
  noteLimitless(node, main, notes);
  const stepId = steps.length === 1 ? steps[0] : undefined;
  return {
    pid: held.pid,
    uid: held.status().uids[1],
    comm: held.stat().comm,
    inJob: verdict === 'contained',
    job:
      main === undefined
        ? null
        : {
            ...main.job,
            ...defined({ uid: main.uid, nodeName: main.nodeName, stepId }),
          },
    verdict,
    hierarchies,
    limits: limitsAt(
      node,
      placed.map(({ membership }) => membership),
    ),
    notes,
  };
}

/** The job that most hierarchies name; of equals the first. */
function mostNamed(places: readonly PlaceInJob[]): PlaceInJob | undefined {
  const votes = (job: JobName) => places.filter((one) => isSameJob(one.job, job)).length;
  return places.reduce<PlaceInJob | undefined>(
    (best, one) => (best === undefined || votes(one.job) > votes(best.job) ? one : best),
    undefined,
  );
}

function placementState(
  node: SlurmNode,
  { membership, place }: Placed,
  main: PlaceInJob | undefined,
  notes: string[],
): HierarchyPlacement {
  const base = {
    hierarchyId: membership.hierarchyId,
    version: membership.controllers.length === 0 ? (2 as const) : (1 as const),
    controllers: membership.controllers,
    path: membership.path,
    ...(place?.job ?? {}),
    ...defined({ stepId: place?.stepId }),
  };
  if (main === undefined) return { ...base, state: 'outside' };
  if (place?.job !== undefined) return { ...base, state: isSameJob(place.job, main.job) ? 'in-job' : 'other-job' };
  const key = hierarchyKey(membership.controllers);
  const top = node.tops.find(
    (one) => one.hierarchy.key === key && one.nodeName === main.nodeName && one.version === main.version,
  );
  if (top === undefined) return { ...base, state: 'outside' };
  const directory = jobDirectory(top, main);
  try {
    return {
      ...base,
      state: directory === undefined || node.host.stat(directory) === undefined ? 'outside' : 'missing',
    };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return { ...base, state: 'unknown' };
  }
}

function jobDirectory(top: LocatedTop, main: PlaceInJob): string | undefined {
  const path = formatJobPath({
    version: main.version,
    top: top.path,
    ...defined({ uid: main.uid }),
    job: main.job,
    below: [],
  });
  return directoryOf(top.hierarchy, path);
}

/** v1 lets threads of one process stand in different cgroups; the leader's alone would be half the truth. */
function noteThreads(held: HeldProcess, placed: readonly Placed[], notes: string[]): void {
  const where = (memberships: readonly Membership[]) =>
    memberships.map((one) => `${hierarchyKey(one.controllers)}:${one.path}`).join('\n');
  const leader = where(placed.map((one) => one.membership));
  const apart = placesOfOtherThreads(held).filter(({ memberships }) => where(memberships) !== leader);
  const tids = apart.slice(0, 5).map(({ tid }) => tid);
  if (apart.length > 0)
    notes.push(`${apart.length} of its threads are in other cgroups than its first: ${tids.join(', ')}`);
}

/** Where this node's Slurm has a tree but the job has no cgroup, nothing limits it there. */
function noteLimitless(node: SlurmNode, main: PlaceInJob | undefined, notes: string[]): void {
  if (main === undefined) return;
  const without = node.tops
    .filter((top) => top.version === main.version && top.nodeName === main.nodeName)
    .filter((top) => {
      const directory = jobDirectory(top, main);
      // Where it cannot be seen, placementState says so if it counts.
      return ifReadable(() => directory !== undefined && node.host.stat(directory) === undefined) ?? false;
    })
    .map((top) => top.hierarchy.key);
  if (without.length > 0)
    notes.push(`the job has no cgroup in ${without.join(', ')}: nothing of the job limits it there`);
}
