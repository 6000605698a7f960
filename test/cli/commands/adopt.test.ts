import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cgroup } from '../../../src/cgroup/cgroup.js';
import { adoptSpec, runAdopt } from '../../../src/cli/commands/adopt.js';
import { Sandbox, type Sleeper } from '../../../src/cli/sandbox.js';
import { parseWords } from '../../../src/cli/spec.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recording } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';
import { programFile, runProgramFile } from '../../support/program-run.js';
import { until } from '../../support/stuck-processes.js';

async function dryRun(name: string, ...words: readonly string[]) {
  const output = capture();
  const exitCode = await runAdopt(parseWords(adoptSpec, ['--from', recording(name), '--dry-run', ...words]), output);
  return { exitCode, output };
}

describe('adopt --dry-run', () => {
  it('decides as a login would, explains, and moves nothing', async () => {
    const { exitCode, output } = await dryRun('slurm-22.05-v1', '6516', '--json');
    expect(exitCode).toBe(0);
    expect(output.json()).toMatchObject({
      action: 'adopt',
      job: { jobId: 5, uid: 1001 },
      dryRun: true,
      reason: expect.any(String),
      trace: expect.arrayContaining([expect.stringContaining('uid 1001 has 2 jobs here')]),
    });
  });

  it.each([
    [[], 'caller ID is unknown: no connection was given'],
    [['--connection', '192.0.2.1 51234 192.0.2.2 22'], 'caller ID is unknown: a recorded node cannot be asked'],
    [['--callerid-timeout', '0'], 'caller ID is not asked (callerid_timeout=0)'],
  ])('%j: the trace says what became of caller ID', async (words, line) => {
    const { output } = await dryRun('slurm-22.05-v1', '6516', '--json', ...words);
    expect((output.json() as { trace: readonly string[] }).trace).toContain(line);
  });

  it.each([
    [['--action-unknown', 'deny'], 1, 'deny'],
    [['--action-unknown', 'allow'], 1, 'allow'],
    [['--job', '4', '--force'], 0, 'adopt'],
    [['--job', '5'], 0, 'adopt'],
    [['--rank', 'step-extern-mtime'], 0, 'adopt'],
  ])('%j: exit code %i, %s', async (words, exitCode, action) => {
    const ran = await dryRun('slurm-22.05-v1', '6516', '--json', ...words);
    expect([ran.exitCode, (ran.output.json() as { action: string }).action]).toEqual([exitCode, action]);
  });

  it.each([
    [['6516', '--uid', '1002'], 1, 'belongs to uid 1001, not to uid 1002'],
    [['6516', '--uid', '1001', '--job', '7'], 1, 'uid 1001 has no job 7'],
    [['6516', '--job', '99'], 1, 'uid 1001 has no job 99 on this node'],
    [['6493', '--uid', '1001'], 1, 'is slurmstepd'],
    [['6502', '--uid', '1001'], 1, "is root's"],
    [['6502'], 2, 'say whose session it is'],
    [['6516', '--action-unknown', 'oldest'], 2, 'allowed are newest, allow, deny, user'],
    [['6516', '--job', '4', '--action-unknown', 'deny'], 2, '--job and --action-unknown'],
    [['6516', '--job', '4'], 1, 'it is in job 5, which still runs; --force takes it out of that job'],
    [['6516', '--uid', '1001', '--user', 'alice'], 2, 'Give --uid or --user, not both'],
    [['77777', '--uid', '1001'], 1, 'There is no process 77777'],
    [['0', '--uid', '1001'], 2, 'is not a process id'],
    [['-7', '--uid', '1001'], 2, 'is not a process id'],
    [['2147483648', '--uid', '1001'], 1, 'There is no process 2147483648'],
    [['6516', '--rank', 'oldest'], 2, 'allowed are newest, step-extern-mtime'],
    [['6516', '--connection', ''], 2, 'does not have the four fields of a connection'],
    [['6516', '--connection', '192.0.2.1 51234 192.0.2.2'], 2, '"SRC SPORT DST DPORT"'],
    [['6516', '--connection', 'login1 51234 192.0.2.2 22'], 2, '"login1" is not an IP address'],
    [['6516', '--connection', '192.0.2.1 51234\x1b[31m 192.0.2.2 22'], 2, '\\u001b[31m'],
    [['6516', '--connection', '1'.repeat(1 << 16)], 2, 'it is 65536 characters long'],
    [['6516', '--job', '4', '--connection', '192.0.2.1 51234 192.0.2.2 22'], 2, '--job and --connection'],
    [['6516', '--callerid-timeout', 'long'], 2, 'a time from 0 to 120 s'],
    [['6516', '--budget', '0'], 2, 'a time above 0 to 120 s'],
    [['6516', '--single-job-skip-rpc', 'yes'], 2, 'allowed are 1, 0'],
    // Not by its words: one is 64 kB long.
  ])('words %#: exit code 2 or 1, one line, nothing printed', (words, exitCode, message) => {
    const ran = runProgramFile('adopt', '--from', recording('slurm-22.05-v1'), '--dry-run', ...words);
    expect([ran.exitCode, ran.stdout]).toEqual([exitCode, '']);
    expect(ran.stderr).toContain(message);
    expect(ran.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('refuses action_unknown=user on cgroup v2', () => {
    const ran = runProgramFile(
      'adopt',
      '--from',
      recording('slurm-24.11-v2'),
      '--dry-run',
      '489',
      '--action-unknown',
      'user',
    );
    expect([ran.exitCode, ran.stdout]).toEqual([2, '']);
  });

  it('will not move anything on a recorded node', () => {
    expect(runProgramFile('adopt', '--from', recording('slurm-22.05-v1'), '6516').stderr).toContain('--dry-run');
  });
});

const uid = 64_733;

const isFreezer = ({ hierarchy }: Cgroup) => hierarchy.version === 2 || hierarchy.controllers.includes('freezer');

describe.skipIf(!canUseCgroups && mayBeSkipped)('adopt (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let session: Sleeper;
  beforeAll(async () => {
    sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test');
    for (const jobId of [11, 12]) {
      await sandbox.addJob({ jobId, uid });
      await sandbox.host.sleep(20);
    }
    session = await sandbox.startSleeper(uid);
  });
  afterAll(() => sandbox.remove());

  it.each([
    [['1'], 'is the first process of this machine'],
    [['2'], 'is a thread of the kernel'],
    [[String(process.pid)], "is root's"],
  ])('%j is protected: exit code 1, one line', (words, message) => {
    const ran = runProgramFile('adopt', ...words, '--uid', String(uid), '--within', sandbox.within);
    expect([ran.exitCode, ran.stdout]).toEqual([1, '']);
    expect(ran.stderr).toContain(message);
  });

  it('puts a session into the newest job, and it is there', () => {
    const ran = runProgramFile('adopt', String(session.pid), '--within', sandbox.within, '--json');
    expect([ran.exitCode, ran.stderr]).toEqual([0, '']);
    expect(JSON.parse(ran.stdout)).toMatchObject({
      action: 'adopt',
      job: { jobId: 12, uid },
      dryRun: false,
      adoption: { outcome: 'adopted', moved: 'cgroup', accounting: 'none' },
    });
    expect(runProgramFile('verify', String(session.pid), '--job', '12', '--within', sandbox.within).exitCode).toBe(0);
  });

  it('says in words whether Slurm counts it', () => {
    const ran = runProgramFile('adopt', String(session.pid), '--job', '11', '--within', sandbox.within);
    expect(ran.exitCode).toBe(0);
    expect(ran.stdout).toMatch(
      /\nLimited by the job, but not counted by Slurm: there is no spool of slurmd here, .*\n/,
    );
    expect(runProgramFile('adopt', String(session.pid), '--job', '12', '--within', sandbox.within).exitCode).toBe(0);
  });

  it('asks caller ID where it is given a connection, as a login would; the next rule applies where that names none', () => {
    const words = [String(session.pid), '--dry-run', '--within', sandbox.within, '--json'];
    const traceOf = (...more: readonly string[]) => {
      const ran = runProgramFile('adopt', ...words, ...more);
      expect([ran.exitCode, ran.stderr]).toEqual([0, '']);
      return JSON.parse(ran.stdout).trace;
    };
    expect(traceOf('--connection', '::1 1 ::1 2')).toContain(
      'caller ID is unknown: ::1 is this node, which has no such connection (any more)',
    );
    expect(traceOf()).toContain(
      `caller ID is unknown: no connection was given, and process ${session.pid} is not the sshd of a connection`,
    );
  });

  it('a second time moves nothing', () => {
    const ran = runProgramFile('adopt', String(session.pid), '--job', '12', '--within', sandbox.within, '--json');
    expect([ran.exitCode, JSON.parse(ran.stdout).adoption]).toMatchObject([0, { outcome: 'adopted', moved: 'none' }]);
  });

  it('SIGTERM in the middle: it and its children are where they were, which is said', async () => {
    const children = 200;
    const loop = `i=0; while [ $i -lt ${children} ]; do sleep 60 & i=$((i+1)); done; wait`;
    const { pid } = await sandbox.startScript(uid, loop);
    const family = () => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    await until('all children are there', () => family().length === children);
    const placesOf = (one: string | number) => fs.readFileSync(`/proc/${one}/cgroup`, 'utf8');
    const before = placesOf(pid);
    const words = ['adopt', String(pid), '--job', '12', '--descendants', '--budget', '50', '--within', sandbox.within];
    const child = spawn(process.execPath, [programFile, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = Promise.all([text(child.stdout), text(child.stderr)]);
    const [first = ''] = family();
    while (placesOf(first) === before) await setImmediate();
    child.kill('SIGTERM');
    const [exitCode] = await once(child, 'exit');
    expect([exitCode, await said]).toEqual([
      143,
      ['', `slurm-cgroups adopt: stopped by SIGTERM: process ${pid} is where it was\n`],
    ]);
    for (const one of [pid, ...family()]) expect(placesOf(one)).toBe(before);
  });

  describe('with children', () => {
    const familyOf = (pid: number) =>
      fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    const start = async () => {
      const { pid } = await sandbox.startScript(uid, 'sleep 60 & sleep 60 & wait');
      await until('both children are there', () => familyOf(pid).length === 2);
      return pid;
    };

    it('says how many stay outside of the job, before and after, and what moves them', async () => {
      const pid = await start();
      const words = [String(pid), '--job', '12', '--within', sandbox.within];
      const names = familyOf(pid)
        .map((child) => `${child} \\(s[a-z]+\\)`)
        .join(', ');
      const dry = runProgramFile('adopt', ...words, '--dry-run');
      expect([dry.exitCode, dry.stderr]).toEqual([0, '']);
      expect(dry.stdout).toMatch(
        new RegExp(
          `\n2 child processes of ${pid} would stay outside the job: ${names}; --descendants moves them too\nNothing was moved`,
        ),
      );
      expect(runProgramFile('adopt', ...words, '--dry-run', '--descendants').stdout).toMatch(
        new RegExp(`\n2 child processes of ${pid} are outside the job, and would be moved too: ${names}\n`),
      );
      const ran = runProgramFile('adopt', ...words);
      expect([ran.exitCode, ran.stderr]).toEqual([0, '']);
      expect(ran.stdout).toMatch(
        new RegExp(`\n2 child processes of ${pid} stay outside the job: ${names}; --descendants moves them too\n$`),
      );
      expect(JSON.parse(runProgramFile('adopt', ...words, '--json').stdout).childrenOutside).toEqual({
        count: 2,
        processes: familyOf(pid).map((child) => ({ pid: Number(child), uid, comm: 'sleep' })),
      });
      const moved = runProgramFile('adopt', ...words, '--descendants');
      expect(moved.stdout).toContain(`2 child processes of ${pid} moved along: `);
      expect(moved.stdout).not.toContain('outside the job');
    });

    it('takes a process out of another job that lives with --force alone, and a dry run says so first', async () => {
      const pid = await start(); // its children keep the job alive
      const words = [String(pid), '--within', sandbox.within];
      expect(runProgramFile('adopt', ...words, '--job', '11', '--descendants').exitCode).toBe(0);
      const before = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');
      for (const more of [['--dry-run'], []]) {
        const ran = runProgramFile('adopt', ...words, '--job', '12', ...more);
        expect(ran).toMatchObject({
          ...{ exitCode: 1, stdout: '' },
          stderr: `slurm-cgroups adopt: Process ${pid} (sh) is not moved: it is in job 11, which still runs; --force takes it out of that job\n`,
        });
      }
      const dry = runProgramFile('adopt', ...words, '--job', '12', '--force', '--dry-run');
      expect(dry.exitCode).toBe(0);
      expect(dry.stdout).toContain(`\n  process ${pid} would be taken out of job 11, which still runs: force\n`);
      expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toBe(before);
      const ran = runProgramFile('adopt', ...words, '--job', '12', '--force');
      expect(ran.exitCode).toBe(0);
      expect(ran.stdout).toContain(`\n  process ${pid} is taken out of job 11, which still runs: force\n`);
      expect(runProgramFile('verify', String(pid), '--job', '12', '--within', sandbox.within).exitCode).toBe(0);
    });
  });

  it('answers for a suspended job that was named as --action-suspended says', async () => {
    const job = await sandbox.addJob({ jobId: 13, uid: uid + 2 });
    const { pid } = await sandbox.startSleeper(uid + 2);
    const step = path.dirname(job.cgroups.find(isFreezer)?.directory ?? '').replace('step_batch', 'step_extern');
    const [file, frozen, thawed] =
      sandbox.version === 2
        ? [`${step.replace(/\/step_extern.*/, '/step_extern/user')}/cgroup.freeze`, '1', '0']
        : [`${step.replace(/\/job_13.*/, '/job_13/step_extern')}/freezer.state`, 'FROZEN', 'THAWED'];
    fs.writeFileSync(file, frozen);
    try {
      for (const more of [[], ['--dry-run']])
        for (const [said, action] of [
          [undefined, 'deny'],
          ['deny', 'deny'],
          ['allow', 'allow'],
          ['next', 'deny'],
        ]) {
          const words = [String(pid), '--job', '13', '--within', sandbox.within, '--json', ...more];
          const ran = runProgramFile('adopt', ...words, ...(said === undefined ? [] : ['--action-suspended', said]));
          expect([ran.exitCode, JSON.parse(ran.stdout)], said).toMatchObject([
            1,
            { action, job: { jobId: 13 }, reason: 'Your job 13 on this node is suspended' },
          ]);
        }
    } finally {
      fs.writeFileSync(file, thawed);
    }
  });

  it('a user without jobs is refused: exit code 1', async () => {
    const other = await sandbox.startSleeper(uid + 1);
    const ran = runProgramFile('adopt', String(other.pid), '--within', sandbox.within);
    expect(ran.exitCode).toBe(1);
    expect(ran.stdout).toContain('deny: ');
  });
});
