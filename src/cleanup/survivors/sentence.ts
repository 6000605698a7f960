// Why a process outlived its killing, as one sentence for a person. Pure: it takes what was seen.

import { isDeadState } from '../../cgroup/process-end.js';
import { someOf } from '../../machine/errors.js';
import { type BlockedMount, whoAnswers } from './blocked-mount.js';
import type { Activity } from './kernel-stack.js';
import type { CurrentCall } from './system-call.js';

/** A process by what a person knows it by. */
export interface NamedProcess {
  readonly pid: number;
  readonly comm: string;
}

/** What was seen of a survivor. Absent: it is not so, or could not be seen. */
export interface SurvivorFacts extends NamedProcess {
  /** Of the thread that keeps it: the first that waits uninterruptibly, else the first that lives. */
  readonly state: string;
  /** That thread, where it is not the process's first. */
  readonly tid?: number;
  /** Innermost kernel function. */
  readonly waitChannel?: string;
  readonly module?: string;
  readonly activity?: Activity;
  readonly call?: CurrentCall;
  readonly mount?: BlockedMount;
  readonly tracer?: NamedProcess;
  /** The cgroup that is frozen. */
  readonly frozenAt?: string;
  readonly parent?: NamedProcess;
  readonly devices: readonly string[];
  readonly ports: readonly string[];
}

/** `pid 4711 (rsync) waits in the kernel for the NFS server filer:/export of /scratch: it ends when the server answers` */
export function explainSurvivor(facts: SurvivorFacts): string {
  const thread = facts.tid === undefined ? '' : `, in its thread ${facts.tid},`;
  return `pid ${facts.pid} (${facts.comm})${thread} ${reasonOf(facts)}${holdings(facts)}`;
}

/** The first that holds, in this order: what keeps a thread in the kernel keeps it whatever else is so. */
function reasonOf(facts: SurvivorFacts): string {
  const { state, activity, mount, tracer, frozenAt } = facts;
  if (isDeadState(state)) return deadReason(facts);
  if (
    activity === 'frozen' ||
    (frozenAt !== undefined && mount === undefined && activity === undefined && state === 'D')
  ) {
    const where = frozenAt === undefined ? 'is frozen' : `is frozen with its cgroup ${frozenAt}`;
    return `${where}: it ends when that is thawed (scontrol resume for a suspended job; else by what froze it)`;
  }
  if (activity === 'pid-namespace')
    return 'is the first process of a pid namespace: it ends when all others in that namespace have ended';
  if (mount !== undefined) {
    const { who, until } = whoAnswers(mount);
    const waits = `waits in the kernel${mount.sure ? '' : ', most likely'} for ${who}`;
    if (frozenAt === undefined) return `${waits}: it ends when ${until}`;
    return `${waits}, and its cgroup ${frozenAt} is frozen: it ends when that is thawed and ${until}`;
  }
  if (activity === 'dumping') return `writes its core dump${place(facts)}: it ends when that is written`;
  if (state === 'D')
    return `waits in the kernel${place(facts)}, where no signal reaches it: it ends when the kernel lets it go`;
  if (tracer !== undefined)
    return `is traced by pid ${tracer.pid} (${tracer.comm}): it ends when that lets it go or ends`;
  if (state === 't') return 'is stopped by a tracer: it ends when that lets it go or ends';
  if (activity === 'exiting') return `is ending, and the kernel takes down what it held${place(facts)}`;
  if (frozenAt !== undefined) return `is in the frozen cgroup ${frozenAt}: it ends when that is thawed`;
  switch (state) {
    case 'R':
      return `still runs${place(facts)}: it ends when the kernel is done with its last call`;
    case 'T':
      return 'is stopped: SIGKILL or SIGCONT wakes it';
    case '':
      return 'could not be looked at';
    default:
      return `had not ended in time, though nothing is seen to keep it (state ${state}${place(facts)})`;
  }
}

function deadReason({ tracer, parent }: SurvivorFacts): string {
  if (tracer !== undefined)
    return `is dead and waits for its tracer ${tracer.pid} (${tracer.comm}) to collect its exit code`;
  return parent === undefined
    ? 'is dead and waits for its parent to collect its exit code'
    : `is dead and waits for its parent ${parent.pid} (${parent.comm}) to collect its exit code`;
}

/** ` during read, in folio_wait_bit of the module ext4`: as much as is known. */
function place({ call, waitChannel, module }: SurvivorFacts): string {
  const during = call?.name === undefined ? '' : ` during ${call.name}`;
  const inside =
    waitChannel === undefined ? '' : ` in ${waitChannel}${module === undefined ? '' : ` of the module ${module}`}`;
  return `${during}${inside}`;
}

/** What the next job misses meanwhile. */
function holdings({ devices, ports }: SurvivorFacts): string {
  const parts = [
    devices.length === 0 ? '' : `holds ${someOf(devices)}`,
    ports.length === 0 ? '' : `listens on ${someOf(ports)}`,
  ].filter((part) => part !== '');
  return parts.length === 0 ? '' : ` (it ${parts.join(' and ')})`;
}
