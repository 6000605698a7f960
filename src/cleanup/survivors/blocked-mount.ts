// On which mounted file system a process waits, told from its mount table and the paths behind its descriptors,
// working directory and executable. None of these paths is ever touched: a look at them would wait, too.

import { answersAtOnce, type Mount, type MountTable } from '../../machine/mount-table.js';
import { type Family, familyOfType } from './kernel-stack.js';

/** A mounted file system and what stands behind it. */
export type MountedAt = Pick<Mount, 'point' | 'type' | 'source'>;

/** Something a process holds that has a path. */
export interface HeldPath {
  /** `descriptor 3`, `its working directory`, `its executable`. */
  readonly by: string;
  readonly path: string;
}

/** The mount a process waits for. */
export interface BlockedMount extends MountedAt {
  /** By what it is known. */
  readonly by: string;
  /** `false`: nothing says that the wait is for this one, but it is what the process uses that can make one wait. */
  readonly sure: boolean;
}

/** What the process holds, and what the kernel said about the wait. */
export interface WaitFacts {
  readonly table: MountTable;
  /** The descriptor its system call is about. */
  readonly call?: HeldPath;
  /** In the order of their worth: working directory, executable, other descriptors. */
  readonly others: readonly HeldPath[];
  /** The kind of file system in whose code the thread waits. */
  readonly family?: Family;
}

/**
 * The mount a waiting thread waits for. Where the kernel names a kind of file system it must be one of that kind:
 * that of the system call's descriptor, else the only one in use, else the only one there is. Where it names none,
 * it is the descriptor's, else (not sure) the first one in use that other machines or programs answer for.
 */
export function blockedMount({ table, call, others, family }: WaitFacts): BlockedMount | undefined {
  const held = [...(call === undefined ? [] : [call]), ...others].flatMap((one) => {
    const mount = table.at(one.path);
    return mount === undefined ? [] : [{ ...mount, by: one.by, asked: one === call }];
  });
  if (family === undefined) {
    const found =
      held.find((one) => one.asked && (mayWait(one.type) || isDisk(one))) ?? held.find(({ type }) => mayWait(type));
    return found === undefined ? undefined : named(found, found.asked);
  }
  const fitting = held.filter(({ type }) => familyOfType(type) === family);
  const [first] = fitting;
  if (first !== undefined) return named(first, first.asked || fitting.every(({ point }) => point === first.point));
  const mounted = table.all.filter(({ type }) => familyOfType(type) === family);
  const [only, another] = mounted;
  if (only === undefined) return undefined;
  const by = another === undefined ? 'being the only one of its kind' : 'its kind';
  return named({ ...only, by }, another === undefined);
}

function named({ point, type, source, by }: MountedAt & { readonly by: string }, sure: boolean): BlockedMount {
  return { point, type, source, by, sure };
}

/** What the kernel makes up itself: it answers at once, or waits for what has nothing to do with a file system. */
// biome-ignore format: a list
const madeByTheKernel: ReadonlySet<string> = new Set([
  'binfmt_misc', 'bpf', 'cgroup', 'cgroup2', 'configfs', 'cpuset', 'debugfs', 'devpts', 'efivarfs', 'fusectl', 'hugetlbfs',
  'mqueue', 'nfsd', 'nsfs', 'proc', 'pstore', 'rpc_pipefs', 'securityfs', 'selinuxfs', 'sysfs', 'tracefs',
]);

/** Whether a file system of that type can let a process wait for another machine or program. */
export function mayWait(type: string): boolean {
  return !answersAtOnce(type) && !madeByTheKernel.has(type);
}

/** What lies in memory alone makes no process wait for a device. */
function isDisk({ type, source }: MountedAt): boolean {
  return answersAtOnce(type) && source.startsWith('/dev/');
}

/** Who has to answer, and when it is over, as parts of a sentence. */
export function whoAnswers({ point, type, source }: MountedAt): { readonly who: string; readonly until: string } {
  const of = source === '' || source === 'none' ? `of ${point}` : `${source} of ${point}`;
  switch (familyOfType(type)) {
    case 'nfs':
      return { who: `the NFS server ${of}`, until: 'the server answers' };
    case 'cifs':
      return { who: `the SMB server ${of}`, until: 'the server answers' };
    case 'fuse':
      return { who: `the program behind the FUSE file system ${of} (${type})`, until: 'that program answers or ends' };
    case 'autofs':
      return { who: `the automounter of ${point}`, until: 'the mount succeeds or fails' };
    case 'lustre':
      return { who: `the Lustre servers ${of}`, until: 'the servers answer' };
    case 'gpfs':
      return { who: `the GPFS file system ${of}`, until: 'GPFS answers' };
    case 'beegfs':
      return { who: `the BeeGFS servers ${of}`, until: 'the servers answer' };
    case 'ceph':
      return { who: `the Ceph cluster ${of}`, until: 'the cluster answers' };
    case 'plan9':
      return { who: `the 9P server ${of}`, until: 'the server answers' };
    case undefined:
      return mayWait(type)
        ? { who: `the file system ${of} (${type})`, until: 'it answers' }
        : { who: `the disk ${of} (${type})`, until: 'the disk answers' };
  }
}
