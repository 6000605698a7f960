// A part of this machine's real cgroups for the demo and for tests alone, laid out as Slurm lays out jobs. Its name
// says which process made it: when that was killed, the next run removes what is left of it.

import fsExtra from 'fs-extra';
import { Cgroup } from '../cgroup/cgroup.js';
import { CgroupSet } from '../cgroup/cgroup-set.js';
import { discoverHierarchies, type Hierarchy } from '../cgroup/hierarchies.js';
import { type CgroupPath, childPath, rootPath } from '../cgroup/path.js';
import { identityOf, isThere } from '../cgroup/process.js';
import { readNode, type SlurmNode } from '../jobs/node.js';
import { hasCode, ifThere, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

/** Controllers for which Slurm makes job directories on v1 (recorded, 20.11 to 26.05). */
const slurmControllers: readonly string[] = ['freezer', 'cpuset', 'memory', 'devices', 'cpuacct'];
/** Where it makes one for each task, too. */
const taskControllers: readonly string[] = ['memory', 'cpuacct'];

/** Long enough for every test. A sleeper of a killed one is in its sandbox, and ends by then without the next run too. */
const sleeperSeconds = 120;

export interface SandboxJob {
  readonly jobId: number;
  readonly uid: number;
}

/** A process of the sandbox. */
export interface Sleeper {
  readonly pid: number;
  readonly exited: Promise<void>;
}

/** A folder for each sandbox, below one that is root's and empty after a boot. */
const foldersOfAll = '/run/slurm-cgroups';

export class Sandbox {
  readonly host: Host;
  /** `/slurm-cgroups-demo-<pid>-<start time>-<number>`: the cgroup of that path in each hierarchy. */
  readonly within: CgroupPath;
  readonly version: 1 | 2;
  readonly #top: CgroupSet;

  private constructor(host: Host, version: 1 | 2, top: CgroupSet, within: CgroupPath) {
    this.host = host;
    this.version = version;
    this.within = within;
    this.#top = top;
  }

  /**
   * Makes a sandbox below each writable hierarchy: those of v1 that Slurm uses, else v2.
   *
   * @throws SlurmCgroupsError ERR_NOT_PERMITTED, ERR_READ_ONLY or ERR_NO_CGROUPS where there is none to use.
   */
  static async create(host: Host, prefix: string): Promise<Sandbox> {
    const hierarchies = usable(host);
    const { pid } = host.self();
    const owner = `${prefix}-${pid}-${identityOf(host, pid).startTime}`;
    // One that could not be removed does not stand in the way of the next.
    const isTaken = (number: number) =>
      hierarchies.some(({ mountPoint }) => host.stat(`${mountPoint}/${owner}-${number}`) !== undefined);
    let number = 1;
    while (isTaken(number)) number++;
    const name = `${owner}-${number}`;
    const roots = new CgroupSet(
      host,
      hierarchies.map((hierarchy) => new Cgroup(host, hierarchy, hierarchy.root)),
    );
    const sandbox = new Sandbox(host, hierarchies[0]?.version ?? 2, roots.create(name), childPath(rootPath, name));
    try {
      await fsExtra.ensureDir(sandbox.#spool, 0o755);
      sandbox.#top.create('outside');
      return sandbox;
    } catch (error) {
      await sandbox.remove();
      throw error;
    }
  }

  /** Where its files are; removed with it. Root's alone to write. */
  get folder(): string {
    return folderOf(this.within.slice(1));
  }

  get #spool(): string {
    return `${this.folder}/spool`;
  }

  get controllers(): readonly string[] {
    return this.#top.cgroups.map((cgroup) => cgroup.hierarchy.key);
  }

  /** The node whose jobs are this sandbox's. On v2 owners are known from the scripts in its spool, as on a real one. */
  async node(): Promise<SlurmNode> {
    return readNode({ host: this.host, within: this.within, ...(this.version === 2 ? { spoolDir: this.#spool } : {}) });
  }

  /** A job with an extern and a batch step, as slurmd and slurmstepd make it. Gives the batch step's leaf. */
  async addJob({ jobId, uid }: SandboxJob): Promise<CgroupSet> {
    if (this.version === 2) {
      const script = `${this.#spool}/job${String(jobId).padStart(5, '0')}/slurm_script`;
      await fsExtra.outputFile(script, '#!/bin/sh\nsleep infinity\n', { mode: 0o700 });
      await fsExtra.chown(script, uid, uid);
      const job = this.#ensure('system.slice', 'slurmstepd.scope', `job_${jobId}`);
      for (const step of ['step_extern', 'step_batch']) {
        const made = job.create(step);
        made.create('slurm');
        made.create('user').create('task_0');
      }
      return job.child('step_batch', 'user', 'task_0');
    }
    const job = this.#ensure('slurm', `uid_${uid}`, `job_${jobId}`);
    const leaves = ['step_extern', 'step_batch'].map((step) => {
      const made = job.create(step);
      const withTasks = made.cgroups.filter((cgroup) =>
        cgroup.hierarchy.controllers.some((one) => taskControllers.includes(one)),
      );
      const tasks = new CgroupSet(this.host, withTasks).create('task_0').cgroups;
      return new CgroupSet(this.host, [...made.cgroups.filter((cgroup) => !withTasks.includes(cgroup)), ...tasks]);
    });
    return leaves[1] ?? job;
  }

  /** A clean-up beside it can still remove the user's empty cgroup: then it is made again. */
  #ensure(...names: readonly string[]): CgroupSet {
    for (let tries = 1; ; tries++) {
      try {
        return this.#ensureOnce(names);
      } catch (error) {
        if (tries === 5 || !hasCode(error, 'ERR_CGROUP_GONE')) throw error;
      }
    }
  }

  #ensureOnce(names: readonly string[]): CgroupSet {
    let set = this.#top;
    for (const name of names) {
      // A clean-up may have removed it in some hierarchies, and not in all.
      const there = new Set(set.child(name).cgroups.map(({ hierarchy }) => hierarchy.key));
      const missing = set.cgroups.filter(({ hierarchy }) => !there.has(hierarchy.key));
      new CgroupSet(this.host, missing).create(name);
      set = set.child(name);
    }
    return set;
  }

  /** Starts `sleep` as that user, in these cgroups or outside every job. */
  async startSleeper(uid: number, where?: CgroupSet): Promise<Sleeper> {
    const sleeper = await this.startScript(uid, `exec sleep ${sleeperSeconds}`, where);
    // Until then it is a shell, and would be shown as one. Not for ever: it may have ended, or its cgroup be frozen.
    const isShell = () => ifThere(() => this.host.read(`/proc/${sleeper.pid}/comm`)) === 'sh\n';
    for (let tries = 0; tries < 500 && isShell(); tries++) await this.host.sleep(2);
    return sleeper;
  }

  /** Starts a shell as that user, in these cgroups or outside every job, that ends when this process ends. */
  async startShell(uid: number, where?: CgroupSet): Promise<Sleeper> {
    return this.startScript(uid, 'read -r line', where);
  }

  /**
   * Starts a shell script as that user, in these cgroups or outside every job. It begins when it is there, so all that
   * it starts is born there. Until then it waits for a line from this process: when this process is killed, the wait
   * ends, and so does the shell. It would not notice if it were stopped, and no later run would find it, as it is not
   * in the sandbox yet. The script must end by itself; its standard input ends with this process.
   */
  async startScript(uid: number, script: string, where?: CgroupSet): Promise<Sleeper> {
    const args = ['-c', `read -r line || exit; ${script}`];
    const started = await this.host.start('/bin/sh', args, { uid, gid: uid, input: 'pipe' });
    try {
      await (where ?? this.#top.child('outside')).add(started.pid);
    } catch (error) {
      started.endInput();
      throw error;
    }
    started.tell('\n');
    return started;
  }

  /** Ends every process in the sandbox and removes it, in every hierarchy, and its files. */
  async remove(): Promise<void> {
    await removeSandbox(this.within.slice(1), this.#top);
    await fsExtra.remove(this.folder);
  }
}

/**
 * Removes sandboxes of that prefix whose maker has ended; gives their names. One whose maker lives is left alone.
 */
export async function removeLeftovers(host: Host, prefix: string): Promise<readonly string[]> {
  const pattern = new RegExp(`^${prefix}-(\\d+)-(\\d+)(?:-\\d+)?$`); // 0.1.0 gave no number
  const names = new Set<string>(await namesIn(foldersOfAll));
  const hierarchies = discoverHierarchies({ host });
  for (const hierarchy of hierarchies.all) for (const name of host.names(hierarchy.mountPoint)) names.add(name);
  const removed: string[] = [];
  for (const name of [...names].sort()) {
    const [, pid, startTime] = pattern.exec(name) ?? [];
    if (
      pid === undefined ||
      startTime === undefined ||
      isThere(host, { pid: Number(pid), startTime: BigInt(startTime) })
    )
      continue;
    await removeSandbox(name, CgroupSet.at(host, hierarchies, childPath(rootPath, name)));
    await fsExtra.remove(folderOf(name));
    removed.push(name);
  }
  return removed;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return (await fsExtra.pathExists(folder)) ? fsExtra.readdir(folder) : [];
}

function folderOf(name: string): string {
  return `${foldersOfAll}/${name}`;
}

/** How long processes may take to die, and then their cgroups to be empty: long, since an emulated machine is slow. */
const timeoutMs = 30_000;

async function removeSandbox(name: string, top: CgroupSet): Promise<void> {
  const { remaining } = await top.kill({ timeoutMs });
  const { left } = await top.remove({ timeoutMs });
  if (left.length === 0) return;
  const processes = `${remaining.length} process${remaining.length === 1 ? ' is' : 'es are'} still in it`;
  throw new SlurmCgroupsError('ERR_CGROUP_BUSY', `Cannot remove the sandbox ${name}: ${processes}`);
}

/** Writable v1 hierarchies that Slurm uses; without any, a writable v2. */
function usable(host: Host): readonly Hierarchy[] {
  const writable = discoverHierarchies({ host }).all.filter(
    (hierarchy) => !hierarchy.readOnly && hierarchy.root === '/',
  );
  const v1 = writable.filter((hierarchy) => hierarchy.controllers.some((one) => slurmControllers.includes(one)));
  const chosen = v1.length > 0 ? v1 : writable.filter((hierarchy) => hierarchy.version === 2);
  if (chosen.length === 0) {
    throw new SlurmCgroupsError(
      'ERR_READ_ONLY',
      'Cannot make a sandbox: every cgroup hierarchy is read-only, or shows only a part of its tree',
    );
  }
  if (host.self().uid !== 0)
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', 'Cannot make a sandbox: only root may create cgroups here');
  return chosen;
}
