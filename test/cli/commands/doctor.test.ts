import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adoptSpec, runAdopt } from '../../../src/cli/commands/adopt.js';
import { cleanSpec, runClean } from '../../../src/cli/commands/clean.js';
import { doctorSpec, runDoctor } from '../../../src/cli/commands/doctor.js';
import { listSpec, runList } from '../../../src/cli/commands/list.js';
import { runStrays, straysSpec } from '../../../src/cli/commands/strays.js';
import { runVerify, verifySpec } from '../../../src/cli/commands/verify.js';
import { exitCodeOf, lineOf } from '../../../src/cli/exit.js';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { parseWords } from '../../../src/cli/spec.js';
import { nodeForLogin } from '../../../src/jobs/node-for-login.js';
import { ifThere } from '../../../src/machine/errors.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { loadRecording, recording, recordingNames } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { isRoot, needsRoot, trustedFolder } from '../../support/config-sandbox.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';
import { runProgramFile } from '../../support/program-run.js';
import { recordedHostWithState } from '../../support/state-in-sandbox.js';

const uid = 64_735;
let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-doctor-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

/** This machine without its sshds: other tests play some, which come and go between two looks. */
const live = liveHost();
const isSshd = (pid: string) => /^\d+$/.test(pid) && /^sshd/.test(ifThere(() => live.read(`/proc/${pid}/comm`)) ?? '');
const withoutSshds: Host = {
  ...live,
  names: (where) => (where === '/proc' ? live.names(where).filter((name) => !isSshd(name)) : live.names(where)),
};

async function doctor(...words: readonly string[]) {
  const output = capture();
  const exitCode = await runDoctor(parseWords(doctorSpec, words), output, withoutSshds);
  return { exitCode, output };
}

/** A node as it was recorded, with some of its text changed. */
function changed(name: string, from: string, to: string): string {
  const file = path.join(folder, 'changed.jsonl');
  const text = loadRecording(name);
  expect(text).toContain(from);
  fs.writeFileSync(file, text.replaceAll(from, to));
  return file;
}

describe('doctor', () => {
  it.each(recordingNames)('finds nothing that fails on the node %s', async (name) => {
    const { exitCode, output } = await doctor('--from', recording(name), '--json');
    expect(exitCode).toBe(0);
    expect(output.json()).toMatchObject({ ok: true, checks: expect.any(Array) });
  });

  it('puts the worst first, each with its remedy', async () => {
    const { exitCode, output } = await doctor(
      '--from',
      changed('slurm-26.05-v2', 'PrologFlags=contain', 'MpiDefault=x'),
    );
    expect(exitCode).toBe(1);
    expect(output.lines.slice(0, 4)).toEqual([
      expect.stringMatching(/^node vm: 1 check failed, \d+ unknown, \d+ ok$/),
      '',
      'FAIL     PrologFlags    not set: jobs have no extern step, so no session can be adopted',
      '                        → set PrologFlags=Contain in slurm.conf, then restart slurmctld and slurmd',
    ]);
  });

  it('gives a remedy with all that is not ok, in JSON as well', async () => {
    const { output } = await doctor('--from', recording('slurm-22.05-v1'), '--json');
    const { checks } = output.json() as { checks: { outcome: string; detail: string; remedy?: string }[] };
    for (const one of checks) expect(one.remedy === undefined).toBe(one.outcome === 'ok');
  });

  it('makes control characters visible', async () => {
    const file = changed('slurm-26.05-v2', 'ProctrackType=proctrack/cgroup', 'ProctrackType=\\u009bred');
    expect((await doctor('--from', file)).output.text()).toMatch(/\\u009b|\\x9b/);
  });

  it('goes on where the configuration cannot be read, and says what is wrong with it', async () => {
    const file = changed('slurm-26.05-v2', 'ConstrainCores=yes', 'ConstrainCores=perhaps');
    const { exitCode, output } = await doctor('--from', file, '--json');
    expect(exitCode).toBe(1);
    expect(output.json()).toMatchObject({
      checks: expect.arrayContaining([
        expect.objectContaining({ name: 'cgroups', outcome: 'ok' }),
        expect.objectContaining({ name: 'configuration', outcome: 'fail' }),
      ]),
    });
  });

  it('--brief is one line, without what differs between healthy nodes', async () => {
    const lines = await Promise.all(
      ['slurm-24.11-v2', 'slurm-26.05-v2', 'slurm-26.05-v2-jobidpaths'].map(
        async (name) => (await doctor('--from', recording(name), '--brief')).output.lines,
      ),
    );
    expect(new Set(lines.map((one) => one.join('\n'))).size).toBe(1);
    expect(lines[0]).toHaveLength(1);
    expect(lines[0]?.[0]).not.toMatch(/vm|\d\d/);
  });
});

describe('doctor, asked wrongly', () => {
  it.each([
    [['--force'], '--force goes with --record'],
    [['--record', 'x', '--from', 'y'], 'cannot be recorded again'],
    [['--from', '/no/such/file'], 'it does not exist'],
    [['--from', '/etc/hostname'], 'line 1'],
    [['--record', '/no/such/folder/file'], 'it does not exist'],
    [['--record', '/dev/null'], 'it is not a file'],
    [['--write-node', '--from', 'x'], '--write-node and --from exclude each other'],
    [['--write-node', '--record', 'x'], '--write-node and --record exclude each other'],
    [['--write-node', '--brief'], '--write-node and --brief exclude each other'],
    [['--write-node', '--within', '/x'], '--write-node and --within exclude each other'],
  ])('%j is one line and exit code 2', (words, why) => {
    const { exitCode, stdout, stderr } = runProgramFile('doctor', ...words);
    expect(exitCode).toBe(2);
    expect(stdout === '' || JSON.parse(stdout).error.code === 'ERR_USAGE').toBe(true);
    expect(stderr).toContain(why);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('--brief and --json are exit code 2, in JSON as well', () => {
    const { exitCode, stdout, stderr } = runProgramFile('doctor', '--brief', '--json');
    expect([exitCode, JSON.parse(stdout)]).toMatchObject([2, { error: { code: 'ERR_USAGE' } }]);
    expect(stderr).toContain('exclude each other');
  });

  it('a machine without Slurm is exit code 4', () => {
    const text = loadRecording('slurm-26.05-v2')
      .split('\n')
      .filter((line) => !/slurm|spool|"\/proc\/\d/.test(line) || line.includes('"recording":'))
      .join('\n');
    const file = path.join(folder, 'bare.jsonl');
    fs.writeFileSync(file, text.replaceAll('system.slice', 'other.slice'));
    const { exitCode, stderr } = runProgramFile('doctor', '--from', file);
    expect(exitCode).toBe(4);
    expect(stderr).toContain('This is not a Slurm node');
  });
});

describe.skipIf(!isRoot)(`doctor --write-node (${needsRoot})`, () => {
  const file = '/run/slurm-cgroups/node.json';
  /** On a recorded node whose /run/slurm-cgroups is a folder of the test's. */
  async function writeNode(host: Host, ...words: readonly string[]) {
    const output = capture();
    try {
      return { exitCode: await runDoctor(parseWords(doctorSpec, ['--write-node', ...words]), output, host), output };
    } catch (error) {
      return { exitCode: exitCodeOf(error), output, said: lineOf('doctor', error) };
    }
  }
  const broken = () => loadRecording('slurm-26.05-v2').replaceAll('ConstrainCores=yes', 'ConstrainCores=perhaps');
  const bare = () =>
    loadRecording('slurm-26.05-v2')
      .split('\n')
      .filter((line) => !/slurm|spool|"\/proc\/\d/.test(line) || line.includes('"recording":'))
      .join('\n')
      .replaceAll('system.slice', 'other.slice');

  it('writes the file that a login reads, and says so', async () => {
    const state = trustedFolder();
    const host = recordedHostWithState(loadRecording('slurm-26.05-v2'), state);
    const { exitCode, output } = await writeNode(host);
    expect([exitCode, output.lines]).toEqual([0, [`Wrote ${file}: node vm, 2 configuration files`]]);
    expect(fs.readdirSync(state)).toEqual(['node.json']);
    expect((await nodeForLogin(host, { timeoutMs: 1000 })).notes[0]).toContain(`is taken from "${file}"`);
  });

  it('prints JSON', async () => {
    const host = recordedHostWithState(loadRecording('slurm-26.05-v2'), trustedFolder());
    const { output } = await writeNode(host, '--json');
    const files = ['/etc/slurm/slurm.conf', '/etc/slurm/cgroup.conf'];
    expect(output.json()).toEqual({ wrote: file, nodeName: 'vm', files });
  });

  it('writes one of several nodes, or all of them', async () => {
    const host = recordedHostWithState(loadRecording('slurm-26.05-v2-two-nodes'), trustedFolder());
    expect((await writeNode(host, '--node', 'vm2')).output.text()).toContain(': node vm2, 2 configuration files');
    expect((await writeNode(host)).output.text()).toContain(': several nodes, 2 configuration files');
    expect((await writeNode(host, '--json')).output.json()).toMatchObject({ nodeName: null });
    expect(await writeNode(host, '--node', 'vm9')).toMatchObject({
      exitCode: 2,
      said: expect.stringContaining('No node "vm9" is on this machine'),
    });
  });

  it.each([
    ['cannot be used', broken, 'perhaps'],
    [
      'names hosts that cannot be read',
      () => loadRecording('slurm-26.05-v2').replaceAll('NodeName=vm', 'NodeName=v[m'),
      'v[m',
    ],
  ])('of a configuration that %s it writes nothing, and removes the old file', async (_what, text, why) => {
    const state = trustedFolder();
    const host = recordedHostWithState(text(), state);
    const first = await writeNode(host);
    expect([first.exitCode, first.output.lines, first.said]).toEqual([2, [], expect.stringContaining(why)]);
    expect(first.said).toMatch(/; nothing was written$/);
    await writeNode(recordedHostWithState(loadRecording('slurm-26.05-v2'), state));
    expect(fs.readdirSync(state)).toEqual(['node.json']);
    const { exitCode, said } = await writeNode(host);
    expect([exitCode, said]).toEqual([
      2,
      expect.stringMatching(/; nothing was written, and the old "\/run\/slurm-cgroups\/node\.json" was removed$/),
    ]);
    expect(said).not.toContain('\n');
    expect(fs.readdirSync(state)).toEqual([]);
  });

  it('is exit code 4 on a machine without Slurm, and writes nothing', async () => {
    const state = trustedFolder();
    const { exitCode, output, said } = await writeNode(recordedHostWithState(bare(), state));
    expect([exitCode, output.lines, said]).toEqual([4, [], expect.stringContaining('This is not a Slurm node')]);
    expect(fs.readdirSync(state)).toEqual([]);
  });

  it('is exit code 3 for another user than root, before anything is read', async () => {
    const read: Host['read'] = (where) => expect.fail(`${where} is read`);
    const { exitCode, said } = await writeNode({ ...liveHost(), read, self: () => ({ pid: 2, uid: 1001 }) });
    expect([exitCode, said]).toEqual([
      3,
      `slurm-cgroups doctor: Cannot write "${file}": only root may; run it as root`,
    ]);
  });

  it('is exit code 3 where others can write to its folder, and keeps what is there', async () => {
    const state = trustedFolder();
    const host = recordedHostWithState(loadRecording('slurm-26.05-v2'), state);
    await writeNode(host);
    fs.chmodSync(state, 0o777);
    expect((await writeNode(host)).exitCode).toBe(3);
    expect(fs.readdirSync(state)).toEqual(['node.json']);
  });
});

describe.skipIf(!canUseCgroups && mayBeSkipped)('doctor --record (needs root and cgroups)', () => {
  it('writes a node that the commands play as they see it now', async () => {
    const sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test-doctor');
    const file = path.join(folder, 'node.jsonl');
    const within = ['--within', sandbox.within];
    try {
      const leaf = await sandbox.addJob({ jobId: 7, uid });
      const { pid } = await sandbox.startSleeper(uid, leaf);
      const outside = await sandbox.startSleeper(uid);
      const live = await doctor(...within, '--record', file);
      const played = await doctor(...within, '--from', file);
      // What was said of the recording itself comes last.
      expect(live.output.lines.slice(0, -2)).toEqual(played.output.lines);
      expect(live.output.lines.at(-1)).toContain(`of this node in ${file}`);
      expect(live.exitCode).toBe(played.exitCode);
      expect(fs.statSync(file).mode & 0o777).toBe(0o600);

      const both = async (run: (...more: readonly string[]) => Promise<unknown>) =>
        expect(await run('--from', file)).toEqual(await run());
      await both(async (...more) => {
        const output = capture();
        return [await runList(parseWords(listSpec, [...within, ...more]), output), output.text()];
      });
      for (const one of [pid, outside.pid])
        await both(async (...more) => {
          const output = capture();
          return [await runVerify(parseWords(verifySpec, [String(one), ...within, ...more]), output), output.text()];
        });
      for (const one of [pid, outside.pid])
        await both(async (...more) => {
          const output = capture();
          const words = parseWords(adoptSpec, [String(one), '--dry-run', ...within, ...more]);
          return [await runAdopt(words, output), output.text()];
        });
      for (const more of [[], ['--force']])
        await both(async (...from) => {
          const output = capture();
          const words = parseWords(cleanSpec, ['7', '--dry-run', ...more, ...within, ...from]);
          return [await runClean(words, output), output.text()];
        });
      const output = capture();
      expect(
        await runStrays(parseWords(straysSpec, [...within, '--from', file, '--uid', String(uid)]), output),
      ).toBeLessThan(3);

      const text = fs.readFileSync(file, 'utf8');
      expect(text).not.toMatch(/"read":"\/proc\/[^"]*\/(?:environ|cmdline)"/);
      await expect(doctor(...within, '--record', file)).rejects.toThrow('--force replaces it');
      expect(fs.readFileSync(file, 'utf8')).toBe(text);
    } finally {
      await sandbox.remove();
    }
  }, 120_000);
});
