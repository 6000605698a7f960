// This node: its hierarchies, where in them Slurm's trees lie, and what its configuration says. Gathered
// once and handed to whatever looks for jobs. A machine can hold several Slurm nodes (multiple-slurmd).

import { discoverHierarchies, type Hierarchies } from '../cgroup/hierarchies.js';
import type { CgroupPath } from '../cgroup/path.js';
import { boundedReads } from '../machine/bounded-reads.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, quote, SlurmCgroupsError, someOf } from '../machine/errors.js';
import { type Host, type HostOption, isDirectory } from '../machine/host.js';
import { liveHost } from '../machine/live-host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';
import { expandSlurmdPath } from './config/node-names.js';
import { at } from './config/place.js';
import { readSlurmConfiguration, type SlurmConfiguration } from './config/read.js';
import { SeveralSlurmds } from './config/slurmd.js';
import { everyNameHere, namesOfNodes } from './own-names.js';
import { findTops, type LocatedTop } from './tops.js';

export type { LocatedTop } from './tops.js';

export interface SlurmNode {
  readonly host: Host;
  readonly hierarchies: Hierarchies;
  readonly tops: readonly LocatedTop[];
  /** Only what is in this cgroup of each hierarchy was looked for, and only there may anything be changed. */
  readonly within?: CgroupPath;
  /** NodeName: as given, else as Slurm's trees, slurmd or the configuration name it. `undefined`: several share this machine. */
  readonly nodeName: string | undefined;
  readonly configuration: SlurmConfiguration | undefined;
  /** Why a configuration that is there is not used (`configurationError: 'note'`). */
  readonly configurationError?: SlurmCgroupsError;
  /** Why the `nodeName` that was given is no node of this machine: then nothing of it is found. */
  readonly nodeNameError?: SlurmCgroupsError;
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
   * Look for Slurm's tree below this cgroup of each hierarchy instead of where Slurm begins by itself. Unless
   * `readConfiguration` says so, nothing else is looked for. For the demo, tests and trees in containers.
   */
  readonly within?: CgroupPath;
  /** Default: yes, but not with `within`. */
  readonly readConfiguration?: boolean;
  /** What becomes of a configuration that is there and cannot be trusted or read. Default: `throw`. */
  readonly configurationError?: 'throw' | 'note';
  /** Only this node's jobs where several nodes share the machine. */
  readonly nodeName?: string;
  /** A configuration file to read instead of those that Slurm would find. */
  readonly configFile?: string;
  /** What the configuration says, where it is known already: then no file of it is read. `none`: there is none. */
  readonly configuration?: SlurmConfiguration | 'none';
  /** SlurmdSpoolDir, where the configuration is not to be asked. */
  readonly spoolDir?: string;
  /** How long other machines' file systems may take to answer, all together. Default 2000. */
  readonly timeoutMs?: number;
}

const defaultSpool = '/var/spool/slurmd';

/**
 * Looks at this machine.
 *
 * @throws SlurmCgroupsError ERR_NO_CGROUPS; ConfigError where a configuration is there and cannot be trusted or read.
 */
export async function readNode(options: ReadNodeOptions = {}): Promise<SlurmNode> {
  const { host = liveHost(), within, readConfiguration = within === undefined } = options;
  const timeoutMs = options.timeoutMs ?? 2000;
  const deadline = deadlineIn(host, timeoutMs);
  const notes: string[] = [];
  let configuration = options.configuration === 'none' ? undefined : options.configuration;
  let configurationError: SlurmCgroupsError | undefined;
  let isFatal = false;
  try {
    if (readConfiguration && options.configuration === undefined)
      configuration = await readSlurmConfiguration(host, {
        timeoutMs,
        lookForSlurmd: host.source === 'live',
        ...defined({ nodeName: options.nodeName, file: options.configFile }),
      });
  } catch (error) {
    if (!isAboutConfiguration(error)) throw error;
    // A name that no slurmd here has is the caller's mistake, not the configuration's.
    isFatal = options.configurationError !== 'note';
    if (isFatal && !(error instanceof SeveralSlurmds && options.nodeName !== undefined)) throw error;
    configurationError = error;
    notes.push(`${error.message}; it is not used, and Slurm's defaults are assumed`);
  }
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
  const known = { configuration, hostName, asksSockets: readConfiguration };
  const nodeNames = options.nodeName === undefined ? namesOfNodes(host, tops, known) : [options.nodeName];
  // A configuration that is not used may name it, unless all nodes are known by their slurmds.
  const started = configurationError instanceof SeveralSlurmds ? configurationError.nodeNames : undefined;
  const nodeNameError =
    options.nodeName === undefined || (configurationError !== undefined && started === undefined)
      ? undefined
      : strangeName(options.nodeName, () => everyNameHere(host, found, { ...known, ...defined({ started }) }));
  if (isFatal) throw nodeNameError ?? configurationError;
  const spoolDir =
    options.spoolDir ?? (readConfiguration ? (configuration?.slurmdSpoolDir ?? defaultSpool) : undefined);
  const spools = new Map<string, string>();
  for (const nodeName of nodeNames) {
    const spool = spoolDir === undefined ? undefined : expandSlurmdPath(spoolDir, { nodeName, hostName });
    if (spool !== undefined && (await isSpool(host, spool, { deadline, notes }))) spools.set(nodeName, spool);
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
    ...defined({ within }),
    nodeName: nodeNames.length === 1 ? nodeNames[0] : undefined,
    configuration,
    ...defined({ configurationError, nodeNameError }),
    spools,
    evidence,
    unreadable,
    notes,
  };
}

/** Where nothing here has a name, any can be meant. */
function strangeName(nodeName: string, namesHere: () => readonly string[]): SlurmCgroupsError | undefined {
  const names = namesHere();
  if (names.length === 0 || names.includes(nodeName)) return undefined;
  return new SlurmCgroupsError('ERR_USAGE', `No node ${quote(nodeName)} is on this machine: there is ${someOf(names)}`);
}

/**
 * That CgroupMountpoint names a place without cgroups, for people; `undefined`: it does not, or is not set. The kernel's
 * mount table counts all the same: a place that is only written down holds no job.
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

function isAboutConfiguration(error: unknown): error is SlurmCgroupsError {
  return hasCode(error, 'ERR_CONFIG', 'ERR_PARSE', 'ERR_NOT_PERMITTED', 'ERR_TIMEOUT', 'ERR_NOT_FOUND');
}

/** A folder, looked at only where the answer comes at once: a spool on another machine is no evidence worth a hang. */
async function isSpool(
  host: Host,
  spool: string,
  { deadline, notes }: { readonly deadline: Deadline; readonly notes: string[] },
): Promise<boolean> {
  try {
    const local = host.source === 'recording' || answersAtOnce(readMountTable(host).at(spool)?.type);
    const look = await boundedReads(host, deadline).stat(spool);
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

function readHostName(host: Host, notes: string[]): string | undefined {
  try {
    return host.read('/proc/sys/kernel/hostname').trim();
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return undefined;
  }
}
