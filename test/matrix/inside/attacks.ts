// What a user can do where the directory of a step is really the user's (v1, Slurm up to 23.02), on jobs of this Slurm:
// leaves, frozen and renamed cgroups, a process in halves of two jobs, depths that the kernel does not tell. (A line break
// in a name is refused by these kernels too: EINVAL, measured on 5.10 of Debian, which has the fix of 5.13.)
// In the numbers that an emulated machine bears; test/attacks has more of each.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { nestAs, shellAs, sleepBelow } from '../../support/own-steps.js';
import {
  cell,
  commandHere,
  directoriesOf,
  isAlive,
  listPids,
  readOr,
  session,
  stamp,
  stepdsOf,
  submit,
  uids,
  until,
} from './slurm.js';

const freezer = '/sys/fs/cgroup/freezer';

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

    it('clean ends all of his jobs: halves of two jobs, frozen, renamed, too deep', async () => {
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
      // The jobs end: their slurmstepds, scripts and placeholders. He alone goes on.
      const killed = [pid, deep.pid, renamer.pid];
      const theirs = (await listPids()).filter(({ jobId }) => [one, two].includes(jobId)).map((process) => process.pid);
      for (const stepd of [...stepdsOf(one), ...stepdsOf(two)]) process.kill(stepd.pid, 'SIGKILL');
      await until('their slurmstepds are dead', () => [one, two].every((job) => stepdsOf(job).length === 0));
      const others = theirs.filter((one) => !killed.includes(one) && isAlive(one));
      for (const one of others) process.kill(one, 'SIGKILL');
      await until('their other processes are dead', () => !others.some(isAlive));
      stamp('the attacks stand');
      // Of the other job the renamer may stand in all hierarchies that are left: then that job lives, and keeps its half
      // until its own end, as with two epilogs one after the other. After both, and the first once more, nothing is left.
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
      expect(ended).toEqual(expect.arrayContaining(killed));
      expect(killed.filter((one) => isAlive(one ?? 0))).toEqual([]);
      for (const job of [one, two]) expect(await directoriesOf(`job_${job}`)).toEqual([]);
    });
  });
}
