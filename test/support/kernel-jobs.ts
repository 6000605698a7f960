// Jobs and sessions on the real kernel, for the tests of adopt and of what it asks src/jobs: a sandbox for each
// test, processes of unprivileged users in it, and a teardown that runs on every path. A v1 machine with v2 beside
// it is two kernels: for the second, the mounts of v1 are left out of the mount table.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, it, type TestContext } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { childPath } from '../../src/cgroup/path.js';
import { removeLeftovers, Sandbox } from '../../src/cli/sandbox.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import type { Job } from '../../src/jobs/job.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import type { Directory, Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { withoutV1 } from './without-v1.js';

/** Users that no passwd knows. */
export const alice = 64_811;
export const bob = 64_812;

const prefix = 'slurm-cgroups-test-adopt';

/** Nothing lives longer, whatever happens to the test. */
const lifetimeSeconds = 60;

export interface Kernel {
  readonly name: 'v1' | 'v2';
  readonly host: Host;
}

function findKernels(): readonly Kernel[] {
  const host = liveHost();
  const writable = discoverHierarchies({ host }).all.filter((one) => !one.readOnly && one.root === '/');
  const v1 = ['freezer', 'cpuset', 'memory'].every((name) => writable.some((one) => one.controllers.includes(name)));
  const v2 = writable.some((one) => one.version === 2);
  return [
    ...(v1 ? [{ name: 'v1', host } as const] : []),
    ...(v2 ? [{ name: 'v2', host: withoutV1(host) } as const] : []),
  ];
}

const isRoot = process.geteuid?.() === 0;
export const kernels: readonly Kernel[] = isRoot ? findKernels() : [];

/** The same tests on v1 and on v2, as far as this machine has them; without any, one that says why. */
export function onKernels(suite: (kernel: Kernel) => void): void {
  for (const kernel of kernels) describe(`on ${kernel.name}`, () => suite(kernel));
  if (kernels.length > 0) return;
  it('on the real kernel', ({ skip }) => {
    const why = isRoot ? 'no hierarchy of cgroups is writable here' : 'needs root: cgroups, processes of other users';
    if (process.env['CI'] === 'true') throw new Error(`Skipped, which CI does not allow: ${why}`);
    skip(why);
  });
}

/** One test in a world of its own. */
export function inWorld(
  kernel: Kernel,
  name: string,
  act: (world: World, context: TestContext) => Promise<void>,
): void {
  it(name, async (context) => {
    const world = await World.make(kernel);
    try {
      await act(world, context);
    } finally {
      await world.end();
    }
  });
}

/** A sandbox, what was started, and what the kernel says of it past the product. */
export class World {
  readonly kernel: Kernel;
  readonly box: Sandbox;
  readonly #running = new Set<number>();
  readonly #folders: string[] = [];
  readonly #frozen: string[] = [];
  readonly #doomed: string[] = [];

  private constructor(kernel: Kernel, box: Sandbox) {
    this.kernel = kernel;
    this.box = box;
  }

  static async make(kernel: Kernel): Promise<World> {
    for (const name of await removeLeftovers(kernel.host, prefix))
      process.emitWarning(`Removed ${name}, left by a killed test`);
    return new World(kernel, await Sandbox.create(kernel.host, prefix));
  }

  get host(): Host {
    return this.kernel.host;
  }

  /** The node of the sandbox, looked at through another host if one is given. */
  async node(host: Host = this.host): Promise<SlurmNode> {
    return { ...(await this.box.node()), host };
  }

  async job(jobId: number): Promise<Job> {
    const node = await this.node();
    const job = (await findOwners(discoverJobs(node), { node })).find((one) => one.jobId === jobId);
    if (job === undefined) throw new Error(`There is no job ${jobId} in the sandbox`);
    return job;
  }

  /** Two jobs of alice; the second is the newer. */
  async twoJobs(): Promise<void> {
    for (const jobId of [101, 102]) await this.box.addJob({ jobId, uid: alice });
  }

  /** A process outside every job. */
  async session(uid: number = alice): Promise<number> {
    const { pid } = await this.box.startSleeper(uid);
    return pid;
  }

  /** A program outside every job: it stops itself, is moved, and goes on. */
  async program(file: string, args: readonly string[], uid: number = alice): Promise<number> {
    const pid = await this.start(file, args, uid);
    await until(`process ${pid} stops`, () => stateOf(pid) === 'T');
    await this.outside.add(pid);
    this.host.signal(pid, 'SIGCONT');
    return pid;
  }

  /** `script` runs once it stands outside every job. */
  async shell(script: string, uid: number = alice): Promise<number> {
    return this.program('/bin/sh', ['-c', `kill -STOP $$; ${script}`], uid);
  }

  /** A process where this one is. */
  async start(file: string, args: readonly string[], uid: number): Promise<number> {
    const { pid, exited } = await this.host.start(file, args, { uid, gid: uid });
    this.#running.add(pid);
    void exited.then(() => this.#running.delete(pid));
    return pid;
  }

  get lifetime(): string {
    return String(lifetimeSeconds);
  }

  /** Where sessions stand before they are adopted. */
  get outside(): CgroupSet {
    return this.at('outside');
  }

  /** A cgroup of the sandbox in each of its hierarchies that has it. */
  at(...names: readonly string[]): CgroupSet {
    const hierarchies = discoverHierarchies({ host: this.host });
    const within = childPath(this.box.within, ...names);
    const own = this.box.controllers.flatMap((key) => hierarchies.get(key) ?? []);
    const there = own
      .map((one) => new Cgroup(this.host, one, within))
      .filter(({ directory }) => fs.existsSync(directory));
    return new CgroupSet(this.host, there);
  }

  /** Where Slurm has that job. */
  jobAt(jobId: number, ...names: readonly string[]): CgroupSet {
    return this.at(
      ...(this.kernel.name === 'v1' ? ['slurm', `uid_${alice}`] : ['system.slice', 'slurmstepd.scope']),
      `job_${jobId}`,
      ...names,
    );
  }

  /** The cgroup that adoption must reach, by hierarchy; past the product. */
  leaves(jobId: number): Readonly<Record<string, string>> {
    const step = this.jobAt(jobId, 'step_extern');
    return Object.fromEntries(
      step.cgroups.map(({ hierarchy, path: place }) => {
        if (hierarchy.version === 2) return [hierarchy.key, `${place}/user/task_0`];
        return [
          hierarchy.key,
          ['memory', 'cpuacct'].some((one) => hierarchy.controllers.includes(one)) ? `${place}/task_0` : place,
        ];
      }),
    );
  }

  /** Where a process, or that thread of it, is in the hierarchies of the sandbox: what the kernel says. */
  places(pid: number, tid?: number): Readonly<Record<string, string>> {
    const file = tid === undefined ? `/proc/${pid}/cgroup` : `/proc/${pid}/task/${tid}/cgroup`;
    const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
    const all = lines.map((line) => {
      const [, key = '', ...rest] = line.split(':');
      return [key === '' ? 'unified' : key.split(',').sort().join(), rest.join(':')] as const;
    });
    return Object.fromEntries(all.filter(([key]) => this.box.controllers.includes(key)));
  }

  /** Everywhere at the same place below the sandbox. */
  everywhere(place: string): Readonly<Record<string, string>> {
    return Object.fromEntries(this.box.controllers.map((key) => [key, `${this.box.within}/${place}`]));
  }

  /** Freezes what Slurm's suspend freezes: the step on v1, its user side on v2. Thawed at the end. */
  freeze(jobId: number): void {
    const file = this.freezerOf(jobId);
    this.#frozen.push(file);
    fs.writeFileSync(file, this.kernel.name === 'v1' ? 'FROZEN' : '1');
  }

  thaw(jobId: number): void {
    fs.writeFileSync(this.freezerOf(jobId), this.kernel.name === 'v1' ? 'THAWED' : '0');
  }

  freezerOf(jobId: number): string {
    const v1 = this.kernel.name === 'v1';
    const set = this.jobAt(jobId, 'step_extern', ...(v1 ? [] : ['user']));
    const cgroup = set.cgroups.find(
      ({ hierarchy }) => hierarchy.version === 2 || hierarchy.controllers.includes('freezer'),
    );
    return `${cgroup?.directory}/${v1 ? 'freezer.state' : 'cgroup.freeze'}`;
  }

  /** Removes a tree of cgroups without processes, in each hierarchy. */
  removeTree(set: CgroupSet): void {
    for (const cgroup of set.cgroups) {
      removeDirectories(cgroup.directory);
    }
  }

  /** Ends the extern step of a job without processes. */
  removeExtern(jobId: number): void {
    this.removeTree(this.jobAt(jobId, 'step_extern'));
  }

  /** Makes it again: the same names, other directories. */
  makeExtern(jobId: number): void {
    const step = this.jobAt(jobId).create('step_extern');
    for (const { hierarchy, directory } of step.cgroups) {
      if (hierarchy.version === 2) {
        for (const name of ['slurm', 'user', 'user/task_0']) fs.mkdirSync(`${directory}/${name}`);
      } else if (['memory', 'cpuacct'].some((one) => hierarchy.controllers.includes(one))) {
        fs.mkdirSync(`${directory}/task_0`);
      }
    }
  }

  /** v2: makes the user side of an extern step threaded, so that its task accepts no process (cgroups(7), "domain invalid"). */
  makeInvalid(jobId: number): void {
    const [step] = this.jobAt(jobId, 'step_extern').cgroups;
    fs.writeFileSync(`${step?.directory}/user/cgroup.type`, 'threaded');
    for (const name of ['user/task_0', 'user', 'slurm']) this.#doomed.push(`${step?.directory}/${name}`);
  }

  /** A folder of root's that all users can read and run programs from. */
  folder(): string {
    const folder = fs.mkdtempSync('/var/tmp/slurm-cgroups-test-');
    fs.chmodSync(folder, 0o755);
    this.#folders.push(folder);
    return folder;
  }

  /** A copy of a program under another name. */
  copy(
    program: string,
    name: string,
    { uid = 0, mode = 0o755 }: { readonly uid?: number; readonly mode?: number } = {},
  ): string {
    const file = path.join(this.folder(), name);
    fs.copyFileSync(program, file);
    fs.chownSync(file, uid, uid);
    fs.chmodSync(file, mode);
    return file;
  }

  async end(): Promise<void> {
    for (const file of this.#frozen)
      if (fs.existsSync(file)) fs.writeFileSync(file, this.kernel.name === 'v1' ? 'THAWED' : '0');
    // Children first, while they still are children of what was started here.
    for (const pid of [...this.#running].flatMap((one) => [
      ...(stateOf(one) === undefined ? [] : descendantsOf(one)),
      one,
    ])) {
      if (stateOf(pid) !== undefined) this.host.signal(pid, 'SIGKILL');
    }
    for (const directory of this.#doomed) fs.rmdirSync(directory);
    await this.box.remove();
    await until('what was started has ended', () => this.#running.size === 0);
    for (const folder of this.#folders) fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** R, S, T, Z …; `undefined`: there is no such process. */
export function stateOf(pid: number): string | undefined {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2)[0];
  } catch {
    return undefined;
  }
}

/** One that ends while it is looked at has no children; they are another's by then. */
export function childrenOf(pid: number): readonly number[] {
  try {
    return fs
      .readdirSync(`/proc/${pid}/task`)
      .flatMap((tid) => fs.readFileSync(`/proc/${pid}/task/${tid}/children`, 'utf8').split(' '))
      .filter((text) => text !== '')
      .map(Number);
  } catch (error) {
    if (stateOf(pid) === undefined || isGoneErrno(error)) return [];
    throw error;
  }
}

function isGoneErrno(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH');
}

export function descendantsOf(pid: number): readonly number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

/** Children before their parents. */
function removeDirectories(directory: string): void {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true }))
    if (entry.isDirectory()) removeDirectories(`${directory}/${entry.name}`);
  fs.rmdirSync(directory);
}

/** Asks again until it is so; a test that waits for ever fails with what it waited for. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let round = 0; !(await isSo()); round++) {
    if (round > 2000) throw new Error(`It never came to this: ${what}`);
    await pause(5);
  }
}

/** Whether a process still obeys: it dies of SIGKILL, which one in a frozen v1 cgroup does not. */
export async function obeys(world: World, pid: number): Promise<void> {
  world.host.signal(pid, 'SIGKILL');
  await until(`process ${pid} dies`, () => ['Z', 'X', undefined].includes(stateOf(pid)));
}

/** The same machine, where `before` runs just before the nth write of a process into a cgroup. */
export function interrupted(host: Host, nth: number, before: () => void): Host {
  let writes = 0;
  const wrap = (held: Directory): Directory => ({
    ...held,
    write: (name, text) => {
      if (++writes === nth) before();
      held.write(name, text);
    },
  });
  return { ...host, open: (where) => wrap(host.open(where)) };
}
