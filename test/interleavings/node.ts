// The node of a scene, as the search's process and the other program both see it.

import type { CgroupPath } from '../../src/cgroup/path.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import type { Host } from '../../src/machine/host.js';
import { spoolUser } from '../support/unix-server.js';

export interface NodeOfScene {
  readonly kernel: 'v1' | 'v2';
  readonly within: CgroupPath;
  /** Root's, with the scripts by which owners of v2's jobs are known where there are no slurmstepds. */
  readonly scripts: string;
  /** SlurmUser's, where slurmstepds listen: what listens in a folder of root's, other tests would ask. */
  readonly sockets: string;
  /** Whether there are slurmstepds. */
  readonly hasStepds: boolean;
}

export async function nodeOfScene(
  host: Host,
  { kernel, within, scripts, sockets, hasStepds }: NodeOfScene,
): Promise<SlurmNode> {
  const node = await readNode({ host, within, ...(kernel === 'v2' ? { spoolDir: scripts } : {}) });
  if (!hasStepds) return node;
  const configuration = { files: [], nodes: [], places: new Map(), notes: [], slurmUser: String(spoolUser) };
  return { ...node, configuration, nodeName: 'node1', spools: new Map([['node1', sockets]]) };
}
