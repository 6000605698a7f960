import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ExternLook, externChecks, externSteps, suspended } from '../../src/doctor/extern-checks.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';
import { nodeOfStepds, type Stepd } from '../support/stepd-node.js';
import { type Sandbox, unixSandbox } from '../support/unix-server.js';

const look: ExternLook = {
  name: 'job 7',
  isThere: true,
  isComplete: true,
  stepd: { state: 'running' },
  times: { mtimes: [] },
};
const { stepd: _, ...without } = look;

describe('externSteps()', () => {
  it.each<readonly [string, readonly ExternLook[], string, string]>([
    ['no job', [], 'ok', 'no job is on this node now'],
    ['one that answers', [look], 'ok', 'slurmstepd answers'],
    [
      'two, one of them ending',
      [look, { ...look, stepd: { state: 'ending' } }],
      'ok',
      'all 2 slurmstepds answer, job 7 ending',
    ],
    ['a silent one', [look, { ...look, name: 'job 8', stepd: { failure: 'no answer in time' } }], 'fail', 'job 8 does'],
    ['a dead one', [without], 'fail', 'job 7 has cgroups but no slurmstepd'],
    ['no extern step', [{ ...without, isThere: false }], 'warn', 'job 7 has no extern step'],
    ['a recording', [{ ...look, stepd: 'unasked' }], 'unknown', 'a recording has none'],
    ['nowhere to look', [{ ...without, isComplete: false }], 'unknown', 'no socket of slurmstepd was found for job 7'],
  ])('%s', (_, looks, outcome, detail) => {
    const found = externSteps(looks);
    expect(found.outcome).toBe(outcome);
    expect(found.detail).toContain(detail);
    if (found.outcome !== 'ok') expect(found.remedy).toMatch(/^.+$/);
  });

  it('names a few of many', () => {
    const many = Array.from({ length: 30 }, (_, at) => ({ ...without, name: `job ${at}` }));
    expect(externSteps(many).detail).toContain('job 3 and 26 more have cgroups');
  });
});

describe('suspended()', () => {
  it('names job and cgroup', () => {
    expect(suspended([look]).outcome).toBe('ok');
    expect(suspended([{ ...look, frozenAt: '/sys/fs/cgroup/x' }])).toMatchObject({
      outcome: 'warn',
      detail: expect.stringContaining('job 7 is frozen (/sys/fs/cgroup/x)'),
    });
    expect(suspended([{ ...look, frozenAt: { unseen: 'not recorded' } }]).outcome).toBe('unknown');
  });
});

describe('externChecks()', () => {
  let sandbox: Sandbox;
  beforeEach(() => {
    sandbox = unixSandbox();
  });
  afterEach(() => sandbox.close());

  const outcomes = async (stepds: readonly Stepd[], timeoutMs: number) => {
    const { node } = await nodeOfStepds(sandbox, stepds);
    return new Map((await externChecks(node, { timeoutMs })).map((one) => [one.name, one]));
  };
  const answering: Stepd = { directory: 'job_7', jobId: 7, pid: 500 };

  it('asks every slurmstepd', async () => {
    const found = await outcomes([answering, { directory: 'job_8', jobId: 8, pid: 501 }], 20_000);
    expect(found.get('extern steps')).toMatchObject({ outcome: 'ok', detail: 'all 2 slurmstepds answer' });
    expect(found.get('suspended')?.outcome).toBe('ok');
    expect(found.get('clocks')?.outcome).toBe('ok');
  });

  it('waits no longer than its deadline for one that is silent', async () => {
    const before = performance.now();
    const found = await outcomes([answering, { directory: 'job_8', jobId: 8, pid: 501, is: 'silent' }], 3000);
    expect(found.get('extern steps')).toMatchObject({
      outcome: 'fail',
      detail: expect.stringContaining('slurmstepd of job 8 does not answer'),
    });
    expect(performance.now() - before).toBeLessThan(30_000);
  });

  it.each(recordingNames)('asks no slurmstepd of the recording %s', async (name) => {
    const node = await readNode({ host: recordedHost(loadRecording(name)) });
    const checks = await externChecks(node);
    expect(checks.map((one) => [one.name, one.outcome])).toEqual([
      ['extern steps', 'unknown'],
      ['suspended', 'ok'],
      ['clocks', 'ok'],
    ]);
  });
});
