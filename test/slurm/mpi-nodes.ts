// What MPI over ssh needs of nodes with a network each, on this machine or in a guest: an sshd in each network, whose
// account phase adopts by caller ID, and the words that begin Open MPI and Hydra. Which jobs launch them is the tests'.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { type NodePlace, until } from './cluster.js';
import { program } from './command.js';

export const launchers = ['Open MPI', 'Hydra'] as const;
export type Launcher = (typeof launchers)[number];

export interface MpiSite {
  /** A folder for what is written here: it exists, and all users may enter it. */
  readonly folder: string;
  readonly nodes: readonly NodePlace[];
  readonly user: { readonly name: string; readonly uid: number };
  /** Flags of `adopt`, for those who are slower than its defaults are meant for. */
  readonly flags?: readonly string[];
}

const port = 2222;

/** Starts sshd on each node; ends them when called again. */
export async function startSshds(site: MpiSite): Promise<() => void> {
  for (const [file, name] of Object.entries({ 'mpirun.openmpi': 'openmpi-bin', 'mpiexec.hydra': 'mpich' }))
    if (!fs.existsSync(`/usr/bin/${file}`)) throw new Error(`No ${file} here: apt-get install ${name}`);
  const key = path.join(site.folder, 'id');
  for (const file of [key, `${key}-host`])
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  fs.chownSync(key, site.user.uid, site.user.uid); // ssh takes no key of its own user's that others may read
  const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
  const client = ['/usr/bin/ssh', '-F', 'none', '-p', String(port), '-i', key, ...options.map((one) => `-o${one}`)];
  fs.writeFileSync(path.join(site.folder, 'ssh'), `#!/bin/sh\nexec ${client.join(' ')} "$@"\n`, { mode: 0o755 });
  // Where sshd shuts itself in; Debian makes it at boot.
  const made = fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const daemons: ChildProcess[] = [];
  const end = () => {
    for (const daemon of daemons) daemon.kill('SIGKILL');
    if (made !== undefined) fs.rmdirSync(made);
  };
  try {
    for (const node of site.nodes) daemons.push(await startSshd(site, node, key));
  } catch (error) {
    end();
    throw error;
  }
  return end;
}

/**
 * sshd of one node, in its network. What PAM and getpwent read is laid over this machine's in a mount namespace of its
 * own: the account may have no shell otherwise, and nothing of /etc is changed.
 */
async function startSshd(site: MpiSite, { nodeName, addresses, within }: NodePlace, key: string) {
  const { name: user, uid } = site.user;
  const own = path.join(site.folder, nodeName);
  const [pam, passwd, adopt, conf] = ['pam.d', 'passwd', 'adopt', 'sshd_config'].map((name) => path.join(own, name));
  fs.mkdirSync(`${own}/pam.d`, { recursive: true });
  const session = ['"$PPID"', '--user', '"$PAM_USER"', '--node', nodeName, '--connection', '"$SSH_CONNECTION"'];
  const words = ['adopt', ...session, ...(site.flags ?? [])];
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
  const script = `mount --bind ${pam} /etc/pam.d && mount --bind ${passwd} /etc/passwd && exec "$@"`;
  const sshd = ['/usr/sbin/sshd', '-D', '-E', `${own}/sshd.log`, '-f', `${conf}`];
  const apart = ['/usr/bin/unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c', script, 'sh', ...sshd];
  const [file = '', ...rest] = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', ...within, ...apart];
  const daemon = spawn(file, rest, { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, stdio: 'ignore' });
  await until(
    () => `sshd of ${nodeName} listens: ${readOr(`${own}/sshd.log`)}`,
    () => readOr(`${own}/sshd.log`).includes('Server listening'),
  );
  return daemon;
}

/**
 * A shell's line that launches four ranks on both nodes, which sleep so long: a number by which they are known. Settings
 * of Open MPI are given twice: what it calls rsh, up to 4, is ssh of PRRTE from 5 on. Jobs of newer Slurms have words
 * for Hydra in their environment that are meant for srun alone, and that ssh does not know (measured on 24.11).
 */
export function launch(name: Launcher, nap: number, { folder, nodes }: MpiSite): string {
  const [ssh, hosts] = [path.join(folder, 'ssh'), nodes.map(({ addresses }) => addresses[4])];
  const wide = `/bin/sleep ${nap}`;
  if (name === 'Hydra')
    return `exec env -u HYDRA_LAUNCHER_EXTRA_ARGS mpiexec.hydra -rmk user -launcher ssh -launcher-exec ${ssh} -hosts ${hosts.join(',')} -n 4 -ppn 2 ${wide}`;
  const settings = [
    ...['OMPI_MCA_plm=rsh', `OMPI_MCA_plm_rsh_agent=${ssh}`, 'OMPI_MCA_plm_rsh_no_tree_spawn=0'],
    ...['PRTE_MCA_plm=ssh', `PRTE_MCA_plm_ssh_agent=${ssh}`, 'PRTE_MCA_plm_ssh_no_tree_spawn=0'],
    ...['OMPI', 'PRTE'].flatMap((of) => [`${of}_MCA_ras=^slurm`, `${of}_MCA_ess=^slurm`]),
  ];
  const slots = hosts.map((host) => `${host}:2`).join(',');
  return `exec env ${settings.join(' ')} mpirun.openmpi --oversubscribe --bind-to none --host ${slots} -np 4 ${wide}`;
}

/** Pids of ranks, by the number that they sleep. */
export function ranksOf(nap: number): readonly number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && readOr(`/proc/${name}/cmdline`) === `/bin/sleep\0${nap}\0`)
    .map(Number);
}

/** Node, directory of the job and step that a process is in, on v1 or v2: one line, if they are the same in all of Slurm's. */
export function placesOf(pid: number): readonly string[] {
  const place = /\/(?:slurm_(\w+)\/uid_\d+|(\w+)_slurmstepd\.scope)\/(\w+)\/(step_\w+)/g;
  const found = [...readOr(`/proc/${pid}/cgroup`).matchAll(place)];
  return [...new Set(found.map(([, v1, v2, job, step]) => `${v1 ?? v2} ${job} ${step}`))];
}

/** What sshd and its `adopt` said on either node. */
export function logsOf({ folder, nodes }: MpiSite): string {
  const files = nodes.flatMap(({ nodeName }) =>
    ['adopt.log', 'sshd.log'].map((name) => path.join(folder, nodeName, name)),
  );
  return files.map((file) => `${file}: ${readOr(file).slice(-3000)}`).join('\n');
}

function readOr(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // not there yet, or no longer
  }
}
