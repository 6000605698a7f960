// This node: its hierarchies, where in them Slurm's trees lie, and what its configuration says. Gathered
// once and handed to whatever looks for jobs. A machine can hold several Slurm nodes (multiple-slurmd).

import { hasCode, isGone, SlurmCgroupsError } from '../cgroup/errors.js';
import { type Hierarchies, type Hierarchy, directoryOf, discoverHierarchies } from '../cgroup/hierarchies.js';
import { type Host, type HostOption, liveHost } from '../cgroup/host.js';
import { type CgroupPath, childPath, partsOf, rootPath } from '../cgroup/path.js';
import { readSlurmConfiguration, type SlurmConfiguration } from './config.js';
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
  /** NodeName: as given, else the one that the trees name, else this host's short name. */
  readonly nodeName: string | undefined;
  readonly configuration: SlurmConfiguration | undefined;
  /** SlurmdSpoolDir, expanded, where it is known. */
  readonly spoolDir: string | undefined;
  /** Why this is a Slurm node; `undefined`: nothing says so. */
  readonly evidence: string | undefined;
  /** What could not be read, for people. */
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
  const notes: string[] = [];
  const configuration =
    options.within === undefined
      ? await readSlurmConfiguration(host, {
          timeoutMs: options.timeoutMs ?? 2000,
          ...(options.configFile === undefined ? {} : { file: options.configFile }),
        })
      : undefined;
  notes.push(...(configuration?.notes ?? []));
  const mountpoint = configuration?.cgroupMountpoint;
  const hierarchies = discoverHierarchies({ host, ...(mountpoint === undefined ? {} : { cgroupMountpoint: mountpoint }) });
  const found = findTops({ host, hierarchies, within, configuration, notes });
  const tops = options.nodeName === undefined ? found : found.filter((top) => top.nodeName === undefined || top.nodeName === options.nodeName);
  const names = [...new Set(tops.map((top) => top.nodeName))];
  const nodeName = options.nodeName ?? (names.length === 1 ? names[0] : undefined) ?? shortHostName(host, notes);
  const spoolDir = options.spoolDir ?? (options.within === undefined ? (configuration?.slurmdSpoolDir ?? defaultSpool) : undefined);
  const spool = spoolDir === undefined ? undefined : expand(spoolDir, nodeName, shortHostName(host, []));
  return {
    host,
    hierarchies,
    tops,
    nodeName,
    configuration,
    spoolDir: spool,
    evidence: evidenceOf(host, tops, spool),
    notes,
  };
}

interface Search {
  readonly host: Host;
  readonly hierarchies: Hierarchies;
  readonly within: CgroupPath;
  readonly configuration: SlurmConfiguration | undefined;
  readonly notes: string[];
}

/**
 * Slurm's directories stand at fixed places, made by root. The same names elsewhere mean nothing: a user's
 * delegated tree (user@.service) can hold a `slurmstepd.scope/job_1/step_extern` of his own making.
 */
function findTops(search: Search): readonly LocatedTop[] {
  const { host, hierarchies, within, configuration, notes } = search;
  const tops: LocatedTop[] = [];
  const look = (hierarchy: Hierarchy, parent: CgroupPath, read: (name: string) => { readonly nodeName?: string } | undefined) => {
    const directory = directoryOf(hierarchy, parent);
    if (directory === undefined) return;
    let names: readonly string[];
    try {
      names = host.names(directory);
    } catch (error) {
      if (isGone(error)) return; // no such slice, or no sandbox in this hierarchy
      if (!(error instanceof SlurmCgroupsError)) throw error;
      notes.push(error.message);
      return;
    }
    for (const name of [...names].sort()) {
      const top = read(name);
      const stat = top === undefined ? undefined : host.stat(`${directory}/${name}`);
      if (top === undefined || stat === undefined || !isDirectory(stat.mode)) continue;
      if (stat.uid !== 0n) {
        notes.push(`"${directory}/${name}" belongs to uid ${stat.uid}, not to root: it is not Slurm's`);
        continue;
      }
      tops.push({ version: hierarchy.version, hierarchy, path: childPath(parent, name), directory: `${directory}/${name}`, ...top });
    }
  };
  const prepend = configuration?.cgroupPrepend;
  for (const hierarchy of hierarchies.all) {
    if (hierarchy.version === 2) {
      look(hierarchy, childPath(within, configuration?.cgroupSlice ?? 'system.slice'), parseTopV2);
    } else if (prepend === undefined) {
      look(hierarchy, within, parseTopV1);
    } else {
      // CgroupPrepend of older releases names the directory itself; `%n` is the node.
      const parts = partsOf(within).concat(prepend.split('/').filter((part) => part !== ''));
      const [name = 'slurm', parent] = [parts.at(-1), parts.slice(0, -1)];
      const pattern = new RegExp(`^${name.split('%n').map(escapePattern).join('(?<node>.+)')}$`);
      look(hierarchy, childPath(rootPath, ...parent), (found) => {
        const match = pattern.exec(found);
        if (match === null) return undefined;
        return match.groups?.['node'] === undefined ? {} : { nodeName: match.groups['node'] };
      });
    }
  }
  return tops;
}

function evidenceOf(host: Host, tops: readonly LocatedTop[], spool: string | undefined): string | undefined {
  const first = tops[0];
  if (first !== undefined) return `Slurm's cgroup "${first.directory}"`;
  if (spool !== undefined && isFolder(host, spool)) return `the spool of slurmd "${spool}"`;
  return undefined;
}

function isFolder(host: Host, path: string): boolean {
  try {
    const stat = host.stat(path);
    return stat !== undefined && isDirectory(stat.mode);
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED', 'ERR_NOT_FOUND')) return false; // not known to be one
    throw error;
  }
}

/** S_IFDIR */
export function isDirectory(mode: bigint): boolean {
  return (mode & 0o170000n) === 0o040000n;
}

function expand(text: string, nodeName: string | undefined, hostName: string | undefined): string {
  return text.replaceAll('%n', nodeName ?? '%n').replaceAll('%h', hostName ?? '%h');
}

function shortHostName(host: Host, notes: string[]): string | undefined {
  try {
    return host.read('/proc/sys/kernel/hostname').trim().split('.')[0];
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return undefined;
  }
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
