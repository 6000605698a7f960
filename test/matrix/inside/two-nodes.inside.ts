// Two nodes of one Slurm on one machine: jobs are told apart by their node, and what is asked of one leaves the
// other alone. The tests stand in the order in which they must run.

import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeOrders, obeying, testMpi } from './mpi.js';
import {
  cell,
  command,
  commOf,
  directoryNameOf,
  examined,
  isAlive,
  type ListedPid,
  type ListJson,
  listPids,
  namedBySluid,
  patientFlags,
  queue,
  readOr,
  run,
  type Shell,
  session,
  shell,
  stamp,
  stepdsOf,
  tally,
  tallyOf,
  uids,
  until,
  withoutNames,
} from './slurm.js';

const out = '/lab/out';
const names = ['vm1', 'vm2'] as const;

/** The components of alice's het job, on vm1 and on vm2, and bob's jobs on both. */
let [leader, follower, wide, other] = [0, 0, 0, 0];

const externSocket = (name: string, jobId: number) => `/var/spool/lab/${name}/${name}_${jobId}.4294967292`;
const stepSocket = (name: string, jobId: number) => `/var/spool/lab/${name}/${name}_${jobId}.0`;

beforeAll(async () => {
  stamp('the tests begin');
  const script = '/tmp/het.sh';
  fs.writeFileSync(script, '#!/bin/sh\nsleep 3600\n');
  const het = ['--parsable', '-o', '/dev/null', '-n1', '-w', 'vm1', ':', '-n1', '-w', 'vm2', script];
  leader = Number.parseInt(await run('sbatch', het, 'alice'), 10);
  follower = leader + 1;
  await until('the het job runs on both nodes', () =>
    [externSocket('vm1', leader), externSocket('vm2', follower)].every((file) => fs.existsSync(file)),
  );
  const both = ['--parsable', '-o', '/tmp/said-%j', '-N2', '-n2', '--ntasks-per-node=1'];
  const [first, second] = await makeOrders();
  const step = 'srun --overlap -n2 sleep 3601 &';
  wide = Number.parseInt(await run('sbatch', [...both, `--wrap=${step} ${obeying(first)}`], 'bob'), 10);
  other = Number.parseInt(await run('sbatch', [...both, `--wrap=${obeying(second)}`], 'bob'), 10);
  await until('bob’s other job runs on both nodes', () =>
    names.every((name) => fs.existsSync(externSocket(name, other))),
  );
  const steps = names.flatMap((name) => [externSocket(name, wide), stepSocket(name, wide)]);
  await until('the step runs on both nodes', async () => {
    if (!steps.every((file) => fs.existsSync(file))) return false;
    const tasks = await Promise.all(names.map((name) => listPids(wide, name)));
    return tasks.every((pids) => pids.some(({ pid, stepId }) => stepId === '0' && commOf(pid) === 'sleep'));
  });
  stamp('the jobs run');
}, 400_000);
afterEach(({ task }) => stamp(task.name));

const listed = async (...words: readonly string[]): Promise<ListJson> =>
  JSON.parse((await command('list', '--json', ...words)).text);

const idsIn = ({ jobs }: ListJson) => jobs.map(({ jobId, nodeName }) => `${nodeName} ${jobId}`).sort();

const tasksOf = (pids: readonly ListedPid[], jobId: number): number[] =>
  pids.filter((one) => one.jobId === jobId && commOf(one.pid) !== 'slurmstepd').map(({ pid }) => pid);

const families = [
  { name: 'IPv4', listen: '0.0.0.0', family: 4, source: /^198\.18\.0\.2 / },
  { name: 'IPv6', listen: '::', family: 6, source: /^fd73:6c75::2 / },
  { name: 'IPv4 in the clothes of IPv6', listen: '::', family: 4, source: /^::ffff:198\.18\.0\.2 / },
] as const;

/** bob's on vm2, in each of his jobs there, from where he goes on to vm1. */
const sessions = new Map<number, Shell>();

async function sessionOn2(jobId: number): Promise<Shell> {
  const known = sessions.get(jobId);
  if (known !== undefined) return known;
  const made = shell('bob', 'vm2');
  await made.say(':'); // it is bob's by now
  const { code, text } = await command('adopt', String(made.pid), '--job', String(jobId), '--node', 'vm2');
  expect(code, text).toBe(0);
  sessions.set(jobId, made);
  return made;
}

/** Connects to vm1, and says of that what sshd would there: `SRC SPORT DST DPORT`. */
async function connect(
  from: Shell,
  { listener, family }: { readonly listener: net.Server; readonly family: 4 | 6 },
): Promise<string> {
  const bound = listener.address();
  if (bound === null || typeof bound === 'string') return expect.unreachable();
  const address = { 4: '198.18.0.1', 6: 'fd73:6c75::1' }[family];
  const [[socket]] = await Promise.all([
    once(listener, 'connection'),
    from.say(`exec {connection}<>/dev/tcp/${address}/${bound.port}`),
  ]);
  return [socket.remoteAddress, socket.remotePort, socket.localAddress, socket.localPort].join(' ');
}

describe(`Slurm ${cell.slurm}, two nodes on one machine`, () => {
  it('list has the jobs of both, and with --node those of one, as Slurm lists them', async () => {
    const expected = { vm1: [leader, wide, other], vm2: [follower, wide, other] };
    expect(idsIn(await listed())).toEqual(
      names.flatMap((name) => expected[name].map((jobId) => `${name} ${jobId}`)).sort(),
    );
    for (const name of names) {
      const said = await listed('--node', name);
      expect(said.node).toBe(name);
      expect(idsIn(said)).toEqual(expected[name].map((jobId) => `${name} ${jobId}`).sort());
      expect(tallyOf(said)).toEqual(tally(await listPids(undefined, name)));
    }
  });

  it('whose they are squeue says too', async () => {
    const owners = new Map((await queue()).map(({ jobId, uid }) => [jobId, uid]));
    for (const { jobId, uid } of (await listed()).jobs) expect(uid).toBe(owners.get(jobId ?? -1));
    expect(owners.get(follower)).toBe(uids.alice);
  });

  it('doctor records both nodes', async () => {
    const file = `${out}/recording.jsonl`;
    const full = await examined(file);
    fs.writeFileSync(`${out}/doctor.json`, full.text);
    const live = await listed();
    const pids = Object.fromEntries(
      await Promise.all(names.map(async (name) => [name, await listPids(undefined, name)])),
    );
    const expected = { cell, jobs: await queue(), pids, list: live };
    fs.writeFileSync(`${out}/expected.json`, `${JSON.stringify(expected, undefined, 2)}\n`);
    expect(withoutNames(await listed('--from', file))).toEqual(withoutNames(live));
  });

  it('adopt puts a session into the job of the node that was asked', async () => {
    const pid = session('alice');
    const said = await command('adopt', String(pid), '--node', 'vm2', '--json');
    expect(said.code, said.text).toBe(0);
    expect(JSON.parse(said.text)).toMatchObject({ action: 'adopt', job: { jobId: follower } });
    const place = readOr(`/proc/${pid}/cgroup`);
    expect(place).toContain(`/vm2_slurmstepd.scope/${directoryNameOf(follower)}/step_extern`);
    expect((await listPids(follower, 'vm2')).map((one) => one.pid)).toContain(pid);
  });

  it("verify knows one job's processes on either node from each other", async () => {
    const [one, other] = await Promise.all(names.map(async (name) => tasksOf(await listPids(wide, name), wide)[0]));
    const verdict = async (pid: number | undefined, name: string) =>
      (await command('verify', String(pid), '--job', String(wide), '--node', name)).code;
    expect(await verdict(one, 'vm1')).toBe(0);
    expect(await verdict(one, 'vm2')).toBe(1);
    expect(await verdict(other, 'vm2')).toBe(0);
    expect(await verdict(other, 'vm1')).toBe(1);
  });

  for (const { name, listen, family, source } of families)
    it(`adopt knows the job on vm2 that a connection over ${name} comes from, of two that both are on vm1`, async () => {
      const listener = net.createServer((socket) => socket.on('error', () => {})).listen(0, listen);
      await once(listener, 'listening');
      for (const jobId of [wide, other]) {
        const connection = await connect(await sessionOn2(jobId), { listener, family });
        expect(connection).toMatch(source);
        const words = ['--node', 'vm1', '--json', ...patientFlags, '--connection', connection];
        const pid = session('bob');
        const [said, dry] = await Promise.all([
          command('adopt', String(pid), ...words),
          command('adopt', String(session('bob')), '--dry-run', ...words),
        ]);
        expect(said.code, said.text).toBe(0);
        const { job, trace, adoption } = JSON.parse(said.text);
        expect(trace).toContain(`caller ID named job ${jobId}`);
        expect([job.jobId, adoption.outcome, adoption.accounting]).toEqual([jobId, 'adopted', 'stepd']);
        const place = readOr(`/proc/${pid}/cgroup`);
        expect(place).toContain(`/vm1_slurmstepd.scope/${directoryNameOf(jobId)}/step_extern`);
        expect(JSON.parse(dry.text), dry.text).toMatchObject({ action: 'adopt', job: { jobId } });
      }
      listener.close();
    });

  if (cell.slurm === '24.11') testMpi(() => [wide, other]);

  it('clean --node ends the job on that node, and leaves it on the other', async () => {
    let [mine, theirs, others] = [[], [], []] as [number[], number[], number[]];
    await until('listpids lists the job on both nodes', async () => {
      // Job by job: now and then Slurm 24.11's slurmstepd dies with the ranks that were adopted (it dumps core), and asked
      // for all jobs scontrol lists nothing while that socket, on which nobody listens, is there (measured).
      const [here, there, het] = await Promise.all([
        listPids(wide, 'vm1'),
        listPids(wide, 'vm2'),
        listPids(leader, 'vm1'),
      ]);
      [mine, theirs, others] = [tasksOf(here, wide), tasksOf(there, wide), tasksOf(het, leader)];
      return [mine, theirs, others].every((pids) => pids.length > 0);
    });
    const name = directoryNameOf(wide);
    // Else Slurm ends the rest of the job as soon as a part of it has ended.
    for (const { pid } of stepdsOf(wide)) process.kill(pid, 'SIGKILL');
    await until('its slurmstepds are dead', () => stepdsOf(wide).length === 0);
    const alive = theirs.filter(isAlive);
    const said = await command('clean', namedBySluid ? name : String(wide), '--grace', '0', '--node', 'vm1', '--json');
    expect(said.code, said.text).toBe(0);
    expect(mine.filter(isAlive)).toEqual([]);
    expect(alive.length).toBeGreaterThan(0);
    expect(alive.filter((pid) => !isAlive(pid))).toEqual([]);
    expect(others.filter((pid) => !isAlive(pid))).toEqual([]);
    const scope = (node: string) => `/sys/fs/cgroup/system.slice/${node}_slurmstepd.scope/${name}`;
    expect(names.map((node) => [node, fs.existsSync(scope(node))])).toEqual([
      ['vm1', false],
      ['vm2', true],
    ]);
  });
});
