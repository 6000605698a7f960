// The command on a node whose configuration or spool is not what it should be, in the places where Slurm has them:
// it ends in time, in one line or with a note, and takes no other job for the one that is here. In a guest, for
// nobody's /etc/slurm may be put on a mount that hangs.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { beforeEach, describe, expect, it } from 'vitest';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { patienceMs as commandsMs } from '../../src/cli/context.js';
import { afterwards, hangingMount, put, trustedFolder } from '../support/config-sandbox.js';
import { programFile, type Ran } from '../support/program-run.js';
import { mountSilentFuse, started } from '../support/stuck-processes.js';

const uid = 64_811;
const etc = '/etc/slurm';
/** Many times what the command waits for, in a machine that is emulated; one that hangs does so for ever. */
const patienceMs = 100_000;

/** Slurm's own tree on this machine, with job 7 in it. */
const hierarchies = discoverHierarchies();
const [tops, below] =
  hierarchies.mode === 'unified'
    ? [['/sys/fs/cgroup/system.slice/slurmstepd.scope'], ['job_7', 'step_extern', 'user']]
    : [
        ['freezer', 'memory'].map((key) => `${hierarchies.get(key)?.mountPoint}/slurm`),
        [`uid_${uid}`, 'job_7', 'step_extern'],
      ];

beforeEach(() => {
  expect(fs.existsSync(etc)).toBe(false); // it is this test's alone
  fs.mkdirSync(etc);
  // Undone after what is mounted on it: removing what hangs would hang.
  afterwards(() => {
    for (const top of tops) {
      for (let depth = below.length; depth >= 0; depth--) fs.rmdirSync([top, ...below.slice(0, depth)].join('/'));
    }
    fs.rmSync(etc, { recursive: true });
  });
  for (const top of tops) fs.mkdirSync([top, ...below].join('/'), { recursive: true });
});

async function run(...words: readonly string[]): Promise<Omit<Ran, 'pid'>> {
  const child = spawn(process.execPath, [programFile, ...words], { env: {}, stdio: ['ignore', 'pipe', 'pipe'] });
  const tooLate = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  const texts = { stdout: '', stderr: '' };
  child.stdout.on('data', (text) => (texts.stdout += text));
  child.stderr.on('data', (text) => (texts.stderr += text));
  // Not its close: a child of its own that cannot be killed may hold its output open.
  const [exitCode] = await once(child, 'exit');
  clearTimeout(tooLate);
  return { exitCode, ...texts };
}

/** What is not read without the configuration. */
async function everyCommand(): Promise<readonly (readonly string[])[]> {
  const { pid } = await started('/bin/sleep', ['600'], { uid });
  return [
    ['list'],
    ['verify', String(pid)],
    ['adopt', String(pid), '--dry-run'],
    ['clean', '7', '--dry-run'],
    ['strays'],
  ];
}

async function expectRefused(why: string): Promise<void> {
  const commands = await everyCommand();
  const [doctor, ...ran] = await Promise.all([run('doctor', '--json'), ...commands.map((words) => run(...words))]);
  for (const [at, { exitCode, stdout, stderr }] of ran.entries()) {
    const [command = ''] = commands[at] ?? [];
    // What only looks goes on without the configuration, and says so. The process of verify is in no job.
    if (command === 'list' || command === 'verify') {
      expect([exitCode, stderr], command).toEqual([command === 'list' ? 0 : 1, '']);
      expect(stdout).toMatch(/^note: Cannot .* it is not used, and Slurm's defaults are assumed$/m);
      expect(stdout).toContain(why);
      continue;
    }
    expect([exitCode, stdout, stderr.trimEnd().split('\n')], command).toEqual([2, '', [expect.stringContaining(why)]]);
    expect(stderr).toMatch(new RegExp(`^slurm-cgroups ${command}: Cannot `));
  }
  expect(JSON.parse(doctor.stdout).checks).toContainEqual({
    name: 'configuration',
    outcome: 'fail',
    detail: expect.stringContaining(why),
    remedy: expect.any(String),
  });
  expect(doctor.exitCode).toBe(1);
}

/** The job that is here, and no other, with these notes. */
async function expectListed(): Promise<readonly string[]> {
  const { exitCode, stdout, stderr } = await run('list', '--json');
  expect([exitCode, stderr]).toEqual([0, '']);
  const { jobs, notes } = JSON.parse(stdout);
  expect(jobs.map(({ jobId }: { jobId: number }) => jobId)).toEqual([7]);
  return notes;
}

describe('The command, with /etc/slurm', () => {
  it('on a mount that never answers: one line each, in time', async () => {
    expect(hangingMount(etc)).toBe(true);
    await expectRefused(`Cannot look at "${etc}": its file system (type fuse) does not answer within ${commandsMs} ms`);
  });

  it('on a mount that opens its files and never gives what is in them', async () => {
    const { file } = await mountSilentFuse('silent-server');
    fs.symlinkSync(file, `${etc}/slurm.conf`);
    const { exitCode, stdout, stderr } = await run('list');
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(stdout).toContain(
      `note: Cannot read "${file}": its file system (type fuse) does not answer within ${commandsMs} ms; it is not used, and Slurm's defaults are assumed\n`,
    );
  });

  it('in files that include themselves', async () => {
    put(etc, 'slurm.conf', 'ClusterName=c\nInclude more.conf\n');
    put(etc, 'more.conf', `Include ${etc}/slurm.conf\n`);
    await expectRefused('includes itself');
  });

  it('naming a CgroupMountpoint that is none: notes it, and takes nothing there for a job', async () => {
    const decoy = trustedFolder();
    fs.mkdirSync(`${decoy}/freezer/slurm/uid_${uid}/job_9/step_extern`, { recursive: true });
    fs.mkdirSync(`${decoy}/system.slice/slurmstepd.scope/job_9/step_extern/user`, { recursive: true });
    put(etc, 'slurm.conf', 'ClusterName=c\n');
    put(etc, 'cgroup.conf', `ConstrainCores=yes\nCgroupMountpoint=${decoy}\n`);
    const doctor = run('doctor', '--json');
    const note = `No cgroup file system is mounted at CgroupMountpoint="${decoy}" (${etc}/cgroup.conf:2): those that the mount table of the kernel shows are used`;
    expect(await expectListed()).toContain(note);
    const { checks } = JSON.parse((await doctor).stdout);
    expect(checks).toContainEqual({
      name: 'cgroups',
      outcome: 'warn',
      detail: note,
      remedy: expect.stringContaining('CgroupMountpoint'),
    });
  });

  it('naming a spool that never answers, is missing, another user’s, a file, or full of names', async () => {
    const folder = trustedFolder();
    const spools = {
      hung: () => {
        fs.mkdirSync(`${folder}/hung`);
        expect(hangingMount(`${folder}/hung`)).toBe(true);
      },
      missing: () => {},
      foreign: () => {
        fs.mkdirSync(`${folder}/foreign`);
        put(folder, 'foreign/job00007/slurm_script', '');
        fs.chownSync(`${folder}/foreign`, 1234, 1234);
      },
      file: () => put(folder, 'file', ''),
      full: () => {
        fs.mkdirSync(`${folder}/full`);
        for (let job = 1; job <= 10_000; job++) fs.writeFileSync(`${folder}/full/vm_${job}.4294967292`, '');
      },
    };
    for (const [name, make] of Object.entries(spools)) {
      make();
      put(etc, 'slurm.conf', `ClusterName=c\nSlurmdSpoolDir=${folder}/${name}\n`);
      const notes = await expectListed();
      if (name === 'hung')
        expect(notes).toContainEqual(expect.stringMatching(/hung".*\(type fuse\) does not answer within \d+ ms$/));
    }
  });
});
