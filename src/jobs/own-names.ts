// Which nodes of Slurm this machine is: most are one. A directory of a name of yesterday stays (slurmd does not remove it,
// and on v2 its "slurmstepd infinity" keeps the scope), so names are believed in this order: slurmd's own -N, sockets on
// which a slurmstepd listens, slurm.conf with the host's name, directories that hold a job. An empty one says nothing.

import path from 'node:path';
import { hasCode, isGone } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';
import { listeningPaths } from '../machine/unix-table.js';
import { nodeNamesOf, shortHostName } from './config/node-names.js';
import type { SlurmConfiguration } from './config/read.js';
import { parseJobName, parseStepName, parseTaskName, parseUidName } from './layout.js';
import { parseSocketName, rootOwns, whyStrange } from './stepd/sockets.js';
import type { LocatedTop } from './tops.js';

export interface KnownOfNames {
  readonly configuration: SlurmConfiguration | undefined;
  readonly hostName: string | undefined;
  /** Of a tree of its own (`within`) the slurmstepds of this machine say nothing. */
  readonly asksSockets: boolean;
}

export function namesOfNodes(
  host: Host,
  tops: readonly LocatedTop[],
  { configuration, hostName, asksSockets }: KnownOfNames,
): readonly string[] {
  const started = configuration?.slurmdNames;
  if (started !== undefined && started.length > 0) return started;
  const named = [...new Set(tops.flatMap((top) => top.nodeName ?? []))];
  const configured = hostName === undefined ? [] : nodeNamesOf(configuration?.nodes ?? [], hostName);
  // Nothing contradicts: the rest need not be looked at.
  if (configured.length > 0 && named.every((name) => configured.includes(name)))
    return named.length > 0 ? named : configured;
  if (named.length === 1 && configured.length === 0) return named;
  const listening = namesListening(host, { configuration, asksSockets });
  if (listening.length > 0) return bothOr(configured, listening);
  if (configured.length > 0) return bothOr(named, configured);
  const holding = namesHoldingJobs(host, tops);
  if (holding.length > 0) return holding;
  if (named.length > 0) return named;
  return hostName === undefined ? [] : [shortHostName(hostName)];
}

/**
 * Every name by which something here calls a node: more than one machine's nodes are, for the question whether a name
 * can be meant. Empty: nothing here has one.
 */
export function everyNameHere(
  host: Host,
  tops: readonly LocatedTop[],
  {
    configuration,
    hostName,
    asksSockets,
    started = configuration?.slurmdNames ?? [],
  }: KnownOfNames & {
    /** Names that slurmds were started with. */
    readonly started?: readonly string[];
  },
): readonly string[] {
  const configured = hostName === undefined ? [] : nodeNamesOf(configuration?.nodes ?? [], hostName);
  const named = tops.flatMap((top) => top.nodeName ?? []);
  const listening = namesListening(host, { configuration, asksSockets });
  return [...new Set([...named, ...configured, ...started, ...listening])].sort();
}

/** What both say; else what the second says alone. */
function bothOr(first: readonly string[], second: readonly string[]): readonly string[] {
  const both = second.filter((name) => first.includes(name));
  return both.length > 0 ? both : second;
}

/** The names that the sockets of living slurmstepds have, in folders that only root or SlurmUser can write in. */
function namesListening(
  host: Host,
  { configuration, asksSockets }: Pick<KnownOfNames, 'configuration' | 'asksSockets'>,
): readonly string[] {
  if (!asksSockets) return [];
  try {
    const user = configuration?.slurmUser;
    const trusted = user !== undefined && /^\d+$/.test(user) ? new Set([...rootOwns, BigInt(user)]) : rootOwns;
    const mounts = readMountTable(host);
    const names = listeningPaths(host).flatMap((bound) => {
      const socket = parseSocketName(path.basename(bound));
      const folder = path.dirname(bound);
      if (socket === undefined || (host.source === 'live' && !answersAtOnce(mounts.at(folder)?.type))) return [];
      const stat = host.stat(folder);
      const isTrusted = stat !== undefined && whyStrange(stat, trusted) === undefined;
      return isTrusted && host.stat(bound) !== undefined ? [socket.nodeName] : [];
    });
    return [...new Set(names)].sort();
  } catch (error) {
    if (isGone(error) || hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_PERMITTED')) return [];
    throw error;
  }
}

/** Names whose tree holds a job with processes; where none does, those that hold a directory of a job. */
function namesHoldingJobs(host: Host, tops: readonly LocatedTop[]): readonly string[] {
  const jobs = tops.flatMap((top) =>
    top.nodeName === undefined ? [] : jobsBelow(host, top).map((folder) => ({ name: top.nodeName ?? '', folder })),
  );
  const living = jobs.filter(({ folder }) => hasProcess(host, folder));
  return [...new Set((living.length > 0 ? living : jobs).map(({ name }) => name))].sort();
}

function jobsBelow(host: Host, { version, directory }: LocatedTop): readonly string[] {
  const above =
    version === 2 ? [directory] : namesIn(host, directory).filter((name) => parseUidName(name) !== undefined);
  return (version === 2 ? above : above.map((name) => `${directory}/${name}`)).flatMap((folder) =>
    namesIn(host, folder)
      .filter((name) => parseJobName(name) !== undefined)
      .map((name) => `${folder}/${name}`),
  );
}

/** In the job, a step, or a leaf that Slurm makes: what a user makes below is not walked through. */
function hasProcess(host: Host, job: string): boolean {
  const steps = namesIn(host, job).filter((name) => parseStepName(name) !== undefined);
  const folders = steps.flatMap((step) => {
    const sides = [`${job}/${step}`, `${job}/${step}/user`];
    const leaves = sides.flatMap((side) =>
      namesIn(host, side)
        .filter((name) => parseTaskName(name) !== undefined)
        .map((name) => `${side}/${name}`),
    );
    return [...sides, `${job}/${step}/slurm`, ...leaves];
  });
  return [job, ...folders].some((folder) => isPopulated(host, folder));
}

function isPopulated(host: Host, folder: string): boolean {
  try {
    return host.read(`${folder}/cgroup.procs`) !== '';
  } catch (error) {
    if (isGone(error) || hasCode(error, 'ERR_NOT_RECORDED', 'ERR_IO', 'ERR_NOT_SUPPORTED')) return false;
    throw error;
  }
}

function namesIn(host: Host, folder: string): readonly string[] {
  try {
    return host.names(folder);
  } catch (error) {
    if (isGone(error) || hasCode(error, 'ERR_NOT_RECORDED')) return [];
    throw error;
  }
}
