// A real sshd for the demo, on a port of its own, with a key, users and a PAM stack of its own. It lives in a private
// mount namespace, where /run and three files of /etc are the demo's: nothing on disk changes, no log of this machine
// hears of its logins, and all of it is gone with its last process.

import fsExtra from 'fs-extra';
import { SlurmCgroupsError } from '../../machine/errors.js';
import type { Host, RunResult } from '../../machine/host.js';
import type { Sandbox, Sleeper } from '../sandbox.js';
import { needProgram, programMs } from './programs.js';
import { type DemoUser, filesOfSshd, folderIn, loginLog } from './sshd-files.js';

/** An ssh that goes on until its server or this program ends, which ends its input. */
export interface OpenSession {
  /** What it has printed so far. */
  printed(): string;
  hasEnded(): boolean;
}

export class DemoSshd {
  readonly port: number;
  readonly #sandbox: Sandbox;
  readonly #folder: string;
  readonly #sshd: Sleeper;

  private constructor(its: { readonly sandbox: Sandbox; readonly port: number; readonly sshd: Sleeper }) {
    this.#sandbox = its.sandbox;
    this.#folder = folderIn(its.sandbox);
    this.port = its.port;
    this.#sshd = its.sshd;
  }

  /**
   * Starts it in the sandbox, which ends it when it is removed.
   *
   * @throws SlurmCgroupsError ERR_NOT_SUPPORTED where this machine does not let it start.
   */
  static async start(sandbox: Sandbox, users: readonly DemoUser[], signal: AbortSignal): Promise<DemoSshd> {
    const { host } = sandbox;
    const folder = folderIn(sandbox);
    const port = freePort(host);
    await fsExtra.ensureDir(`${folder}/run`);
    await Promise.all(['key', 'host'].map(async (name) => makeKey(host, `${folder}/${name}`)));
    for (const [name, lines] of Object.entries(filesOfSshd({ sandbox, port, users })))
      await fsExtra.outputFile(`${folder}/${name}`, `${lines.join('\n')}\n`, { mode: 0o600 });
    const enter = `exec ${needProgram(host, 'unshare')} --mount --propagation private /bin/sh ${folder}/start 2>${folder}/errors`;
    const sshd = await sandbox.startScript(0, enter);
    const hasEnded = endOfSleeper(sshd);
    const said = (name: string) => textOf(host, `${folder}/${name}`);
    const endMs = host.now() + programMs;
    while (!said('log').includes('Server listening')) {
      if (hasEnded() || said('log').includes('Cannot bind') || host.now() > endMs) {
        const why = lastLine(`${said('log')}${said('errors')}`) || 'nothing says why';
        throw new SlurmCgroupsError('ERR_NOT_SUPPORTED', `sshd does not start here: ${why}`);
      }
      await host.sleep(10, signal);
    }
    return new DemoSshd({ sandbox, port, sshd });
  }

  /** A session that runs a command to its end. */
  async ssh({ name }: DemoUser, command: string): Promise<RunResult> {
    const { host } = this.#sandbox;
    return host.run(needProgram(host, 'ssh'), [...this.#words(name), command], { timeoutMs: programMs });
  }

  /** A session that stays; gives it once its command has printed something, or has ended. */
  async open({ name }: DemoUser, command: string, signal: AbortSignal): Promise<OpenSession> {
    const { host } = this.#sandbox;
    const file = `${this.#folder}/session`;
    const words = [needProgram(host, 'ssh'), ...this.#words(name), `'${command}'`].join(' ');
    const hasEnded = endOfSleeper(await this.#sandbox.startScript(0, `exec ${words} >${file} 2>&1`));
    const printed = () => textOf(host, file);
    const endMs = host.now() + programMs;
    while (printed() === '' && !hasEnded() && host.now() < endMs) await host.sleep(10, signal);
    return { printed, hasEnded };
  }

  /** The last line in the log of the logins, as it stands there: JSON. */
  lastLogin(): string {
    return lastLine(this.#sandbox.host.read(`/proc/${this.#sshd.pid}/root${loginLog}`));
  }

  #words(name: string): readonly string[] {
    return ['-F', `${this.#folder}/ssh_config`, `${name}@127.0.0.1`];
  }
}

/** Whether it has ended, by now. */
function endOfSleeper({ exited }: Sleeper): () => boolean {
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  return () => ended;
}

function textOf(host: Host, file: string): string {
  return host.stat(file) === undefined ? '' : host.read(file);
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}

/** Not Ed25519: a machine in FIPS mode makes none. */
async function makeKey(host: Host, file: string): Promise<void> {
  const words = ['-q', '-t', 'ecdsa', '-N', '', '-C', 'slurm-cgroups demo', '-f', file];
  const { exitCode, stderr } = await host.run(needProgram(host, 'ssh-keygen'), words, { timeoutMs: programMs });
  if (exitCode !== 0)
    throw new SlurmCgroupsError('ERR_NOT_SUPPORTED', `ssh-keygen makes no key here: ${stderr.trim()}`);
}

/** A port that no socket of this machine has, below those that the kernel gives to connections. */
function freePort(host: Host): number {
  const tables = ['/proc/net/tcp', '/proc/net/tcp6'].filter((file) => host.stat(file) !== undefined);
  const taken = tables.map((file) => host.read(file)).join('');
  const isFree = (port: number) => !taken.includes(`:${port.toString(16).toUpperCase().padStart(4, '0')} `);
  const ports = Array.from({ length: 10_000 }, (_, at) => 20_000 + ((host.self().pid + at) % 10_000));
  return ports.find(isFree) ?? 20_000;
}
