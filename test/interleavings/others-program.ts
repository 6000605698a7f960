// What Slurm and other runs of the product do while the search's own process waits: slurmstepds that listen and answer,
// adoptions and clean-ups that run to their end. A program of its own; `others.ts` starts it and asks it.

import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import readline from 'node:readline';
import { adopt } from '../../src/adopt/adoption.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { liveHost } from '../../src/machine/live-host.js';
import { speakAs } from '../support/stepd-server.js';
import { withoutV1 } from '../support/without-v1.js';
import { type NodeOfScene, nodeOfScene } from './node.js';
import type { Request } from './others.js';

const live = liveHost();
const lateMs = 400;

interface Listening {
  readonly server: net.Server;
  readonly connections: Set<net.Socket>;
  mode: 'normal' | 'silent' | 'late';
}

const listening = new Map<string, Listening>();

const node = (scene: NodeOfScene) => nodeOfScene(scene.kernel === 'v2' ? withoutV1(live) : live, scene);

async function listen({ socket, jobId, uid, daemon, leaves }: Extract<Request, { do: 'listen' }>): Promise<void> {
  await close({ do: 'close', socket });
  const one: Listening = { server: net.createServer(), connections: new Set(), mode: 'normal' };
  const recorded = { socket: `node1_${jobId}.4294967292`, server: 45, uid, state: 2, daemon, nodeid: 0, x11: 0 };
  const add = (pid: number) => {
    // As slurmstepd does: the pid as a number into each leaf that is there, whosever it is by now.
    for (const leaf of leaves) {
      try {
        fs.writeFileSync(`${leaf}/cgroup.procs`, String(pid));
      } catch {
        // it ended, or the leaf is gone: slurmstepd goes on with the next
      }
    }
    return 0;
  };
  const speak = speakAs(recorded, { add });
  one.server.on('connection', (connection) => {
    one.connections.add(connection);
    connection.on('error', () => {});
    connection.on('close', () => one.connections.delete(connection));
    if (one.mode === 'silent') connection.resume();
    else if (one.mode === 'late') setTimeout(() => speak(connection), lateMs);
    else speak(connection);
  });
  await new Promise<void>((fulfil) => one.server.listen(socket, fulfil));
  listening.set(socket, one);
}

function changeMode({ socket, mode }: Extract<Request, { do: 'mode' }>): void {
  const one = listening.get(socket);
  if (one === undefined) return;
  one.mode = mode;
  // A stopped or slow program answers nothing on the connections that it has, either.
  for (const connection of one.connections) {
    connection.pause();
    if (mode === 'late') setTimeout(() => connection.resume(), lateMs);
  }
}

async function close({ socket }: Extract<Request, { do: 'close' }>): Promise<void> {
  const one = listening.get(socket);
  if (one === undefined) return;
  listening.delete(socket);
  for (const connection of one.connections) connection.destroy();
  await new Promise((fulfil) => one.server.close(fulfil));
}

async function answer(request: Request): Promise<unknown> {
  switch (request.do) {
    case 'listen':
      return listen(request);
    case 'mode':
      return changeMode(request);
    case 'close':
      return close(request);
    case 'adopt': {
      const here = await node(request.scene);
      const jobs = await findOwners(discoverJobs(here, { only: { jobId: request.jobId } }), { node: here });
      const [job] = jobs;
      if (job === undefined) return 'no such job';
      // Short: the lock of a process may be that of the adoption that is interrupted, which waits for this one.
      return adopt(request.pid, job, { node: here, timeoutMs: 250, stepdTimeoutMs: 150 }).then(
        ({ outcome }) => outcome,
      );
    }
    case 'clean': {
      const here = await node(request.scene);
      const options = { node: here, force: true, graceMs: 0, timeoutMs: 1000 };
      return cleanJob({ jobId: request.jobId }, options).then(({ ended }) => ended.length);
    }
  }
}

const [asks = '', answers = ''] = process.argv.slice(-2);
const out = fs.openSync(answers, 'r+');
const lines = readline.createInterface({ input: fs.createReadStream(asks) });
lines.on('close', () => process.exit());
let before: Promise<unknown> = Promise.resolve();
lines.on('line', (line) => {
  before = before
    .then(() => answer(JSON.parse(line)))
    .catch((error: unknown) => `failed: ${error}`)
    .then((said) => fs.writeSync(out, `${JSON.stringify(said ?? 'done')}\n`));
});
