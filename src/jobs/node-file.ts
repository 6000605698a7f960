// The file that spares a login the reading of Slurm's configuration: /run/slurm-cgroups/node.json, written beforehand,
// believed only while everything that it was made from is still the same. What else a login does is in node-for-login.ts.

import path from 'node:path';
import { bootIdOf } from '../cgroup/note-owner.js';
import { parseProcStat } from '../cgroup/process.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { ConfigError, ifReadable, quote, SlurmCgroupsError } from '../machine/errors.js';
import { isSameMark, readFileMarks } from '../machine/file-marks.js';
import { configFiles } from '../machine/guarded-files.js';
import { type Host, isRegularFile } from '../machine/host.js';
import { othersCanWrite } from '../machine/ownership.js';
import { makeStateFolder, removeStateFile, requireStateFolder, stateFolder } from '../machine/state-folder.js';
import { readSlurmConfiguration, type SlurmConfiguration } from './config/read.js';
import { findSlurmds, type SlurmdProcess, slurmdOf } from './config/slurmd.js';
import type { SlurmNode } from './node.js';
import { formatNodeFacts, type NodeFacts, nodesOnHost, parseNodeFacts } from './node-facts.js';

/** Where the file is. */
export const nodeFile: string = stateFolder('node.json');

export interface WriteNodeFileOptions {
  /** How long the files of the configuration may take to answer. Default 2000. */
  readonly timeoutMs?: number;
}

export interface ReadNodeFileOptions {
  /** The node that is wanted, where several share the machine. */
  readonly nodeName?: string;
}

/** Why it is `unusable` is for people; `it` is the file. */
export type NodeFileAnswer =
  | { readonly outcome: 'current'; readonly facts: NodeFacts }
  | { readonly outcome: 'unusable'; readonly why: string };

const mostBytes = 1 << 20;

/**
 * Writes what a login needs of this node, whole or not at all. Gives what was written.
 *
 * @throws SlurmCgroupsError: the node's own `configurationError`; ConfigError where the configuration changed since the
 * node was read, does not answer in time or is too large; ERR_NOT_PERMITTED where others than root can write to the
 * folder; SystemCallError where the kernel refuses.
 */
export async function writeNodeFile(
  host: Host,
  node: Pick<SlurmNode, 'nodeName' | 'spools' | 'configuration' | 'configurationError'>,
  options: WriteNodeFileOptions = {},
): Promise<NodeFacts> {
  if (node.configurationError !== undefined) throw node.configurationError;
  const facts = await factsOf(host, node, deadlineIn(host, options.timeoutMs ?? 2000));
  const text = formatNodeFacts(facts);
  if (Buffer.byteLength(text) > mostBytes) {
    const message = `Cannot write ${quote(nodeFile)}: it would be larger than ${mostBytes} bytes`;
    throw new ConfigError(message, { path: nodeFile });
  }
  makeStateFolder(host, stateFolder());
  const next = `${nodeFile}.${host.self().pid}.next`;
  removeStateFile(host, next); // of a run that was killed
  try {
    host.create(next, text);
    host.rename(next, nodeFile);
  } finally {
    removeStateFile(host, next);
  }
  return facts;
}

/** Removes the file. Whether there was one. */
export function removeNodeFile(host: Host): boolean {
  const wasThere = host.stat(nodeFile) !== undefined;
  removeStateFile(host, nodeFile);
  return wasThere;
}

async function factsOf(
  host: Host,
  { nodeName, spools, configuration }: Pick<SlurmNode, 'nodeName' | 'spools' | 'configuration'>,
  deadline: Deadline,
): Promise<NodeFacts> {
  const files = configuration?.files ?? [];
  const absent = lookedForInVain(configuration);
  const before = await readFileMarks(host, [...files, ...absent], deadline);
  // Of the files as they were marked, or marked again: a change since the node was read must not be marked as known.
  if (configuration?.file !== undefined) {
    const again = await readSlurmConfiguration(host, { file: configuration.file, timeoutMs: deadline.leftMs() });
    if (again === undefined || saidBy(again) !== saidBy(configuration)) throw changed(configuration.file);
  }
  const after = await readFileMarks(host, [...files, ...absent], deadline);
  const marks = files.map((file) => {
    const [first, second] = [before.get(file), after.get(file)];
    if (first === undefined || second === undefined || !isSameMark(first, second)) throw changed(file);
    return [file, second] as const;
  });
  for (const file of absent) if (after.get(file) !== undefined) throw changed(file);
  const hostName = hostNameOf(host);
  const slurmd = configuration?.slurmd;
  return {
    bootId: bootIdOf(host),
    hostName,
    nodeName,
    spools,
    configuration:
      configuration === undefined ? undefined : { ...configuration, nodes: nodesOnHost(configuration.nodes, hostName) },
    ...defined({ slurmdStartTime: slurmd === undefined ? undefined : startTimeOf(host, slurmd.pid) }),
    files: new Map(marks),
    absent,
  };
}

function changed(file: string): ConfigError {
  return new ConfigError(`Cannot use ${quote(file)}: it changed while it was read; run it again`, { path: file });
}

/** What its files say, without how it was found. */
function saidBy({
  foundBy: _by,
  slurmd: _of,
  slurmdNames: _names,
  notes: _notes,
  ...said
}: SlurmConfiguration): string {
  return JSON.stringify({ ...said, places: [...said.places] });
}

/** As config/read.ts has them; a test holds that both agree. */
const [defaultFile, configlessFile] = ['/etc/slurm/slurm.conf', '/run/slurm/conf/slurm.conf'];

/** Where a file would count instead of those that were read, or besides, as config/read.ts and includes.ts look. */
function lookedForInVain(configuration: SlurmConfiguration | undefined): readonly string[] {
  const { file, foundBy, slurmd, cgroupFile, files = [] } = configuration ?? {};
  if (file === undefined) return [defaultFile, configlessFile];
  const first = slurmd?.configless === true ? configlessFile : defaultFile;
  const candidates = ['default', 'configless'].includes(foundBy ?? '') && file !== first ? [first] : [];
  const folder = path.dirname(file);
  const beside = cgroupFile === undefined ? [path.join(folder, 'cgroup.conf')] : [];
  // Before 23.02 a relative name meant the folder of the file that includes: from there it is taken where it is not here.
  const others = new Set(files.map((one) => path.dirname(one)).filter((one) => one !== folder));
  const includes = [...others].flatMap((other) =>
    files.filter((one) => one.startsWith(`${other}/`)).map((one) => path.join(folder, path.relative(other, one))),
  );
  return [...new Set([...candidates, ...beside, ...includes])].filter((one) => !files.includes(one));
}

/**
 * What the file says, if it is root's alone, of this boot, and all that it was made from is unchanged. Never an error:
 * whatever is wrong with it, the configuration can still be read.
 */
export async function readNodeFile(
  host: Host,
  deadline: Deadline,
  options: ReadNodeFileOptions = {},
): Promise<NodeFileAnswer> {
  try {
    const facts = parseNodeFacts(textOf(host));
    const { bootId, hostName, nodeName } = facts;
    if (bootId !== bootIdOf(host)) return unusable('it was written before the last boot');
    if (hostName !== hostNameOf(host)) return unusable('the host has another name since');
    if (options.nodeName !== undefined && options.nodeName !== nodeName)
      return unusable(`it is of ${nodeName === undefined ? 'several nodes' : `node ${quote(nodeName)}`}`);
    const marks = await readFileMarks(host, [...facts.files.keys(), ...facts.absent], deadline);
    for (const [file, mark] of facts.files) {
      const now = marks.get(file);
      if (now === undefined) return unusable(`${quote(file)} is not there any more`);
      if (!isSameMark(mark, now)) return unusable(`${quote(file)} has changed since`);
    }
    const come = facts.absent.find((file) => marks.get(file) !== undefined);
    if (come !== undefined) return unusable(`${quote(come)} has come since`);
    return await withSlurmdOfNow(host, facts, { deadline, nodeName: options.nodeName });
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return unusable(error.message);
    throw error;
  }
}

function unusable(why: string): NodeFileAnswer {
  return { outcome: 'unusable', why };
}

/** @throws SlurmCgroupsError where it is not there, or others than root could have written it. */
function textOf(host: Host): string {
  const stat = requireStateFolder(host, stateFolder()) ? host.stat(nodeFile) : undefined;
  if (stat === undefined) throw new ConfigError('it does not exist', { path: nodeFile });
  if (!isRegularFile(stat) || stat.uid !== 0n || othersCanWrite(stat))
    throw new ConfigError('it is not a file that only root can write', { path: nodeFile });
  if (stat.size > BigInt(mostBytes)) throw new ConfigError(`it is larger than ${mostBytes} bytes`, { path: nodeFile });
  return host.read(nodeFile);
}

/**
 * A slurmd that was started anew may read other files than the one before: only its command line tells. The one that was
 * noted is known by its start time; where it has ended, all processes are looked through, which a restart costs until
 * the file is written again. Where none runs, nothing says that the configuration is another.
 */
async function withSlurmdOfNow(
  host: Host,
  facts: NodeFacts,
  { deadline, nodeName }: { readonly deadline: Deadline; readonly nodeName: string | undefined },
): Promise<NodeFileAnswer> {
  const { configuration, slurmdStartTime } = facts;
  const noted = configuration?.slurmd;
  const isAlone = (configuration?.slurmdNames?.length ?? 0) <= 1;
  if (noted !== undefined && isAlone && slurmdStartTime !== undefined) {
    if (startTimeOf(host, noted.pid) === slurmdStartTime) return { outcome: 'current', facts };
  }
  const { slurmds } = await findSlurmds(host, configFiles(host, deadline));
  const now = slurmdOf(slurmds, nodeName);
  // One that did not run, or was told nothing, reads what Slurm's defaults name.
  const isSame =
    now === undefined ||
    (now.file === noted?.file &&
      now.configless === (noted?.configless ?? false) &&
      namesOf(slurmds).join('\0') === (configuration?.slurmdNames ?? []).join('\0'));
  if (!isSame) return unusable('slurmd was started in another way since');
  if (configuration === undefined) return { outcome: 'current', facts };
  const { slurmd: _noted, ...rest } = configuration; // its pid can be another's
  return { outcome: 'current', facts: { ...facts, configuration: { ...rest, ...defined({ slurmd: now }) } } };
}

/** As readSlurmConfiguration() has them: only where each of them says its own. */
function namesOf(slurmds: readonly SlurmdProcess[]): readonly string[] {
  const names = slurmds.flatMap(({ nodeName }) => nodeName ?? []);
  return names.length < slurmds.length ? [] : [...new Set(names)].sort();
}

/** `undefined`: the process has ended. */
function startTimeOf(host: Host, pid: number): bigint | undefined {
  return ifReadable(() => parseProcStat(host.read(`/proc/${pid}/stat`)).startTime);
}

function hostNameOf(host: Host): string | undefined {
  return ifReadable(() => host.read('/proc/sys/kernel/hostname').trim());
}
