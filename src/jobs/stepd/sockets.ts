// Where the slurmstepd of a step listens: `<SlurmdSpoolDir>/<NodeName>_<JOBID>.<STEPID>[.<HETCOMP>]`, read and
// written, and found in a spool or, without any configuration, in /proc/net/unix. Names are only candidates: what
// lies there is looked at by ask.ts before it is asked.

import path from 'node:path';
import { ifRecorded, ifThere, SlurmCgroupsError } from '../../machine/errors.js';
import { type FileStat, type Host, isDirectory, isSocket } from '../../machine/host.js';
import { answersAtOnce, readMountTable } from '../../machine/mount-table.js';
import { othersCanWrite } from '../../machine/ownership.js';
import { listeningPaths } from '../../machine/unix-table.js';
import { maxJobId } from '../layout.js';

/** What the name of a socket tells. */
export interface SocketName {
  readonly nodeName: string;
  readonly jobId: number;
  /** As in Job: `extern`, `batch`, `interactive`, a number, or `0+1` with a het component. */
  readonly stepId: string;
}

export interface StepSocket extends SocketName {
  /** SlurmdSpoolDir, absolute. */
  readonly folder: string;
  readonly name: string;
}

/** Users whose folder is believed: root, and SlurmUser where a file that is believed names that user. */
export type TrustedOwners = ReadonlySet<bigint>;

export const rootOwns: TrustedOwners = new Set([0n]);

/** slurm.h; the greatest plain step is SLURM_MAX_NORMAL_STEP_ID. */
const special: Readonly<Record<string, string>> = {
  extern: '4294967292',
  batch: '4294967291',
  interactive: '4294967290',
};
const maxPlainStep = 0xffff_fff0;
const stepNames: ReadonlyMap<string, string> = new Map([
  ...Object.entries(special).map(([word, number]) => [number, word] as const),
  // Up to 20.02, where a socket tells it by SLURM_EXTERN_CONT and SLURM_BATCH_SCRIPT of that time.
  ['4294967295', 'extern'],
  ['4294967294', 'batch'],
]);

/** `vm_7.4294967292` → job 7, extern; `undefined`: it is not named like a socket of a step. */
export function parseSocketName(name: string): SocketName | undefined {
  // A node's name may hold dots and underscores; job and step do not, so the last underscore divides.
  const match = /^([^/]+)_([1-9]\d{0,9})\.(0|[1-9]\d{0,9})(?:\.(0|[1-9]\d{0,4}))?$/.exec(name);
  const [, nodeName, job, step, component] = match ?? [];
  if (nodeName === undefined || job === undefined || step === undefined || Number(job) > maxJobId) return undefined;
  const stepId = stepNames.get(step) ?? (Number(step) <= maxPlainStep ? step : undefined);
  if (stepId === undefined) return undefined;
  return { nodeName, jobId: Number(job), stepId: component === undefined ? stepId : `${stepId}+${component}` };
}

/**
 * The name that Slurm gives the socket since 20.11: the reverse of parseSocketName.
 *
 * @throws RangeError when there is no such step.
 */
export function formatSocketName({ nodeName, jobId, stepId }: SocketName): string {
  const [step = '', component] = stepId.split('+');
  const number = Object.hasOwn(special, step) ? special[step] : step;
  const name = `${nodeName}_${jobId}.${number}${component === undefined ? '' : `.${component}`}`;
  const read = parseSocketName(name);
  if (read === undefined || read.nodeName !== nodeName || read.jobId !== jobId || read.stepId !== stepId)
    throw new RangeError(`Job ${jobId}, step ${JSON.stringify(stepId)} on ${JSON.stringify(nodeName)} has no socket`);
  return name;
}

/** The socket of one step in the spool of its node, whether it is there or not. */
export function socketOf(spool: string, name: SocketName): StepSocket {
  return socketAt(spool, formatSocketName(name), name);
}

/** Which of the sockets are wanted. */
export interface SocketFilter {
  readonly nodeName?: string;
  readonly jobId?: number;
  readonly stepId?: string;
}

/**
 * Sockets in a spool, by name alone, in the order of jobs. A spool that is not there has none.
 *
 * @throws SlurmCgroupsError when it cannot be read: then it is not known which steps there are.
 */
export function socketsInSpool(host: Host, spool: string, filter: SocketFilter = {}): readonly StepSocket[] {
  const names = ifThere(() => host.names(spool)) ?? [];
  const found: StepSocket[] = [];
  for (const name of names) {
    const read = parseSocketName(name);
    if (read !== undefined && isWanted(read, filter)) found.push(socketAt(spool, name, read));
  }
  return found.sort(byJob);
}

export interface ListeningSockets {
  readonly sockets: readonly StepSocket[];
  /** Folders that were left out, for people. */
  readonly notes: readonly string[];
}

/**
 * Sockets that are listened on in this network namespace, by the kernel's table, needing no configuration. A line of
 * that table proves nothing (machine/unix-table.ts): what counts is that a socket lies there now, in a folder in which
 * only those trusted can write.
 */
export function listeningSockets(
  host: Host,
  options: SocketFilter & { readonly trusted?: TrustedOwners } = {},
): ListeningSockets {
  const notes: string[] = [];
  const mounts = readMountTable(host);
  const folders = new Map<string, boolean>();
  const believed = (folder: string): boolean => {
    const before = folders.get(folder);
    if (before !== undefined) return before;
    const why = whyNotBelieved(host, folder, {
      trusted: options.trusted ?? rootOwns,
      local: answersAtOnce(mounts.at(folder)?.type),
    });
    if (why !== undefined) notes.push(`What listens in "${folder}" is not asked: ${why}`);
    folders.set(folder, why === undefined);
    return why === undefined;
  };
  const found = new Map<string, StepSocket>();
  for (const bound of listeningPaths(host)) {
    const read = parseSocketName(path.basename(bound));
    if (read === undefined || !isWanted(read, options) || found.has(bound)) continue;
    const folder = path.dirname(bound);
    if (!believed(folder)) continue;
    const stat = host.stat(bound);
    if (stat !== undefined && isSocket(stat)) found.set(bound, socketAt(folder, path.basename(bound), read));
  }
  return { sockets: [...found.values()].sort(byJob), notes };
}

/**
 * When a socket was made, in ns since 1970; `undefined`: there is none. It keeps its times (measured: adoption, restart
 * of slurmd, suspension, ls, reclaim); any user may set those of mode 0777 to now, never back: the earlier counts.
 */
export function socketTime(host: Host, { folder, name }: StepSocket): bigint | undefined {
  const stat = host.stat(`${folder}/${name}`);
  if (stat === undefined || !isSocket(stat)) return undefined;
  const { ctimeNs, mtimeNs } = stat;
  if (ctimeNs < mtimeNs) return ctimeNs; // Math.min takes no bigint
  return mtimeNs;
}

/** Why no socket in that folder is asked; `undefined`: only those trusted can have put something there. */
export function whyStrange(stat: FileStat, trusted: TrustedOwners): string | undefined {
  if (!isDirectory(stat)) return 'it is not a folder';
  if (!trusted.has(stat.uid)) return `it belongs to uid ${stat.uid}, not to root or SlurmUser`;
  if (othersCanWrite(stat)) return `others can write in it (mode ${(stat.mode & 0o7777n).toString(8)})`;
  return undefined;
}

function whyNotBelieved(
  host: Host,
  folder: string,
  { trusted, local }: { readonly trusted: TrustedOwners; readonly local: boolean },
): string | undefined {
  if (!local) return 'it is on a file system that may not answer';
  try {
    const stat = host.stat(folder);
    return stat === undefined ? 'it is not there (any more, or not for us)' : whyStrange(stat, trusted);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error.message;
    throw error;
  }
}

/** Field by field: a spread takes seven times as long, of which 10,000 names make a difference (measured). */
function socketAt(folder: string, name: string, { nodeName, jobId, stepId }: SocketName): StepSocket {
  return { folder, name, nodeName, jobId, stepId };
}

function isWanted(name: SocketName, { nodeName, jobId, stepId }: SocketFilter): boolean {
  return (
    (nodeName === undefined || name.nodeName === nodeName) &&
    (jobId === undefined || name.jobId === jobId) &&
    (stepId === undefined || name.stepId === stepId)
  );
}

function byJob(a: StepSocket, b: StepSocket): number {
  return a.jobId - b.jobId || (a.name < b.name ? -1 : 1);
}

/** `undefined`: a recording without that table; then the socket alone has to do. */
export function pathsOfListeners(host: Host): ReadonlySet<string> | undefined {
  return ifRecorded(() => new Set(listeningPaths(host)));
}
