// What one interleaving happens in: jobs of Slurm and processes of several users on the real kernel, made anew for each
// run and taken away after it.

import fs from 'node:fs';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { removeLeftovers, Sandbox } from '../../src/cli/sandbox.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import type { Host } from '../../src/machine/host.js';
import type { Puppets } from '../support/puppets.js';
import { spoolUser } from '../support/unix-server.js';
import { type NodeOfScene, nodeOfScene } from './node.js';
import { look, type SeenProcess, type Snapshot, type Tree, treesOf } from './onlooker.js';
import type { Others } from './others.js';

const prefix = 'slurm-cgroups-test-interleavings';

/** Users that no passwd knows. Carol and dave have no job. */
export const users = { alice: 64_821, bob: 64_822, carol: 64_823, dave: 64_824 } as const;

/** The job in question, one of the same user, one of another. */
export const jobs = { target: 102, older: 101, foreign: 201 } as const;

/** What is used by one run after another. */
export interface Workshop {
  readonly kernel: { readonly name: 'v1' | 'v2'; readonly host: Host };
  readonly box: Sandbox;
  readonly trees: readonly Tree[];
  readonly puppets: Puppets;
  readonly others: Others;
  /** As NodeOfScene has them. */
  readonly scripts: string;
  readonly sockets: string;
  /** A program that is called slurmstepd and root's. */
  readonly slurmstepd: string;
  /** Jobs and processes that no run is about, as they were when they were made. */
  standing: Snapshot | undefined;
}

/** The cgroup of a job, step or session, in each hierarchy. */
export type Where = readonly string[];

export class Scene {
  readonly workshop: Workshop;
  readonly hasStepds: boolean;
  /** Everything that was started, by pid. */
  readonly pids: Set<number> = new Set();
  /** Those that an act is ending, by pid and start: a frozen cgroup may keep them for a while. */
  readonly doomed: Set<string> = new Set();
  /** The process that the operation is about. */
  subject = 0;
  /** Those that it takes along, by pid and start. */
  readonly family: Set<string> = new Set();
  /** The pid of the slurmstepd of the target's extern step. */
  stepd: number | undefined;
  /** The step of the target in which acts happen. */
  step: 'step_extern' | 'step_batch' = 'step_extern';

  constructor(workshop: Workshop, hasStepds: boolean) {
    this.workshop = workshop;
    this.hasStepds = hasStepds;
  }

  get isV1(): boolean {
    return this.workshop.kernel.name === 'v1';
  }

  get description(): NodeOfScene {
    const { kernel, box, scripts, sockets } = this.workshop;
    return { kernel: kernel.name, within: box.within, scripts, sockets, hasStepds: this.hasStepds };
  }

  node(host: Host): Promise<SlurmNode> {
    return nodeOfScene(host, this.description);
  }

  look(): Snapshot {
    return look(this.workshop.trees, this.pids);
  }

  /** Names of a job's cgroup, below the folder of the scene. */
  jobAt(jobId: number, ...below: readonly string[]): Where {
    const uid = jobId === jobs.foreign ? users.bob : users.alice;
    return this.isV1
      ? ['slurm', `uid_${uid}`, `job_${jobId}`, ...below]
      : ['system.slice', 'slurmstepd.scope', `job_${jobId}`, ...below];
  }

  /** Directories of a cgroup: in each hierarchy, or in those that it is in. */
  directories(where: Where, isWanted: (tree: Tree) => boolean = () => true): readonly string[] {
    return this.workshop.trees
      .filter(isWanted)
      .map(({ mount, within }) => [`${mount}${within}`, ...where].join('/'))
      .filter((directory) => fs.existsSync(directory));
  }

  /** The leaf of a step: where Slurm puts its processes, hierarchy by hierarchy. */
  leaves(jobId: number, step: string): readonly string[] {
    return this.workshop.trees.flatMap((tree) => {
      const below = tree.version === 2 ? ['user', 'task_0'] : hasTasks(tree) ? ['task_0'] : [];
      return this.directories(this.jobAt(jobId, step, ...below), (one) => one === tree);
    });
  }

  /** Makes a cgroup in each hierarchy, as Slurm does: with the cpus and memory nodes of the one above. */
  make(where: Where, isWanted: (tree: Tree) => boolean = () => true): readonly string[] {
    for (const tree of this.workshop.trees.filter(isWanted)) {
      let above = `${tree.mount}${tree.within}`;
      for (const name of where) {
        const directory = `${above}/${name}`;
        if (!fs.existsSync(directory)) {
          fs.mkdirSync(directory);
          if (tree.key.split(',').includes('cpuset'))
            for (const file of ['cpuset.cpus', 'cpuset.mems'])
              fs.writeFileSync(`${directory}/${file}`, fs.readFileSync(`${above}/${file}`));
        }
        above = directory;
      }
    }
    return this.directories(where, isWanted);
  }

  /** A step with its leaf. */
  makeStep(jobId: number, step: string): readonly string[] {
    this.make(this.jobAt(jobId, step));
    for (const side of ['slurm', 'user']) this.make(this.jobAt(jobId, step, side), ({ version }) => version === 2);
    this.make(this.jobAt(jobId, step, 'user', 'task_0'), ({ version }) => version === 2);
    this.make(this.jobAt(jobId, step, 'task_0'), hasTasks);
    return this.leaves(jobId, step);
  }

  /** A process in these directories. */
  start(
    uid: number,
    name: string,
    directories: readonly string[],
    more: { readonly pid?: number; readonly program?: string } = {},
  ): number | undefined {
    const places = directories.map((one) => `${one}/${this.isV1 ? 'tasks' : 'cgroup.procs'}`);
    const pid = this.workshop.puppets.start({ uid, name, places, ...more });
    if (pid !== undefined) this.pids.add(pid);
    return pid;
  }

  mustStart(...start: Parameters<Scene['start']>): number {
    const pid = this.start(...start);
    if (pid === undefined) throw new Error(`Cannot start ${start[1]} in ${start[2].join(', ')}`);
    return pid;
  }

  /** Of the target's slurmstepd. */
  get socket(): string {
    return this.#socketOf(jobs.target);
  }

  #socketOf(jobId: number): string {
    return `${this.workshop.sockets}/node1_${jobId}.4294967292`;
  }

  /** A slurmstepd of the extern step: `daemon` is the pid that it gives as its own. */
  #listen(jobId: number, uid: number, daemon: number): void {
    const leaves = this.leaves(jobId, 'step_extern');
    this.workshop.others.ask({ do: 'listen', socket: this.#socketOf(jobId), jobId, uid, daemon, leaves });
  }

  /** The jobs of alice and bob, and people who have none. */
  async build(): Promise<void> {
    const { slurmstepd } = this.workshop;
    this.workshop.standing ??= await this.#buildStanding();
    for (const pid of this.workshop.standing.processes.keys()) this.pids.add(pid);
    await this.#addJob(jobs.target, users.alice);
    if (!this.hasStepds) return;
    // On v1 in the job's freezer, as that of 22.05.
    const place = this.isV1
      ? this.directories(this.jobAt(jobs.target), ({ key }) => key === 'freezer')
      : this.directories(this.jobAt(jobs.target, 'step_extern', 'slurm'));
    const title = `slurmstepd: [${jobs.target}.extern]`;
    this.stepd = this.mustStart(0, title, place, { program: slurmstepd });
    this.#listen(jobs.target, users.alice, this.stepd);
  }

  /** What most runs leave as it was, and the next one finds. */
  async #buildStanding(): Promise<Snapshot> {
    await this.#addJob(jobs.older, users.alice);
    await this.#addJob(jobs.foreign, users.bob);
    const older = this.mustStart(users.alice, 'older', this.leaves(jobs.older, 'step_batch'));
    const foreign = this.mustStart(users.bob, 'foreign', this.leaves(jobs.foreign, 'step_batch'));
    this.#listen(jobs.older, users.alice, older);
    this.#listen(jobs.foreign, users.bob, foreign);
    const pids = [
      older,
      foreign,
      this.mustStart(users.bob, 'stranger', this.make(['outside', 'bob'])),
      this.mustStart(users.dave, 'stray', this.make(['outside', 'dave'])),
    ];
    return look(this.workshop.trees, pids);
  }

  async #addJob(jobId: number, uid: number): Promise<void> {
    await this.workshop.box.addJob({ jobId, uid });
    if (!this.isV1) this.addScript(jobId, uid);
  }

  /** By which v2 knows whose a job is. */
  addScript(jobId: number, uid: number): void {
    const folder = `${this.workshop.scripts}/job${String(jobId).padStart(5, '0')}`;
    fs.mkdirSync(folder);
    fs.writeFileSync(`${folder}/slurm_script`, '');
    fs.chownSync(`${folder}/slurm_script`, uid, uid);
  }

  /** Ends and removes what this run has made; all of it where it changed what was standing. */
  async clear(): Promise<void> {
    const { puppets, others, trees, scripts } = this.workshop;
    if (this.hasStepds) others.ask({ do: 'close', socket: this.socket });
    if (!this.#isStanding()) this.workshop.standing = undefined;
    const { standing } = this.workshop;
    const removable = () =>
      trees.flatMap(({ key, mount, within }) =>
        [...below(`${mount}${within}`)]
          .filter((directory) => standing?.directories.has(`${key} ${inodeOf(directory)}`) !== true)
          .filter((directory) => !/\/outside$/.test(directory))
          .map((directory) => ({ key, directory })),
      );
    for (const { key, directory } of removable()) {
      if (key === 'unified') quietly(() => fs.writeFileSync(`${directory}/cgroup.freeze`, '0'));
      if (key === 'freezer') quietly(() => fs.writeFileSync(`${directory}/freezer.state`, 'THAWED'));
      const list = quietly(() => fs.readFileSync(`${directory}/cgroup.procs`, 'utf8')) ?? '';
      for (const pid of list.split('\n')) if (Number(pid) > 1) this.pids.add(Number(pid));
    }
    puppets.end([...this.pids].filter((pid) => standing?.processes.has(pid) !== true));
    for (let tries = 0; ; tries++) {
      const left = removable()
        .reverse()
        .filter(({ directory }) => quietly(() => fs.rmdirSync(directory) ?? true) !== true)
        .filter(({ directory }) => fs.existsSync(directory));
      if (left.length === 0) break;
      if (tries > 3000) throw new Error(`It cannot be removed: ${left.map(({ directory }) => directory).join(', ')}`);
      await pause(2);
    }
    const kept =
      standing === undefined ? [] : [jobs.older, jobs.foreign].map((one) => `job${String(one).padStart(5, '0')}`);
    for (const name of fs.readdirSync(scripts))
      if (!kept.includes(name)) fs.rmSync(`${scripts}/${name}`, { recursive: true });
  }

  /** Whether the next run finds it as it was. */
  #isStanding(): boolean {
    const { standing, trees } = this.workshop;
    if (standing === undefined) return false;
    const now = look(trees, standing.processes.keys());
    const asText = ({ start, places }: SeenProcess) => JSON.stringify([start, places]);
    return (
      [...standing.processes].every(([pid, one]) => {
        const found = now.processes.get(pid);
        return found !== undefined && asText(found) === asText(one);
      }) &&
      [...standing.directories].every(([id, { path, frozen }]) => {
        const found = now.directories.get(id);
        return found?.path === path && found.frozen === frozen;
      })
    );
  }
}

function inodeOf(directory: string): number | undefined {
  return fs.statSync(directory, { throwIfNoEntry: false })?.ino;
}

export function hasTasks({ version, key }: Tree): boolean {
  return version === 1 && ['memory', 'cpuacct'].some((one) => key.split(',').includes(one));
}

/** Parents before children. */
function below(directory: string): readonly string[] {
  const entries = quietly(() => fs.readdirSync(directory, { withFileTypes: true })) ?? [];
  return entries
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => [`${directory}/${name}`, ...below(`${directory}/${name}`)]);
}

function quietly<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

export async function openWorkshop(
  kernel: Workshop['kernel'],
  tools: Pick<Workshop, 'puppets' | 'others'>,
): Promise<Workshop> {
  for (const name of await removeLeftovers(kernel.host, prefix))
    process.emitWarning(`Removed ${name}, left by a killed search`);
  const box = await Sandbox.create(kernel.host, prefix);
  const folder = fs.mkdtempSync('/var/tmp/slurm-cgroups-interleavings-');
  fs.chmodSync(folder, 0o755);
  const [scripts, sockets, slurmstepd] = [`${folder}/scripts`, `${folder}/sockets`, `${folder}/slurmstepd`];
  for (const one of [scripts, sockets]) fs.mkdirSync(one, { mode: 0o755 });
  fs.chownSync(sockets, spoolUser, spoolUser);
  fs.copyFileSync('/bin/sleep', slurmstepd);
  return {
    kernel,
    box,
    trees: treesOf(box.within, box.controllers),
    ...tools,
    scripts,
    sockets,
    slurmstepd,
    standing: undefined,
  };
}

export async function closeWorkshop({ box, scripts }: Workshop): Promise<void> {
  await box.remove();
  fs.rmSync(scripts.replace(/\/scripts$/, ''), { recursive: true });
}
