import { describe, expect, it } from 'vitest';
import { listSpec, runList } from '../../../src/cli/commands/list.js';
import { runStrays, straysSpec } from '../../../src/cli/commands/strays.js';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { parseWords } from '../../../src/cli/spec.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recording } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { rootTest } from '../../support/test-cgroups.js';

async function strays(...words: readonly string[]) {
  const output = capture();
  const exitCode = await runStrays(parseWords(straysSpec, words), output);
  return { exitCode, output };
}

describe('strays', () => {
  it('says that there are none (exit code 0)', async () => {
    const { exitCode, output } = await strays('--from', recording('slurm-22.05-v1'));
    expect([exitCode, output.text()]).toEqual([0, 'node vm: no strays']);
  });

  it('names no process where the owner of a job is unknown, and says so (exit code 2)', async () => {
    const { exitCode, output } = await strays('--from', recording('slurm-24.11-v2'), '--json');
    expect(exitCode).toBe(2);
    expect(output.json()).toEqual({
      strays: [],
      complete: false,
      notes: [
        'No process is called a stray: the owner of job 5 is not known (job 5: slurmstepd would have to be asked, and a recording has none)',
      ],
    });
    expect((await strays('--from', recording('slurm-24.11-v2'))).output.lines[0]).toBe(
      'node vm: cannot tell which processes are strays',
    );
  });

  it('refuses what it does not know', async () => {
    await expect(strays('--uid', '1', '--user', 'root')).rejects.toMatchObject({ code: 'ERR_USAGE' });
    expect(() => parseWords(straysSpec, ['--node', 'a'])).toThrow(/Unknown option/);
  });

  rootTest('shows them by user, with the reason (exit code 1)', async () => {
    const uid = 64_711;
    const sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test-strays-cli');
    try {
      await sandbox.startSleeper(uid + 1, await sandbox.addJob({ jobId: 3, uid: uid + 1 }));
      const { pid } = await sandbox.startSleeper(uid);
      // On v2 the owner of a job is in the spool of a sandbox, which --within does not name.
      if (sandbox.version === 2) return;
      const words = ['--within', sandbox.within, '--uid', String(uid)];
      const { exitCode, output } = await strays(...words);
      expect(exitCode).toBe(1);
      expect(output.lines[0]).toMatch(/: 1 stray$/);
      expect(output.lines[2]).toBe(
        `uid ${uid}: its user has no job on this node (1 job of others), and it is in no job's cgroup`,
      );
      expect(output.lines[3]).toMatch(
        new RegExp(`^└─ ${pid}  sleep  \\d+ s old  [\\d.]+ % CPU  [\\d.]+ MiB  ${sandbox.within}/outside$`),
      );
      const owner = ['--within', sandbox.within, '--uid', String(uid + 1)];
      const outsider = await sandbox.startSleeper(uid + 1);
      expect((await strays(...owner)).output.lines[0]).toMatch(/: no strays$/);
      const outside = await strays(...owner, '--outside');
      expect([outside.exitCode, outside.output.lines[0]]).toEqual([
        1,
        expect.stringMatching(/: 1 process of 1 user in no job$/),
      ]);
      expect(outside.output.lines[2]).toBe(
        `uid ${uid + 1}: in no job's cgroup, though its user has a job on this node`,
      );
      const listed = capture();
      expect(await runList(parseWords(listSpec, [...owner, '--outside', '--json']), listed)).toBe(0);
      const { outside: processes, outsideComplete, jobs } = listed.json() as Record<string, readonly object[]>;
      expect([jobs, processes, outsideComplete]).toMatchObject([
        [{ jobId: 3 }],
        [{ pid: outsider.pid, uid: uid + 1, hasJob: true, cgroup: `${sandbox.within}/outside` }],
        true,
      ]);
      const both = (await strays(...owner, '--outside', '--json')).output.json() as {
        outside: readonly { pid: number }[];
      };
      expect(both).toMatchObject({ complete: true, notes: [] });
      expect(both.outside.map(({ pid: one }) => one)).toEqual([outsider.pid]);
      await expect(runList(parseWords(listSpec, ['--outside', '--job', '3']), capture())).rejects.toMatchObject({
        code: 'ERR_USAGE',
      });
      const json = await strays(...words, '--json');
      expect(json.exitCode).toBe(1);
      expect(json.output.json()).toMatchObject({
        complete: true,
        strays: [{ pid, uid, comm: 'sleep', cgroup: `${sandbox.within}/outside` }],
      });
    } finally {
      await sandbox.remove();
    }
  });
});
