// The daemons that run: root's processes of a program, with the file they run and whether they are stopped. A name
// proves nothing: all four uids must be 0, and the program must be root's.

import { holdProcess, listPids, parseProcStat } from '../cgroup/process.js';
import { rootExecutable } from '../jobs/protected.js';
import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

export interface Daemon {
  readonly pid: number;
  /** Of the process that started it. */
  readonly ppid: number;
  /** The program's file; ` (deleted)` is left out. */
  readonly file: string;
  /** By SIGSTOP or a debugger: it answers nobody until it is continued. */
  readonly stopped: boolean;
}

/** Root's processes that run a program of this name (15 characters at most), as far as this user or recording shows. */
export function daemonsNamed(host: Host, program: string): readonly Daemon[] {
  let pids: readonly number[];
  try {
    pids = listPids(host);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return [];
    throw error;
  }
  return pids.flatMap((pid) => daemonAt(host, pid, program) ?? []);
}

function daemonAt(host: Host, pid: number, program: string): Daemon | undefined {
  try {
    const { comm, state, ppid } = parseProcStat(host.read(`/proc/${pid}/stat`));
    if (comm !== program) return undefined;
    const held = holdProcess(host, pid);
    try {
      if (!held.status().uids.every((uid) => uid === 0)) return undefined;
      const file = held.directory.readlink('exe').replace(/ \(deleted\)$/, '');
      // A recording may lack the file itself; nothing is done by what it says.
      const isRecordedOnly = host.source === 'recording' && file.endsWith(`/${program}`);
      if (rootExecutable(host, held) !== program && !isRecordedOnly) return undefined;
      return { pid, ppid, file, stopped: state === 'T' || state === 't' };
    } finally {
      held.close();
    }
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // it ended meanwhile, or is not for us to see
    throw error;
  }
}

/** Whether every process can be seen: doctor reads /proc/stat of every node, so a recording without it holds only some. */
export function seesAllProcesses(host: Host): boolean {
  return host.self().uid === 0 && hasAnswer(host, '/proc/stat');
}

export function hasAnswer(host: Host, file: string): boolean {
  try {
    return host.read(file) !== '';
  } catch (error) {
    if (isGone(error) || hasCode(error, 'ERR_NOT_RECORDED')) return false;
    throw error;
  }
}
