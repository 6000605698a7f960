// A whole Slurm of one node (or two) on this machine, for tests: munged, slurmctld and slurmd of the installed packages with
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
  /** Of two nodes, each in a network of its own. */
  readonly pair?: readonly [NodePlace, NodePlace];
  /** Runs a program of Slurm, as `user` (root, unless given), and gives its output. */
  run(program: string, args: readonly string[], user?: string): Promise<string>;
  /** Submits a batch job and gives its id, once its extern and batch steps have their sockets. */
  submit(user: string, command: string, args?: readonly string[]): Promise<number>;
  /** Waits until a job's extern and batch steps have their sockets: what follows can be asked of them. */
  running(jobId: number): Promise<void>;
  stop(): Promise<void>;
}

/** One of two nodes, which reach each other by these addresses. */
export interface NodePlace {
  readonly nodeName: string;
  readonly addresses: { readonly 4: string; readonly 6: string };
  /** Runs what follows in its network: the first words of a command. */
  readonly within: readonly string[];
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

/** What a companion of slurmctld is started with, once munged listens. */
export interface Companion {
  /** The cluster's own: whatever is in it goes with the cluster. */
  readonly folder: string;
  /** The socket of munged. */
  readonly munge: string;
  /** Starts a daemon in the foreground, which the janitor ends by its pid. */
  daemon(name: CompanionName, file: string, args: readonly string[]): ChildProcess;
}
export type CompanionName = 'mariadbd' | 'slurmdbd' | 'network-a' | 'network-b';

/**
 * `settings`: more keys of slurm.conf, or others for those that it has; `companion` starts what slurmctld needs, and
 * gives keys, too.
 */
export async function startCluster(
  settings: Readonly<Record<string, string>> = {},
  companion: (its: Companion) => Promise<Readonly<Record<string, string>>> = async () => ({}),
  nodes: 1 | 2 = 1,
): Promise<Cluster> {
  const files = locate();
  const nodeName = `scg${process.pid.toString(36)}${randomBytes(3).toString('hex')}`;
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-');
  fs.chmodSync(folder, 0o755);
  const names = nodes === 1 ? [nodeName] : [nodeName, `${nodeName}b`];
  const spool = nodes === 1 ? path.join(folder, 'spool') : path.join(folder, 'spool', nodeName);
  for (const name of ['spool', 'state', 'etc', 'key']) fs.mkdirSync(path.join(folder, name), { mode: 0o755 });
  if (nodes === 2) for (const name of names) fs.mkdirSync(path.join(folder, 'spool', name), { mode: 0o755 });
  fs.writeFileSync(path.join(folder, 'key', 'munge.key'), randomBytes(128), { mode: 0o400 });
  const janitor = spawn(process.execPath, [path.join(import.meta.dirname, 'janitor.mjs'), folder, ...names], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const conf = path.join(folder, 'etc', 'slurm.conf');
  const environment = { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', SLURM_CONF: conf, LC_ALL: 'C' };
  let pair: Cluster['pair'];
  const submitted: number[] = [];
  const run = async (program: string, args: readonly string[], user?: string): Promise<string> => {
    const file = (programs as readonly string[]).includes(program) ? files[program as Program] : program;
    const own = user === undefined ? [file, ...args] : [files.runuser, '-u', user, '--', file, ...args];
    const whole = [...(pair?.[0].within ?? []), ...own];
    const [first = file, ...rest] = whole;
    const { stdout } = await promisify(execFile)(first, rest, { env: environment, cwd: '/', timeout: 120_000 });
    if (program === 'sbatch') submitted.push(Number.parseInt(stdout, 10));
    return stdout;
  };
  const stop = async () => {
    if (janitor.exitCode !== null) return;
    // What adoptions leave for the epilog, which this cluster has none of.
    for (const jobId of submitted) fs.rmSync(`/run/slurm-cgroups/adoptions/${jobId}`, { recursive: true, force: true });
    janitor.stdin?.end();
    const [code] = await once(janitor, 'exit');
    if (code !== 0) throw new Error(`cgroups of ${nodeName} are left`);
  };
  try {
    const [ctldPort, slurmdPort] = await freePorts();
    const daemon = daemonStarter(folder, environment);
    const socket = path.join(folder, 'munge.socket');
    daemon('munged', files.munged, [
      ...['--foreground', '--num-threads=1', `--socket=${socket}`, `--key-file=${folder}/key/munge.key`],
      ...[`--pid-file=${folder}/key/munged.pid`, `--seed-file=${folder}/key/seed`],
    ]);
    await until('munged listens', () => fs.existsSync(socket));
    if (nodes === 2) pair = await makeNetworks([nodeName, `${nodeName}b`], { folder, munge: socket, daemon });
    const more = await companion({ folder, munge: socket, daemon });
    const all = { ...settings, ...more };
    writeConfiguration({ folder, nodeName, conf, ctldPort, slurmdPort, settings: all, ...(pair && { pair }) });
    const [first = files.slurmctld, ...rest] = [...(pair?.[0].within ?? []), files.slurmctld, '-D', '-f', conf];
    daemon('slurmctld', first, rest);
    // What it mounts for its jobs is no business of this machine's.
    const apart = 'JobContainerType' in all ? ['/usr/bin/unshare', '-m', '--propagation', 'private'] : [];
    for (const [at, name] of names.entries()) {
      const [file = files.slurmd, ...words] = [
        ...(pair?.[at]?.within ?? []),
        ...apart,
        files.slurmd,
        '-D',
        '-f',
        conf,
        '-N',
        name,
      ];
      daemon(at === 0 ? 'slurmd' : 'slurmd-b', file, words);
    }
    for (const name of names) {
      await until(
        () => `the node is idle: ${logsOf(folder)}`,
        async () => /State=IDLE\s/.test(await run('scontrol', ['show', 'node', name]).catch(() => '')),
      );
    }
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
    const words = ['--parsable', '-o', '/dev/null', '--chdir=/', ...args, `--wrap=${command}`];
    const jobId = Number(await run('sbatch', words, user));
    await running(jobId);
    return jobId;
  };
  return { nodeName, spool, conf, run, submit, running, stop, ...(pair && { pair }) };
}

/** Waits for something, two minutes at most: on a busy machine Slurm takes its time. */
export async function until(what: string | (() => string), is: () => boolean | Promise<boolean>): Promise<void> {
  // Tests set the wall clock back and forth.
  for (const end = performance.now() + 120_000; ; ) {
    if (await is()) return;
    if (performance.now() > end) throw new Error(`Waited in vain until ${typeof what === 'string' ? what : what()}`);
    await new Promise((fulfil) => setTimeout(fulfil, 50));
  }
}

/** Past the next full second: Slurm compares some times in whole ones. */
export function nextSecond(): Promise<void> {
  return new Promise((fulfil) => setTimeout(fulfil, 1050 - (Date.now() % 1000)));
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

/** Two networks joined by a cable, which go with the processes that live in them. */
async function makeNetworks(
  [a, b]: readonly [string, string],
  { folder, daemon }: Companion,
): Promise<readonly [NodePlace, NodePlace]> {
  const pids = (['network-a', 'network-b'] as const).map((name) => {
    const sleeper = ['--net', '/bin/sh', '-c', 'while :; do sleep 1000; done', folder];
    return daemon(name, '/usr/bin/unshare', sleeper).pid ?? 0;
  });
  const [own = 0, other = 0] = pids;
  const isApart = (pid: number) => fs.readlinkSync(`/proc/${pid}/ns/net`) !== fs.readlinkSync('/proc/self/ns/net');
  await until('two networks are made', () => pids.every(isApart));
  const withinOf = (pid: number) => ['/usr/bin/nsenter', `--net=/proc/${pid}/ns/net`, '--'];
  // Of its own: what the product remembers of an address (that its slurmd is silent) is about no other test's.
  const net = own % 256;
  const place = (nodeName: string, pid: number, number: number): NodePlace => ({
    nodeName,
    addresses: { 4: `198.18.${net}.${number}`, 6: `fd73:6c75:${net.toString(16)}::${number}` },
    within: withinOf(pid),
  });
  const pair = [place(a, own, 1), place(b, other, 2)] as const;
  const ip = async ({ within: [file = '', ...words] }: NodePlace, ...args: readonly string[]) =>
    promisify(execFile)(file, [...words, '/usr/sbin/ip', ...args], { cwd: '/', timeout: 20_000 });
  await ip(pair[0], 'link', 'add', 'scg0', 'type', 'veth', 'peer', 'name', 'scg0', 'netns', String(other));
  for (const one of pair) {
    await ip(one, 'addr', 'add', `${one.addresses[4]}/24`, 'dev', 'scg0');
    await ip(one, 'addr', 'add', `${one.addresses[6]}/64`, 'dev', 'scg0', 'nodad');
    for (const link of ['lo', 'scg0']) await ip(one, 'link', 'set', link, 'up');
  }
  return pair;
}

/** Two on which nothing listens. */
export async function freePorts(): Promise<readonly [number, number]> {
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
  readonly settings: Readonly<Record<string, string>>;
  readonly pair?: readonly [NodePlace, NodePlace];
}): void {
  const cpus = os.cpus().length;
  const nodes = of.pair?.map(({ nodeName, addresses }) => ({ nodeName, address: addresses[4] })) ?? [
    { nodeName: of.nodeName, address: '127.0.0.1' },
  ];
  // Two on one machine share no folder, pid file or log.
  const apart = of.pair === undefined ? '' : '/%n';
  const lines = [
    'ClusterName=scg',
    `SlurmctldHost=${os.hostname()}(${nodes[0]?.address})`,
    `SlurmctldPort=${of.ctldPort}`,
    // Besides the port of the node below: caller ID asks at the port that is common to all (measured).
    `SlurmdPort=${of.slurmdPort}`,
    'SlurmUser=root',
    'SlurmdUser=root',
    'AuthType=auth/munge',
    `AuthInfo=socket=${of.folder}/munge.socket`,
    `StateSaveLocation=${of.folder}/state`,
    `SlurmdSpoolDir=${of.folder}/spool${apart}`,
    `SlurmctldPidFile=${of.folder}/state/slurmctld.pid`,
    `SlurmdPidFile=${of.folder}/state/slurmd${apart.replace('/', '-')}.pid`,
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
    ...nodes.map(
      ({ nodeName, address }) =>
        `NodeName=${nodeName} NodeHostname=${os.hostname()} NodeAddr=${address} Port=${of.slurmdPort} CPUs=${cpus} CoresPerSocket=${cpus} RealMemory=1000 State=UNKNOWN`,
    ),
    'PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:128',
  ];
  const own = lines.filter((line) => !Object.hasOwn(of.settings, line.slice(0, line.indexOf('='))));
  const more = Object.entries(of.settings).map(([key, value]) => `${key}=${value}`);
  fs.writeFileSync(of.conf, `${[...own, ...more].join('\n')}\n`);
  fs.writeFileSync(
    path.join(path.dirname(of.conf), 'cgroup.conf'),
    'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nConstrainCores=yes\nConstrainDevices=yes\n',
  );
}
