// This node: its hierarchies, where in them Slurm's trees lie, and what its configuration says. Gathered
// once and handed to whatever looks for jobs. A machine can hold several Slurm nodes (multiple-slurmd).

import { directoryOf, discoverHierarchies, type Hierarchies, type Hierarchy } from '../cgroup/hierarchies.js';
import { type CgroupPath, childPath, rootPath } from '../cgroup/path.js';
import { boundedReads } from '../machine/bounded-reads.js';
import { deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import { type Host, type HostOption, isDirectory } from '../machine/host.js';
import { liveHost } from '../machine/live-host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';
import { expandSlurmdPath, nodeNamesOf, shortHostName } from './config/node-names.js';
import { at } from './config/place.js';
import { readSlurmConfiguration, type SlurmConfiguration } from './config/read.js';
import { parseTopV1, parseTopV2, type SlurmTop } from './layout.js';

/** Slurm's own directory in one hierarchy, as found. */
export interface LocatedTop extends SlurmTop {
  readonly hierarchy: Hierarchy;
  /** Absolute path in the file system. */
  readonly directory: string;
}

export interface SlurmNode {
  readonly host: Host;
  readonly hierarchies: Hierarchies;
  readonly tops: readonly LocatedTop[];
  /** NodeName: as given, else as Slurm's trees, slurmd or the configuration name it. `undefined`: several share this machine. */
  readonly nodeName: string | undefined;
  readonly configuration: SlurmConfiguration | undefined;
  /** SlurmdSpoolDir of each node here, by NodeName: those that are there, on a file system of this machine. */
  readonly spools: ReadonlyMap<string, string>;
  /** Why this is a Slurm node; `undefined`: nothing says so. */
  readonly evidence: string | undefined;
  /** Where Slurm's trees could not be looked for: with one of these, what jobs there are is not known. */
  readonly unreadable: readonly string[];
  /** What is worth a word to people. */
  readonly notes: readonly string[];
}

export interface ReadNodeOptions extends HostOption {
  /**
   * Look for Slurm's tree below this cgroup of each hierarchy instead of the hierarchy's root, and for
   * nothing else: no configuration is read. For the demo, tests and trees in containers.
   */
  readonly within?: CgroupPath;
  /** Only this node's jobs where several nodes share the machine. */
  readonly nodeName?: string;
  /** A configuration file to read instead of those that Slurm would find. */
  readonly configFile?: string;
  /** SlurmdSpoolDir, where the configuration is not to be asked. */
  readonly spoolDir?: string;
  /** How long a configuration on another machine's file system may take to answer. Default 2000. */
  readonly timeoutMs?: number;
}

const defaultSpool = '/var/spool/slurmd';

/**
 * Looks at this machine.
 *
 * @throws SlurmCgroupsError ERR_NO_CGROUPS; ConfigError where a configuration is there and cannot be trusted or read.
 */
export async function readNode(options: ReadNodeOptions = {}): Promise<SlurmNode> {
  const { host = liveHost(), within = rootPath } = options;
  const timeoutMs = options.timeoutMs ?? 2000;
  const notes: string[] = [];
  const configuration =
    options.within === undefined
      ? await readSlurmConfiguration(host, {
          timeoutMs,
          lookForSlurmd: host.source === 'live',
          ...defined({ nodeName: options.nodeName, file: options.configFile }),
        })
      : undefined;
  notes.push(...(configuration?.notes ?? []));
  const mountpoint = configuration?.cgroupMountpoint;
  const hierarchies = discoverHierarchies({
    host,
    ...defined({ cgroupMountpoint: mountpoint }),
  });
  const elsewhere = mountpointElsewhere(configuration, hierarchies);
  if (elsewhere !== undefined) notes.push(elsewhere);
  const unreadable: string[] = [];
  const found = findTops({ host, hierarchies, within, configuration, notes, unreadable });
  const tops =
    options.nodeName === undefined
      ? found
      : found.filter((top) => top.nodeName === undefined || top.nodeName === options.nodeName);
  const hostName = readHostName(host, notes);
  const nodeNames = namesOfNodes(tops, { given: options.nodeName, configuration, hostName });
  const spoolDir =
    options.spoolDir ?? (options.within === undefined ? (configuration?.slurmdSpoolDir ?? defaultSpool) : undefined);
  const spools = new Map<string, string>();
  for (const nodeName of nodeNames) {
    const spool = spoolDir === undefined ? undefined : expandSlurmdPath(spoolDir, { nodeName, hostName });
    if (spool !== undefined && (await isSpool(host, spool, { timeoutMs, notes }))) spools.set(nodeName, spool);
  }
  const [top, spool] = [tops[0], [...spools.values()][0]];
  const evidence =
    top !== undefined
      ? `Slurm's cgroup "${top.directory}"`
      : spool === undefined
        ? undefined
        : `the spool of slurmd "${spool}"`;
  return {
    host,
    hierarchies,
    tops,
    nodeName: nodeNames.length === 1 ? nodeNames[0] : undefined,
    configuration,
    spools,
    evidence,
    unreadable,
    notes,
  };
}

/**
 * That CgroupMountpoint names a place without cgroups, for people; `undefined`: it does not, or is not set. The kernel's
 * mount table counts all the same: a place that somebody wrote down holds no job.
 */
export function mountpointElsewhere(
  configuration: SlurmConfiguration | undefined,
  { all }: Hierarchies,
): string | undefined {
  const named = configuration?.cgroupMountpoint;
  if (named === undefined || named === '/') return undefined;
  if (all.some(({ mountPoint }) => mountPoint === named || mountPoint.startsWith(`${named}/`))) return undefined;
  const where = at(configuration?.places.get('cgroupMountpoint'));
  return `No cgroup file system is mounted at CgroupMountpoint=${quote(named)}${where}: those that the mount table of the kernel shows are used`;
}

/** Which nodes of Slurm this machine is: most machines are one. */
function namesOfNodes(
  tops: readonly LocatedTop[],
  known: {
    readonly given: string | undefined;
    readonly configuration: SlurmConfiguration | undefined;
    readonly hostName: string | undefined;
  },
): readonly string[] {
  if (known.given !== undefined) return [known.given];
  const named = [...new Set(tops.flatMap((top) => top.nodeName ?? []))];
  if (named.length > 0) return named;
  const slurmd = known.configuration?.slurmd?.nodeName;
  if (slurmd !== undefined) return [slurmd];
  if (known.hostName === undefined) return [];
  const configured = nodeNamesOf(known.configuration?.nodes ?? [], known.hostName);
  return configured.length > 0 ? configured : [shortHostName(known.hostName)];
}

/** A folder, looked at only where the answer comes at once: a spool on another machine is no evidence worth a hang. */
async function isSpool(
  host: Host,
  spool: string,
  { timeoutMs, notes }: { readonly timeoutMs: number; readonly notes: string[] },
): Promise<boolean> {
  try {
    const local = host.source === 'recording' || answersAtOnce(readMountTable(host).at(spool)?.type);
    const look = await boundedReads(host, deadlineIn(host, timeoutMs)).stat(spool);
    if (look === undefined || !isDirectory(look)) return false;
    if (!local) notes.push(`The spool of slurmd "${spool}" is on a file system that may not answer: it is not read`);
    return local;
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_FOUND')) return false;
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return false;
  }
}

interface Search {
  readonly host: Host;
  readonly hierarchies: Hierarchies;
  readonly within: CgroupPath;
  readonly configuration: SlurmConfiguration | undefined;
  readonly notes: string[];
  readonly unreadable: string[];
}

/**
 * Slurm's directories stand at fixed places, made by root. The same names elsewhere mean nothing: a user's
 * delegated tree (user@.service) can hold a `slurmstepd.scope/job_1/step_extern` of his own making.
 */
function findTops(search: Search): readonly LocatedTop[] {
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
  const [prepend, slice = 'system.slice'] = [configuration?.cgroupPrepend, configuration?.cgroupSlice];
  for (const hierarchy of hierarchies.all) {
    if (hierarchy.version === 2) look(hierarchy, childPath(within, ...partsOfSetting(slice)), parseTopV2);
    else if (prepend === undefined) look(hierarchy, within, parseTopV1);
    else lookAlong(hierarchy, within, partsOfSetting(prepend));
  }
  return tops;
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

function readHostName(host: Host, notes: string[]): string | undefined {
  try {
    return host.read('/proc/sys/kernel/hostname').trim();
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return undefined;
  }
}
