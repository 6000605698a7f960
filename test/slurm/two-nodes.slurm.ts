// Caller ID between two nodes of a real Slurm, each in a network of its own: what begins in a job on one and arrives on
// the other belongs to that job there, over IPv4, IPv6, and IPv4 in the clothes of IPv6.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stateFolder } from '../../src/machine/state-folder.js';
import { type Cluster, type NodePlace, startCluster, until, users } from './cluster.js';
import { program, type Said } from './command.js';

const uid = 1;
let cluster: Cluster;
/** Where jobs begin, and where connections arrive. */
let [here, there]: readonly [NodePlace, NodePlace] | readonly [] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  cluster = await startCluster({ CommunicationParameters: 'EnableIPv6' }, undefined, 2);
  [here, there] = cluster.pair ?? [];
});
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  return cluster?.stop();
});

function within({ within: [file = '', ...words] }: NodePlace, ...more: readonly string[]): ChildProcess {
  const child = spawn(file, [...words, ...more], { cwd: '/', env: {}, stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

/** On the node where connections arrive; again where the machine was too busy for what has a deadline. */
async function adopting(...words: readonly string[]) {
  const { within: [file = '', ...first] = [], nodeName = '' } = there ?? expect.unreachable();
  const whole = [...first, process.execPath, program, 'adopt', ...words, '--node', nodeName, '--json'];
  for (let left = 4; ; left -= 1) {
    const { code, stdout, stderr } = await new Promise<Said>((fulfil) => {
      execFile(file, whole, { env: {}, cwd: '/', timeout: 60_000 }, (error, out, complaint) => {
        fulfil({ code: error === null ? 0 : Number(error.code ?? -1), stdout: out, stderr: complaint });
      });
    });
    if (left === 0 || !stderr.includes('does not answer within')) {
      expect([code, stderr]).toEqual([0, '']);
      return JSON.parse(stdout);
    }
  }
}

/** Listens on the far node, and says of each that connects what sshd would: `SRC SPORT DST DPORT`. */
const listening = `
const server = require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  console.log(socket.remoteAddress, socket.remotePort, socket.localAddress, socket.localPort);
});
server.listen(0, process.argv[1], () => console.log(server.address().port));`;

const connecting = (port: string, address: string) =>
  `require("node:net").connect(${port}, "${address}").on("error", console.error); setTimeout(() => {}, 600000)`;

async function listenThere(address: string) {
  const child = within(there ?? expect.unreachable(), process.execPath, '-e', listening, address);
  let text = '';
  child.stdout?.on('data', (more) => {
    text += more;
  });
  const line = async (at: number): Promise<string> => {
    await until(`line ${at} of a listener`, () => text.split('\n').length > at + 1);
    return text.split('\n')[at] ?? '';
  };
  return { port: await line(0), connection: () => line(1) };
}

function session(): number {
  const child = spawn('/bin/sleep', ['600'], { uid, gid: uid, cwd: '/', stdio: 'ignore' });
  children.push(child);
  return child.pid ?? expect.unreachable();
}

/** A batch job of these nodes, the batch script on the first. */
async function job(nodes: readonly (NodePlace | undefined)[], script: string): Promise<number> {
  const names = nodes.flatMap((node) => node?.nodeName ?? []);
  const jobId = await cluster.submit(users[0], script, [`-N${names.length}`, '-w', names.join(',')]);
  const externs = names.map((name) => `${path.dirname(cluster.spool)}/${name}/${name}_${jobId}.4294967292`);
  await until(`job ${jobId} runs on its nodes`, () => externs.every((file) => fs.existsSync(file)));
  return jobId;
}

const families = [
  { name: 'IPv4', listen: '0.0.0.0', family: 4 },
  { name: 'IPv6', listen: '::', family: 6 },
  { name: 'IPv4 in the clothes of IPv6', listen: '::', family: 4 },
] as const;

it.each(families)(
  'over $name the session goes into the job on the other node that it comes from',
  async ({ listen, family }) => {
    const listener = await listenThere(listen);
    const address = there?.addresses[family] ?? '';
    const script = `exec ${process.execPath} -e '${connecting(listener.port, address)}'`;
    const caller = await job([here, there], script);
    const newest = await job([here, there], 'sleep 600');
    const connection = await listener.connection();
    expect(connection).toContain(here?.addresses[family]);
    const pid = session();
    const dry = await adopting(String(pid), '--dry-run', '--connection', connection);
    expect([dry.job?.jobId, dry.trace]).toEqual([caller, expect.arrayContaining([`caller ID named job ${caller}`])]);
    const done = await adopting(String(pid), '--connection', connection);
    expect(done).toMatchObject({ job: { jobId: caller }, adoption: { outcome: 'adopted', accounting: 'stepd' } });
    const place = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    expect(place).toContain(`/slurm_${there?.nodeName}/uid_${uid}/job_${caller}/step_extern`);
    const without = await adopting(String(session()), '--dry-run');
    expect(without.job?.jobId).toBe(newest);
    for (const jobId of [caller, newest]) await cluster.run('scancel', [String(jobId)]);
  },
);

it('a job that is not on this node is none for a session here: the next rule applies', async () => {
  const listener = await listenThere('0.0.0.0');
  const address = there?.addresses[4] ?? '';
  const elsewhere = await job([here], `exec ${process.execPath} -e '${connecting(listener.port, address)}'`);
  const own = [await job([here, there], 'sleep 600'), await job([here, there], 'sleep 600')];
  const words = ['--dry-run', '--connection', await listener.connection()];
  const said = await adopting(String(session()), ...words);
  expect(said.job?.jobId).toBe(own[1]);
  expect(said.trace).toContain(`caller ID named job ${elsewhere}: the user has no such job on this node`);
});

it('a slurmd that does not answer costs callerid_timeout, and the next session from there nothing', async () => {
  const slurmd = Number(fs.readFileSync(path.join(path.dirname(path.dirname(cluster.conf)), 'slurmd.pid'), 'utf8'));
  const listener = await listenThere('0.0.0.0');
  const address = there?.addresses[4] ?? '';
  const [file = '', ...words] = here?.within ?? [];
  const script = connecting(listener.port, address);
  children.push(spawn(file, [...words, process.execPath, '-e', script], { cwd: '/', stdio: 'ignore' }));
  const connection = ['--connection', await listener.connection()];
  process.kill(slurmd, 'SIGSTOP');
  try {
    const first = await adopting(String(session()), '--callerid-timeout', '1', ...connection);
    expect(first.trace.join('\n')).toContain('did not answer within');
    const second = await adopting(String(session()), '--callerid-timeout', '1', ...connection);
    expect(second.trace.join('\n')).toContain('did not answer lately');
  } finally {
    process.kill(slurmd, 'SIGCONT');
    fs.rmSync(path.join(stateFolder('silent'), here?.addresses[4] ?? ''), { force: true });
  }
});
