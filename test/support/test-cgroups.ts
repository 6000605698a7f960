// Cgroups of this machine that a test made and no other uses: one of the same name in every writable
// hierarchy, processes that are ended by pid, and a teardown that runs on every path. It knows nothing of Slurm;
// src/cli/sandbox.ts lays out jobs.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { type TestContext, test } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { discoverHierarchies, type Hierarchies, type Hierarchy } from '../../src/cgroup/hierarchies.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';

/** Nothing that a killed test left behind lives longer. */
const lifetimeSeconds = 60;

/** A process of the test; `exited` is fulfilled when it was reaped. */
export interface TestProcess {
  readonly pid: number;
  /** SIGKILL, and waits until it is reaped: only then can its pid be another's. */
  end(): Promise<void>;
}

export class TestCgroups {
  readonly host: Host = liveHost();
  readonly hierarchies: Hierarchies = discoverHierarchies({ host: this.host });
  readonly name: string = `slurm-cgroups-test-${process.pid}-${randomBytes(4).toString('hex')}`;
  readonly #tops = new Map<string, Cgroup>();
  readonly #children = new Set<ChildProcess>();

  private constructor() {}

  /** Makes one cgroup of our own in every writable hierarchy. */
  static create(): TestCgroups {
    const made = new TestCgroups();
    try {
      for (const hierarchy of writable(made.hierarchies)) {
        const top = new Cgroup(made.host, hierarchy, cgroupPath(`/${made.name}`));
        fs.mkdirSync(top.directory);
        made.#tops.set(hierarchy.key, top);
        if (hierarchy.controllers.includes('cpuset')) {
          for (const file of ['cpuset.cpus', 'cpuset.mems']) {
            fs.writeFileSync(`${top.directory}/${file}`, fs.readFileSync(`${hierarchy.mountPoint}/${file}`));
          }
        }
      }
      return made;
    } catch (error) {
      for (const top of made.#tops.values()) fs.rmdirSync(top.directory);
      throw error;
    }
  }

  /** Our cgroup in the hierarchy of that key (`memory`, `unified`). */
  at(key: string): Cgroup {
    const top = this.#tops.get(key);
    if (top === undefined) throw new Error(`There is no writable hierarchy ${key}: say so with { needs: ['${key}'] }`);
    return top;
  }

  has(key: string): boolean {
    return this.#tops.has(key);
  }

  /** Ours in every writable v1 hierarchy. */
  get v1(): CgroupSet {
    return new CgroupSet(
      this.host,
      [...this.#tops.values()].filter((top) => top.hierarchy.version === 1),
    );
  }

  get all(): CgroupSet {
    return new CgroupSet(this.host, [...this.#tops.values()]);
  }

  /** A directory made by hand, below ours: on cpuset without cpus and mems, as mkdir leaves it. */
  mkdir(parent: Cgroup, name: string): Cgroup {
    const child = new Cgroup(this.host, parent.hierarchy, cgroupPath(`${parent.path}/${name}`));
    this.host.mkdir(child.directory);
    return child;
  }

  /** A process with one thread, in these cgroups (by writes of the test's own). */
  async sleeper(...where: readonly Cgroup[]): Promise<TestProcess> {
    return this.#start('/bin/sleep', [String(lifetimeSeconds)], where);
  }

  /** A process with several threads: Node has some of its own. */
  async threaded(...where: readonly Cgroup[]): Promise<TestProcess> {
    // It says when the last of them is there: those that read files come with the first such work.
    const script = `require('fs').stat('/', () => { console.log(); setTimeout(() => {}, ${lifetimeSeconds * 1000}); })`;
    return this.#start(process.execPath, ['-e', script], where);
  }

  async #start(file: string, args: readonly string[], where: readonly Cgroup[]): Promise<TestProcess> {
    const speaks = file === process.execPath;
    const child = spawn(file, args, { stdio: ['ignore', speaks ? 'pipe' : 'ignore', 'ignore'], cwd: '/' });
    this.#children.add(child);
    await once(child, 'spawn');
    const { pid } = child;
    if (pid === undefined) throw new Error(`${file} did not start`);
    if (child.stdout !== null) {
      await once(child.stdout, 'data');
      child.stdout.destroy();
    }
    for (const cgroup of where) put(pid, cgroup);
    return { pid, end: () => end(child) };
  }

  /** Thaws, ends and removes everything of ours. */
  async remove(): Promise<void> {
    const tops = [...this.#tops.values()].map((top) => Buffer.from(top.directory)).filter((top) => fs.existsSync(top));
    for (const directory of tops.flatMap((top) => [top, ...directoriesBelow(top)])) {
      for (const [file, thawed] of [
        ['freezer.state', 'THAWED'],
        ['cgroup.freeze', '0'],
      ] as const) {
        const state = Buffer.concat([directory, Buffer.from(`/${file}`)]);
        if (fs.existsSync(state)) fs.writeFileSync(state, thawed);
      }
    }
    for (const child of this.#children) await end(child);
    for (const { directory } of this.#tops.values()) await removeTree(directory);
  }
}

/** Writes a pid into cgroup.procs of one of our cgroups, past the product. */
export function put(pid: number, cgroup: Cgroup): void {
  fs.writeFileSync(`${cgroup.directory}/cgroup.procs`, String(pid));
}

/** Writes a thread id into `tasks` of one of our cgroups, past the product. */
export function putThread(tid: number, cgroup: Cgroup): void {
  fs.writeFileSync(`${cgroup.directory}/tasks`, String(tid));
}

export function threadIds(pid: number): readonly number[] {
  return fs
    .readdirSync(`/proc/${pid}/task`)
    .map(Number)
    .sort((a, b) => a - b);
}

/** Where every thread of a process is, in every hierarchy, as the kernel writes it. */
export function whereabouts(pid: number): Readonly<Record<string, string>> {
  return Object.fromEntries(
    threadIds(pid).map((tid) => [tid, fs.readFileSync(`/proc/${pid}/task/${tid}/cgroup`, 'utf8')]),
  );
}

/** Whether every thread of the process is in that cgroup. */
export function isIn(pid: number, cgroup: Cgroup): boolean {
  const key = cgroup.hierarchy.version === 2 ? '' : cgroup.hierarchy.key;
  return Object.values(whereabouts(pid)).every((text) =>
    text.split('\n').some((line) => line.replace(/^\d+:/, '') === `${key}:${cgroup.path}`),
  );
}

/** Descriptors this process holds; reading them opens one, which is there every time. */
export function descriptors(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** As bytes: names need not be UTF-8. Parents before children. */
function directoriesBelow(directory: Buffer): readonly Buffer[] {
  return fs
    .readdirSync(directory, { withFileTypes: true, encoding: 'buffer' })
    .filter((entry) => entry.isDirectory())
    .map((entry) => Buffer.concat([directory, Buffer.from('/'), entry.name]))
    .flatMap((below) => [below, ...directoriesBelow(below)]);
}

/** A cgroup is busy until what died in it is gone from it. */
async function removeTree(directory: string): Promise<void> {
  if (!fs.existsSync(directory)) return;
  for (let attempt = 1; ; attempt++) {
    try {
      for (const below of [...directoriesBelow(Buffer.from(directory))].reverse()) fs.rmdirSync(below);
      fs.rmdirSync(directory);
      return;
    } catch (error) {
      if (attempt === 200) throw error;
      await pause(10);
    }
  }
}

function writable(hierarchies: Hierarchies): readonly Hierarchy[] {
  return hierarchies.all.filter((hierarchy) => {
    if (hierarchy.readOnly || hierarchy.root !== '/') return false;
    const probe = `${hierarchy.mountPoint}/slurm-cgroups-test-${process.pid}-probe`;
    try {
      fs.mkdirSync(probe);
      fs.rmdirSync(probe);
      return true;
    } catch {
      return false; // only whether it can be done is asked
    }
  });
}

/** Why the tests on the real kernel cannot run here. */
function findObstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'needs root: only root may create cgroups';
  try {
    return writable(discoverHierarchies()).length === 0
      ? 'needs a writable cgroup hierarchy: none is mounted here'
      : undefined;
  } catch (error) {
    return `needs cgroups: ${error instanceof Error ? error.message : error}`;
  }
}

const obstacle = findObstacle();

/**
 * A test on the real kernel. Where it cannot run it is skipped with the reason; with CI=true that is a failure.
 *
 * @param needs keys of hierarchies it works in.
 */
export function kernelTest(name: string, needs: readonly string[], act: (area: TestCgroups) => Promise<void>): void {
  test(name, async (context) => {
    const skip = (reason: string) => {
      if (process.env['CI'] === 'true') throw new Error(`Skipped, which CI does not allow: ${reason}`);
      context.skip(reason);
    };
    if (obstacle !== undefined) return skip(obstacle);
    const area = TestCgroups.create();
    try {
      const missing = needs.filter((key) => !area.has(key));
      if (missing.length > 0) return skip(`needs a writable hierarchy of ${missing.join(' and ')}`);
      await act(area);
    } finally {
      await area.remove();
    }
  });
}

/** The same for what needs root alone. */
export function rootTest(name: string, act: (context: TestContext) => Promise<void> | void): void {
  test(name, async (context) => {
    if (process.geteuid?.() !== 0) {
      if (process.env['CI'] === 'true') throw new Error('Skipped, which CI does not allow: needs root');
      context.skip('needs root');
    }
    await act(context);
  });
}
