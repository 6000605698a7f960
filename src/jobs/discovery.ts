// The jobs on this node, read from the directories Slurm makes for them, in every hierarchy, merged into
// one value each. Only names are listed and only extern steps looked at: cost follows the number of
// directories asked for, with a uid on v1 that user's alone.

import { Cgroup } from '../cgroup/cgroup.js';
import { cgroupAt, hierarchyOfKey } from '../cgroup/hierarchies.js';
import { cgroupPath } from '../cgroup/path.js';
import { ifThere, SlurmCgroupsError } from '../machine/errors.js';
import type { ExternCgroup, Job, JobCgroup, Step } from './job.js';
import { isSameJob, type JobName, parseJobName, parseStepName, parseUidName } from './layout.js';
import type { LocatedTop, SlurmNode } from './node.js';

export interface DiscoverJobsOptions {
  /** Only jobs of this user. On v1 nothing but `uid_<U>` is read; on v2, where no path names a user, every job is given. */
  readonly uid?: number;
  /** Also read the mtime of each job's own directory (only pam_slurm_adopt's ranks need it). */
  readonly jobTimes?: boolean;
  /** Only the job of that directory: of no other more than the name is read. */
  readonly only?: JobName;
}

interface Draft {
  readonly name: JobName;
  readonly uid: number | undefined;
  readonly nodeName: string | undefined;
  readonly version: 1 | 2;
  readonly cgroups: JobCgroup[];
  readonly steps: Map<string, JobCgroup[]>;
  readonly extern: ExternCgroup[];
}

/**
 * Finds every job with a directory on this node, ordered by node name, uid and job id. A directory that
 * vanishes meanwhile is not an error: the job, or its part in that hierarchy, is left out.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED and others when a directory that is there cannot be read:
 * an unreadable tree is never an empty one.
 */
export function discoverJobs(node: SlurmNode, options: DiscoverJobsOptions = {}): readonly Job[] {
  if (node.unreadable.length > 0) {
    throw new SlurmCgroupsError('ERR_IO', `Cannot tell which jobs are on this node: ${node.unreadable.join('; ')}`);
  }
  const drafts = new Map<string, Draft>();
  for (const top of node.tops) {
    if (top.version === 2) readJobs(node, top, { directory: top.directory, uid: undefined, drafts, options });
    else
      for (const uid of usersOf(node, top, options.uid))
        readJobs(node, top, { directory: `${top.directory}/uid_${uid}`, uid, drafts, options });
  }
  return [...drafts.values()].sort(byName).map((draft) => toJob(draft, node));
}

function usersOf(node: SlurmNode, top: LocatedTop, only: number | undefined): readonly number[] {
  if (only !== undefined) return [only];
  return namesIfThere(node, top.directory).flatMap((name) => parseUidName(name) ?? []);
}

interface SearchedTop {
  readonly directory: string;
  readonly uid: number | undefined;
  readonly drafts: Map<string, Draft>;
  readonly options: DiscoverJobsOptions;
}

function readJobs(node: SlurmNode, top: LocatedTop, place: SearchedTop): void {
  const { key, controllers } = top.hierarchy;
  const wantTimes = place.options.jobTimes === true;
  for (const jobName of namesIfThere(node, place.directory)) {
    const name = parseJobName(jobName);
    if (name === undefined || (top.version === 1 && 'sluid' in name)) continue; // SLUIDs name directories on v2 only
    if (place.options.only !== undefined && !isSameJob(place.options.only, name)) continue;
    const path = `${place.directory}/${jobName}`;
    const steps = namesIfThere(node, path);
    if (steps.length === 0) continue; // gone: a cgroup that is there has its control files
    const draft = draftOf(place, top, name, jobName);
    const ofJob: JobCgroup = { hierarchy: key, controllers, path };
    const mtimeNs = wantTimes ? node.host.stat(path)?.mtimeNs : undefined;
    draft.cgroups.push(mtimeNs === undefined ? ofJob : { ...ofJob, mtimeNs });
    for (const stepName of steps) {
      const stepId = parseStepName(stepName);
      if (stepId === undefined) continue;
      const cgroup: JobCgroup = { hierarchy: key, controllers, path: `${path}/${stepName}` };
      if (stepId === 'extern') {
        const stat = node.host.stat(cgroup.path);
        if (stat === undefined) continue;
        draft.extern.push({
          hierarchy: key,
          controllers,
          path: cgroup.path,
          inode: stat.ino,
          mtimeNs: stat.mtimeNs,
        });
      }
      const known = draft.steps.get(stepId);
      if (known === undefined) draft.steps.set(stepId, [cgroup]);
      else known.push(cgroup);
    }
  }
}

/** Job ids of different nodes, and of different users after ids began anew, are different jobs. */
function draftOf(place: SearchedTop, top: LocatedTop, name: JobName, jobName: string): Draft {
  const id = `${top.version} ${top.nodeName ?? ''} ${place.uid ?? ''} ${jobName}`;
  const known = place.drafts.get(id);
  if (known !== undefined) return known;
  const made: Draft = {
    name,
    uid: place.uid,
    nodeName: top.nodeName,
    version: top.version,
    cgroups: [],
    steps: new Map(),
    extern: [],
  };
  place.drafts.set(id, made);
  return made;
}

function toJob(draft: Draft, node: SlurmNode): Job {
  const steps: readonly Step[] = [...draft.steps].map(([stepId, cgroups]) => ({ stepId, cgroups })).sort(byStep);
  const externMissingIn = node.tops.flatMap((top) => {
    const { key } = top.hierarchy;
    const ofThisNode = top.version === draft.version && top.nodeName === draft.nodeName;
    return ofThisNode && !draft.extern.some((cgroup) => cgroup.hierarchy === key) ? [key] : [];
  });
  return {
    ...draft.name,
    ...(draft.uid === undefined ? {} : { uid: draft.uid }),
    ...(draft.nodeName === undefined ? {} : { nodeName: draft.nodeName }),
    steps,
    cgroups: draft.cgroups,
    ...(draft.extern.length === 0 ? {} : { extern: { cgroups: draft.extern } }),
    externMissingIn,
  };
}

/** No job of that user here, or it ended while being looked at. */
function namesIfThere(node: SlurmNode, directory: string): readonly string[] {
  return ifThere(() => node.host.names(directory)) ?? [];
}

function byName(a: Draft, b: Draft): number {
  return (
    compare(a.nodeName ?? '', b.nodeName ?? '') ||
    compare(a.uid ?? -1, b.uid ?? -1) ||
    compare(idOf(a.name), idOf(b.name)) ||
    compare('sluid' in a.name ? a.name.sluid : '', 'sluid' in b.name ? b.name.sluid : '')
  );
}

function idOf(name: JobName): number {
  return 'jobId' in name ? name.jobId : 0;
}

const namedSteps: readonly string[] = ['extern', 'batch', 'interactive'];

/** extern, batch, interactive, numbers by size, then the rest by name. */
function byStep(a: Step, b: Step): number {
  const rank = (step: Step) => {
    const named = namedSteps.indexOf(step.stepId);
    return named !== -1 ? named : /^\d+(\+\d+)?$/.test(step.stepId) ? namedSteps.length : namedSteps.length + 1;
  };
  return (
    compare(rank(a), rank(b)) ||
    (rank(a) === namedSteps.length ? compare(Number.parseInt(a.stepId, 10), Number.parseInt(b.stepId, 10)) : 0) ||
    compare(a.stepId, b.stepId)
  );
}

function compare<T extends string | number>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The cgroup at a directory of a job; `undefined` when its hierarchy is not mounted here. */
export function cgroupOf(
  node: Pick<SlurmNode, 'host' | 'hierarchies'>,
  { hierarchy, path }: JobCgroup,
): Cgroup | undefined {
  const found = hierarchyOfKey(node.hierarchies, hierarchy);
  return found === undefined ? undefined : new Cgroup(node.host, found, cgroupPath(cgroupAt(found, path)));
}
