// This node as a login needs it: by the file that was written beforehand (node-file.ts), else by reading Slurm's
// configuration, and never for longer than the time that is given.

import { deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, quote } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { type ReadNodeOptions, readNode, type SlurmNode } from './node.js';
import { type NodeFileAnswer, nodeFile, type ReadNodeFileOptions, readNodeFile } from './node-file.js';

export interface NodeForLoginOptions extends ReadNodeFileOptions {
  /** For all that is waited for together: other machines' file systems, slurmd, getent. */
  readonly timeoutMs: number;
}

/** A file that waits for a dead server leaves this part of the time to the reading of the configuration. */
const partOfFile = 0.5;

/**
 * Looks at this machine as readNode() does, with a configuration that is not read where the file says it. Its first note
 * tells which way it took. A configuration that cannot be used is noted, not thrown.
 *
 * @throws SlurmCgroupsError ERR_NO_CGROUPS
 */
export async function nodeForLogin(host: Host, options: NodeForLoginOptions): Promise<SlurmNode> {
  const { timeoutMs, nodeName } = options;
  const deadline = deadlineIn(host, timeoutMs);
  const file = await readNodeFile(host, deadline.part(timeoutMs * partOfFile), options);
  const asked = { host, configurationError: 'note', ...defined({ nodeName }) } as const;
  const known = file.outcome === 'current' ? { configuration: file.facts.configuration ?? ('none' as const) } : {};
  const node = await withoutBroken((more) => readNode({ ...asked, ...known, ...more, timeoutMs: deadline.leftMs() }));
  return { ...node, notes: [wayTaken(file, node), ...node.notes] };
}

/** A host list that cannot be read shows only where the names of nodes are asked for, and readNode() throws that. */
async function withoutBroken(
  look: (more: Pick<ReadNodeOptions, 'configuration'>) => Promise<SlurmNode>,
): Promise<SlurmNode> {
  try {
    return await look({});
  } catch (error) {
    if (!hasCode(error, 'ERR_PARSE', 'ERR_CONFIG')) throw error;
    const node = await look({ configuration: 'none' });
    const note = `${error.message}; it is not used, and Slurm's defaults are assumed`;
    return { ...node, configurationError: error, notes: [note, ...node.notes] };
  }
}

function wayTaken(answer: NodeFileAnswer, { nodeName }: SlurmNode): string {
  if (answer.outcome === 'unusable')
    return `${quote(nodeFile)} is not used: ${answer.why}; Slurm's configuration was read instead`;
  const said = `Slurm's configuration is taken from ${quote(nodeFile)}`;
  const then = answer.facts.nodeName;
  return then === nodeName ? said : `${said}, which was written as ${named(then)} and is now ${named(nodeName)}`;
}

function named(nodeName: string | undefined): string {
  return nodeName === undefined ? 'several nodes' : `node ${quote(nodeName)}`;
}
