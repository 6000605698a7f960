// What a thread's kernel stack and wait channel tell: on which kind of file system it waits, or what else the
// kernel does for it. Names of kernel functions change between releases: what is not recognised is left open.
import { defined } from '../../machine/defined.js';

/** A frame of /proc/PID/stack, the innermost first. */
export interface Frame {
  readonly name: string;
  /** The kernel module it lies in. */
  readonly module?: string;
}

/** `[<0>] nfs_wait_bit_killable+0x1a/0x90 [nfs]` */
export function parseStack(text: string): readonly Frame[] {
  return text.split('\n').flatMap((line) => {
    const [, name, module] =
      /^\[<[0-9a-f]+>\] ([\w.]+)(?:\+0x[0-9a-f]+\/0x[0-9a-f]+)?(?: \[([\w-]+)[^\]]*\])?$/.exec(line.trim()) ?? [];
    return name === undefined ? [] : [{ name, ...defined({ module }) }];
  });
}

/** The wait channel alone, where the stack cannot be read: `0` means none. */
export function frameOfChannel(text: string): readonly Frame[] {
  const name = text.trim();
  return name === '' || name === '0' ? [] : [{ name }];
}

/** File systems that wait for another machine or program. */
export type Family = 'autofs' | 'beegfs' | 'ceph' | 'cifs' | 'fuse' | 'gpfs' | 'lustre' | 'nfs' | 'plan9';

interface Mark {
  readonly family: Family;
  readonly modules: RegExp;
  readonly functions: RegExp;
}

/** Sources: Linux fs/ and net/sunrpc, Lustre 2.15, Spectrum Scale's portability layer, BeeGFS 7 client module. */
const marks: readonly Mark[] = [
  { family: 'autofs', modules: /^autofs4?$/, functions: /^autofs\d?_/ },
  {
    family: 'nfs',
    modules: /^(?:nfs|nfsv\d|nfs_layout_.*|sunrpc|lockd|xprtrdma)$/,
    functions: /^_*(?:nfs\d*|rpc|nlmclnt|xprt)_/,
  },
  { family: 'fuse', modules: /^(?:fuse|virtiofs)$/, functions: /^_*(?:fuse|virtio_fs)_|^request_wait_answer$/ },
  {
    family: 'lustre',
    modules: /^(?:lustre|ptlrpc|obdclass|lov|lmv|osc|mdc|mgc|fid|fld|ko2iblnd|ksocklnd|lnet|libcfs)$/,
    functions: /^(?:ll|ptlrpc|ldlm|osc|mdc|lov|cl_sync|vvp)_/,
  },
  { family: 'gpfs', modules: /^(?:mmfs26|mmfslinux|tracedev)$/, functions: /^cxi[A-Z]|^gpfs_/ },
  { family: 'beegfs', modules: /^beegfs$/, functions: /^Fhgfs|^FhgfsOps/ },
  { family: 'ceph', modules: /^(?:ceph|libceph)$/, functions: /^_*ceph_/ },
  { family: 'cifs', modules: /^cifs$/, functions: /^_*(?:cifs|SMB2|smb2)_|^wait_for_response$/ },
  { family: 'plan9', modules: /^(?:9p|9pnet.*)$/, functions: /^_*(?:v9fs|p9)_/ },
];

/** The kind of file system in whose code the innermost of these frames is. */
export function familyIn(frames: readonly Frame[]): Family | undefined {
  for (const { name, module } of frames) {
    const found = marks.find(
      (mark) => mark.functions.test(name) || (module !== undefined && mark.modules.test(module)),
    );
    if (found !== undefined) return found.family;
  }
  return undefined;
}

/** Which family a mounted type belongs to. */
export function familyOfType(type: string): Family | undefined {
  if (/^nfs\d?$/.test(type)) return 'nfs';
  if (/^(?:fuse|fuseblk|fuse\..*|virtiofs)$/.test(type)) return 'fuse';
  if (/^(?:cifs|smb3|smbfs)$/.test(type)) return 'cifs';
  if (type === '9p') return 'plan9';
  const same: readonly Family[] = ['autofs', 'beegfs', 'ceph', 'gpfs', 'lustre'];
  return same.find((family) => family === type);
}

/** What else a thread that cannot end may be at. */
export type Activity = 'frozen' | 'pid-namespace' | 'dumping' | 'exiting';

const activities: readonly (readonly [Activity, RegExp])[] = [
  ['frozen', /^(?:__refrigerator|do_freezer_trap|cgroup_enter_frozen|cgroup_leave_frozen)$/],
  ['pid-namespace', /^zap_pid_ns_processes$/], // the first process of a pid namespace waits for all others in it
  ['dumping', /^(?:do_coredump|vfs_coredump|coredump_wait|wait_for_dump_helpers)$/],
  ['exiting', /^(?:do_exit|exit_mmap|exit_files|mmput|exit_mm)$/],
];

export function activityIn(frames: readonly Frame[]): Activity | undefined {
  return activities.find(([, pattern]) => frames.some(({ name }) => pattern.test(name)))?.[0];
}

/** The kernel module whose code is innermost: a driver, mostly. */
export function moduleIn(frames: readonly Frame[]): string | undefined {
  return frames.find(({ module }) => module !== undefined)?.module;
}
