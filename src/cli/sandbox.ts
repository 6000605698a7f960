// A piece of this machine's real cgroups that is ours alone, laid out as Slurm lays out jobs: for the demo
// and for tests. Its name says which process made it; what a killed one left behind the next one removes.

import fsExtra from 'fs-extra';
import { Cgroup } from '../cgroup/cgroup.js';
import { CgroupSet } from '../cgroup/cgroup-set.js';
import { discoverHierarchies, type Hierarchy } from '../cgroup/hierarchies.js';
import { type CgroupPath, childPath, rootPath } from '../cgroup/path.js';
import { holdProcess, identityOf, isThere, parseProcStat } from '../cgroup/process.js';
import { readNode, type SlurmNode } from '../jobs/node.js';
import { ifThere, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

/** Controllers for which Slurm makes job directories on v1 (recorded, 20.11 to 26.05). */
const slurmControllers: readonly string[] = ['freezer', 'cpuset', 'memory', 'devices', 'cpuacct'];
/** Where it makes one for each task, too. */
const taskControllers: readonly string[] = ['memory', 'cpuacct'];

/** Long enough for a demo, short enough that nothing a killed one started lives on. */
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

interface State {
  readonly name: string;
  readonly sleepers: readonly { readonly pid: number; readonly startTime: string }[];
}

/** Files of sandboxes: on a file system of root's that is empty after a boot. */
const stateFolder = '/run/slurm-cgroups';

export class Sandbox {
  readonly host: Host;
  /** `/slurm-cgroups-demo-<pid>-<start time>`: the cgroup of that path in each hierarchy. */
  readonly within: CgroupPath;
  readonly version: 1 | 2;
  readonly #top: CgroupSet;
  #state: State;

  private constructor(host: Host, version: 1 | 2, top: CgroupSet, within: CgroupPath) {
    this.host = host;
    this.version = version;
    this.within = within;
    this.#top = top;
    this.#state = { name: within.slice(1), sleepers: [] };
  }

  /**
   * Makes a sandbox below each writable hierarchy: those of v1 that Slurm uses, else v2.
   *
   * @throws SlurmCgroupsError ERR_NOT_PERMITTED, ERR_READ_ONLY or ERR_NO_CGROUPS where there is none to use.
   */
  static async create(host: Host, prefix: string): Promise<Sandbox> {
    const hierarchies = usable(host);
    const { pid } = host.self();
    const name = `${prefix}-${pid}-${identityOf(host, pid).startTime}`;
    const roots = new CgroupSet(
      host,
      hierarchies.map((hierarchy) => new Cgroup(host, hierarchy, hierarchy.root)),
    );
    const sandbox = new Sandbox(host, hierarchies[0]?.version ?? 2, roots.create(name), childPath(rootPath, name));
    try {
      await sandbox.#keepState();
      await fsExtra.ensureDir(sandbox.#spool, 0o755);
      sandbox.#top.create('outside');
      return sandbox;
    } catch (error) {
      await sandbox.remove();
      throw error;
    }
  }

  get #folder(): string {
    return `${stateFolder}/${this.#state.name}`;
  }

  get #spool(): string {
    return `${this.#folder}/spool`;
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

  #ensure(...names: readonly string[]): CgroupSet {
    let set = this.#top;
    for (const name of names) {
      const child = set.child(name);
      set = child.cgroups.length === set.cgroups.length ? child : set.create(name);
    }
    return set;
  }

  /** Starts a process of that user inside a set of cgroups, or outside every job. */
  async startSleeper(uid: number, where?: CgroupSet): Promise<Sleeper> {
    return this.startScript(uid, `exec sleep ${sleeperSeconds}`, where);
  }

  /**
   * Starts a shell script of that user inside a set of cgroups, or outside every job. It begins when it is there,
   * so all that it starts is born there. It must end by itself: what a killed demo leaves must not live on.
   */
  async startScript(uid: number, script: string, where?: CgroupSet): Promise<Sleeper> {
    const started = await this.host.start('/bin/sh', ['-c', `kill -STOP $$; ${script}`], { uid, gid: uid });
    const { pid, startTime } = identityOf(this.host, started.pid);
    this.#state = { ...this.#state, sleepers: [...this.#state.sleepers, { pid, startTime: startTime.toString() }] };
    await this.#keepState();
    while (parseProcStat(this.host.read(`/proc/${pid}/stat`)).state !== 'T') await this.host.sleep(1);
    await (where ?? this.#top.child('outside')).add(pid);
    this.host.signal(pid, 'SIGCONT');
    return started;
  }

  /** Atomic: a killed demo leaves the old state or the new one, not half of it. */
  async #keepState(): Promise<void> {
    await fsExtra.ensureDir(this.#folder, 0o755);
    await fsExtra.writeJson(`${this.#folder}/state.json.new`, this.#state);
    await fsExtra.move(`${this.#folder}/state.json.new`, `${this.#folder}/state.json`, { overwrite: true });
  }

  /** Ends every process in the sandbox and removes it, in every hierarchy, and its files. */
  async remove(): Promise<void> {
    await removeSandbox(this.host, this.#state, this.#top);
    await fsExtra.remove(this.#folder);
  }
}

/**
 * Removes sandboxes of that prefix whose maker has ended; gives their names. One whose maker lives is left alone.
 */
export async function removeLeftovers(host: Host, prefix: string): Promise<readonly string[]> {
  const pattern = new RegExp(`^${prefix}-(\\d+)-(\\d+)$`);
  const names = new Set<string>(await namesIn(stateFolder));
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
    const state = await readState(`${stateFolder}/${name}`, name);
    await removeSandbox(host, state, CgroupSet.at(host, hierarchies, childPath(rootPath, name)));
    await fsExtra.remove(`${stateFolder}/${name}`);
    removed.push(name);
  }
  return removed;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return (await fsExtra.pathExists(folder)) ? fsExtra.readdir(folder) : [];
}

async function readState(folder: string, name: string): Promise<State> {
  try {
    return await fsExtra.readJson(`${folder}/state.json`);
  } catch {
    return { name, sleepers: [] }; // killed before the first was kept: then none was started
  }
}

/** How long processes may take to die, and then their cgroups to be empty. */
const timeoutMs = 5000;

async function removeSandbox(host: Host, state: State, top: CgroupSet): Promise<void> {
  for (const sleeper of state.sleepers) endSleeper(host, sleeper);
  const { remaining } = await top.kill({ timeoutMs });
  const { left } = await top.remove({ timeoutMs });
  if (left.length === 0) return;
  const processes = `${remaining.length} processes are still in it`;
  throw new SlurmCgroupsError('ERR_CGROUP_BUSY', `Cannot remove the sandbox ${state.name}: ${processes}`);
}

/** One that was started and is not in the sandbox yet: looked at while it is held. */
function endSleeper(host: Host, sleeper: State['sleepers'][number]): void {
  ifThere(() => {
    const held = holdProcess(host, sleeper.pid);
    try {
      if (held.startTime.toString() === sleeper.startTime) host.signal(sleeper.pid, 'SIGKILL');
    } finally {
      held.close();
    }
  });
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
      'Cannot make a sandbox: every cgroup hierarchy is mounted read-only or shows a part only',
    );
  }
  if (host.self().uid !== 0)
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', 'Cannot make a sandbox: only root may create cgroups here');
  return chosen;
}
