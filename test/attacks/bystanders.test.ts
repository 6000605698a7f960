// What hangs or misleads the command from outside of a job: locks that anybody can hold, a package that is not there, a
// dead file system below a program of root's, words of Slurm's configuration, and processes that play tricks.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { stateOf, until } from '../support/kernel-jobs.js';
import { holdLocks } from '../support/lock-holder.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { distFolder, runProgramFile, runProgramIn } from '../support/program-run.js';

const uid = 64_817;
const host = liveHost();
const isDead = (pid: number) => ['Z', 'X', undefined].includes(stateOf(pid));
const untilDead = (pid: number) => until(`process ${pid} has ended`, () => isDead(pid));
/** A mount namespace of its own: nobody else sees what is mounted there. */
const apart = (script: string, ...words: readonly string[]) => [
  ...['unshare', '-m', '--propagation', 'private', '/bin/sh', '-ec'],
  ...[`words=$#; ${script}; exec "$@"`, 'sh', ...words],
];

describe.skipIf(!canUseCgroups && mayBeSkipped)('A bystander (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let job: CgroupSet;
  let folder: string;
  beforeEach(async () => {
    folder = fs.mkdtempSync('/run/slurm-cgroups-test-bystander-');
    fs.chmodSync(folder, 0o755);
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    job = await sandbox.addJob({ jobId: 1, uid });
  });
  afterEach(async () => {
    await sandbox.remove();
    fs.rmSync(folder, { recursive: true });
  });

  it("cannot let the clean of a user's last job fail by holding Slurm's lock", async (context) => {
    if (sandbox.version === 2) return context.skip('v2 has no uid_N');
    // The real mount points are one for all tests: here each is a mount of the sandbox alone, and so is its lock.
    const points = sandbox.controllers.map((key) => `/sys/fs/cgroup/${key}`);
    const { release } = await holdLocks(
      points.map((point) => `${point}${sandbox.within}`),
      60,
    );
    try {
      const mounts = points.map((point) => `mount --bind ${point}${sandbox.within} ${point}`).join('; ');
      const by = apart(mounts);
      const ran = runProgramIn({ by }, 'clean', '1', '--within', sandbox.within, '--grace', '0', '--json');
      expect(ran.exitCode, ran.stderr + ran.stdout).toBe(0);
      const { left, notes } = JSON.parse(ran.stdout);
      expect(left).toEqual([]);
      expect(notes).toEqual(points.map(() => expect.stringContaining("holds Slurm's lock")));
    } finally {
      await release();
    }
  });

  it('a package that is not installed lets no clean fail', async () => {
    const { pid } = await sandbox.startSleeper(uid, job);
    const modules = path.resolve(distFolder, '../node_modules');
    fs.cpSync(distFolder, `${folder}/dist`, { recursive: true });
    fs.copyFileSync(path.resolve(distFolder, '../package.json'), `${folder}/package.json`);
    fs.mkdirSync(`${folder}/node_modules`);
    for (const name of fs.readdirSync(modules))
      if (!name.startsWith('.') && name !== 'koffi')
        fs.symlinkSync(`${modules}/${name}`, `${folder}/node_modules/${name}`);
    const file = `${folder}/dist/bin/slurm-cgroups.js`;
    const ran = runProgramIn({ file }, 'clean', '1', '--within', sandbox.within, '--grace', '0', '--json');
    expect(ran.exitCode, ran.stderr + ran.stdout).toBe(0);
    expect(JSON.parse(ran.stdout)).toMatchObject({ ended: [{ pid }], survivors: [], left: [] });
  });

  it("a program of root's in the job, on a file system that does not answer, does not hang clean", async (context) => {
    if (!fs.existsSync('/dev/fuse')) return context.skip('this kernel has no FUSE');
    const { pid } = await sandbox.startSleeper(uid, job);
    const lists = job.cgroups.map(({ directory }) => `${directory}/cgroup.procs`);
    const program = `${folder}/fs/program`;
    fs.mkdirSync(`${folder}/fs`);
    fs.copyFileSync('/bin/sleep', program);
    fs.chmodSync(program, 0o755);
    // Nobody reads what the kernel asks of descriptor 3.
    const script = `${program} 110 & echo $! > ${folder}/pid; for list in ${lists.join(' ')}; do echo $! > $list; done
      exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none ${folder}/fs`;
    const words = ['clean', '1', '--within', sandbox.within, '--grace', '0', '--timeout', '30', '--json'];
    const ran = runProgramIn({ by: apart(script) }, ...words);
    const roots = Number(fs.readFileSync(`${folder}/pid`, 'utf8'));
    expect(ran.exitCode, ran.stderr + ran.stdout).toBe(0);
    const { ended } = JSON.parse(ran.stdout);
    expect(ended.map((one: { pid: number }) => one.pid)).toEqual(expect.arrayContaining([pid, roots]));
    await untilDead(pid);
    await untilDead(roots);
  });

  it("Slurm's configuration: a recording holds no password of it, and two names of the node in CgroupPrepend are no error", () => {
    // All of /etc is a copy: /etc/slurm may not be there to be mounted on.
    spawnSync('/bin/cp', ['-a', '/etc', folder]);
    fs.rmSync(`${folder}/etc/slurm`, { recursive: true, force: true });
    fs.mkdirSync(`${folder}/etc/slurm`);
    const conf = [
      'ClusterName=x AccountingStoragePass=SECRET3',
      'SlurmctldHost=c1',
      'AccountingStoragePass=\\',
      'SECRET2',
      '#AccountingStoragePass=SECRET6 (old)',
      'JobCompLoc=https://u:SECRET4@host/',
      'StoragePass = "SECRET1 b"',
      'NodeName=n1',
      `SlurmdSpoolDir=${folder}/spool`,
    ];
    fs.mkdirSync(`${folder}/spool`);
    fs.writeFileSync(`${folder}/etc/slurm/slurm.conf`, `${conf.join('\n')}\n`);
    fs.writeFileSync(`${folder}/etc/slurm/cgroup.conf`, 'CgroupPrepend=/slurm_%n/%n_%n\n');
    const by = apart(`mount --bind ${folder}/etc /etc`);
    const file = `${folder}/node.jsonl`;
    const ran = runProgramIn({ by }, 'doctor', '--record', file, '--json', '--node', 'n1');
    expect([0, 1], ran.stderr).toContain(ran.exitCode);
    const { checks } = JSON.parse(ran.stdout);
    // Slurm itself does not read the second key of the first line.
    expect(checks).toContainEqual(expect.objectContaining({ name: 'configuration', outcome: 'warn' }));
    const recorded = fs.readFileSync(file, 'utf8');
    expect(recorded).toContain('slurm.conf');
    expect([...recorded.matchAll(/SECRET\d/g)]).toEqual([]);
  });

  it('a session with more children than there are descriptors is adopted with all of them', async () => {
    const children = 60;
    const { pid } = await sandbox.startScript(
      uid,
      `i=0; while [ $i -lt ${children} ]; do sleep 100 & i=$((i+1)); done; wait`,
    );
    const family = () => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    await until('all children are there', () => family().length === children);
    // Held in each hierarchy they came from, and by its folder of /proc, each would take six.
    const by = ['/bin/sh', '-ec', 'ulimit -n 150; exec "$@"', 'sh'];
    const words = ['adopt', String(pid), '--job', '1', '--descendants', '--budget', '60', '--json'];
    const ran = runProgramIn({ by }, ...words, '--within', sandbox.within);
    expect(ran.exitCode, ran.stderr + ran.stdout).toBe(0);
    const { adoption } = JSON.parse(ran.stdout);
    expect([adoption.outcome, adoption.descendants.length]).toEqual(['adopted', children]);
    for (const one of [pid, ...family()]) {
      const places = fs.readFileSync(`/proc/${one}/cgroup`, 'utf8').split('\n');
      const inJob = places.filter((line) => line.includes(`${sandbox.within}/`) && line.includes('/job_1/step_extern'));
      expect(inJob).toHaveLength(sandbox.controllers.length);
    }
  });

  it('is not spared, unseen or unkillable by what a process does to itself', async () => {
    const ignore = '$SIG{$_} = "IGNORE" for grep { !/^(KILL|STOP|NUM\\d+|__\\w+)$/ } keys %SIG';
    const wait = 'print STDERR "in"; select undef, undef, undef, 110';
    const prctl = process.arch === 'x64' ? 157 : 167;
    const tricks = [
      `$0 = "x) Z 1 (\\nUid:"; ${wait}`,
      `${ignore}; ${wait}`,
      `print STDERR "in"; kill "STOP", $$; ${wait}`,
      `syscall(${prctl}, 4, 0); ${wait}`, // PR_SET_DUMPABLE
      `if (!fork) { exit } ${wait}`, // a child that is never reaped
      `$0 = "slurmstepd: [1.extern]"; ${ignore}; ${wait}`,
    ];
    fs.chownSync(folder, uid, uid);
    const pids: number[] = [];
    for (const [at, trick] of tricks.entries()) {
      const script = `exec /usr/bin/perl -e '${trick}' 2>${folder}/${at}`;
      pids.push((await sandbox.startScript(uid, script, job)).pid);
    }
    await until('all play their tricks', () =>
      tricks.every((_, at) => fs.existsSync(`${folder}/${at}`) && fs.readFileSync(`${folder}/${at}`, 'utf8') === 'in'),
    );
    const ran = runProgramFile('clean', '1', '--within', sandbox.within, '--grace', '1', '--timeout', '30', '--json');
    const { survivors, spared, left, ended } = JSON.parse(ran.stdout);
    expect([ran.exitCode, survivors, spared, left]).toEqual([0, [], [], []]);
    expect(ended.map((one: { pid: number }) => one.pid)).toEqual(expect.arrayContaining(pids));
    expect(pids.filter((pid) => !isDead(pid))).toEqual([]);
  });

  it('a clean that is killed once it has frozen the job: others go on, and the next clean of any job thaws it', async () => {
    if (sandbox.version === 2) return; // there cgroup.kill ends a job, and nothing is frozen
    await sandbox.addJob({ jobId: 2, uid });
    const { pid } = await sandbox.startSleeper(uid, job);
    const outsider = await sandbox.startSleeper(uid);
    // It is killed in the very call after that which froze.
    const hook = `import fs from 'node:fs'; const write = fs.writeSync;
      fs.writeSync = (...args) => {
        const done = write(...args);
        if (String(args[1]).startsWith('FROZEN')) process.kill(process.pid, 'SIGKILL');
        return done;
      };`;
    fs.writeFileSync(`${folder}/hook.mjs`, hook);
    const words = ['clean', '1', '--within', sandbox.within, '--grace', '0'];
    const { signal } = spawnSync(
      process.execPath,
      ['--import', `${folder}/hook.mjs`, `${distFolder}/bin/slurm-cgroups.js`, ...words],
      { timeout: 60_000, env: {} },
    );
    expect(signal).toBe('SIGKILL');
    const freezer = `/sys/fs/cgroup/freezer${sandbox.within}/slurm/uid_${uid}/job_1`;
    const inode = fs.statSync(freezer).ino;
    const notes = () => fs.readdirSync('/run/slurm-cgroups/frozen').filter((name) => name.includes(`-${inode}-`));
    // Any cleaner of this machine thaws it, those of the tests beside this one too.
    const run = (...asked: readonly string[]) => runProgramFile(...asked, '--within', sandbox.within).exitCode;
    expect(run('list')).toBe(0);
    expect(run('adopt', String(outsider.pid), '--job', '2')).toBe(0);
    expect(run('clean', '2', '--grace', '0')).toBe(0);
    const isThawed = () => host.read(`${freezer}/freezer.state`) === 'THAWED\n';
    await until('it is thawed', () => isThawed() && notes().length === 0);
    expect(isDead(pid)).toBe(false);
    expect(run('clean', '1', '--grace', '0')).toBe(0);
    await untilDead(pid);
  });
});
