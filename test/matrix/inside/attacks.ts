// What a user can do where the directory of a step is really the user's (v1, Slurm up to 23.02), on jobs of this Slurm:
// leaves, frozen and renamed cgroups, a process in halves of two jobs, depths that the kernel does not tell. (A line break
// in a name is refused by these kernels too: EINVAL, measured on 5.10 of Debian, which has the fix of 5.13.)
// In the numbers that an emulated machine bears; test/attacks has more of each.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { holdLocks } from '../../support/lock-holder.js';
import { nestAs, shellAs, sleepBelow } from '../../support/own-steps.js';
import {
  cell,
  commandHere,
  directoriesOf,
  isAlive,
  listPids,
  patientFlags,
  readOr,
  session,
  stamp,
  stepdsOf,
  submit,
  uids,
  until,
} from './slurm.js';

const freezer = '/sys/fs/cgroup/freezer';
const program = path.resolve(import.meta.dirname, '../../../dist/bin/slurm-cgroups.js');

/** The program itself: for what is done to a process. */
function runProgram(nodeFlags: readonly string[], ...words: readonly string[]) {
  const ran = spawnSync(process.execPath, [...nodeFlags, program, ...words], { encoding: 'utf8', timeout: 200_000 });
  return { ...ran, said: `${words.join(' ')}: ${ran.status ?? ran.signal}\n${ran.stderr}` };
}

/** The directory of a step of alice's, by controller. */
async function stepOf(jobId: number, step: string, controller: string): Promise<string> {
  const all = await directoriesOf(`job_${jobId}`);
  const job = all.find((one) => one.split('/')[4]?.split(',').includes(controller));
  const directory = `${job}/${step}`;
  expect(fs.statSync(directory).uid, `${directory} is alice's, as this Slurm makes it`).toBe(uids.alice);
  return directory;
}

const places = (pid: number, controller: string) =>
  readOr(`/proc/${pid}/cgroup`)
    .split('\n')
    .find((line) => line.split(':')[1]?.split(',').includes(controller))
    ?.replace(/^\d+:[^:]*:/, '');

export function describeAttacks(): void {
  describe(`Slurm ${cell.slurm}, a user who owns his steps`, () => {
    let [one, two] = [0, 0];

    it('cannot freeze an adopted session, nor let its adoption fail, by a leaf of his own', async () => {
      [one, two] = await Promise.all([submit('alice', 'sleep 3611'), submit('alice', 'sleep 3612')]);
      stamp('the jobs of the attacks run');
      const leaves = [];
      for (const controller of ['freezer', 'cpuset'])
        leaves.push(`${await stepOf(one, 'step_extern', controller)}/task_0`);
      const made = leaves.filter((leaf) => !fs.existsSync(leaf));
      expect(made).toContain(leaves[0]);
      shellAs(uids.alice, 'mkdir "$@"', ...made);
      const pid = session('alice');
      const { code, text } = await commandHere('adopt', String(pid), '--job', String(one), '--json');
      expect([code, JSON.parse(text).adoption?.outcome], text).toEqual([0, 'adopted']);
      expect(places(pid, 'freezer')).toMatch(/\/step_extern$/);
      shellAs(uids.alice, 'echo FROZEN > $1/freezer.state', leaves[0] ?? '');
      process.kill(pid, 'SIGKILL');
      await until('the session has ended', () => !isAlive(pid));
    });

    it('cannot hide a process by depth, and a process of nobody\'s job that /proc does not place is not "none"', async () => {
      const top = `${freezer}/lab-carol`;
      fs.mkdirSync(top);
      fs.chownSync(top, uids.carol, uids.carol);
      const deep = { levels: 22, name: 'n'.repeat(200) };
      const hidden = await sleepBelow(uids.carol, top, deep);
      // Else it is a process of the service that these tests run in.
      for (const tree of cell.boot === 'systemd' ? ['systemd', 'unified'] : [])
        fs.writeFileSync(`/sys/fs/cgroup/${tree}/user.slice/cgroup.procs`, String(hidden.pid));
      // Kernels before 6.8 refuse to tell a path that long (5.10 of Debian does); others cut it (6.1 of Debian, too).
      const isUntold = readOr(`/proc/${hidden.pid}/cgroup`) === '';
      if (cell.slurm === '20.11') expect(isUntold).toBe(true);
      const { code, text } = await commandHere('strays', '--user', 'carol', '--json');
      const { strays, complete, notes } = JSON.parse(text);
      const pids = strays.map(({ pid }: { pid: number }) => pid);
      expect([complete, pids.includes(hidden.pid)], text).toEqual([!isUntold, !isUntold]);
      if (isUntold) expect(notes.join()).toContain('no cgroup path of 1 process');
      expect(code).toBe(pids.length > 0 ? 1 : 2);
      hidden.kill('SIGKILL');
      await once(hidden, 'exit');
    });

    it('cannot make list, adopt and clean costly by a tree that is deeper than a path may be long, nor hold a login up', async () => {
      nestAs(uids.alice, await stepOf(one, 'step_batch', 'freezer'), { levels: 100, name: 'd'.repeat(200) });
      const pid = session('alice');
      // The paths of that tree together are 1 MB, and each was kept several times over, as UTF-16.
      for (const words of [
        ['list'],
        ['adopt', String(pid), '--dry-run'],
        ['clean', String(one), '--dry-run', '--force'],
      ]) {
        const { status, said } = runProgram(['--max-old-space-size=32'], ...words);
        expect(status, said).toBe(0);
      }
      process.kill(pid, 'SIGKILL');
      stamp('the deep tree was looked at');
      const [older, newer] = [await submit('bob', 'sleep 3613'), await submit('bob', 'sleep 3614')];
      const server = net.createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as net.AddressInfo;
      const connect = 'use IO::Socket::INET; $s = IO::Socket::INET->new("127.0.0.1:" . shift) or die; sleep 3600';
      const options = { uid: uids.alice, gid: uids.alice, cwd: '/', stdio: 'ignore', detached: true } as const;
      const caller = spawn('/usr/bin/perl', ['-e', connect, String(port)], options);
      const login = session('bob');
      try {
        const [socket] = (await once(server, 'connection')) as [net.Socket];
        const connection = `127.0.0.1 ${socket.remotePort} 127.0.0.1 ${port}`;
        const words = [String(login), '--connection', connection, '--dry-run', '--json', ...patientFlags];
        const { code, text } = await commandHere('adopt', ...words);
        const { job, trace } = JSON.parse(text);
        expect([code, job.jobId], text).toEqual([0, newer]);
        expect(trace, text).toContainEqual(expect.stringMatching(/^caller ID /));
        socket.destroy();
      } finally {
        for (const child of [caller.pid, login]) process.kill(child ?? 0, 'SIGKILL');
        server.close();
        for (const job of [older, newer]) await commandHere('clean', String(job), '--force', '--grace', '0');
      }
    });

    it('two adoptions of one process at once, into two jobs or one: it is wholly where one says so', async () => {
      for (const [first, second] of [
        [one, two],
        [one, one],
      ] as const) {
        const pid = session('alice');
        const into = (job: number) => commandHere('adopt', String(pid), '--job', String(job), '--json');
        // The later one may be told that the process is another living job's by then.
        const both = await Promise.allSettled([into(first), into(second)]);
        const said = both.map((one) =>
          one.status === 'fulfilled' ? one.value : { code: 1, text: String(one.reason) },
        );
        const adopted = said.filter(({ code }) => code === 0).map(({ text }) => JSON.parse(text).job.jobId);
        const [, jobId] = /\/job_(\d+)\//.exec(places(pid, 'freezer') ?? '') ?? [];
        expect(adopted, said.map(({ text }) => text).join()).toContain(Number(jobId));
        for (const controller of ['freezer', 'memory', 'cpuset'])
          expect(places(pid, controller)).toMatch(new RegExp(`/job_${jobId}/step_extern`));
        process.kill(pid, 'SIGKILL');
        await until('the session has ended', () => !isAlive(pid));
      }
    });

    it('a clean that is killed once it has frozen his job: others go on, and the next clean of any job thaws it', async () => {
      const hook = '/tmp/killed-when-frozen.mjs';
      fs.writeFileSync(
        hook,
        `import fs from 'node:fs'; const write = fs.writeSync;
        fs.writeSync = (...args) => { const done = write(...args);
          if (String(args[1]).startsWith('FROZEN')) process.kill(process.pid, 'SIGKILL'); return done; };`,
      );
      const [job] = (await directoriesOf(`job_${one}`)).filter((directory) => directory.startsWith(freezer));
      // What the note is about, by its inode: which cgroups are frozen one after the other is clean's own affair.
      const notes = () => fs.readdirSync('/run/slurm-cgroups/frozen');
      const noted = () => {
        const below = fs.readdirSync(job ?? '', { recursive: true, encoding: 'utf8' }).map((name) => `${job}/${name}`);
        const folders = [
          job ?? '',
          ...below.filter((file) => path.basename(file) === 'freezer.state').map(path.dirname),
        ];
        return folders.filter((folder) => notes().some((note) => note.includes(`-${fs.statSync(folder).ino}-`)));
      };
      const state = (folder: string) => readOr(`${folder}/freezer.state`).trim();
      const killed = runProgram(['--import', hook], 'clean', String(one), '--force', '--grace', '0');
      expect(killed.signal, killed.said).toBe('SIGKILL');
      const frozen = noted();
      expect(frozen.map(state)).toEqual([expect.stringMatching(/^FR/)]);
      const pid = session('alice');
      expect((await commandHere('list', '--json')).code).toBe(0);
      expect((await commandHere('adopt', String(pid), '--job', String(two), '--json')).code).toBe(0);
      process.kill(pid, 'SIGKILL');
      // Of a job that is not here: it ends nothing, and thaws what dead cleaners left.
      expect((await commandHere('clean', '4000000', '--grace', '0')).code).toBe(0);
      expect(frozen.map(state)).toEqual(['THAWED']);
      expect(notes()).toEqual([]);
    });

    it('clean ends all of his jobs: halves of two jobs, frozen, frozen again from outside, renamed, too deep', async () => {
      const [batch, second] = [await stepOf(one, 'step_batch', 'freezer'), await stepOf(two, 'step_batch', 'freezer')];
      const memory = await stepOf(two, 'step_batch', 'memory');
      const halves = [`${batch}/half`, `${memory}/half`];
      shellAs(uids.alice, 'mkdir "$@"', ...halves);
      const pid = session('alice');
      shellAs(
        uids.alice,
        'pid=$1; shift; for one in "$@"; do echo $pid > $one/cgroup.procs; done',
        String(pid),
        ...halves,
      );
      nestAs(uids.alice, batch, { levels: 30, name: 'f', freeze: true });
      const deep = await sleepBelow(uids.alice, batch, { levels: 22, name: 'n'.repeat(200) });
      const flip = `my $d = shift; mkdir "$d/$_" or die for map({ "w$_" } 1 .. 10), "r0", "r0/x";
        open P, ">", "$d/r0/x/cgroup.procs" and print P "0" and close P or die;
        for (my $k = 0; ; $k++) { rename "$d/r$k", "$d/r" . ($k + 1) }`;
      const options = { uid: uids.alice, gid: uids.alice, cwd: '/', stdio: 'ignore', detached: true } as const;
      const renamer = spawn('/usr/bin/perl', ['-e', flip, second], options);
      await until('it renames', () => /\/r[1-9]\d*\/x$/.test(places(renamer.pid ?? 0, 'freezer') ?? ''));
      const refrozen = session('alice');
      shellAs(uids.alice, 'mkdir $2; echo $1 > $2/cgroup.procs', String(refrozen), `${batch}/again`);
      const again = 'open F, "+<", shift or die; while (1) { syswrite F, "FROZEN"; select undef, undef, undef, 0.002 }';
      const freezes = spawn('/usr/bin/perl', ['-e', again, `${batch}/again/freezer.state`], options);
      await until('it is frozen', () => /^FROZEN/.test(readOr(`${batch}/again/freezer.state`)));
      stamp('what he has is frozen');
      // The jobs end: their slurmstepds, scripts and placeholders. He alone goes on.
      const killed = [pid, deep.pid, renamer.pid, refrozen];
      const theirs = (await listPids()).filter(({ jobId }) => [one, two].includes(jobId)).map((process) => process.pid);
      for (const stepd of [...stepdsOf(one), ...stepdsOf(two)]) process.kill(stepd.pid, 'SIGKILL');
      await until('their slurmstepds are dead', () => [one, two].every((job) => stepdsOf(job).length === 0));
      const others = theirs.filter((one) => !killed.includes(one) && isAlive(one));
      for (const one of others) process.kill(one, 'SIGKILL');
      await until('their other processes are dead', () => !others.some(isAlive));
      stamp('the attacks stand');
      // Of the other job the renamer may stand in all hierarchies that are left: then that job lives, and keeps its half
      // until its own end, as with two epilogs one after the other. After both, and the first once more, nothing is left.
      // Meanwhile anybody holds Slurm's lock: that is a note, and what is left is his empty directory.
      stamp('his processes go on alone');
      const locks = await holdLocks(
        ['freezer', 'memory', 'cpuset'].map((name) => `/sys/fs/cgroup/${name}`),
        200,
      );
      const ended: number[] = [];
      for (const job of [one, two, one]) {
        const { code, text } = await commandHere('clean', String(job), '--grace', '0', '--timeout', '20', '--json');
        const report = JSON.parse(text);
        expect(report.survivors, text).toEqual([]);
        const spared = report.spared.map((process: { pid: number; why: string }) => [process.pid, process.why]);
        if (job === one && ended.length < killed.length && spared.length > 0)
          expect([code, spared], text).toEqual([1, [[pid, `is also in job ${two}`]]]);
        else expect([code, report.left], text).toEqual([0, []]);
        ended.push(...report.ended.map((process: { pid: number }) => process.pid));
        stamp(`clean of job ${job} is over`);
      }
      await locks.release();
      freezes.kill('SIGKILL');
      expect(ended).toEqual(expect.arrayContaining(killed));
      expect(killed.filter((one) => isAlive(one ?? 0))).toEqual([]);
      for (const job of [one, two]) expect(await directoriesOf(`job_${job}`)).toEqual([]);
    });
  });
}
