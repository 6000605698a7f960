// Jobs to measure with: real cgroup directories, laid out as Slurm does, in a sandbox of the bench's own. Its
// name says which process made it; what a killed bench left behind the next one removes (removeLeftovers).

import fs from 'node:fs';

const prefix = 'slurm-cgroups-bench';
const folders = '/run/slurm-cgroups';

/** A memory cgroup costs the kernel some 23 KiB: 50,000 of them only where there is plenty. */
const memoryNeededKiB = 4 << 20;

/** Which hierarchies the jobs stand in: two of v1, or v2. `undefined`: none may be written here. */
export function chooseHierarchies(hierarchies) {
  if (process.geteuid() !== 0) return undefined;
  const writable = hierarchies.all.filter((one) => !one.readOnly && one.root === '/');
  const v1 = (controller) => writable.find((one) => one.version === 1 && one.controllers.includes(controller));
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(fs.readFileSync('/proc/meminfo', 'utf8'))?.[1]);
  // The kernel has 65,535 ids for memory cgroups (MEM_CGROUP_ID_MAX), and 55,000 are made here.
  const used = Number(/^memory\t\d+\t(\d+)/m.exec(fs.readFileSync('/proc/cgroups', 'utf8'))?.[1] ?? 0);
  const chosen = ['freezer', available >= memoryNeededKiB && used < 9000 ? 'memory' : 'devices'].flatMap(
    (one) => v1(one) ?? [],
  );
  if (chosen.length > 0) return chosen;
  const v2 = writable.filter((one) => one.version === 2);
  return v2.length > 0 ? v2 : undefined;
}

/** The sandbox: one directory in each hierarchy, in it a tree of jobs for each size. */
export class Tree {
  /** Below each hierarchy's root, without a slash. */
  name;
  #hierarchies;

  constructor(hierarchies) {
    this.name = `${prefix}-${process.pid}-${startTimeOf(process.pid)}`;
    this.#hierarchies = hierarchies;
  }

  get version() {
    return this.#hierarchies[0].version;
  }

  /** What `--within` takes for a tree. */
  within(size) {
    return `/${this.name}/${size}`;
  }

  /** Slurm's own directory in each hierarchy. */
  tops(size) {
    return this.#hierarchies.map(
      (one) => `${one.mountPoint}${this.within(size)}/${one.version === 1 ? 'slurm' : 'system.slice/slurmstepd.scope'}`,
    );
  }

  /**
   * Makes the folder that says to the command that a tree is a sandbox: the configuration of this machine's Slurm, if it
   * has one, is not read with it.
   */
  isolate(size) {
    fs.mkdirSync(`${folders}${this.within(size)}/spool`, { recursive: true });
  }

  /**
   * Makes that many jobs, each with step_extern and step_batch, and a task where Slurm makes one (v1: memory).
   * The first two jobs are `uid`'s, in every tree; the others belong to 100 users.
   */
  *make(size, uid) {
    this.isolate(size);
    for (const [at, top] of this.tops(size).entries()) {
      fs.mkdirSync(top, { recursive: true });
      const { version, controllers } = this.#hierarchies[at];
      const below = version === 2 ? ['slurm', 'user', 'user/task_0'] : controllers.includes('memory') ? ['task_0'] : [];
      for (let jobId = 1; jobId <= size; jobId++) {
        const user = version === 1 ? `/uid_${jobId <= 2 ? uid : uid + (jobId % 100) + 1}` : '';
        if (!fs.existsSync(`${top}${user}`)) fs.mkdirSync(`${top}${user}`);
        const job = `${top}${user}/job_${jobId}`;
        fs.mkdirSync(job);
        for (const step of ['step_extern', 'step_batch']) {
          for (const name of ['', ...below.map((one) => `/${one}`)]) fs.mkdirSync(`${job}/${step}${name}`);
        }
        if (jobId % 100 === 0) yield; // a moment in which Ctrl-C is heard
      }
    }
  }

  /** Removes everything, children before parents, and ends who is in it; what is not there is no error. */
  remove() {
    for (const { mountPoint } of this.#hierarchies) removeBelow(`${mountPoint}/${this.name}`);
    fs.rmSync(`${folders}/${this.name}`, { recursive: true, force: true });
  }
}

/** Removes the sandboxes whose maker has ended; gives their directories. */
export function removeLeftovers(hierarchies) {
  const removed = [];
  for (const { mountPoint } of hierarchies.all) {
    for (const name of fs.readdirSync(mountPoint)) {
      const [, pid, startTime] = new RegExp(`^${prefix}-(\\d+)-(\\d+)$`).exec(name) ?? [];
      if (pid === undefined || startTimeOf(pid) === startTime) continue;
      removeBelow(`${mountPoint}/${name}`);
      fs.rmSync(`${folders}/${name}`, { recursive: true, force: true });
      removed.push(`${mountPoint}/${name}`);
    }
  }
  return removed;
}

/** Field 22 of /proc/PID/stat: with the pid it is one process for ever. `undefined`: there is none. */
function startTimeOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')[19];
  } catch {
    return undefined;
  }
}

function removeBelow(directory) {
  if (!fs.existsSync(directory)) return;
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeBelow(`${directory}/${entry.name}`);
  }
  for (let tries = 0; ; tries++) {
    endAll(directory);
    try {
      fs.rmdirSync(directory);
      return;
    } catch (error) {
      if (error.code !== 'EBUSY' || tries > 500) throw error; // who was killed is dying
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

/** Frozen meanwhile where that can be: a fork bomb is faster than a loop over pids. */
function endAll(directory) {
  const pids = () =>
    fs
      .readFileSync(`${directory}/cgroup.procs`, 'utf8')
      .split('\n')
      .map(Number)
      .filter((pid) => pid > 1);
  if (pids().length === 0) return;
  const state = `${directory}/freezer.state`;
  const canFreeze = fs.existsSync(state);
  for (let tries = 0; canFreeze && tries < 1000; tries++) {
    fs.writeFileSync(state, 'FROZEN');
    if (fs.readFileSync(state, 'utf8').trim() === 'FROZEN') break;
  }
  for (const pid of pids()) endIfThere(pid);
  if (canFreeze) fs.writeFileSync(state, 'THAWED');
}

function endIfThere(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
