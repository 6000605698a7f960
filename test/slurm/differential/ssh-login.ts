// Logins by real ssh at a real sshd, which listens on a port of its own with keys, configuration and a PAM stack of its
// own. What decides in the stack is pam_slurm_adopt, or slurm-cgroups: its module, or its command run by
// pam_exec.

import { type ChildProcess, execFile } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { until } from '../cluster.js';
import { program } from '../command.js';
import { type Adopter, type Login, type Outcome, outcomeOf, patienceOn, type Site } from './adopter.js';
import { wordsFor } from './pam-login.js';
import { moduleWords } from './pam-module.js';
import { PamStack, shellOnlyWith } from './pam-stack.js';

/** pam_slurm_adopt in sshd's stack. */
export function pamSlurmAdoptBySsh(site: Site): Adopter {
  return sshAdopter('pam_slurm_adopt', site, ({ options }) => wordsFor(site, options));
}

/** slurm-cgroups in sshd's stack, which adopts the sshd that watches over the connection. */
export function slurmCgroupsBySsh(site: Site): Adopter {
  const { module, folder } = site.sshdModule ?? site;
  if (module === undefined) return sshAdopter('slurm-cgroups', site, (login) => commandWords(site, login));
  return sshAdopter('pam_slurm_cgroups', site, ({ options }) => moduleWords({ ...site, folder, module }, options));
}

/** The command, run by pam_exec. */
function commandWords(site: Site, { options }: Login): string {
  const script = path.join(site.folder, 'adopt');
  const flags = options.map((word) => `--${word.replaceAll('_', '-')}`);
  const words = ['adopt', '"$PPID"', '--user', '"$PAM_USER"', '--node', site.cluster.nodeName, ...flags];
  fs.writeFileSync(
    script,
    `exec ${process.execPath} ${program} ${words.join(' ')} \${SSH_CONNECTION:+--connection "$SSH_CONNECTION"}\n`,
  );
  return `pam_exec.so quiet /bin/sh ${script}`;
}

function sshAdopter(name: string, site: Site, moduleFor: (login: Login) => string): Adopter {
  return { name, login: (login) => loginBySsh(site, login, moduleFor(login)), close: () => Promise.resolve() };
}

async function loginBySsh(site: Site, login: Login, module: string): Promise<Outcome> {
  if (login.from === undefined) throw new Error('ssh comes from somewhere');
  const stack = new PamStack(site.folder, 'sshd', module);
  // Where sshd shuts itself in; Debian makes it at boot.
  const made = fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const { port, sshd } = await startSshd(site, stack);
  try {
    const begunAt = performance.now();
    const client = `timeout 60 ssh -N -F none -p ${port} -i ${key(site)} ${clientOptions.join(' ')}`;
    await login.from.start(`${client} ${login.user}@${login.from.address}`);
    for (;;) {
      const read = stack.read();
      const ms = performance.now() - begunAt;
      if (read === undefined && ms > patienceOn(site)) return outcomeOf(0, { answer: 'hangs', ms, said: '' });
      if (read !== undefined) {
        const outcome = outcomeOf(read.pid, { answer: read.answer, ms, said: '' });
        end(read.pid);
        return outcome;
      }
      await sleep(5);
    }
  } finally {
    sshd.kill('SIGKILL');
    stack.release();
    await sleep(100);
    stack.remove();
    if (made !== undefined) fs.rmdirSync(made);
  }
}

/** A child of our sshd, which waits for us in its PAM stack. */
function end(pid: number): void {
  if (!(pid > 1) || !/\/sshd(?:-session)?$/.test(fs.readlinkSync(`/proc/${pid}/exe`)))
    throw new Error(`${pid} is no sshd`);
  process.kill(pid, 'SIGKILL');
}

const clientOptions: readonly string[] = [
  'BatchMode=yes',
  'StrictHostKeyChecking=no',
  'UserKnownHostsFile=/dev/null',
  'GlobalKnownHostsFile=/dev/null',
  'IdentitiesOnly=yes',
  'LogLevel=ERROR',
].map((option) => `-o ${option}`);

/** One for all users: it belongs to root and all may read it, which ssh minds only with a key of the user's own. */
const key = ({ folder }: Site): string => path.join(folder, 'key');

async function startSshd(site: Site, stack: PamStack): Promise<{ readonly port: number; readonly sshd: ChildProcess }> {
  await makeKey(site);
  const port = await freePort();
  const config = path.join(site.folder, 'sshd_config');
  const lines = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${key(site)}-host`,
    `AuthorizedKeysFile ${key(site)}.pub`,
    'UsePAM yes',
    'StrictModes no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PidFile none',
    'PrintMotd no',
    'AllowTcpForwarding no',
  ];
  fs.writeFileSync(config, `${lines.join('\n')}\n`);
  const log = path.join(site.folder, 'sshd.log');
  const sshd = stack.spawn(['/usr/sbin/sshd', '-D', '-E', log, '-f', config], {
    cwd: '/',
    env: shellOnlyWith({ SLURM_CONF: site.cluster.conf }),
    stdio: 'ignore',
  });
  await until(
    () => `sshd listens: ${fs.existsSync(log) ? fs.readFileSync(log, 'utf8') : ''}`,
    () => isListening(port),
  );
  return { port, sshd };
}

async function makeKey(site: Site): Promise<void> {
  if (fs.existsSync(key(site))) return;
  const make = (file: string) => promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  await make(`${key(site)}-host`);
  await make(key(site));
  fs.chmodSync(key(site), 0o644);
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = server.address();
  server.close();
  await once(server, 'close');
  return typeof at === 'object' && at !== null ? at.port : 0;
}

/** By the kernel's list: a connection to try it would count as a login. */
function isListening(port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return fs
    .readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .some((line) => line.includes(local) && / 0A /.test(line));
}
