// What the commands that look and clean say of a real Slurm, held against what Slurm itself says and what /proc and
// the cgroups show: list, verify, clean, watch, doctor and its recordings; and a node whose steps never stand still.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import readline from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { readNode } from '../../src/jobs/node.js';
import { askOwners } from '../../src/jobs/owners/asked.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { askStepd, askSteps } from '../../src/jobs/stepd/ask.js';
import { socketOf, socketsInSpool } from '../../src/jobs/stepd/sockets.js';
import { type JobEvent, watchJobs } from '../../src/jobs/watch/watch.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { command, program } from './command.js';

const host = liveHost();
const uids = { daemon: 1, bin: 2 } as const;
const [alice, bob] = users;

let cluster: Cluster;
const children: ChildProcess[] = [];
const stopped = new Set<number>();

beforeAll(async () => {
  cluster = await startCluster();
});
afterEach(async () => {
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  stopped.clear();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const user of users) await cluster.run('scancel', ['-u', user]);
  await until('every job has ended', async () => (await cluster.run('squeue', ['-h'])).trim() === '');
  await until('no job has a cgroup', async () => discoverJobs(await nodeNow()).length === 0);
});
afterAll(() => cluster?.stop());

const nodeNow = () => readNode({ host, nodeName: cluster.nodeName, configFile: cluster.conf });

/** Names of users are left alone: they are asked for with a deadline, which a busy machine misses. */
interface Listed {
  readonly jobs: readonly {
    readonly jobId: number;
    readonly uid: number;
    readonly newest: boolean;
    readonly steps: readonly {
      readonly stepId: string;
      readonly processes: readonly { readonly pid: number; readonly uid: number; readonly comm: string }[];
    }[];
  }[];
  readonly notes: readonly string[];
}

async function list(...words: readonly string[]): Promise<Listed> {
  const { code, stdout, stderr } = await command(cluster, 'list', '--json', ...words);
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
}

/** Names of users are asked for with a deadline, which a busy machine misses. */
const withoutNames = ({ jobs }: Listed): unknown =>
  JSON.parse(JSON.stringify(jobs, (key, value) => (key === 'user' ? undefined : value)));

const newestOf = ({ jobs }: Listed) => jobs.filter(({ newest }) => newest).map(({ uid, jobId }) => [uid, jobId]);

/** What Slurm says: the pids on this node, `JOB.STEP` each, sorted. Of one job, or of all. */
async function pidsBySlurm(jobId?: number): Promise<readonly (readonly [step: string, pid: number])[]> {
  const text = await cluster.run('scontrol', ['listpids', jobId === undefined ? '*' : String(jobId), cluster.nodeName]);
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([pid, job, step]) => (/^\d+$/.test(pid ?? '') ? [[`${job}.${step}`, Number(pid)] as const] : []))
    .filter(([, pid]) => pid > 0)
    .sort(byStepAndPid);
}

const byStepAndPid = ([a, p]: readonly [string, number], [b, q]: readonly [string, number]) =>
  a < b ? -1 : a > b ? 1 : p - q;

async function batchPidsOf(jobId: number, least: number): Promise<readonly number[]> {
  let pids: readonly number[] = [];
  await until(`job ${jobId} has its ${least} processes`, async () => {
    pids = (await pidsBySlurm(jobId)).filter(([step]) => step === `${jobId}.batch`).map(([, pid]) => pid);
    return pids.length >= least;
  });
  return pids;
}

/** The slurmstepds of a job, extern and batch. */
async function stepdsOf(jobId: number): Promise<readonly number[]> {
  const sockets = socketsInSpool(host, cluster.spool).filter((socket) => socket.jobId === jobId);
  const reports = await askSteps(sockets, ['daemonPid'], {
    host,
    deadline: deadlineIn(host, 60_000),
    eachTimeoutMs: 30_000,
  });
  return reports.map(({ answers }) => answers.daemonPid ?? expect.unreachable());
}

/** A zombie has ended. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\t[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Directories of a job in every hierarchy of v1. */
function directoriesOf(jobId: number): readonly string[] {
  return fs
    .readdirSync('/sys/fs/cgroup')
    .flatMap((hierarchy) =>
      Object.values(uids).map((uid) => `/sys/fs/cgroup/${hierarchy}/slurm_${cluster.nodeName}/uid_${uid}/job_${jobId}`),
    )
    .filter((directory) => fs.existsSync(directory));
}

/** Not in any job. */
function outsider(): number {
  const child = spawn('/bin/sleep', ['600'], { uid: 1, gid: 1, cwd: '/', stdio: 'ignore' });
  children.push(child);
  return child.pid ?? expect.unreachable();
}

describe('slurm-cgroups list', () => {
  it('has the jobs of squeue, the steps and processes of scontrol listpids, and beside them slurmstepd alone', async () => {
    await cluster.submit(alice, 'sleep 3600');
    await cluster.submit(bob, 'srun --overlap sleep 3600 & sleep 3600 & wait');
    await cluster.submit(bob, 'sleep 3600', ['--array=7']);
    // Batch: script and sleep; script, sleep and srun twice; script and sleep. Its step 0: sleep. Extern: one each.
    await until('all of them run', async () => (await pidsBySlurm()).length === 2 + 4 + 2 + 1 + 3);
    const bySlurm = await pidsBySlurm();
    const found = await list();
    const running = await cluster.run('squeue', ['-h', '-t', 'running', '-O', 'JobID:20,UserName:20']);
    expect(found.jobs.map(({ jobId, uid }) => `${jobId} ${uid}`).sort()).toEqual(
      running
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .map(([jobId, user]) => `${jobId} ${uids[user === alice ? alice : bob]}`)
        .sort(),
    );
    const steps = found.jobs.flatMap(({ jobId, steps: all }) =>
      all.map(({ stepId, processes }) => ({ step: `${jobId}.${stepId}`, processes })),
    );
    expect(steps.map(({ step }) => step).sort()).toEqual([...new Set(bySlurm.map(([step]) => step))].sort());
    const processes = steps.flatMap(({ step, processes: all }) => all.map((one) => ({ step, ...one })));
    // On v1 slurmstepd itself is in cpuset and devices of its step, which Slurm does not tell.
    const ofSlurm = new Set(bySlurm.map(([, pid]) => pid));
    const beside = processes.filter(({ pid }) => !ofSlurm.has(pid));
    expect(processes.filter((one) => !beside.includes(one)).map(({ step, pid }) => [step, pid] as const).sort(byStepAndPid)).toEqual(bySlurm); // biome-ignore format: one thought
    for (const { pid, uid, comm } of beside) {
      expect([uid, comm]).toEqual([0, 'slurmstepd']);
      expect(fs.readlinkSync(`/proc/${pid}/exe`)).toMatch(/\/slurmstepd(-wlm)?$/);
    }
    expect(found.notes).toEqual([]);
  });

  it('calls the job newest that started last, also of a smaller id, and after another user looked at the tree', async () => {
    const held = Number(
      await cluster.run('sbatch', ['--parsable', '--hold', '-o', '/dev/null', '--chdir=/', '--wrap=sleep 3600'], alice),
    );
    const first = await cluster.submit(alice, 'sleep 3600');
    const others = await cluster.submit(bob, 'sleep 3600');
    expect(newestOf(await list())).toEqual([
      [uids[alice], first],
      [uids[bob], others],
    ]);
    await cluster.run('scontrol', ['release', String(held)]);
    await cluster.running(held);
    const expected = [
      [uids[alice], held],
      [uids[bob], others],
    ];
    expect(newestOf(await list())).toEqual(expected);
    for (const hierarchy of fs.readdirSync('/sys/fs/cgroup')) {
      const top = `/sys/fs/cgroup/${hierarchy}/slurm_${cluster.nodeName}`;
      // The older job last, so that no time is later than its own.
      if (fs.existsSync(top)) await cluster.run('ls', ['-lR', top], bob);
      for (const directory of directoriesOf(first)) await cluster.run('ls', ['-lR', directory], bob);
    }
    expect(newestOf(await list())).toEqual(expected);
    expect(newestOf(await list('--uid', String(uids[alice])))).toEqual([[uids[alice], held]]);
  });
});

describe('a node of another name', () => {
  it('is a mistake, and no node without jobs: exit code 2', async () => {
    await cluster.submit(alice, 'sleep 3600');
    for (const words of [['list'], ['verify', 'self'], ['clean', '1', '--dry-run'], ['watch'], ['doctor']]) {
      const { code, stdout, stderr } = await command({ ...cluster, nodeName: 'another' }, ...words);
      expect([code, stdout], stderr).toEqual([2, '']);
      // Beside this cluster's node there may be that of another test.
      expect(stderr).toMatch(new RegExp(`No node "another" is on this machine: there is .*${cluster.nodeName}`));
    }
  });
});

describe('slurm-cgroups verify', () => {
  it('says 0 of a process in that job, 1 of one in another job or in none', async () => {
    const own = await cluster.submit(alice, 'sleep 3600');
    const other = await cluster.submit(alice, 'sleep 3600');
    for (const pid of await batchPidsOf(own, 2)) {
      const yes = await command(cluster, 'verify', String(pid), '--job', String(own), '--json');
      expect([yes.code, JSON.parse(yes.stdout)]).toMatchObject([
        0,
        { verdict: 'contained', job: { jobId: own, stepId: 'batch' } },
      ]);
      expect((await command(cluster, 'verify', String(pid))).code).toBe(0);
      expect((await command(cluster, 'verify', String(pid), '--job', String(other))).code).toBe(1);
    }
    const outside = String(outsider());
    expect((await command(cluster, 'verify', outside, '--job', String(own))).code).toBe(1);
    expect((await command(cluster, 'verify', outside)).code).toBe(1);
  });
});

describe('slurm-cgroups clean', () => {
  it('touches nothing while slurmstepd lives; with --force it ends the processes, and not slurmstepd nor other jobs', async () => {
    const jobId = await cluster.submit(alice, "trap '' TERM; sleep 3600 & setsid sleep 3600 & wait");
    const other = await cluster.submit(alice, 'sleep 3600');
    const pids = await batchPidsOf(jobId, 3);
    const stepds = await stepdsOf(jobId);
    const others = [...(await batchPidsOf(other, 2)), ...(await stepdsOf(other)), outsider()];
    const refused = await command(cluster, 'clean', String(jobId), '--json');
    expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([
      1,
      { refused: expect.stringContaining('still runs'), ended: [], removed: [] },
    ]);
    expect([...pids, ...stepds].filter(isAlive)).toEqual([...pids, ...stepds]);
    const forced = await command(cluster, 'clean', String(jobId), '--force', '--grace', '0', '--json');
    const report = JSON.parse(forced.stdout);
    expect(report.refused).toBeUndefined();
    expect(report.survivors).toEqual([]);
    const ended: readonly number[] = report.ended.map(({ pid }: { pid: number }) => pid);
    expect(pids.filter(isAlive)).toEqual([]);
    // Of the three the script may end by itself once its children have, and slurmstepd, then, with its work done.
    expect(ended.filter((pid) => !pids.includes(pid))).toEqual([]);
    expect(ended.length).toBeGreaterThanOrEqual(2);
    // Slurm was told how the script ended by a slurmstepd that lived, and the job took its usual end.
    await until('Slurm knows how it ended', async () =>
      /JobState=FAILED[\s\S]*ExitCode=0:9/.test(await cluster.run('scontrol', ['show', 'job', String(jobId)])),
    );
    await until('Slurm has removed its cgroups', () => directoriesOf(jobId).length === 0);
    expect(others.filter(isAlive)).toEqual(others);
    expect((await list()).jobs.map((job) => job.jobId)).toEqual([other]);
  });

  it('ends a job whose slurmstepds were killed, and removes its cgroups', async () => {
    const jobId = await cluster.submit(alice, "trap '' TERM; sleep 3600 & setsid sleep 3600 & wait");
    const other = await cluster.submit(alice, 'sleep 3600');
    const pids = await batchPidsOf(jobId, 3);
    const others = [...(await batchPidsOf(other, 2)), ...(await stepdsOf(other))];
    const all = (await pidsBySlurm(jobId)).map(([, pid]) => pid); // the placeholder of its extern step too
    const stepds = await stepdsOf(jobId);
    for (const pid of stepds) process.kill(pid, 'SIGKILL');
    await until('they are dead', () => !stepds.some(isAlive));
    expect(pids.filter(isAlive)).toEqual(pids);
    expect(directoriesOf(jobId).length).toBeGreaterThanOrEqual(4);
    const { code, stdout, stderr } = await command(cluster, 'clean', String(jobId), '--grace', '1', '--json');
    const report = JSON.parse(stdout);
    expect([code, report.survivors, report.left, report.refused], stderr).toEqual([0, [], [], undefined]);
    expect(all.filter(isAlive)).toEqual([]);
    expect(directoriesOf(jobId)).toEqual([]);
    expect(others.filter(isAlive)).toEqual(others);
    expect((await list()).jobs.map((job) => job.jobId)).toEqual([other]);
  });
});

describe('slurm-cgroups watch', () => {
  it('tells the jobs of a real Slurm as they start and end', async () => {
    const before = await cluster.submit(alice, 'sleep 3600');
    const child = spawn(process.execPath, [program, 'watch', '--json', '--node', cluster.nodeName], {
      env: {},
      cwd: '/',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const told: string[] = [];
    readline.createInterface({ input: child.stdout ?? expect.unreachable() }).on('line', (line) => {
      const { event, jobId, uid } = JSON.parse(line);
      if (event !== 'changed') told.push([event, jobId, uid].filter((one) => one != null).join(' '));
    });
    const hear = (what: string) =>
      until(`watch says "${what}", not only ${told.join(', ')}`, () => told.includes(what));
    await hear('ready');
    expect(told).toEqual([`added ${before} ${uids[alice]}`, 'ready']);
    const after = await cluster.submit(bob, 'sleep 3600');
    await hear(`added ${after} ${uids[bob]}`);
    await cluster.run('scancel', [String(before)]);
    await hear(`removed ${before} ${uids[alice]}`);
    await cluster.run('scancel', [String(after)]);
    await hear(`removed ${after} ${uids[bob]}`);
    expect(told.length).toBe(5);
    child.kill('SIGINT');
    await until('it has ended', () => child.exitCode !== null);
    expect(child.exitCode).toBe(0);
  });
});

describe('watchJobs()', () => {
  it('tells steps too, those of srun among them', async () => {
    const stop = new AbortController();
    const told: string[] = [];
    const name = (one: JobEvent) =>
      [one.event, 'jobId' in one ? one.jobId : '', 'stepId' in one ? one.stepId : ''].join(' ').trim();
    const options = { host, nodeName: cluster.nodeName, configFile: cluster.conf, steps: true, signal: stop.signal };
    const watching = (async () => {
      for await (const event of watchJobs(options)) told.push(name(event));
    })();
    try {
      const hear = (what: string) =>
        until(`it tells "${what}", not only ${told.join(', ')}`, () => told.includes(what));
      await hear('ready');
      const jobId = await cluster.submit(alice, 'srun --overlap sleep 2; sleep 3600');
      for (const what of ['added', 'step-added extern', 'step-added batch', 'step-added 0', 'step-removed 0']) {
        const [event, step] = what.split(' ');
        await hear([event, jobId, step].filter((one) => one !== undefined).join(' '));
      }
      await cluster.run('scancel', [String(jobId)]);
      await hear(`removed ${jobId}`);
    } finally {
      stop.abort();
      await watching;
    }
  });
});

describe('slurm-cgroups doctor', () => {
  interface Doctored {
    readonly ok: boolean;
    readonly node: string;
    readonly checks: readonly { readonly name: string; readonly outcome: string; readonly detail: string }[];
  }
  const examine = async (...words: readonly string[]) => {
    const { code, stdout, stderr } = await command(cluster, 'doctor', '--json', ...words);
    expect(stderr).toBe('');
    const report: Doctored = JSON.parse(stdout);
    return { code, report, of: (name: string) => report.checks.find((one) => one.name === name) };
  };

  it('finds a node of a living Slurm fit, but for what the machine and this configuration lack', async () => {
    await cluster.submit(alice, 'sleep 3600');
    const good = ['cgroups', 'layout', 'slurmd', 'node name', 'spool', 'extern steps', 'suspended', 'clocks'];
    const said = ['PrologFlags', 'ProctrackType', 'TaskPlugin', 'CgroupPlugin', 'accounting'];
    const named = [...good, ...said];
    // A busy machine misses doctor's own deadlines (two seconds for an answer of slurmstepd): then it is asked again.
    let { code, report, of } = await examine();
    let brief = await command(cluster, 'doctor', '--brief');
    for (let left = 5; left > 0 && (brief.code !== code || named.some((name) => of(name)?.outcome !== 'ok')); left--) {
      ({ code, report, of } = await examine());
      brief = await command(cluster, 'doctor', '--brief');
    }
    expect(report.node).toBe(cluster.nodeName);
    expect(named.map((name) => `${name}: ${of(name)?.outcome} ${of(name)?.detail}`)).toEqual(
      named.map((name) => expect.stringMatching(`^${name}: ok `)),
    );
    expect(of('spool')?.detail).toBe(cluster.spool);
    expect(of('configuration')?.detail).toContain(cluster.conf);
    expect(of('PrologFlags')?.detail).toContain(`${cluster.conf}:`);
    expect(of('constraints')).toMatchObject({ outcome: 'warn', detail: expect.stringContaining('ConstrainRAMSpace') });
    // What sshd, PAM and logind of this machine are like is not ours to say; that it is told is.
    const fails = report.checks.filter(({ outcome }) => outcome === 'fail');
    expect([code, report.ok]).toEqual(fails.length === 0 ? [0, true] : [1, false]);
    expect([brief.code, brief.stdout.trim().split('\n').length]).toEqual([code, 1]);
    for (const { name, outcome } of report.checks)
      if (outcome !== 'ok' && name !== 'machine') expect(brief.stdout).toContain(name);
  });

  it('fails with the name of a job whose slurmstepd is stopped, and warns of a suspended one', async () => {
    const jobId = await cluster.submit(alice, 'sleep 3600');
    const suspended = await cluster.submit(bob, 'sleep 3600');
    const socket = socketOf(cluster.spool, { nodeName: cluster.nodeName, jobId, stepId: 'extern' });
    const { answers } = await askStepd(socket, ['daemonPid'], { host, deadline: deadlineIn(host, 30_000) });
    const pid = answers.daemonPid ?? expect.unreachable();
    await cluster.run('scontrol', ['suspend', String(suspended)]);
    const freezer = `/sys/fs/cgroup/freezer/slurm_${cluster.nodeName}/uid_${uids[bob]}/job_${suspended}/step_extern`;
    await until('it is', () => fs.readFileSync(`${freezer}/freezer.state`, 'utf8').trim() === 'FROZEN');
    process.kill(pid, 'SIGSTOP');
    stopped.add(pid);
    const { code, of } = await examine();
    expect(code).toBe(1);
    expect(of('extern steps')).toMatchObject({
      outcome: 'fail',
      detail: expect.stringContaining(`job ${jobId} does not answer`),
      remedy: expect.stringContaining('kill -CONT'),
    });
    expect(of('suspended')).toMatchObject({ outcome: 'warn', detail: expect.stringContaining(`job ${suspended} `) });
    await cluster.run('scontrol', ['resume', String(suspended)]);
  });

  it('records a node on which list finds the same jobs, steps and processes again', async () => {
    await cluster.submit(alice, 'sleep 3600');
    const own = await cluster.submit(bob, 'srun --overlap sleep 3600');
    await until('its step runs', async () => (await pidsBySlurm(own)).some(([step]) => step === `${own}.0`));
    const folder = fs.mkdtempSync('/run/slurm-cgroups-test-record-');
    try {
      const file = path.join(folder, 'node.jsonl');
      const live = await list();
      const { stderr } = await command(cluster, 'doctor', '--record', file);
      expect(stderr).toBe('');
      expect(fs.statSync(file).mode & 0o777).toBe(0o600);
      const played = await list('--from', file);
      expect(withoutNames(played)).toEqual(withoutNames(live));
      const clean = async (...more: readonly string[]) => {
        const { code, stdout } = await command(
          cluster,
          'clean',
          String(own),
          '--dry-run',
          '--force',
          '--json',
          ...more,
        );
        return [code, JSON.parse(stdout)];
      };
      expect(await clean('--from', file)).toEqual(await clean());
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});

describe('steps that start and end meanwhile', () => {
  it('are never an error, and never change whose a job is', async () => {
    const restless = await cluster.submit(bob, 'while :; do srun --overlap true; done');
    const quiet = await cluster.submit(alice, 'sleep 3600');
    const owners = new Map([
      [restless, uids[bob]],
      [quiet, uids[alice]],
    ]);
    const seen = new Set<string>();
    const begun = performance.now();
    const [rounds, steps, most] = [50, 4, 180_000];
    for (let round = 0; round < rounds || (seen.size < steps && performance.now() - begun < most); round++) {
      const node = await nodeNow();
      const found = discoverJobs(node);
      for (const { stepId } of found.flatMap((job) => job.steps)) if (/^\d+$/.test(stepId)) seen.add(stepId);
      const owned = await findOwners(found, { node });
      expect(new Map(owned.map((job) => [job.jobId, job.uid]))).toEqual(owners);
      const asked = await askOwners(
        found.map(({ uid, ...job }) => job),
        { node, deadline: deadlineIn(host, 60_000), eachTimeoutMs: 30_000 },
      );
      expect(asked).toEqual(found.map(({ jobId = 0 }) => ({ jobId, uid: owners.get(jobId) })));
      await host.sleep(20);
    }
    expect(seen.size).toBeGreaterThanOrEqual(steps);
  });
});
