// Slurm's own directories in the hierarchies of this machine: where they stand by its releases and its configuration,
// and which node each is of.

import { directoryOf, type Hierarchies, type Hierarchy } from '../cgroup/hierarchies.js';
import { parseMemberships } from '../cgroup/membership.js';
import { type CgroupPath, childPath, partsOf, rootPath } from '../cgroup/path.js';
import { isGone, SlurmCgroupsError } from '../machine/errors.js';
import { type Host, isDirectory } from '../machine/host.js';
import type { SlurmConfiguration } from './config/read.js';
import { parseTopV1, parseTopV2, type SlurmTop } from './layout.js';

/** Where cgroup.conf names no other (CgroupSlice). */
const usualSlice = 'system.slice';

/** Slurm's own directory in one hierarchy, as found. */
export interface LocatedTop extends SlurmTop {
  readonly hierarchy: Hierarchy;
  /** Absolute path in the file system. */
  readonly directory: string;
}

export interface TopsSearch {
  readonly host: Host;
  readonly hierarchies: Hierarchies;
  /** Absent: where Slurm begins by itself. */
  readonly within: CgroupPath | undefined;
  readonly configuration: SlurmConfiguration | undefined;
  readonly notes: string[];
  readonly unreadable: string[];
}

/**
 * Slurm's directories stand at fixed places, made by root. The same names elsewhere mean nothing: a user's
 * delegated tree (user@.service) can hold a `slurmstepd.scope/job_1/step_extern` that the user made.
 */
export function findTops(search: TopsSearch): readonly LocatedTop[] {
  const { host, hierarchies, within, configuration, notes, unreadable } = search;
  const tops: LocatedTop[] = [];
  const namesIn = (directory: string): readonly string[] => {
    try {
      return [...host.names(directory)].sort();
    } catch (error) {
      if (isGone(error)) return []; // no such slice, or no sandbox in this hierarchy
      if (!(error instanceof SlurmCgroupsError)) throw error;
      unreadable.push(error.message);
      return [];
    }
  };
  const look = (
    hierarchy: Hierarchy,
    parent: CgroupPath,
    read: (name: string) => { readonly nodeName?: string } | undefined,
  ): void => {
    const directory = directoryOf(hierarchy, parent);
    if (directory === undefined) return;
    for (const name of namesIn(directory)) {
      const top = read(name);
      const stat = top === undefined ? undefined : host.stat(`${directory}/${name}`);
      if (top === undefined || stat === undefined || !isDirectory(stat)) continue;
      if (stat.uid !== 0n) {
        notes.push(`"${directory}/${name}" belongs to uid ${stat.uid}, not to root: it is not Slurm's`);
        continue;
      }
      tops.push({
        version: hierarchy.version,
        hierarchy,
        path: childPath(parent, name),
        directory: `${directory}/${name}`,
        ...top,
      });
    }
  };
  /** CgroupPrepend of older releases names the directory itself, with a `%n` for the node. */
  const lookAlong = (hierarchy: Hierarchy, parent: CgroupPath, [name = 'slurm', ...below]: readonly string[]): void => {
    if (below.length === 0) {
      look(hierarchy, parent, (found) => readNamed(found, name));
      return;
    }
    if (!name.includes('%n')) {
      lookAlong(hierarchy, childPath(parent, name), below);
      return;
    }
    const directory = directoryOf(hierarchy, parent);
    for (const found of directory === undefined ? [] : namesIn(directory)) {
      const read = readNamed(found, name);
      if (read === undefined) continue;
      const named = below.map((part) => withNode(part, read.nodeName ?? '%n', Number.POSITIVE_INFINITY));
      for (const path of new Set([below.join('/'), named.join('/')])) {
        const inside = path.split('/');
        const last = inside.pop();
        look(hierarchy, childPath(parent, found, ...inside), (inner) => (inner === last ? read : undefined));
      }
    }
  };
  const [prepend, slice] = [configuration?.cgroupPrepend, configuration?.cgroupSlice];
  for (const hierarchy of hierarchies.all) {
    if (hierarchy.version === 2) {
      const before = tops.length;
      for (const parent of slicesOf({ host, within, slice })) {
        look(hierarchy, parent, parseTopV2);
        if (tops.length > before) break;
      }
    } else if (prepend === undefined) look(hierarchy, within ?? rootPath, parseTopV1);
    else lookAlong(hierarchy, within ?? rootPath, partsOfSetting(prepend));
  }
  return tops;
}

/** On v2: where Slurm's tree can stand, the first that has one counts. */
export function slicesOf({
  host,
  within,
  slice = usualSlice,
}: {
  readonly host: Host;
  readonly within: CgroupPath | undefined;
  readonly slice: string | undefined;
}): readonly CgroupPath[] {
  const parts = partsOfSetting(slice);
  return (within === undefined ? startsOf(host, parts) : [within]).map((start) => childPath(start, ...parts));
}

/**
 * Where on v2 Slurm's slice stands: in the folder of pid 1's cgroup (from 23.02 on; cgroup_v2.c, _get_init_cg_path). On a
 * host that is the root; in a container that sees its host's cgroups (Kubernetes, nspawn, LXD) it is not. A slurmd that
 * is pid 1 has moved itself below its own scope. The root comes last: releases before, and containers' own namespaces.
 */
function startsOf(host: Host, slice: readonly string[]): readonly CgroupPath[] {
  const parts = partsOf(pathOfFirst(host));
  const scope = parts.findIndex((name) => parseTopV2(name) !== undefined);
  const isBelow = scope !== -1 && slice.every((name, at) => parts[scope - slice.length + at] === name);
  const start = isBelow ? parts.slice(0, scope - slice.length) : parts.slice(0, -1);
  return start.length === 0 ? [rootPath] : [childPath(rootPath, ...start), rootPath];
}

/** The v2 path of pid 1; the root where it is not known, or outside of what this cgroup namespace shows. */
function pathOfFirst(host: Host): CgroupPath {
  try {
    const first = parseMemberships(host.read('/proc/1/cgroup')).find(({ hierarchyId }) => hierarchyId === 0);
    return first === undefined || partsOf(first.path).includes('..') ? rootPath : first.path;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return rootPath;
    throw error;
  }
}

/** The names of a path in the configuration, in which `//` and `.` are allowed. */
function partsOfSetting(path: string): readonly string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/**
 * Whether a directory is one that CgroupPrepend names, and of which node: the %n is the node where Slurm is built for
 * several slurmd a machine, else it stays. Strings alone: a name of the configuration is no pattern.
 */
function readNamed(found: string, written: string): { readonly nodeName?: string } | undefined {
  if (found === written) return {};
  const at = written.indexOf('%n');
  // The first %n alone, as in the paths of slurmd, or each of them.
  for (const times of at === -1 ? [] : [1, written.split('%n').length - 1]) {
    const length = (found.length - written.length) / times + 2;
    const nodeName = found.slice(at, at + length);
    if (length > 0 && withNode(written, nodeName, times) === found) return { nodeName };
  }
  return undefined;
}

/** The first so many %n replaced. */
function withNode(written: string, nodeName: string, times: number): string {
  const [first = '', ...rest] = written.split('%n');
  return rest.reduce((text, part, index) => `${text}${index < times ? nodeName : '%n'}${part}`, first);
}
