// The limits that a cgroup is under: its own and those of every cgroup above it, of which the tightest counts. Kernel
// files by their names: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.

import { defined } from '../machine/defined.js';
import { ifReadable } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { directoryOf, type Hierarchies, type Hierarchy, hierarchyOf } from './hierarchies.js';
import type { Membership } from './membership.js';
import { type CgroupPath, parentPath } from './path.js';

/** The tightest limit on the way from a cgroup to the root; absent: that controller is not there. */
export interface Limits {
  readonly memoryBytes?: number | 'max';
  /** As the kernel writes it: `0-3,8`. */
  readonly cpus?: string;
  /** CPU time in CPUs: 1.5 is one and a half. */
  readonly cpuQuota?: number | 'max';
  readonly pids?: number | 'max';
}

/** A cgroup in its hierarchy, as /proc/PID/cgroup names both. */
export type CgroupPlace = Pick<Membership, 'controllers' | 'path'>;

/** What limits a process that is in these cgroups, one in each hierarchy. What cannot be read is absent. */
export function limitsAt(
  { host, hierarchies }: { readonly host: Host; readonly hierarchies: Hierarchies },
  places: readonly CgroupPlace[],
): Limits {
  /** A controller that no hierarchy of v1 has is one of v2. */
  const at = (controller: string): LimitedCgroup | undefined => {
    const place =
      places.find(({ controllers }) => controllers.includes(controller)) ??
      places.find(({ controllers }) => controllers.length === 0);
    const hierarchy = place === undefined ? undefined : hierarchyOf(hierarchies, place);
    return place === undefined || hierarchy === undefined ? undefined : { host, hierarchy, path: place.path };
  };
  const read = (controller: string, v1: string, v2: string): readonly string[] => {
    const cgroup = at(controller);
    return cgroup === undefined ? [] : upwards(cgroup, cgroup.hierarchy.version === 1 ? v1 : v2);
  };
  const memory = tightest(read('memory', 'memory.limit_in_bytes', 'memory.max').map(numberOrMax));
  const pids = tightest(read('pids', 'pids.max', 'pids.max').map(numberOrMax));
  const cpus = read('cpuset', 'cpuset.cpus', 'cpuset.cpus.effective')[0]?.trim();
  const quota = quotaOf(at('cpu'));
  return {
    ...defined({ memoryBytes: memory }),
    ...(cpus === undefined || cpus === '' ? {} : { cpus }),
    ...defined({ cpuQuota: quota, pids }),
  };
}

interface LimitedCgroup {
  readonly host: Host;
  readonly hierarchy: Hierarchy;
  readonly path: CgroupPath;
}

/** The file in the cgroup and in each one above, nearest first; a level without it (the root) is left out. */
function upwards({ host, hierarchy, path }: LimitedCgroup, file: string): readonly string[] {
  const texts: string[] = [];
  for (let at = path; ; at = parentPath(at)) {
    const directory = directoryOf(hierarchy, at);
    if (directory === undefined) return texts; // above what the mount shows
    const text = ifReadable(() => host.read(`${directory}/${file}`));
    if (text !== undefined) texts.push(text); // else that level has no such file, or it is gone
    if (at === '/') return texts;
  }
}

/** v1 writes "no limit" as the greatest multiple of the page size that fits a signed 64-bit number. */
function numberOrMax(text: string): number | 'max' {
  const value = text.trim();
  return value === 'max' || BigInt(/^\d+$/.test(value) ? value : 0) > 2n ** 62n ? 'max' : Number(value);
}

function tightest(values: readonly (number | 'max')[]): number | 'max' | undefined {
  if (values.length === 0) return undefined;
  const numbers = values.filter((value) => value !== 'max');
  return numbers.length === 0 ? 'max' : Math.min(...numbers);
}

function quotaOf(cgroup: LimitedCgroup | undefined): number | 'max' | undefined {
  if (cgroup === undefined) return undefined;
  if (cgroup.hierarchy.version === 2) {
    return tightest(
      upwards(cgroup, 'cpu.max').map((text) => {
        const [quota = 'max', period = '100000'] = text.trim().split(' ');
        return quota === 'max' ? 'max' : Number(quota) / Number(period);
      }),
    );
  }
  const quotas = upwards(cgroup, 'cpu.cfs_quota_us');
  const periods = upwards(cgroup, 'cpu.cfs_period_us');
  return tightest(
    quotas.map((text, level) => (text.trim() === '-1' ? 'max' : Number(text) / Number(periods[level] ?? '100000'))),
  );
}
