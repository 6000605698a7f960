// A process that calls itself by characters that a terminal obeys: C1 CSI, and a right-to-left override.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { runProgramFile } from '../support/program-run.js';
import { until } from '../support/stuck-processes.js';

const uid = 64_811;
const host = liveHost();
const steering = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const hasSteering = (text: string) => text.split('\n').some((line) => steering.test(line));

describe.skipIf(!canUseCgroups && mayBeSkipped)('A process with a name that steers a terminal', () => {
  let sandbox: Sandbox;
  let pid: number;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    const job = await sandbox.addJob({ jobId: 1, uid });
    // U+009B and U+202E, in UTF-8.
    const rename = "printf '\\302\\23331m\\342\\200\\256x' > /proc/$$/comm";
    ({ pid } = await sandbox.startScript(uid, `${rename}; while :; do sleep 1; done`, job));
    await until('it has its name', () => host.read(`/proc/${pid}/comm`) === '\u009b31m\u202ex\n');
  });
  afterEach(() => sandbox.remove());

  it('is shown escaped in tables, in JSON, in errors and in the log', () => {
    const { within } = sandbox;
    const table = runProgramFile('list', '--within', within);
    expect([hasSteering(table.stdout), table.exitCode]).toEqual([false, 0]);
    expect(table.stdout).toContain(`${pid}`);
    expect(table.stdout).toContain('\\x9b31m\\u202ex');

    const listed = runProgramFile('list', '--json', '--within', within);
    expect([hasSteering(listed.stdout), listed.exitCode]).toEqual([false, 0]);
    expect(listed.stdout).toContain('"comm": "\\u009b31m\\u202ex"');

    const refused = runProgramFile('adopt', String(pid), '--uid', '1', '--log-level', 'debug', '--within', within);
    expect(hasSteering(refused.stderr)).toBe(false);
    expect(refused.exitCode).toBe(1);

    const verified = runProgramFile('verify', String(pid), '--json', '--within', within);
    expect([hasSteering(verified.stdout), verified.exitCode]).toEqual([false, 0]);
    expect(JSON.parse(verified.stdout)).toMatchObject({ comm: '\u009b31m\u202ex', verdict: 'contained' });

    const cleaned = runProgramFile('clean', '1', '--json', '--grace', '0', '--within', within);
    expect([hasSteering(cleaned.stdout), cleaned.exitCode]).toEqual([false, 0]);
    expect(cleaned.stdout).toContain('"comm": "\\u009b31m\\u202ex"');
  });
});
