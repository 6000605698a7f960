// Where a change of the jobs of a node shows first: the directories to watch, and what a name that comes or
// goes in one of them is about. As few as they can be: each costs the kernel a watch.

import path from 'node:path';
import { directoryOf } from '../../cgroup/hierarchies.js';
import { type CgroupPath, childPath, rootPath } from '../../cgroup/path.js';
import { defined } from '../../machine/defined.js';
import { ifThere } from '../../machine/errors.js';
import type { Job } from '../job.js';
import { parseJobName, parseStepName, parseTopV1, parseTopV2, parseUidName } from '../layout.js';
import type { SlurmNode } from '../node.js';
import { slicesOf } from '../tops.js';

export interface WatchedDirectory {
  readonly directory: string;
  /** `top`: Slurm's own directory; `above`: where it stands, or will; `further`: where what it stands in will. */
  readonly kind: 'further' | 'above' | 'top' | 'user' | 'job';
  readonly version: 1 | 2;
  /** v1: whose directory it is. */
  readonly uid?: number;
}

/** What is to be looked at again. */
export type Affected = { readonly what: 'node' | 'all' } | { readonly what: 'user'; readonly uid: number } | undefined;

/**
 * Slurm's own directories, on v1 those of the users below them, and what stands above only where it must be: a cgroup
 * that has children cannot be removed, so the parent (which alone tells of a removal: the kernel says nothing to a
 * watch on the cgroup itself, measured on 6.18) is watched while there is none; and where directories are named by
 * node, for another node's.
 */
export function directoriesToWatch(node: SlurmNode, within?: CgroupPath): readonly WatchedDirectory[] {
  const directories = new Map<string, WatchedDirectory>();
  const add = (watched: WatchedDirectory) => {
    if (!directories.has(watched.directory)) directories.set(watched.directory, watched);
  };
  for (const { directory, version, nodeName } of node.tops) {
    const stat = node.host.stat(directory);
    const isEmpty = stat === undefined || stat.nlink <= 2n;
    if (isEmpty || nodeName !== undefined) add(above(node, path.dirname(directory), version));
    if (stat === undefined) continue;
    add({ directory, kind: 'top', version });
    if (version === 2 || isEmpty) continue;
    for (const name of ifThere(() => node.host.names(directory)) ?? []) {
      const uid = parseUidName(name);
      if (uid !== undefined) add({ directory: `${directory}/${name}`, kind: 'user', version, uid });
    }
  }
  if (node.tops.length === 0) for (const watched of directoriesWithoutTops(node, within)) add(watched);
  return [...directories.values()];
}

/** Where Slurm's trees will stand (findTops of tops.ts). */
function* directoriesWithoutTops(node: SlurmNode, within: CgroupPath | undefined): Generator<WatchedDirectory> {
  const { cgroupPrepend: prepend, cgroupSlice: slice } = node.configuration ?? {};
  const parents = prepend?.split('/').filter((part) => part !== '') ?? [];
  for (const hierarchy of node.hierarchies.all) {
    const isV2 = hierarchy.version === 2;
    const paths = isV2
      ? slicesOf({ host: node.host, within, slice })
      : [childPath(within ?? rootPath, ...parents.slice(0, -1))];
    for (const path of paths) {
      const directory = directoryOf(hierarchy, path);
      if (directory !== undefined) yield above(node, directory, hierarchy.version);
    }
  }
}

/** That directory, or the nearest above it that is there. */
function above(node: SlurmNode, directory: string, version: 1 | 2): WatchedDirectory {
  let there = directory;
  while (there !== '/' && node.host.stat(there) === undefined) there = path.dirname(there);
  // CgroupPrepend gives Slurm's directory any name.
  const isParent = there === directory && (version === 2 || node.configuration?.cgroupPrepend === undefined);
  return { directory: there, kind: isParent ? 'above' : 'further', version };
}

/**
 * For the steps of a job one directory more: the freezer's, where Slurm tracks all of them, else its first.
 */
export function stepDirectoryOf(job: Job): WatchedDirectory | undefined {
  const cgroup = job.cgroups.find(({ controllers }) => controllers.includes('freezer')) ?? job.cgroups[0];
  if (cgroup === undefined) return undefined;
  if (cgroup.hierarchy === 'unified') return { directory: cgroup.path, kind: 'job', version: 2 };
  return { directory: cgroup.path, kind: 'job', version: 1, ...defined({ uid: job.uid }) };
}

/** Whether a step stands only where nothing is watched: made before, or removed after, the one that is watched. */
export function hasHiddenSteps(job: Job): boolean {
  const watched = stepDirectoryOf(job);
  return job.steps.some(({ cgroups }) => !cgroups.some((cgroup) => path.dirname(cgroup.path) === watched?.directory));
}

/** What a name that came or went in a watched directory is about; `undefined`: nothing of Slurm's. */
export function affectedBy(watched: WatchedDirectory, name: string | undefined): Affected {
  const user: Affected = watched.uid === undefined ? { what: 'all' } : { what: 'user', uid: watched.uid };
  switch (watched.kind) {
    case 'further':
      return { what: 'node' };
    case 'above': {
      const isTop = name === undefined || (watched.version === 1 ? parseTopV1(name) : parseTopV2(name)) !== undefined;
      return isTop ? { what: 'node' } : undefined;
    }
    case 'top': {
      if (name === undefined) return { what: 'all' };
      if (watched.version === 2) return parseJobName(name) === undefined ? undefined : { what: 'all' };
      const uid = parseUidName(name);
      return uid === undefined ? undefined : { what: 'user', uid };
    }
    case 'user':
      return name === undefined || parseJobName(name) !== undefined ? user : undefined;
    case 'job':
      return name === undefined || parseStepName(name) !== undefined ? user : undefined;
  }
}
