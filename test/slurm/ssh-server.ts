// A real sshd with a PAM stack, keys and users of its own, in a mount namespace of its own: /etc/pam.d/sshd and
// /etc/passwd are a test's there, /run/slurm-cgroups and the system log too if it asks for that, and nothing on this
// machine changes. Its sessions are real: a shell, sftp, ssh -N.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePorts, until } from './cluster.js';
import { dieWithUs, dieWords, type Source, shellOnly } from './differential/source.js';

export interface SshServerOptions {
  /** A folder of the test's own, root's, which all users can read. */
  readonly folder: string;
  /** Lines of /etc/pam.d/sshd. */
  readonly pam: readonly string[];
  /** More lines of sshd_config, which count more. */
  readonly config?: readonly string[];
  /** Who gets a shell: login names of this machine. */
  readonly users: readonly string[];
  /** Addresses beside 127.0.0.1 that it listens on, at the same port. */
  readonly addresses?: readonly string[];
  /** More of sshd's own environment. */
  readonly env?: NodeJS.ProcessEnv;
  /** Who accepts connections. `inetd`: one sshd for each, which has it as its standard input; `socket`: sshd, on a socket that another opened (systemd's .socket). Default: sshd. */
  readonly listens?: 'sshd' | keyof typeof listeners;
  /** How long a session may take before it counts as hanging. Default: a minute. */
  readonly sessionMs?: number;
  /** Its /run/slurm-cgroups and the log that its modules write to are its own: `state`, `records` and `syslog`. */
  readonly isApart?: boolean;
  /** Lines of shell that its mount namespace is set up with, before sshd starts there. `$0` is `folder` of the server. */
  readonly mounts?: readonly string[];
}

/** What is looked at of a line of the login log: see AdoptionRecord. */
export interface LoginRecord {
  readonly user?: string;
  readonly process: { readonly pid: number };
  readonly target?: { readonly kind: string; readonly jobId?: number };
  readonly action: string;
  readonly rule: string;
  readonly reason: string;
  readonly trace: readonly string[];
  readonly adoption?: { readonly accounting: string };
  readonly totalMs: number;
}

/** A session that goes on, whose program has said its first line. */
export interface OpenSession {
  /** What was said so far. */
  readonly stdout: string;
  /** 0: it goes on; else it has ended, as in SshAnswer. */
  readonly code: number;
  /** Ends the client, and so the session. */
  close(): Promise<void>;
}

export interface SshAnswer {
  /** 255: ssh itself failed; -1: it did not end by itself. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type SshKey = 'key' | 'key-of-users';

export class SshServer {
  readonly port: number;
  readonly folder: string;
  readonly #sshd: ChildProcess;
  readonly #syslog: Syslog | undefined;
  readonly #sessionMs: number;
  readonly #children = new Set<ChildProcess>();

  private constructor(its: {
    readonly folder: string;
    readonly port: number;
    readonly sshd: ChildProcess;
    readonly syslog: Syslog | undefined;
    readonly sessionMs: number;
  }) {
    this.folder = its.folder;
    this.port = its.port;
    this.#sshd = its.sshd;
    this.#syslog = its.syslog;
    this.#sessionMs = its.sessionMs;
  }

  static async start(options: SshServerOptions): Promise<SshServer> {
    const folder = fs.mkdtempSync(path.join(options.folder, 'sshd-'));
    fs.chmodSync(folder, 0o755);
    for (const name of ['key', 'host'])
      await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path.join(folder, name)]);
    // A key of root's that others can read is none to root's own ssh, and one to theirs.
    fs.copyFileSync(path.join(folder, 'key'), path.join(folder, 'key-of-users'));
    fs.chmodSync(path.join(folder, 'key-of-users'), 0o644);
    fs.mkdirSync(path.join(folder, 'pam.d'));
    writeStack(folder, options.pam);
    fs.writeFileSync(path.join(folder, 'passwd'), passwdFor(options.users));
    const [port] = await freePorts();
    const config = [
      ...(options.config ?? []),
      ...['127.0.0.1', ...(options.addresses ?? [])].map((address) => `ListenAddress ${address}:${port}`),
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
    const syslog = options.isApart === true ? await Syslog.listen(path.join(folder, 'syslog')) : undefined;
    if (options.isApart === true) makeState(folder);
    const script = [
      ...(options.isApart === true ? apart : []),
      ...(options.mounts ?? []),
      'mount --bind "$0/pam.d" /etc/pam.d',
      'mount --bind "$0/passwd" /etc/passwd',
      startedBy(options.listens ?? 'sshd', port),
    ].join('\n');
    // As a slave it sees what is mounted later: with logind each user's /run/user/UID, without which pam_systemd sets no
    // XDG_RUNTIME_DIR (measured).
    const enter = ['unshare', '-m', '--propagation', 'slave', 'sh', '-ec', script, folder];
    const sshd = spawn(dieWithUs, [...dieWords, ...enter], {
      cwd: '/',
      env: { ...shellOnly, ...options.env },
      stdio: 'ignore',
    });
    await until(
      () => `sshd listens: ${fs.existsSync(log) ? fs.readFileSync(log, 'utf8') : ''}`,
      () => fs.existsSync(log) && fs.readFileSync(log, 'utf8').includes('Server listening'),
    );
    return new SshServer({ folder, port, sshd, syslog, sessionMs: options.sessionMs ?? 60_000 });
  }

  /** From the next connection on it has these lines for /etc/pam.d/sshd. */
  setPam(lines: readonly string[]): void {
    writeStack(this.folder, lines);
  }

  /** What sshd has said. */
  get log(): string {
    return fs.readFileSync(path.join(this.folder, 'log'), 'utf8');
  }

  /** The sshd that listens. */
  get pid(): number {
    return this.#sshd.pid ?? 0;
  }

  /** Its /run/slurm-cgroups, as it sees it. */
  get state(): string {
    return `/proc/${this.pid}/root/run/slurm-cgroups`;
  }

  /** What its modules have said to the system log, without priority and time. */
  get syslog(): readonly string[] {
    return this.#syslog?.lines ?? [];
  }

  /** The log of the logins, oldest first. */
  get records(): readonly LoginRecord[] {
    const file = `${this.state}/logins.log`;
    if (!fs.existsSync(file)) return [];
    return fs
      .readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  }

  /** Words of ssh (or, with `program`, sftp and scp) that lead to this server. */
  words(user: string, more: readonly string[] = [], portFlag = '-p'): readonly string[] {
    const options = [
      ...['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=yes'],
      ...['GlobalKnownHostsFile=/dev/null', 'LogLevel=INFO', `User=${user}`],
    ];
    return [
      ...['-F', 'none', portFlag, String(this.port), '-i', path.join(this.folder, 'key')],
      ...more, // of an option that ssh is given twice the first counts
      ...options.flatMap((option) => ['-o', option]),
    ];
  }

  /**
   * A session that runs a command to its end, from where `source` is; `key-of-users` for a source that is not root's.
   * The command has no quotes of its own, since it passes a shell.
   */
  async sshFrom(source: Source, user: string, command: readonly string[], key: SshKey): Promise<SshAnswer> {
    const at = fs.mkdtempSync(path.join(this.folder, 'from-'));
    fs.chmodSync(at, 0o777);
    const words = this.words(user).map((word) =>
      word === path.join(this.folder, 'key') ? path.join(this.folder, key) : word,
    );
    const ssh = ['ssh', ...words, source.address, `'${command.join(' ')}'`].join(' ');
    await source.start(
      `timeout ${this.#sessionMs / 1000} ${ssh} </dev/null >${at}/out 2>${at}/err; echo $? >${at}/code; mv ${at}/code ${at}/exit`,
    );
    await until(`${user} is answered`, () => fs.existsSync(`${at}/exit`));
    const read = (name: string) => fs.readFileSync(path.join(at, name), 'utf8');
    return { code: Number(read('exit')), stdout: read('out'), stderr: read('err') };
  }

  /** A session that runs a command to its end. */
  async ssh(user: string, command: readonly string[], more: readonly string[] = []): Promise<SshAnswer> {
    return this.run('ssh', [...this.words(user, more), '127.0.0.1', ...command]);
  }

  async run(program: string, words: readonly string[], input = ''): Promise<SshAnswer> {
    const child = spawn(dieWithUs, [...dieWords, program, ...words], {
      cwd: '/',
      env: shellOnly,
      timeout: this.#sessionMs,
    });
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

  /** A session that goes on: it is answered once its program has said a line, or it has ended. */
  async open(user: string, command: readonly string[], more: readonly string[] = []): Promise<OpenSession> {
    const words = [...this.words(user, more), '127.0.0.1', ...command];
    const child = spawn(dieWithUs, [...dieWords, 'ssh', ...words], {
      ...{ cwd: '/', env: shellOnly },
      stdio: ['pipe', 'pipe', 'ignore'], // its standard input stays open until it is closed
    });
    this.#children.add(child);
    child.stdin.on('error', () => {});
    let stdout = '';
    child.stdout.on('data', (text) => (stdout += text));
    const closed = once(child, 'close').finally(() => this.#children.delete(child));
    const isOver = () => child.exitCode !== null || child.signalCode !== null;
    const late = setTimeout(() => child.kill('SIGKILL'), this.#sessionMs);
    await until(`${user} is answered`, () => stdout.includes('\n') || isOver());
    clearTimeout(late);
    return {
      stdout,
      code: isOver() ? (child.exitCode ?? -1) : 0,
      close: async () => {
        child.kill('SIGKILL');
        await closed;
      },
    };
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
    this.#syslog?.close();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Perl listens, in the place of inetd or systemd. */
const listeners = {
  inetd:
    'while (my $c = $s->accept) { next if fork; open STDIN, "<&", $c; open STDOUT, ">&", $c; close $s; close $c; exec @ARGV, "-i" } continue { close $c if $c }',
  socket: 'POSIX::dup2(fileno $s, 3) or die; $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; exec @ARGV, "-D"',
} as const;

function startedBy(listens: 'sshd' | keyof typeof listeners, port: number | undefined): string {
  const words = '/usr/sbin/sshd -E "$0/log" -f "$0/sshd_config"';
  if (listens === 'sshd') return `exec ${words} -D`;
  const listen = `use POSIX; use IO::Socket::INET; $SIG{CHLD} = "IGNORE"; $^F = 9; my $s = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1:${port}") or die; open my $l, ">>", shift; print $l "Server listening\\n"; close $l; ${listeners[listens]}`;
  return `exec perl -e '${listen}' "$0/log" ${words}`;
}

function writeStack(folder: string, lines: readonly string[]): void {
  fs.writeFileSync(path.join(folder, 'pam.d/sshd'), `${lines.join('\n')}\n`);
}

/** A system log: syslog(3) takes a stream where /dev/log is none for datagrams, which Node cannot hear. */
class Syslog {
  readonly lines: string[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(server: net.Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      let text = '';
      socket.on('error', () => {}); // its program was killed
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('data', (more) => {
        const lines = `${text}${more}`.split('\0');
        text = lines.pop() ?? '';
        // <85>Oct  1 10:00:00 sshd[77]: …
        this.lines.push(...lines.map((line) => line.replace(/^<\d+>.{15} /, '').trimEnd()));
      });
    });
  }

  static async listen(file: string): Promise<Syslog> {
    const server = net.createServer();
    server.listen(file);
    await once(server, 'listening');
    return new Syslog(server);
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** /dev/log need not be there to be mounted on: /dev is a folder with links to all devices. No journal is there. */
const apart: readonly string[] = [
  'mount --rbind /dev "$0/dev"',
  'mount -t tmpfs -o mode=755 none /dev',
  'ln -s "$0"/dev/* /dev/',
  'ln -sfn "$0/syslog" /dev/log',
  'if [ -d /run/systemd/journal ]; then mount -t tmpfs none /run/systemd/journal; fi',
  'mount --bind "$0/state" /run/slurm-cgroups',
];

function makeState(folder: string): void {
  for (const name of ['dev', 'state']) fs.mkdirSync(path.join(folder, name), { mode: 0o755 });
  fs.mkdirSync('/run/slurm-cgroups', { recursive: true, mode: 0o755 }); // to be mounted on
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
