// What every command needs first: this machine or a recording, the node on it, and a log if --log-level asks for one.

import { directoryOf } from '../cgroup/hierarchies.js';
import { type CgroupPath, cgroupPath } from '../cgroup/path.js';
import { type ReadNodeOptions, readNode, type SlurmNode } from '../jobs/node.js';
import { defined } from '../machine/defined.js';
import { hasCode, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { liveHost } from '../machine/live-host.js';
import { usageError } from './exit.js';
import type { Log } from './log.js';
import { flagValue, type Words } from './spec.js';

export interface Context {
  readonly host: Host;
  readonly node: SlurmNode;
  readonly log: Log;
}

/**
 * The limit for slurmd, getent and file systems of other machines together. On a very busy node the two seconds of
 * readNode were too short even to start the `cat` that asks slurmd.
 */
export const patienceMs = 5000;

/** @throws SlurmCgroupsError ERR_NO_CGROUPS, ERR_CONFIG, ERR_PARSE, ERR_USAGE */
export async function openContext(
  command: string,
  words: Words,
  more: Pick<ReadNodeOptions, 'configurationError'> = {},
): Promise<Context> {
  const log = await logOf(command, words);
  const host = await hostOf(words);
  const options = { ...recordedOptions(host), ...nodeOptions(words, host), ...more };
  const node = await readNode({ host, timeoutMs: patienceMs, ...options });
  requireChosen(node, words, { mayBeEmpty: command === 'watch' });
  log('debug', `this node has ${node.hierarchies.mode} cgroups`, { nodeName: node.nodeName, evidence: node.evidence });
  for (const note of node.notes) log('info', note);
  return { host, node, log };
}

/**
 * The node that --within and --node choose.
 *
 * @throws SlurmCgroupsError ERR_USAGE
 */
export function nodeOptions(
  words: Words,
  host: Host,
): Pick<ReadNodeOptions, 'within' | 'spoolDir' | 'nodeName' | 'readConfiguration'> {
  const within = flagValue(words, 'within');
  const nodeName = flagValue(words, 'node');
  if (within === undefined) return defined({ nodeName });
  // The spool of a sandbox says whose jobs they are on v2, and it has no configuration. Any other place is one of this
  // node's, with its configuration and its spool.
  const folder = sandboxFolderOf(within);
  const isSandbox = isThere(host, folder);
  return {
    within: withinOf(within),
    ...(isSandbox ? { spoolDir: `${folder}/spool` } : { readConfiguration: true }),
    ...defined({ nodeName }),
  };
}

/**
 * That --node and --within name what is here: what is not there has no jobs, which would look like none.
 *
 * @throws SlurmCgroupsError ERR_USAGE
 */
export function requireChosen(
  node: SlurmNode,
  words: Words,
  { mayBeEmpty = false }: { readonly mayBeEmpty?: boolean } = {},
): void {
  if (words.flags.has('node') && node.nodeNameError !== undefined)
    throw usageError(`${node.nodeNameError.message} (--node)`);
  const within = flagValue(words, 'within');
  if (within === undefined || node.tops.length > 0) return;
  const { host, hierarchies } = node;
  const directories = hierarchies.all.flatMap((hierarchy) => directoryOf(hierarchy, withinOf(within)) ?? []);
  if (!directories.some((directory) => isThere(host, directory)))
    throw usageError(`There is no cgroup ${quote(within)} on this node (--within)`);
  if (within !== '/' && !mayBeEmpty && !isThere(host, sandboxFolderOf(within)))
    throw usageError(`Slurm has no cgroups in ${quote(within)} (--within)`);
}

/** A sandbox keeps its files there (sandbox.ts). */
function sandboxFolderOf(within: string): string {
  return `/run/slurm-cgroups${within}`;
}

function isThere(host: Host, folder: string): boolean {
  try {
    return host.stat(folder) !== undefined;
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED')) return false;
    throw error;
  }
}

function withinOf(text: string): CgroupPath {
  try {
    return cgroupPath(text);
  } catch (error) {
    throw error instanceof SlurmCgroupsError ? usageError(`${error.message} (--within)`) : error;
  }
}

/**
 * This machine, or the recording that --from names.
 *
 * @throws SlurmCgroupsError ERR_PARSE where the file is no recording
 */
export async function hostOf(words: Words, live: Host = liveHost()): Promise<Host> {
  const file = flagValue(words, 'from');
  if (file === undefined) return live;
  const { recordedHost } = await import('../machine/recording.js');
  return recordedHost(live.read(file));
}

/** What slurmd told while the node was recorded. Its name is no path: a recording holds no command lines. */
const slurmdAnswer = 'slurmd';

/** A line of a recording: which slurm.conf the node's slurmd reads, and which node it is. */
export function slurmdLine({ configuration, nodeName }: SlurmNode): string {
  return JSON.stringify({ read: slurmdAnswer, text: JSON.stringify({ file: configuration?.file, nodeName }) });
}

/** The same, read from a recording. Nothing for a live node: its slurmd is asked. */
export function recordedOptions(host: Host): Pick<ReadNodeOptions, 'configFile' | 'nodeName'> {
  if (host.source === 'live') return {};
  try {
    const told: unknown = JSON.parse(host.read(slurmdAnswer));
    if (typeof told !== 'object' || told === null) return {};
    const [file, nodeName]: readonly unknown[] = [Reflect.get(told, 'file'), Reflect.get(told, 'nodeName')];
    return {
      ...(typeof file === 'string' ? { configFile: file } : {}),
      ...(typeof nodeName === 'string' ? { nodeName } : {}),
    };
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, 'ERR_NOT_RECORDED')) return {};
    throw error;
  }
}

export async function logOf(command: string, words: Words): Promise<Log> {
  const [wanted, where] = [flagValue(words, 'log-level'), flagValue(words, 'log-to')];
  if (wanted === undefined && where === undefined) return () => {};
  const [{ openLog }, { openDestination }] = await Promise.all([import('./log.js'), import('./log-destination.js')]);
  // Not the host of a recording: the log is this machine's.
  return openLog(command, wanted ?? 'info', await openDestination(liveHost(), where ?? 'stderr'));
}

/**
 * For commands that need a Slurm node.
 *
 * @throws SlurmCgroupsError ERR_NOT_SLURM
 */
export async function requireSlurm(node: SlurmNode): Promise<void> {
  if (node.evidence !== undefined) return;
  const { findSlurmd } = await import('../jobs/protected.js');
  try {
    if (findSlurmd(node.host) !== undefined) return; // slurmd runs, and has no job yet
  } catch (error) {
    if (!hasCode(error, 'ERR_NOT_RECORDED')) throw error;
  }
  throw new SlurmCgroupsError(
    'ERR_NOT_SLURM',
    'This is not a Slurm node: it has no Slurm cgroups, no slurmd spool and no running slurmd',
  );
}
