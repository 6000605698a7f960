// Three calls of libc that Node does not have, through koffi, which is an optional package: without it the
// callers fall back. Loaded when first needed: the import costs some 10 ms.

/** The calls as C has them: a negative number is a failure, then `errno` says which. */
export interface RawLibc {
  pidfdOpen(pid: number): number;
  pidfdSendSignal(fd: number, signal: number): number;
  /** flock(fd, LOCK_EX | LOCK_NB) */
  lockNow(fd: number): number;
  /** Symbolic name of the last failure. */
  errno(): string;
}

// The same on every architecture since 5.1 (except alpha): include/uapi/asm-generic/unistd.h.
const sysPidfdSendSignal = 424;
const sysPidfdOpen = 434;
const lockExclusiveNow = 2 | 4; // LOCK_EX | LOCK_NB

/** `undefined` where koffi or libc cannot be loaded. */
export async function loadLibc(): Promise<RawLibc | undefined> {
  try {
    const { default: koffi } = await import('koffi');
    const lib = koffi.load('libc.so.6');
    const syscall = lib.func('long syscall(long number, long a, long b, void *c, long d)');
    const flock = lib.func('int flock(int fd, int operation)');
    const names = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));
    return {
      pidfdOpen: (pid) => Number(syscall(sysPidfdOpen, pid, 0, null, 0)),
      pidfdSendSignal: (fd, signal) => Number(syscall(sysPidfdSendSignal, fd, signal, null, 0)),
      lockNow: (fd) => Number(flock(fd, lockExclusiveNow)),
      errno: () => names.get(koffi.errno()) ?? `errno ${koffi.errno()}`,
    };
  } catch {
    return undefined; // not installed, or no binary of it for this machine: both are allowed
  }
}
