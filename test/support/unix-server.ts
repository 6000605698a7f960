// Servers on unix sockets for tests: in this process with any behaviour, or a deaf one in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import type { TrustedOwners } from '../../src/jobs/stepd/sockets.js';

export interface Sandbox {
  readonly folder: string;
  /** Listens at `name` below the folder; `serve` gets each connection. */
  serve(name: string, serve: (socket: net.Socket) => void): Promise<void>;
  /** A server that never accepts, whose queue takes `places` connections. */
  deaf(name: string, places: number): Promise<ChildProcess>;
  /** Connections that the servers of this process have open. */
  readonly open: () => number;
  close(): Promise<void>;
}

/**
 * Whose the spools of these tests are, where their node names it as SlurmUser: of each process of tests a user of its
 * own, that no passwd knows (without root: ours). What listens in a folder of root's, or of a user that the tests of
 * another process trust too, is asked by those as well: they would find two slurmstepds of job 102.
 */
export const spoolUser: number = process.geteuid?.() === 0 ? 1_000_000_000 + process.pid : (process.geteuid?.() ?? 0);

/** Whom a test trusts that asks what listens there: the folder is `spoolUser`'s, the sockets are ours. */
export const trustedInTests: TrustedOwners = new Set([BigInt(spoolUser), BigInt(process.geteuid?.() ?? 0)]);

/** A folder that only `spoolUser` can write in, below the folder for temporary files. */
export function unixSandbox(): Sandbox {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-unix-')));
  if (process.geteuid?.() === 0) fs.chownSync(folder, spoolUser, spoolUser);
  const servers: net.Server[] = [];
  const children: ChildProcess[] = [];
  const sockets = new Set<net.Socket>();
  return {
    folder,
    open: () => sockets.size,
    serve: async (name, serve) => {
      const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {}); // the client may go at any time
        socket.on('close', () => sockets.delete(socket));
        serve(socket);
        // One that is not read would not learn that its client has gone.
        if (socket.readableFlowing === null && socket.listenerCount('readable') === 0) socket.resume();
      });
      servers.push(server);
      server.listen(path.join(folder, name));
      await once(server, 'listening');
    },
    deaf: async (name, places) => {
      const child = spawn(process.execPath, ['-e', deafServer, path.join(folder, name), String(places)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      if (child.stdout === null) throw new Error('no output');
      await once(child.stdout, 'data');
      return child;
    },
    close: async () => {
      for (const child of children) {
        child.kill('SIGKILL');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      }
      for (const socket of sockets) socket.destroy();
      for (const server of servers) await new Promise((fulfil) => server.close(fulfil));
      fs.rmSync(folder, { recursive: true });
    },
  };
}

const deafServer = `
require('node:net').createServer().listen({ path: process.argv[1], backlog: Number(process.argv[2]) - 1 }, () => {
  require('node:fs').writeSync(1, 'listening');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});`;
