// The nodes of the matrix as doctor recorded them: played on any machine they answer what they answered alive, and
// what Slurm said of them at that moment. How they came here: keep-cells.mjs.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adoptSpec, runAdopt } from '../../src/cli/commands/adopt.js';
import { doctorSpec, runDoctor } from '../../src/cli/commands/doctor.js';
import { listSpec, runList } from '../../src/cli/commands/list.js';
import { runVerify, verifySpec } from '../../src/cli/commands/verify.js';
import { type CommandSpec, parseWords, type Words } from '../../src/cli/spec.js';
import type { Output } from '../../src/cli/terminal/output.js';
import { cells } from '../matrix/cells.js';
import { capture } from '../support/captured-output.js';

interface Step {
  readonly stepId: string;
  readonly processes: readonly { readonly pid: number; readonly comm?: string }[];
}

interface Job {
  readonly jobId: number | null;
  readonly uid?: number;
  readonly nodeName?: string;
  readonly newest: boolean | null;
  readonly steps: readonly Step[];
}

interface Listing {
  readonly node: string | null;
  readonly mode: string;
  readonly jobs: readonly Job[];
  readonly notes: readonly string[];
}

interface Expected {
  readonly cell: { readonly name: string; readonly nodes: number };
  readonly slurm: {
    readonly jobs: readonly { readonly jobId: number; readonly uid: number }[];
    readonly pids: readonly {
      readonly node: string;
      readonly pid: number;
      readonly jobId: number;
      readonly stepId: string;
    }[];
  };
  /** Which of that user's jobs started last: the test started it. */
  readonly newest?: { readonly uid: number; readonly jobId: number };
  /** A process that was in no job before. */
  readonly adopted?: { readonly pid: number; readonly jobId: number };
  readonly brief?: string;
  /** Checks that read more than there was to record when this was made: unknown here. A newer recording has none. */
  readonly unrecorded?: readonly string[];
  readonly list: Listing;
}

const folder = path.join(import.meta.dirname, 'cells');
const names = fs
  .readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .map((file) => path.basename(file, '.json'));

it('every cell of the matrix has its recording', () => {
  expect(names).toEqual(cells.map(({ name }) => name.replaceAll(' ', '-')).sort());
});

/** Names of users are this machine's in a recording's answers, so they are left out. */
function withoutNames(value: unknown): unknown {
  // Cells that were recorded before 0.2.0 do not say whether a job is suspended.
  const left = ['user', 'suspended'];
  return JSON.parse(JSON.stringify(value), (key, one: unknown) => (left.includes(key) ? undefined : one));
}

describe.each(names)('%s', (name) => {
  const expected: Expected = JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`), 'utf8'));
  const unpacked = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-cells-'));
  const file = path.join(unpacked, 'recording.jsonl');
  beforeAll(() => fs.writeFileSync(file, gunzipSync(fs.readFileSync(path.join(folder, `${name}.jsonl.gz`)))));
  afterAll(() => fs.rmSync(unpacked, { recursive: true }));

  async function play(
    [spec, run]: readonly [CommandSpec, (words: Words, output: Output) => Promise<number>],
    ...words: readonly string[]
  ) {
    const output = capture();
    const exitCode = await run(parseWords(spec, [...words, '--from', file]), output);
    return { exitCode, output };
  }
  const list = async () => (await play([listSpec, runList], '--json')).output.json() as Listing;

  it('list answers what it answered on the node', async () => {
    const { node, mode, jobs } = await list();
    const live = expected.list;
    expect(withoutNames({ node, mode, jobs })).toEqual(
      withoutNames({ node: live.node, mode: live.mode, jobs: live.jobs }),
    );
  });

  it('the jobs, their owners and their processes are those that Slurm named', async () => {
    const { node, jobs } = await list();
    const owners = jobs.map(({ jobId, uid }) => `${jobId} of ${uid}`);
    expect(new Set(owners)).toEqual(new Set(expected.slurm.jobs.map(({ jobId, uid }) => `${jobId} of ${uid}`)));
    const isStepds = new Set(
      jobs.flatMap(({ steps }) =>
        steps.flatMap(({ processes }) => processes.filter(({ comm }) => comm === 'slurmstepd').map(({ pid }) => pid)),
      ),
    );
    const shown = jobs.flatMap(({ jobId, nodeName, steps }) =>
      steps.flatMap(({ stepId, processes }) =>
        processes.map(({ pid }) => ({ node: nodeName ?? node, pid, jobId, stepId })),
      ),
    );
    const line = (one: { node: string | null; pid: number; jobId: number | null; stepId: string }) =>
      `${one.node} ${one.jobId}.${one.stepId} ${one.pid}`;
    const own = (all: readonly Parameters<typeof line>[0][]) =>
      all
        .filter(({ pid }) => !isStepds.has(pid))
        .map(line)
        .sort();
    expect(own(shown).length).toBeGreaterThan(0);
    expect(own(shown)).toEqual(own(expected.slurm.pids));
  });

  const { newest, adopted, brief, unrecorded = [] } = expected;
  if (newest !== undefined && adopted !== undefined) {
    it('adopt --dry-run would choose the job that started last', async () => {
      const said = await play(
        [adoptSpec, runAdopt],
        String(adopted.pid),
        '--uid',
        String(newest.uid),
        '--dry-run',
        '--json',
      );
      expect(said.output.json()).toMatchObject({ action: 'adopt', job: { jobId: newest.jobId, uid: newest.uid } });
      expect((await list()).jobs.find(({ jobId }) => jobId === newest.jobId)?.newest).toBe(true);
    });

    it('verify knows the adopted session, and says no for another job', async () => {
      const verify = [verifySpec, runVerify] as const;
      const mine = await play(verify, String(adopted.pid), '--job', String(adopted.jobId), '--json');
      expect(mine.exitCode).toBe(0);
      expect(mine.output.json()).toMatchObject({
        inJob: true,
        verdict: 'contained',
        job: { jobId: adopted.jobId, stepId: 'extern' },
      });
      const other = expected.slurm.jobs.find(({ jobId }) => jobId !== adopted.jobId)?.jobId;
      expect((await play(verify, String(adopted.pid), '--job', String(other))).exitCode).toBe(1);
    });
  }

  if (brief !== undefined)
    it('doctor --brief says what it said on the node, but for the slurmstepds, which cannot be asked', async () => {
      const { output } = await play([doctorSpec, runDoctor], '--brief');
      expect(output.text()).toBe(`${brief}; unknown ${[...unrecorded, 'extern steps'].join(', ')}`);
    });
});
