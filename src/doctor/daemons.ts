// The daemons that run: root's processes of a program, with the file they run and whether they are stopped. A name
// proves nothing: all four uids must be 0, and the program must be root's.

import { holdProcess, rootsProcessesCalled } from '../cgroup/process.js';
import { programName } from '../jobs/config/slurmd.js';
import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';
import { type Host, isRegularFile } from '../machine/host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';

export interface Daemon {
  readonly pid: number;
  /** Of the process that started it. */
  readonly ppid: number;
  /** The program's file; ` (deleted)` is left out. */
  readonly file: string;
  /** By SIGSTOP or a debugger: it answers nothing until it is continued. */
  readonly stopped: boolean;
}

/** Root's processes that run a program of this name (15 characters at most), as far as this user or recording shows. */
export function daemonsNamed(host: Host, program: string): readonly Daemon[] {
  try {
    return [...rootsProcessesCalled(host, program)].flatMap((pid) => daemonAt(host, pid, program) ?? []);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return [];
    throw error;
  }
}

function daemonAt(host: Host, pid: number, program: string): Daemon | undefined {
  try {
    const held = holdProcess(host, pid);
    try {
      if (!held.status().uids.every((uid) => uid === 0)) return undefined; // another has the pid by now
      const { state, ppid } = held.stat();
      const link = held.directory.readlink('exe');
      const file = link.replace(/ \(deleted\)$/, '');
      if (programName(file) !== program || !isRoots(host, file, file !== link)) return undefined;
      return { pid, ppid, file, stopped: state === 'T' || state === 't' };
    } finally {
      held.close();
    }
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // it ended meanwhile, or is not for us to see
    throw error;
  }
}

/** A file of a dead file system is not touched; a recording may lack it, and nothing is done by what it says. */
function isRoots(host: Host, file: string, isDeleted: boolean): boolean {
  if (host.source === 'recording') return true;
  if (!answersAtOnce(readMountTable(host).at(file)?.type)) return true;
  const stat = host.stat(file);
  return stat === undefined ? isDeleted : stat.uid === 0n && isRegularFile(stat);
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
