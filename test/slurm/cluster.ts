// A whole Slurm of one node on this machine, for tests: munged, slurmctld and slurmd of the installed packages with
// configuration, state and sockets in a folder of their own, a node name of their own (so cgroups of their own), and
// ports that were free. Whatever happens to the test, a janitor takes all of it away.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

export interface Cluster {
  readonly nodeName: string;
  /** SlurmdSpoolDir */
  readonly spool: string;
  /** slurm.conf */
  readonly conf: string;
  /** Runs a program of Slurm, as `user` (root, unless given), and gives its output. */
  run(program: string, args: readonly string[], user?: string): Promise<string>;
  /** Submits a batch job and gives its id, once its extern and batch steps have their sockets. */
  submit(user: string, command: string, args?: readonly string[]): Promise<number>;
  /** Waits until a job's extern and batch steps have their sockets: what follows can be asked of them. */
  running(jobId: number): Promise<void>;
  stop(): Promise<void>;
}

/** Accounts that every machine has, so none need be made: uid 1 and 2. */
export const users = ['daemon', 'bin'] as const;

const programs = [
  'munged',
  'slurmctld',
  'slurmd',
  'sbatch',
  'srun',
  'squeue',
  'scontrol',
  'scancel',
  'runuser',
] as const;
type Program = (typeof programs)[number];

/** @param configure more lines of slurm.conf, for a cluster that lives in that folder. */
export async function startCluster(configure: (folder: string) => readonly string[] = () => []): Promise<Cluster> {
  const files = locate();
  const nodeName = `scg${process.pid.toString(36)}${randomBytes(3).toString('hex')}`;
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-');
  fs.chmodSync(folder, 0o755);
  const spool = path.join(folder, 'spool');
  for (const name of ['spool', 'state', 'etc', 'key']) fs.mkdirSync(path.join(folder, name), { mode: 0o755 });
  fs.writeFileSync(path.join(folder, 'key', 'munge.key'), randomBytes(128), { mode: 0o400 });
  const janitor = spawn(process.execPath, [path.join(import.meta.dirname, 'janitor.mjs'), folder, nodeName], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const conf = path.join(folder, 'etc', 'slurm.conf');
  const environment = { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', SLURM_CONF: conf, LC_ALL: 'C' };
  const run = async (program: string, args: readonly string[], user?: string): Promise<string> => {
    const file = (programs as readonly string[]).includes(program) ? files[program as Program] : program;
    const whole = user === undefined ? [file, ...args] : [files.runuser, '-u', user, '--', file, ...args];
    const [first = file, ...rest] = whole;
    const { stdout } = await promisify(execFile)(first, rest, { env: environment, cwd: '/', timeout: 120_000 });
    return stdout;
  };
  const stop = async () => {
    if (janitor.exitCode !== null) return;
    janitor.stdin?.end();
    const [code] = await once(janitor, 'exit');
    if (code !== 0) throw new Error(`cgroups of ${nodeName} are left`);
  };
  try {
    const [ctldPort, slurmdPort] = await freePorts();
    writeConfiguration({ folder, nodeName, conf, ctldPort, slurmdPort, more: configure(folder) });
    const daemon = daemonStarter(folder, environment);
    const socket = path.join(folder, 'munge.socket');
    daemon('munged', files.munged, [
      ...['--foreground', '--num-threads=1', `--socket=${socket}`, `--key-file=${folder}/key/munge.key`],
      ...[`--pid-file=${folder}/key/munged.pid`, `--seed-file=${folder}/key/seed`],
    ]);
    await until('munged listens', () => fs.existsSync(socket));
    daemon('slurmctld', files.slurmctld, ['-D', '-f', conf]);
    daemon('slurmd', files.slurmd, ['-D', '-f', conf, '-N', nodeName]);
    await until(
      () => `the node is idle: ${logsOf(folder)}`,
      async () => /State=IDLE\s/.test(await run('scontrol', ['show', 'node', nodeName]).catch(() => '')),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  const running = async (jobId: number) => {
    for (const step of [4294967292, 4294967291]) {
      await until(
        () => `job ${jobId} runs: ${logsOf(folder)}`,
        () => fs.existsSync(`${spool}/${nodeName}_${jobId}.${step}`),
      );
    }
  };
  const submit = async (user: string, command: string, args: readonly string[] = []): Promise<number> => {
    const submitted = ['--parsable', '-o', '/dev/null', '--chdir=/', ...args, `--wrap=${command}`];
    const jobId = Number(await run('sbatch', submitted, user));
    await running(jobId);
    return jobId;
  };
  return { nodeName, spool, conf, run, submit, running, stop };
}

/** Waits for something, two minutes at most: on a busy machine Slurm takes its time. */
export async function until(what: string | (() => string), is: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 120_000; ; ) {
    if (await is()) return;
    if (Date.now() > end) throw new Error(`Waited in vain until ${typeof what === 'string' ? what : what()}`);
    await new Promise((fulfil) => setTimeout(fulfil, 50));
  }
}

function locate(): Readonly<Record<Program, string>> {
  const missing: string[] = [];
  const found = programs.map((name) => {
    const file = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'].map((at) => `${at}/${name}`).find(fs.existsSync);
    if (file === undefined) missing.push(name);
    return [name, file ?? ''] as const;
  });
  if (process.getuid?.() !== 0) throw new Error('A Slurm can only be started by root');
  if (missing.length > 0) {
    throw new Error(
      `No ${missing.join(', ')} here: apt-get install --no-install-recommends slurmd slurmctld slurm-client slurm-wlm-basic-plugins munge`,
    );
  }
  return Object.fromEntries(found) as Record<Program, string>;
}

/** Daemons in the foreground: their pids are known, and their words go to files. */
function daemonStarter(folder: string, env: NodeJS.ProcessEnv) {
  return (name: string, file: string, args: readonly string[]): ChildProcess => {
    const log = fs.openSync(path.join(folder, `${name}.log`), 'w');
    const child = spawn(file, args, { cwd: '/', env, detached: true, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    child.unref();
    fs.writeFileSync(path.join(folder, `${name}.pid`), String(child.pid));
    return child;
  };
}

function logsOf(folder: string): string {
  return ['munged', 'slurmctld', 'slurmd']
    .map((name) => `${name}: ${fs.readFileSync(path.join(folder, `${name}.log`), 'utf8').slice(-1500)}`)
    .join('\n');
}

async function freePorts(): Promise<readonly [number, number]> {
  const servers = [net.createServer(), net.createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (typeof address === 'object' && address !== null) ports.push(address.port);
  }
  for (const server of servers) server.close();
  const [first = 0, second = 0] = ports;
  return [first, second];
}

function writeConfiguration(of: {
  readonly folder: string;
  readonly nodeName: string;
  readonly conf: string;
  readonly ctldPort: number;
  readonly slurmdPort: number;
  readonly more: readonly string[];
}): void {
  const cpus = os.cpus().length;
  const lines = [
    'ClusterName=scg',
    `SlurmctldHost=${os.hostname()}(127.0.0.1)`,
    `SlurmctldPort=${of.ctldPort}`,
    // Besides the port of the node below: caller ID asks at the port that is common to all (measured).
    `SlurmdPort=${of.slurmdPort}`,
    'SlurmUser=root',
    'SlurmdUser=root',
    'AuthType=auth/munge',
    `AuthInfo=socket=${of.folder}/munge.socket`,
    `StateSaveLocation=${of.folder}/state`,
    `SlurmdSpoolDir=${of.folder}/spool`,
    `SlurmctldPidFile=${of.folder}/state/slurmctld.pid`,
    `SlurmdPidFile=${of.folder}/state/slurmd.pid`,
    'ProctrackType=proctrack/cgroup',
    'TaskPlugin=task/cgroup',
    'JobAcctGatherType=jobacct_gather/cgroup',
    'PrologFlags=contain',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_Core',
    'ReturnToService=2',
    'MpiDefault=none',
    'KillWait=1',
    'SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0',
    `NodeName=${of.nodeName} NodeHostname=${os.hostname()} NodeAddr=127.0.0.1 Port=${of.slurmdPort} CPUs=${cpus} CoresPerSocket=${cpus} RealMemory=1000 State=UNKNOWN`,
    'PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:128',
    ...of.more,
  ];
  fs.writeFileSync(of.conf, `${lines.join('\n')}\n`);
  fs.writeFileSync(
    path.join(path.dirname(of.conf), 'cgroup.conf'),
    'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nConstrainCores=yes\nConstrainDevices=yes\n',
  );
}
