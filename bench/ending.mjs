// Ending and looking at processes, measured: crowds of sleepers and a fork bomb, ended by us, by C and by the
// well-known line with xargs; every process of the machine, looked at by us, by C and by ps.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import readline from 'node:readline';
import { inTurn, wholeProcess } from './measure.mjs';

const jobId = 1;
/** A crowd's user has this job, so that none of it is a stray: one table, and nobody to be named. */
const step = `job_${jobId}/step_batch`;

/** Where a job of the bench stands: what is made for it, and where its processes are. */
class BenchJob {
  #hierarchies;
  #tree;
  #uid;

  constructor(hierarchies, tree, uid) {
    this.#hierarchies = hierarchies;
    this.#tree = tree;
    this.#uid = uid;
  }

  get within() {
    return this.#tree.within('ending');
  }

  /** The job's own directories, in each hierarchy: the freezer's, or v2's, comes first. */
  get directories() {
    return this.#hierarchies.map(({ version, mountPoint }) =>
      version === 1
        ? `${mountPoint}${this.within}/slurm/uid_${this.#uid}/${step}`
        : `${mountPoint}${this.within}/system.slice/slurmstepd.scope/${step}/user`,
    );
  }

  /** What is above all jobs; pids.max is set here. */
  get tops() {
    return this.#hierarchies.map((one) => `${one.mountPoint}${this.within}`);
  }

  make() {
    this.#tree.isolate('ending');
    for (const directory of this.directories) fs.mkdirSync(directory, { recursive: true });
  }

  /** Processes in it, and the end of the program that made them. */
  async fill(program, what, count) {
    this.make();
    const maker = spawn(program, [what, String(this.#uid), String(count), ...this.directories], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    os.setPriority(maker.pid, 0);
    const gone = new Promise((fulfil) => maker.once('exit', fulfil));
    const lines = readline.createInterface({ input: maker.stdout })[Symbol.asyncIterator]();
    if ((await lines.next()).value !== 'ready') throw new Error(`the ${what} of ${count} was not made`);
    return { gone, maker };
  }
}

/** A C program kept running, that works once for each line it is given. */
function keptRunning(program, words) {
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async run() {
      child.stdin.write('\n');
      const [ns, ...rest] = (await lines.next()).value.split(' ').map(Number);
      return { ms: ns / 1e6, rest };
    },
    end: () => child.stdin.end(),
  };
}

/** The line that everybody writes, until nothing is left. */
const xargsLoop =
  'until [ -z "$(cat "$1/cgroup.procs")" ]; do xargs -r kill -9 <"$1/cgroup.procs" 2>/dev/null; done; true';

/** What ends a crowd; each contestant has one of its own: making and reaping it are not timed. */
async function contestantsOf({ product, command, program, hierarchies, tree, uid }) {
  const job = new BenchJob(hierarchies, tree, uid);
  const node = await product.readNode({ within: job.within });
  job.make();
  const [directory] = job.directories;
  const cgroup = product.cgroupOf(node, { hierarchy: hierarchies[0].key, path: directory });
  const loop = keptRunning(program, ['loop', directory]);
  const frozen = keptRunning(program, ['freeze', directory]);
  const clean = [command, 'clean', String(jobId), '--grace', '0', '--within', job.within];
  return {
    job,
    against:
      (what, count) =>
      (...enders) =>
        enders.map((end) => async () => {
          const { gone } = await job.fill(program, what, count);
          const ms = await end();
          await gone;
          return ms;
        }),
    async inProcess() {
      const begin = performance.now();
      const { remaining } = await product.killMembers(node.host, [cgroup], { timeoutMs: 60_000 });
      if (remaining.length > 0) throw new Error(`${remaining.length} were not ended`);
      return performance.now() - begin;
    },
    cLoop: async () => (await loop.run()).ms,
    cFreeze: async () => (await frozen.run()).ms,
    clean: wholeProcess(process.execPath, clean),
    niceClean: wholeProcess(process.execPath, clean, { priority: -20 }),
    xargs: wholeProcess('/bin/sh', ['-c', xargsLoop, 'sh', directory], { priority: 0 }),
    end() {
      loop.end();
      frozen.end();
    },
  };
}

export async function measureEnding({ report, ...about }) {
  const { against, inProcess, cLoop, cFreeze, clean, xargs, end } = await contestantsOf(about);
  for (const [count, rounds] of [
    [1, 11],
    [100, 7],
    [1000, 3],
    [10_000, 2],
  ]) {
    const contestants = against('crowd', count)(inProcess, cLoop, cFreeze, clean, xargs);
    const warmUp = count < 10_000 ? 1 : 0; // ten thousand take half a minute to make, and to die
    const [ours, looped, frozen, whole, loop] = await inTurn(contestants, { rounds, warmUp });
    report(`end ${count} processes, in process`, [ours, frozen], 'C: freeze, kill, thaw', 2);
    report(`end ${count} processes, in process`, [ours, looped], 'C: kill until empty');
    report(`clean, ${count} processes, whole process`, [whole, loop], 'xargs kill, again and again');
  }
  end();
}

export async function measureBomb({ report, ...about }) {
  const { job, against, cFreeze, niceClean, xargs, end } = await contestantsOf(about);
  const limits = job.tops.map((top) => `${top}/pids.max`).filter((file) => fs.existsSync(file));
  if (limits.length === 0) console.log('There is no pids controller: no fork bomb is set off.');
  else {
    const bomb = 400;
    for (const file of limits) fs.writeFileSync(file, String(bomb));
    const contestants = against('bomb', bomb - 10)(niceClean, xargs, cFreeze);
    // Whoever starts them is not what is measured: at priority 0 the bomb keeps this very process from starting
    // anything, for seconds (`nice -n -20 /bin/true` from a shell took 6 s; measured).
    os.setPriority(-20);
    const [ours, loop, c] = await inTurn(contestants, { rounds: 3, warmUp: 0 });
    os.setPriority(0);
    report(`fork bomb of ${bomb}, nice -n -20 clean`, [ours, loop], 'xargs kill, again and again', 0.2);
    report(`fork bomb of ${bomb}, nice -n -20 clean`, [ours, c], 'C: freeze, kill, thaw, in process');
    for (const file of limits) fs.writeFileSync(file, 'max');
  }
  end();
}

/** A look at every process of the machine. */
export async function measureScan({ product, command, program, hierarchies, tree, uid, report }) {
  const job = new BenchJob(hierarchies, tree, uid);
  const node = await product.readNode({ within: job.within });
  const scan = keptRunning(program, ['scan']);
  for (const count of [1000, 5000, 10_000]) {
    const bound = (ratio) => (count === 10_000 ? ratio : undefined);
    const { gone, maker } = await job.fill(program, 'crowd', count);
    let rows = 0;
    let counted = 0;
    const times = await inTurn(
      [
        async () => {
          rows = (await product.readProcessTable(node.host, { isPerson: (one) => one >= 1000 })).rows.length;
        },
        async () => {
          const { ms, rest } = await scan.run();
          [counted] = rest;
          return ms;
        },
      ],
      { rounds: 9 },
    );
    if (rows < count || counted < count) throw new Error(`not the same work: ${rows} and ${counted} of ${count}`);
    report(`look at ${count} processes, in process`, times, 'C: lstat and cgroup of each', bound(1.6));
    const wholeTimes = await inTurn(
      [
        // 1: this machine has strays of its own.
        wholeProcess(process.execPath, [command, 'strays', '--json', '--within', job.within], { answers: [0, 1] }),
        wholeProcess('/bin/ps', ['-eo', 'pid,uid,cgroup']),
      ],
      { rounds: 7, warmUp: 1 },
    );
    report(`strays --json, ${count} processes, whole process`, wholeTimes, 'ps -eo pid,uid,cgroup', bound(1));
    maker.kill('SIGTERM'); // the crowd ends with it
    await gone;
  }
  scan.end();
}
