// The slurmstepd of an extern step, on the real kernel: a server of this process that says what slurmstepd says and
// moves whom it is told to as slurmstepd does, beside a process that stands where slurmstepd stands.

import fs from 'node:fs';
import { expect } from 'vitest';
import type { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import type { SlurmConfiguration } from '../../src/jobs/config/read.js';
import type { SlurmNode } from '../../src/jobs/node.js';
import { formatSocketName } from '../../src/jobs/stepd/sockets.js';
import type { Host } from '../../src/machine/host.js';
import { alice, type World } from './kernel-jobs.js';
import { type RecordedStepd, speakAs } from './stepd-server.js';
import { type Sandbox, spoolUser, unixSandbox } from './unix-server.js';

/** What slurmstepd does otherwise than usual. */
export interface Oddities {
  /** 2 is running, 4 ending. */
  readonly state?: number | (() => number);
  /** Index of this node in the job. */
  readonly nodeId?: number;
  /** In the place of moving the process and answering 0. */
  readonly add?: (pid: number, step: ExternStep) => number | 'nothing' | 'close';
  /** Where the process stands that is given as slurmstepd's own; by default in the job. */
  readonly standsOutside?: boolean;
  /** It accepts connections, and says nothing; `first`: on the first one only. */
  readonly silent?: boolean | 'first';
  /** Puts something else in the place of its socket. */
  readonly instead?: (socket: string, sandbox: Sandbox) => void | Promise<void>;
  readonly server?: number;
  /** Number of the job's X11 display. */
  readonly x11?: number;
}

/** What the configuration says of a node with such a slurmstepd. */
export const spoolConfiguration: SlurmConfiguration = {
  files: [],
  nodes: [],
  places: new Map(),
  notes: [],
  slurmUser: String(spoolUser),
};

export class ExternStep {
  readonly world: World;
  readonly jobId: number;
  /** Every number that was said to it. */
  readonly asked: number[] = [];
  readonly #sandbox: Sandbox;

  private constructor(world: World, jobId: number, sandbox: Sandbox) {
    this.world = world;
    this.jobId = jobId;
    this.#sandbox = sandbox;
  }

  /** Runs `act` with it listening, and takes it away. */
  static async with(
    world: World,
    oddities: Oddities | 'absent' | 'dead',
    act: (step: ExternStep) => Promise<void>,
  ): Promise<void> {
    const step = new ExternStep(world, 102, unixSandbox());
    try {
      fs.writeFileSync(`${step.#sandbox.folder}/cred_state`, '');
      if (oddities === 'dead') await step.#die();
      else if (oddities !== 'absent') await step.#listen(oddities);
      await act(step);
      await step.idle(); // the connection was closed
    } finally {
      await step.#sandbox.close();
    }
  }

  /** The node whose spool it listens in. */
  async node(host: Host = this.world.host): Promise<SlurmNode> {
    const node = await this.world.node(host);
    return {
      ...node,
      configuration: spoolConfiguration,
      nodeName: 'node1',
      spools: new Map([['node1', this.#sandbox.folder]]),
    };
  }

  /** Until nothing is connected any more: what it was told, it has done. */
  async idle(): Promise<void> {
    await expect.poll(this.#sandbox.open, { interval: 2 }).toBe(0);
  }

  get #socket(): string {
    return formatSocketName({ nodeName: 'node1', jobId: this.jobId, stepId: 'extern' });
  }

  async #listen(oddities: Oddities): Promise<void> {
    if (oddities.instead !== undefined)
      return void (await oddities.instead(`${this.#sandbox.folder}/${this.#socket}`, this.#sandbox));
    const { pid } = await this.world.box.startSleeper(0);
    if (oddities.standsOutside !== true) await this.#stepdsPlace().add(pid);
    const { state = 2 } = oddities;
    const recorded: RecordedStepd = {
      ...{ socket: this.#socket, server: oddities.server ?? 45, uid: alice },
      ...{ daemon: pid, nodeid: oddities.nodeId ?? 0, pids: [], x11: oddities.x11 ?? 0 },
      get state() {
        return typeof state === 'number' ? state : state();
      },
    };
    const add = (one: number) => {
      if (oddities.add !== undefined) return oddities.add(one, this);
      this.take(one);
      return 0;
    };
    const speak = speakAs(recorded, { asked: (number) => this.asked.push(number), add });
    let connections = 0;
    await this.#sandbox.serve(this.#socket, (socket) => {
      connections++;
      if (oddities.silent === true || (oddities.silent === 'first' && connections === 1)) return;
      speak(socket);
    });
  }

  /** A socket on which nothing listens any more. */
  async #die(): Promise<void> {
    const path = `${this.#sandbox.folder}/${this.#socket}`;
    const dead = unixSandbox();
    await dead.serve('socket', () => {});
    fs.linkSync(`${dead.folder}/socket`, path);
    await dead.close();
  }

  /** On v2 the side of slurmstepd; on v1 the job's freezer, as slurmstepd of 22.05 is. */
  #stepdsPlace(): CgroupSet {
    if (this.world.kernel.name === 'v2') return this.world.jobAt(this.jobId, 'step_extern', 'slurm');
    const job = this.world
      .jobAt(this.jobId)
      .cgroups.filter(({ hierarchy }) => hierarchy.controllers.includes('freezer'));
    return new CgroupSet(this.world.host, job);
  }

  /** Puts a process where slurmstepd puts it, and makes the leaves that are missing, in each hierarchy of the job. */
  take(pid: number, into: (cgroup: Cgroup) => boolean = () => true): void {
    for (const job of this.world.jobAt(this.jobId).cgroups) {
      if (!into(job)) continue;
      const { hierarchy, directory } = job;
      const hasTasks = ['memory', 'cpuacct'].some((one) => hierarchy.controllers.includes(one));
      const leaf = hierarchy.version === 2 ? 'step_extern/user/task_0' : `step_extern${hasTasks ? '/task_0' : ''}`;
      fs.mkdirSync(`${directory}/${leaf}`, { recursive: true });
      fs.writeFileSync(`${directory}/${leaf}/cgroup.procs`, String(pid));
    }
  }

  /** As a step of 25.05 and later is before the first adoption: on v1 not there in memory, on v2 without a task. */
  removeLeaf(): void {
    if (this.world.kernel.name === 'v2') {
      for (const { directory } of this.world.jobAt(this.jobId, 'step_extern', 'user', 'task_0').cgroups)
        fs.rmdirSync(directory);
      return;
    }
    for (const { hierarchy, directory } of this.world.jobAt(this.jobId, 'step_extern').cgroups) {
      if (!hierarchy.controllers.includes('memory')) continue;
      if (fs.existsSync(`${directory}/task_0`)) fs.rmdirSync(`${directory}/task_0`);
      fs.rmdirSync(directory);
    }
  }
}
