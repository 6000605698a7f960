// Where a connection begins: in a job (a small agent in its batch script does what it is told, so that no srun changes
// the job), outside of all jobs, or at an address where no slurmd listens. And a listener at which connections arrive.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { until } from '../cluster.js';

const run = promisify(execFile);

/** A place where a command can be started. */
export interface Source {
  /** The address at which a listener of this machine is reached from there. */
  readonly address: string;
  /** Starts a line of bash there, and does not wait for it. */
  start(line: string): Promise<void>;
}

/** The line of a batch script that does what is written to `fifo`, line by line. */
export function agentLine(folder: string, fifo: string): string {
  const agent = path.join(folder, 'agent');
  const lines = [
    'while :; do',
    '  IFS= read -r line <"$1" || continue',
    '  bash -c "$line" </dev/null >/dev/null 2>&1 &',
    'done',
  ];
  if (!fs.existsSync(agent)) fs.writeFileSync(agent, `${lines.join('\n')}\n`, { mode: 0o644 });
  return `bash ${agent} ${fifo}`;
}

/** A job with such an agent. */
export function jobSource(fifo: string): Source {
  return { address: '127.0.0.1', start: (line) => fs.promises.writeFile(fifo, `${line}\n`) };
}

/** Somebody outside of all jobs; nobody's user, since ssh takes no key of root's own that others can read. */
export class Outside implements Source {
  readonly address: string = '127.0.0.1';
  readonly #children: ChildProcess[] = [];

  start(line: string): Promise<void> {
    this.#children.push(
      spawn(dieWithUs, [...dieWords, 'bash', '-c', line], {
        cwd: '/',
        env: shellOnly,
        uid: 65534,
        gid: 65534,
        stdio: 'ignore',
      }),
    );
    return Promise.resolve();
  }

  close(): void {
    for (const child of this.#children.splice(0)) child.kill('SIGKILL');
  }
}

export const shellOnly: NodeJS.ProcessEnv = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
/** The child is killed when its starter dies, however that happens. */
export const dieWithUs = 'setpriv';
export const dieWords: readonly string[] = ['--pdeathsig', 'KILL'];

/**
 * A network of its own with one cable to this machine: a node without slurmd. It is gone, with the cable, when its one
 * process is.
 */
export class NodeWithoutSlurmd implements Source {
  readonly address: string;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess, address: string) {
    this.#holder = holder;
    this.address = address;
  }

  static async make(): Promise<NodeWithoutSlurmd> {
    // 198.18.0.0/15 is for tests of networks (RFC 2544); the part that tells runs apart is this process.
    const net30 = (process.pid % 16_384) * 4;
    const at = (host: number) => `198.19.${(net30 + host) >> 8}.${(net30 + host) & 0xff}`;
    const cable = `scg${process.pid.toString(36)}`;
    const holder = spawn(
      dieWithUs,
      [...dieWords, 'unshare', '-n', 'bash', '-c', 'while read -r line; do bash -c "$line" </dev/null & done'],
      {
        cwd: '/',
        env: shellOnly,
        stdio: ['pipe', 'ignore', 'inherit'],
      },
    );
    const made = new NodeWithoutSlurmd(holder, at(1));
    try {
      const own = fs.readlinkSync('/proc/self/ns/net');
      await until('it has a network of its own', () => fs.readlinkSync(`/proc/${holder.pid}/ns/net`) !== own);
      await run('ip', ['link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(holder.pid)]);
      await run('ip', ['address', 'add', `${at(1)}/30`, 'dev', cable]);
      await run('ip', ['link', 'set', cable, 'up']);
      await made.start(`ip link set lo up; ip address add ${at(2)}/30 dev eth0; ip link set eth0 up`);
      await until('the cable is plugged in', () =>
        /\bup\b/.test(fs.readFileSync(`/sys/class/net/${cable}/operstate`, 'utf8')),
      );
      return made;
    } catch (error) {
      made.close();
      throw error;
    }
  }

  async start(line: string): Promise<void> {
    await new Promise((fulfil) => this.#holder.stdin?.write(`${line}\n`, fulfil));
  }

  close(): void {
    this.#holder.kill('SIGKILL');
  }
}

/** A connection as sshd holds it: the end where it arrived. */
export interface Arrival {
  readonly socket: net.Socket;
  /** As in SSH_CONNECTION. */
  readonly text: string;
  close(): void;
}

/** Has `source` connect to a listener of ours, and keep the connection until it is closed here. */
export async function arriveFrom(source: Source, mapped: boolean): Promise<Arrival> {
  const server = net.createServer({ pauseOnConnect: true });
  server.listen(0, mapped ? '::' : '0.0.0.0');
  await once(server, 'listening');
  try {
    const at = server.address();
    const port = typeof at === 'object' && at !== null ? at.port : 0;
    const arrives = once(server, 'connection', { signal: AbortSignal.timeout(30_000) });
    // The one that connected waits for a byte that never comes, and ends with the connection.
    await source.start(`exec 3<>/dev/tcp/${source.address}/${port}; read -r -u 3`);
    const [socket]: [net.Socket] = (await arrives) as [net.Socket];
    socket.on('error', () => {}); // its other end may be killed
    const { remoteAddress, remotePort, localAddress, localPort } = socket;
    return {
      socket,
      text: `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`,
      close: () => socket.destroy(),
    };
  } finally {
    server.close();
  }
}
