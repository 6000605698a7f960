// The hierarchies of this machine: which are mounted, where, and where the path of a membership lies in the
// file system. The mode (legacy, hybrid, unified) is told for people; code asks for a hierarchy instead.

import path from 'node:path';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { HostOption } from '../machine/host.js';
import { liveHost } from '../machine/live-host.js';
import { hierarchyKey, type Membership } from './membership.js';
import { type CgroupMount, parseCgroupMounts } from './mounts.js';
import { type CgroupPath, partsOf } from './path.js';

/** One mounted cgroup tree. */
export interface Hierarchy extends CgroupMount {
  /** `memory`, `cpu,cpuacct`, `name=systemd`; `unified` for v2. Equal to `hierarchyKey` of a membership in it. */
  readonly key: string;
}

export interface Hierarchies {
  /** legacy: v1 only; unified: v2 only; hybrid: both. */
  readonly mode: 'legacy' | 'hybrid' | 'unified';
  readonly all: readonly Hierarchy[];
  /** By controller (`memory`) or key (`name=systemd`, `unified`). */
  get(controller: string): Hierarchy | undefined;
}

export interface DiscoverHierarchiesOptions extends HostOption {
  /** CgroupMountpoint of cgroup.conf: preferred where a hierarchy is mounted twice. Default `/sys/fs/cgroup`. */
  readonly cgroupMountpoint?: string;
}

/**
 * The mounted hierarchies of this mount namespace.
 *
 * @throws SlurmCgroupsError ERR_NO_CGROUPS when none is mounted; ParseError when the mount table is damaged.
 */
export function discoverHierarchies(options: DiscoverHierarchiesOptions = {}): Hierarchies {
  const { host = liveHost(), cgroupMountpoint = '/sys/fs/cgroup' } = options;
  const all = chooseMounts(parseCgroupMounts(host.read('/proc/self/mountinfo')), cgroupMountpoint);
  if (all.length === 0) {
    throw new SlurmCgroupsError(
      'ERR_NO_CGROUPS',
      'Cannot find any cgroup hierarchy: none is mounted (/proc/self/mountinfo)',
      {
        path: '/proc/self/mountinfo',
      },
    );
  }
  const v1 = all.some((one) => one.version === 1);
  const v2 = all.some((one) => one.version === 2);
  return {
    mode: v1 ? (v2 ? 'hybrid' : 'legacy') : 'unified',
    all,
    get: (controller) => all.find((one) => one.key === controller || one.controllers.includes(controller)),
  };
}

/** One mount for each hierarchy: under the usual root, else the one that shows most of it, else a writable one. */
function chooseMounts(mounts: readonly CgroupMount[], usualRoot: string): readonly Hierarchy[] {
  const chosen = new Map<string, Hierarchy>();
  for (const mount of mounts) {
    const key = hierarchyKey(mount.controllers);
    const rival = chosen.get(key);
    if (rival === undefined || isBetter(mount, rival, usualRoot)) chosen.set(key, { ...mount, key });
  }
  return [...chosen.values()];
}

function isBetter(mount: CgroupMount, rival: CgroupMount, usualRoot: string): boolean {
  const rank = (one: CgroupMount) => [
    `${one.mountPoint}/`.startsWith(`${usualRoot.replace(/\/+$/, '')}/`) ? 0 : 1, // CgroupMountpoint=/cgroup/ is allowed
    partsOf(one.root).length,
    one.readOnly ? 1 : 0,
  ];
  const [mine, its] = [rank(mount), rank(rival)];
  for (const [at, value] of mine.entries()) {
    const other = its[at] ?? 0;
    if (value !== other) return value < other;
  }
  return false;
}

/** The hierarchy a membership belongs to, if it is mounted here. */
export function hierarchyOf(
  hierarchies: Hierarchies,
  membership: Pick<Membership, 'controllers'>,
): Hierarchy | undefined {
  return hierarchyOfKey(hierarchies, hierarchyKey(membership.controllers));
}

/** The hierarchy with exactly that key. */
export function hierarchyOfKey(hierarchies: Hierarchies, key: string): Hierarchy | undefined {
  return hierarchies.all.find((one) => one.key === key);
}

/**
 * Where the cgroup `cgroup` of a hierarchy lies in the file system; `undefined` when the mount does not show
 * it (it lies outside the mount's root or outside this cgroup namespace).
 */
export function directoryOf(hierarchy: Pick<Hierarchy, 'mountPoint' | 'root'>, cgroup: CgroupPath): string | undefined {
  // Most mounts show a whole hierarchy: then the path is the way.
  if (hierarchy.root === '/' && !cgroup.includes('/..'))
    return cgroup === '/' ? hierarchy.mountPoint : `${trimSlash(hierarchy.mountPoint)}${cgroup}`;
  const root = partsOf(hierarchy.root);
  const parts = partsOf(cgroup);
  if (root.some((part, at) => parts[at] !== part)) return undefined;
  const below = parts.slice(root.length);
  // What is left may not climb: `/..` beyond the root of the mount is another tree.
  if (below.includes('..')) return undefined;
  return below.length === 0 ? hierarchy.mountPoint : `${trimSlash(hierarchy.mountPoint)}/${below.join('/')}`;
}

/** The reverse of directoryOf: which cgroup a directory below the mount point is. */
export function cgroupAt(hierarchy: Pick<Hierarchy, 'mountPoint' | 'root'>, directory: string): string {
  const inside = `${trimSlash(hierarchy.mountPoint)}/`;
  const below = directory.startsWith(inside)
    ? directory.slice(inside.length)
    : path.relative(hierarchy.mountPoint, directory);
  if (below === '') return hierarchy.root;
  return `${hierarchy.root === '/' ? '' : hierarchy.root}/${below}`;
}

function trimSlash(text: string): string {
  return text === '/' ? '' : text;
}
