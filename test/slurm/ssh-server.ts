// A real sshd with a PAM stack, keys and users of its own, in a mount namespace of its own: /etc/pam.d/sshd and
// /etc/passwd are a test's there, and nothing on this machine changes. Its sessions are real: a shell, sftp, ssh -N.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePorts, until } from './cluster.js';
import { dieWithUs, dieWords, shellOnly } from './differential/source.js';

export interface SshServerOptions {
  /** A folder of the test's own, root's, which all users can read. */
  readonly folder: string;
  /** Lines of /etc/pam.d/sshd. */
  readonly pam: readonly string[];
  /** More lines of sshd_config, which count more. */
  readonly config?: readonly string[];
  /** Who gets a shell: login names of this machine. */
  readonly users: readonly string[];
  /** More of sshd's own environment. */
  readonly env?: NodeJS.ProcessEnv;
}

export interface SshAnswer {
  /** 255: ssh itself failed; -1: it did not end by itself. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How long a session may take before it counts as hanging. */
const sessionMs = 60_000;

export class SshServer {
  readonly port: number;
  readonly #sshd: ChildProcess;
  readonly #folder: string;
  readonly #children = new Set<ChildProcess>();

  private constructor(its: { readonly folder: string; readonly port: number; readonly sshd: ChildProcess }) {
    this.#folder = its.folder;
    this.port = its.port;
    this.#sshd = its.sshd;
  }

  static async start(options: SshServerOptions): Promise<SshServer> {
    const folder = fs.mkdtempSync(path.join(options.folder, 'sshd-'));
    fs.chmodSync(folder, 0o755);
    for (const name of ['key', 'host'])
      await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(folder, name)]);
    fs.mkdirSync(path.join(folder, 'pam.d'));
    fs.writeFileSync(path.join(folder, 'pam.d/sshd'), `${options.pam.join('\n')}\n`);
    fs.writeFileSync(path.join(folder, 'passwd'), passwdFor(options.users));
    const [port] = await freePorts();
    const config = [
      ...(options.config ?? []),
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${folder}/host`,
      `AuthorizedKeysFile ${folder}/key.pub`,
      'UsePAM yes',
      'StrictModes no',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PidFile none',
      'PrintMotd no',
      'PrintLastLog no',
      'MaxStartups 200',
      'Subsystem sftp internal-sftp',
      'LogLevel VERBOSE',
    ];
    fs.writeFileSync(path.join(folder, 'sshd_config'), `${config.join('\n')}\n`);
    fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 }); // where sshd shuts itself in; Debian makes it at boot
    const log = path.join(folder, 'log');
    const script =
      'mount --bind "$0/pam.d" /etc/pam.d && mount --bind "$0/passwd" /etc/passwd && exec /usr/sbin/sshd -D -E "$0/log" -f "$0/sshd_config"';
    const enter = ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, folder];
    const sshd = spawn(dieWithUs, [...dieWords, ...enter], {
      cwd: '/',
      env: { ...shellOnly, ...options.env },
      stdio: 'ignore',
    });
    await until(
      () => `sshd listens: ${fs.existsSync(log) ? fs.readFileSync(log, 'utf8') : ''}`,
      () => fs.existsSync(log) && fs.readFileSync(log, 'utf8').includes('Server listening'),
    );
    return new SshServer({ folder, port, sshd });
  }

  /** What sshd has said. */
  get log(): string {
    return fs.readFileSync(path.join(this.#folder, 'log'), 'utf8');
  }

  /** Words of ssh (or, with `program`, sftp and scp) that lead to this server. */
  words(user: string, more: readonly string[] = [], portFlag = '-p'): readonly string[] {
    const options = [
      ...['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=yes'],
      ...['GlobalKnownHostsFile=/dev/null', 'LogLevel=INFO', `User=${user}`],
    ];
    return [
      ...['-F', 'none', portFlag, String(this.port), '-i', path.join(this.#folder, 'key')],
      ...more, // of an option that ssh is given twice the first counts
      ...options.flatMap((option) => ['-o', option]),
    ];
  }

  /** A session that runs a command to its end. */
  async ssh(user: string, command: readonly string[], more: readonly string[] = []): Promise<SshAnswer> {
    return this.run('ssh', [...this.words(user, more), '127.0.0.1', ...command]);
  }

  async run(program: string, words: readonly string[], input = ''): Promise<SshAnswer> {
    const child = spawn(dieWithUs, [...dieWords, program, ...words], { cwd: '/', env: shellOnly, timeout: sessionMs });
    this.#children.add(child);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const code = await new Promise<number>((fulfil) => child.once('close', (exit) => fulfil(exit ?? -1)));
    this.#children.delete(child);
    return { code, stdout, stderr };
  }

  /** A session that goes on in the background until the server is closed. */
  start(user: string, command: readonly string[], more: readonly string[] = []): ChildProcess {
    const words = [...this.words(user, more), '127.0.0.1', ...command];
    const child = spawn(dieWithUs, [...dieWords, 'ssh', ...words], { cwd: '/', env: shellOnly, stdio: 'ignore' });
    this.#children.add(child);
    return child;
  }

  /** Ends what was started here, sshd's own processes too: those of its sessions end with their connections. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    this.#sshd.kill('SIGKILL');
    await new Promise<void>((fulfil) => {
      if (this.#sshd.exitCode !== null || this.#sshd.signalCode !== null) fulfil();
      else this.#sshd.once('exit', () => fulfil());
    });
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The users of this machine; those get a shell and a home that is there. */
function passwdFor(users: readonly string[]): string {
  return fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => {
      const [name = '', password, uid, gid, text] = line.split(':');
      return users.includes(name) ? [name, password, uid, gid, text, '/', '/bin/sh'].join(':') : line;
    })
    .join('\n');
}
