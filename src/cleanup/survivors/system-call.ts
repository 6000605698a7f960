// Which system call a thread is in, read from the text of /proc/PID/syscall: its name, and which descriptor it
// waits for. Names are kept for x86_64 and for calls that can wait; the path a call was given lies in the
// process's memory, which is never read.

import type { Host } from '../../machine/host.js';

/** What a thread asked the kernel for. */
export interface CurrentCall {
  readonly number: number;
  /** Absent for a number that is not in the table, and on machines other than x86_64. */
  readonly name?: string;
  /** The descriptor it is about. */
  readonly fd?: number;
  /** It was given a path, to be looked up from the working directory or from `fd`. */
  readonly path?: true;
}

/**
 * What `fd` and `path` are: `fd` the first argument, `fdN` the one with that number (0-based), `path` a path from
 * the working directory, `at` a path from the directory of the first argument, `-` neither.
 */
type Shape = '-' | 'fd' | 'fd1' | 'fd4' | 'path' | 'at';

/** arch/x86/entry/syscalls/syscall_64.tbl */
// biome-ignore format: a table
const calls: ReadonlyMap<number, readonly [name: string, shape: Shape]> = new Map([
  [0, ['read', 'fd']], [1, ['write', 'fd']], [2, ['open', 'path']], [3, ['close', 'fd']], [4, ['stat', 'path']],
  [5, ['fstat', 'fd']], [6, ['lstat', 'path']], [7, ['poll', '-']], [8, ['lseek', 'fd']], [9, ['mmap', 'fd4']],
  [11, ['munmap', '-']], [16, ['ioctl', 'fd']], [17, ['pread64', 'fd']], [18, ['pwrite64', 'fd']], [19, ['readv', 'fd']],
  [20, ['writev', 'fd']], [21, ['access', 'path']], [23, ['select', '-']], [26, ['msync', '-']], [33, ['dup2', 'fd1']],
  [34, ['pause', '-']], [35, ['nanosleep', '-']], [40, ['sendfile', 'fd1']], [42, ['connect', 'fd']], [43, ['accept', 'fd']],
  [44, ['sendto', 'fd']], [45, ['recvfrom', 'fd']], [46, ['sendmsg', 'fd']], [47, ['recvmsg', 'fd']], [56, ['clone', '-']],
  [57, ['fork', '-']], [58, ['vfork', '-']], [59, ['execve', 'path']], [60, ['exit', '-']], [61, ['wait4', '-']],
  [72, ['fcntl', 'fd']], [73, ['flock', 'fd']], [74, ['fsync', 'fd']], [75, ['fdatasync', 'fd']], [76, ['truncate', 'path']],
  [77, ['ftruncate', 'fd']], [78, ['getdents', 'fd']], [80, ['chdir', 'path']], [81, ['fchdir', 'fd']], [82, ['rename', 'path']],
  [83, ['mkdir', 'path']], [84, ['rmdir', 'path']], [85, ['creat', 'path']], [86, ['link', 'path']], [87, ['unlink', 'path']],
  [88, ['symlink', 'path']], [89, ['readlink', 'path']], [90, ['chmod', 'path']], [91, ['fchmod', 'fd']], [92, ['chown', 'path']],
  [93, ['fchown', 'fd']], [94, ['lchown', 'path']], [128, ['rt_sigtimedwait', '-']], [130, ['rt_sigsuspend', '-']],
  [132, ['utime', 'path']], [137, ['statfs', 'path']], [138, ['fstatfs', 'fd']], [162, ['sync', '-']], [165, ['mount', '-']],
  [166, ['umount2', 'path']], [187, ['readahead', 'fd']], [188, ['setxattr', 'path']], [190, ['fsetxattr', 'fd']],
  [191, ['getxattr', 'path']], [192, ['lgetxattr', 'path']], [193, ['fgetxattr', 'fd']], [194, ['listxattr', 'path']],
  [195, ['llistxattr', 'path']], [202, ['futex', '-']], [217, ['getdents64', 'fd']], [221, ['fadvise64', 'fd']],
  [230, ['clock_nanosleep', '-']], [231, ['exit_group', '-']], [232, ['epoll_wait', 'fd']], [235, ['utimes', 'path']],
  [247, ['waitid', '-']], [257, ['openat', 'at']], [258, ['mkdirat', 'at']], [260, ['fchownat', 'at']], [261, ['futimesat', 'at']],
  [262, ['newfstatat', 'at']], [263, ['unlinkat', 'at']], [264, ['renameat', 'at']], [265, ['linkat', 'at']], [267, ['readlinkat', 'at']],
  [268, ['fchmodat', 'at']], [269, ['faccessat', 'at']], [270, ['pselect6', '-']], [271, ['ppoll', '-']], [275, ['splice', 'fd']],
  [277, ['sync_file_range', 'fd']], [280, ['utimensat', 'at']], [281, ['epoll_pwait', 'fd']], [285, ['fallocate', 'fd']],
  [288, ['accept4', 'fd']], [295, ['preadv', 'fd']], [296, ['pwritev', 'fd']], [306, ['syncfs', 'fd']], [316, ['renameat2', 'at']],
  [322, ['execveat', 'at']], [326, ['copy_file_range', 'fd']], [327, ['preadv2', 'fd']], [328, ['pwritev2', 'fd']],
  [332, ['statx', 'at']], [426, ['io_uring_enter', 'fd']], [435, ['clone3', '-']], [437, ['openat2', 'at']], [439, ['faccessat2', 'at']],
]);

const positions: Readonly<Record<Shape, number | undefined>> = {
  '-': undefined,
  fd: 0,
  fd1: 1,
  fd4: 4,
  path: undefined,
  at: 0,
};

/**
 * `running`: it is not waiting. `fault`: it waits in the kernel without a system call (a page that is read from a
 * file, mostly). `undefined`: a text of another form.
 */
export type CallState = CurrentCall | 'running' | 'fault' | undefined;

/**
 * Parses the text of /proc/PID/syscall (proc_pid_syscall(5)).
 *
 * @param x86 whether the machine has the numbers of x86_64
 */
export function parseCurrentCall(text: string, x86: boolean): CallState {
  const line = text.trim();
  if (line === 'running') return 'running';
  const fields = line.split(' ');
  if (fields[0] === '-1' && fields.length === 3) return 'fault';
  if (
    fields.length !== 9 ||
    !/^\d+$/.test(fields[0] ?? '') ||
    !fields.slice(1).every((field) => /^0x[0-9a-f]+$/.test(field))
  ) {
    return undefined;
  }
  const number = Number(fields[0]);
  // A 32-bit program on x86_64 has numbers of its own; its stack lies below 4 GiB.
  const wide = BigInt(fields[7] ?? '0x0') > 0xffff_ffffn;
  const known = x86 && wide ? calls.get(number) : undefined;
  if (known === undefined) return { number };
  const [name, shape] = known;
  const at = positions[shape];
  // Descriptors are ints: the upper half of the register means nothing. AT_FDCWD is negative.
  const fd = at === undefined ? -1 : Number(BigInt.asIntN(32, BigInt(fields[1 + at] ?? '0x0')));
  return { number, name, ...(fd < 0 ? {} : { fd }), ...(shape === 'path' || shape === 'at' ? { path: true } : {}) };
}

/** Numbers of system calls differ between machines. The first file is there since Linux 6.1. */
export function hasNumbersOfX86(host: Host): boolean {
  const arch = host.stat('/proc/sys/kernel/arch') === undefined ? undefined : host.read('/proc/sys/kernel/arch').trim();
  return arch === undefined ? /^flags\s*:/m.test(host.read('/proc/cpuinfo')) : arch === 'x86_64';
}
