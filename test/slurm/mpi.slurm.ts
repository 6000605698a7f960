// MPI over ssh, as it is started outside of the scheduler: Open MPI's rsh launcher and MPICH's Hydra begin in one of two
// jobs of a user on two nodes, and every rank must be in the job that launched it, on either node.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, type NodePlace, startCluster, until, users } from './cluster.js';
import { program } from './command.js';

const [user] = users;
const uid = 1;
const port = 2222;
/** How long ranks sleep: a number for each job, by which they are known. */
const naps = { 'Open MPI': [7301, 7302], Hydra: [7311, 7312] } as const;

let cluster: Cluster;
let pair: readonly NodePlace[] = [];
/** Of the cluster, which goes with it. */
let folder = '';
const daemons: ChildProcess[] = [];
/** Where sshd shuts itself in; Debian makes it at boot. */
let madeRunSshd: string | undefined;

beforeAll(async () => {
  for (const [file, name] of Object.entries({ 'mpirun.openmpi': 'openmpi-bin', 'mpiexec.hydra': 'mpich' }))
    if (!fs.existsSync(`/usr/bin/${file}`)) throw new Error(`No ${file} here: apt-get install ${name}`);
  cluster = await startCluster({}, undefined, 2);
  pair = cluster.pair ?? [];
  folder = path.dirname(path.dirname(cluster.conf));
  const key = path.join(folder, 'etc', 'id');
  for (const file of [key, `${key}-host`])
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  fs.chownSync(key, uid, uid); // ssh takes no key of its own user's that others may read
  const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
  const client = ['/usr/bin/ssh', '-F', 'none', '-p', String(port), '-i', key, ...options.map((one) => `-o${one}`)];
  fs.writeFileSync(path.join(folder, 'etc', 'ssh'), `#!/bin/sh\nexec ${client.join(' ')} "$@"\n`, { mode: 0o755 });
  for (const node of pair) await startSshd(node, key);
});
afterAll(async () => {
  for (const daemon of daemons) daemon.kill('SIGKILL');
  await cluster?.stop();
  if (madeRunSshd !== undefined) fs.rmdirSync(madeRunSshd);
});

/**
 * sshd of one node, in its network. What PAM and getpwent read is laid over this machine's in a mount namespace of its
 * own: the account has no shell otherwise, and nothing of /etc is changed.
 */
async function startSshd({ nodeName, addresses, within }: NodePlace, key: string): Promise<void> {
  const own = path.join(folder, 'etc', nodeName);
  const [pam, passwd, adopt, conf] = ['pam.d', 'passwd', 'adopt', 'sshd_config'].map((name) => path.join(own, name));
  fs.mkdirSync(`${own}/pam.d`, { recursive: true });
  const words = ['adopt', '"$PPID"', '--user', '"$PAM_USER"', '--node', nodeName, '--connection', '"$SSH_CONNECTION"'];
  fs.writeFileSync(
    `${adopt}`,
    `exec >>${own}/adopt.log 2>&1\necho "$PAM_TYPE $SSH_CONNECTION"\nexec ${process.execPath} ${program} ${words.join(' ')}\n`,
  );
  const stack = [
    'auth required pam_deny.so',
    `account required pam_exec.so quiet /bin/sh ${adopt}`,
    'session required pam_permit.so',
    'password required pam_deny.so',
  ];
  for (const name of ['sshd', 'other']) fs.writeFileSync(`${pam}/${name}`, `${stack.join('\n')}\n`);
  const accounts = fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => (line.startsWith(`${user}:`) ? `${user}:x:${uid}:${uid}::/tmp:/bin/sh` : line));
  fs.writeFileSync(`${passwd}`, accounts.join('\n'));
  const settings = {
    ListenAddress: `${addresses[4]}:${port}`,
    HostKey: `${key}-host`,
    AuthorizedKeysFile: `${key}.pub`,
    UsePAM: 'yes',
    StrictModes: 'no',
    PasswordAuthentication: 'no',
    KbdInteractiveAuthentication: 'no',
    PidFile: 'none',
    PrintMotd: 'no',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  fs.writeFileSync(`${conf}`, `${lines.join('\n')}\n`);
  madeRunSshd ??= fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const script = `mount --bind ${pam} /etc/pam.d && mount --bind ${passwd} /etc/passwd && exec "$@"`;
  const sshd = ['/usr/sbin/sshd', '-D', '-E', `${own}/sshd.log`, '-f', `${conf}`];
  const apart = ['/usr/bin/unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c', script, 'sh', ...sshd];
  const [file = '', ...rest] = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', ...within, ...apart];
  daemons.push(spawn(file, rest, { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, stdio: 'ignore' }));
  await until(
    () => `sshd of ${nodeName} listens: ${readOr(`${own}/sshd.log`)}`,
    () => readOr(`${own}/sshd.log`).includes('Server listening'),
  );
}

function readOr(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function launcher(name: keyof typeof naps, nap: number): string {
  const [ssh, hosts] = [path.join(folder, 'etc', 'ssh'), pair.map(({ addresses }) => addresses[4])];
  const wide = `/bin/sleep ${nap}`;
  if (name === 'Hydra')
    return `exec mpiexec.hydra -rmk user -launcher ssh -launcher-exec ${ssh} -hosts ${hosts.join(',')} -n 4 -ppn 2 ${wide}`;
  const slots = hosts.map((host) => `${host}:2`).join(',');
  const plugins = '--mca plm rsh --mca ras ^slurm --mca ess ^slurm';
  return `exec mpirun.openmpi ${plugins} --mca plm_rsh_agent ${ssh} --mca plm_rsh_no_tree_spawn 0 --oversubscribe --host ${slots} -np 4 ${wide}`;
}

/** Pids of ranks, by the number that they sleep. */
function ranksOf(nap: number): readonly number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && readOr(`/proc/${name}/cmdline`) === `/bin/sleep\0${nap}\0`)
    .map(Number);
}

function logs(): string {
  const files = pair.flatMap(({ nodeName }) =>
    ['adopt.log', 'sshd.log'].map((name) => `${folder}/etc/${nodeName}/${name}`),
  );
  return [...files, `${folder}/launched`].map((file) => `${file}: ${readOr(file).slice(-3000)}`).join('\n');
}

/** Which job's extern or batch step each hierarchy has it in: one line, if it is the same in all of Slurm's. */
function placesOf(pid: number): readonly string[] {
  const found = [...readOr(`/proc/${pid}/cgroup`).matchAll(/\/slurm_(\w+)\/uid_1\/(job_\d+)\/(step_\w+)/g)];
  return [...new Set(found.map(([, node, job, step]) => `${node} ${job} ${step}`))];
}

it.each(['Open MPI', 'Hydra'] as const)(
  'every rank of %s is in the job that launched it, on either node',
  async (name) => {
    const [here, there] = pair.map(({ nodeName }) => nodeName);
    const args = ['-N2', '--ntasks-per-node=1', '-o', `${folder}/launched`, '--open-mode=append'];
    fs.writeFileSync(`${folder}/launched`, '', { mode: 0o666 });
    fs.chmodSync(`${folder}/launched`, 0o666);
    // Both jobs are there before anybody launches: caller ID alone tells them apart.
    const start = path.join(folder, `start-${name === 'Hydra' ? 'h' : 'o'}`);
    const script = (nap: number) => `until [ -e ${start} ]; do sleep 0.2; done; ${launcher(name, nap)}`;
    const jobs: number[] = [];
    for (const nap of naps[name]) jobs.push(await cluster.submit(user, script(nap), args));
    const externs = jobs.map((jobId) => `${path.dirname(cluster.spool)}/${there}/${there}_${jobId}.4294967292`);
    await until('both jobs run on both nodes', () => externs.every((file) => fs.existsSync(file)));
    fs.writeFileSync(start, '');
    for (const [at, nap] of naps[name].entries()) {
      await until(
        () => `four ranks of ${name} run: ${logs()}`,
        () => ranksOf(nap).length === 4,
      );
      const places = ranksOf(nap).flatMap(placesOf).sort();
      const job = `job_${jobs[at]}`;
      expect(places, logs()).toEqual(
        [
          `${here} ${job} step_batch`,
          `${here} ${job} step_batch`,
          `${there} ${job} step_extern`,
          `${there} ${job} step_extern`,
        ].sort(),
      );
    }
    // They end with their job, and only they.
    const [first = 0, second = 0] = naps[name];
    await cluster.run('scancel', [String(jobs[0])]);
    await until('the ranks of the first job have ended', () => ranksOf(first).length === 0);
    expect(ranksOf(second)).toHaveLength(4);
    await cluster.run('scancel', [String(jobs[1])]);
    await until('the ranks of the second job have ended', () => ranksOf(second).length === 0);
  },
);
