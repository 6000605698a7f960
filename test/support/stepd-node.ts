// A node of v2 in memory whose slurmstepds listen for real, in a folder of this process: for what has to find them,
// ask them, and tie them to the directories of their jobs.

import { rootPath } from '../../src/cgroup/path.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { formatSocketName } from '../../src/jobs/stepd/sockets.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { mountPoint, treeText } from './small-trees.js';
import { type RecordedStepd, speakAs } from './stepd-server.js';
import { type Sandbox, spoolUser } from './unix-server.js';

export const scope = 'unified/system.slice/slurmstepd.scope';

/** A slurmstepd and its place. */
export interface Stepd {
  /** `job_7`, or a SLUID. */
  readonly directory: string;
  readonly jobId: number;
  readonly stepId?: string;
  readonly pid: number;
  readonly uid?: number;
  /** Command line; by default as slurmstepd has it. Null: it is not to be seen. */
  readonly title?: string | null;
  /** `slurm` of its step, unless it stands elsewhere. */
  readonly place?: string;
  /** As SLUID 0 with this sequence: `s` and twelve zeros before it. From 25.11 on. */
  readonly seq?: string;
  readonly server?: number;
  /** It is not listening, or it is silent. */
  readonly is?: 'dead' | 'silent';
}

/** What they have been asked so far, by socket. */
export type Asked = Map<string, number[]>;

/** The node and what is asked of its slurmstepds. */
export async function nodeOfStepds(
  sandbox: Sandbox,
  stepds: readonly Stepd[],
  more: { readonly directories?: readonly string[]; readonly changes?: Partial<SlurmNode> } = {},
): Promise<{ readonly node: SlurmNode; readonly asked: Asked }> {
  const asked: Asked = new Map();
  const lines: object[] = [];
  const directories = [...(more.directories ?? [])];
  for (const stepd of stepds) {
    const { pid, jobId, stepId = 'extern' } = stepd;
    const step = `${scope}/${stepd.directory}/step_${stepId}`;
    const place = stepd.place ?? `${step.slice('unified'.length)}/slurm`;
    directories.push(`${step}/slurm`, `${step}/user`);
    if (stepd.place === undefined) lines.push({ read: `${mountPoint}/${step}/slurm/cgroup.procs`, text: `${pid}\n` });
    const zeros = Array.from({ length: 49 }, () => '0').join(' ');
    const time = ['1', '1'];
    lines.push(
      { stat: `/proc/${pid}`, is: ['16749', '0', '0', '5', String(pid), '9', '0', ...time] },
      { read: `/proc/${pid}/stat`, text: `${pid} (slurmstepd) S ${zeros}\n` },
      {
        read: `/proc/${pid}/status`,
        text: `Name:\tslurmstepd\nTgid:\t${pid}\nPid:\t${pid}\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n`,
      },
      { read: `/proc/${pid}/cgroup`, text: `0::${place}\n` },
      { list: `/proc/${pid}/task`, entries: { [pid]: 'directory' } },
    );
    if (stepd.title !== null)
      lines.push({ read: `/proc/${pid}/cmdline`, text: stepd.title ?? `slurmstepd: [${jobId}.${stepId}]\0` });
    const name = formatSocketName({ nodeName: 'node1', jobId, stepId });
    const numbers: number[] = [];
    asked.set(name, numbers);
    if (stepd.is === 'dead') continue;
    await sandbox.serve(
      name,
      stepd.is === 'silent' ? () => {} : speakAs(recordedOf(stepd, name), { asked: (one) => numbers.push(one) }),
    );
  }
  const memory = recordedHost(
    treeText({ hierarchies: ['unified'], directories: [scope, ...directories] }) +
      lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
  );
  const host = mixed(memory, sandbox.folder);
  const node = await readNode({ host, within: rootPath });
  const configuration = { files: [], nodes: [], places: new Map(), notes: [], slurmUser: String(spoolUser) };
  const spools = new Map([['node1', sandbox.folder]]);
  return { node: { ...node, configuration, spools, ...more.changes }, asked };
}

/** The folder is this machine's, everything else in memory. */
export function mixed(memory: Host, folder: string): Host {
  const live = liveHost();
  const at = (path: string) => (path.startsWith(folder) ? live : memory);
  return {
    ...memory,
    source: 'live',
    self: () => live.self(),
    now: () => live.now(),
    sleep: (ms, signal) => live.sleep(ms, signal),
    read: (path) => at(path).read(path),
    names: (path) => at(path).names(path),
    entries: (path) => at(path).entries(path),
    stat: (path) => at(path).stat(path),
    open: (path) => at(path).open(path),
  };
}

function recordedOf({ pid, uid = 1001, seq, server }: Stepd, socket: string): RecordedStepd {
  return {
    socket,
    server: server ?? (seq === undefined ? 42 : 45),
    uid,
    state: 2,
    daemon: pid,
    nodeid: 0,
    x11: 0,
    ...(seq === undefined ? {} : { sluid: 's', seq }),
  };
}
