import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../src/cgroup/path.js';
import {
  formatJobPath,
  isSameJob,
  type JobPlace,
  parseJobName,
  parseJobPath,
  parseStepName,
  parseTaskName,
  parseTopV1,
  parseTopV2,
  parseUidName,
  type SlurmTop,
} from '../../src/jobs/layout.js';
import { ParseError } from '../../src/machine/errors.js';

const v1: SlurmTop = { version: 1, path: cgroupPath('/slurm') };
const v1Named: SlurmTop = { version: 1, path: cgroupPath('/slurm_vm'), nodeName: 'vm' };
const v2: SlurmTop = { version: 2, path: cgroupPath('/system.slice/slurmstepd.scope') };
const v2Named: SlurmTop = { version: 2, path: cgroupPath('/system.slice/vm_slurmstepd.scope'), nodeName: 'vm' };

/** Paths of recorded nodes, and what they say. */
const recorded: readonly (readonly [string, SlurmTop, Partial<JobPlace>])[] = [
  ['/slurm', v1, { below: [] }],
  ['/slurm/uid_1001', v1, { uid: 1001, below: [] }],
  ['/slurm_vm/uid_1001/job_4', v1Named, { uid: 1001, job: { jobId: 4 }, below: [], nodeName: 'vm' }],
  ['/slurm/uid_1001/job_4/step_extern', v1, { uid: 1001, job: { jobId: 4 }, stepId: 'extern', below: [] }],
  ['/slurm/uid_1001/job_4/step_0/task_0', v1, { uid: 1001, job: { jobId: 4 }, stepId: '0', taskId: '0', below: [] }],
  [
    '/slurm/uid_0/job_4/step_extern/task_special',
    v1,
    { uid: 0, job: { jobId: 4 }, stepId: 'extern', taskId: 'special', below: [] },
  ],
  ['/system.slice/slurmstepd.scope/system', v2, { below: ['system'] }],
  [
    '/system.slice/vm_slurmstepd.scope/job_5/step_0+1/user/task_0',
    v2Named,
    { job: { jobId: 5 }, stepId: '0+1', side: 'user', taskId: '0', below: [], nodeName: 'vm' },
  ],
  [
    '/system.slice/slurmstepd.scope/sEKNKTV3WPV500/step_extern/slurm',
    v2,
    { job: { sluid: 'sEKNKTV3WPV500' }, stepId: 'extern', side: 'slurm', below: [] },
  ],
  [
    '/system.slice/slurmstepd.scope/job_5/step_batch/user/task_0/mine',
    v2,
    { job: { jobId: 5 }, stepId: 'batch', side: 'user', taskId: '0', below: ['mine'] },
  ],
];

describe('parseJobPath()', () => {
  it.each(recorded)('reads %s', (path, top, place) => {
    expect(parseJobPath(cgroupPath(path), top)).toEqual({ version: top.version, top: top.path, ...place });
  });

  it.each([
    ['/', v1],
    ['/slurm_vm/uid_1/job_1', v1],
    ['/slurmx/uid_1/job_1', v1],
    ['/a/slurm/uid_1/job_1', v1],
    ['/system.slice', v2],
    ['/user.slice/user-1001.slice/user@1001.service/app.slice/slurmstepd.scope/job_1/step_extern/user', v2],
    ['/system.slice/slurmstepd.scope.d/job_1', v2],
    ['/../slurm/uid_1/job_1', v1],
  ])('takes %s for no place in %o', (path, top) => {
    expect(parseJobPath(cgroupPath(path), top)).toBeUndefined();
  });

  it.each([
    ['/slurm/uid_x/job_1/step_extern', v1],
    ['/slurm/uid_01/job_1/step_extern', v1],
    ['/slurm/job_1/step_extern', v1],
    ['/slurm/uid_1/job_0/step_extern', v1],
    ['/slurm/uid_1/job_007/step_extern', v1],
    ['/slurm/uid_1/job_4294967294/step_extern', v1],
    ['/slurm/uid_1/job_99999999999/step_extern', v1],
    ['/slurm/uid_1/sEKNKTV3WPV500/step_extern', v1],
    ['/slurm/uid_1/x/job_1/step_extern', v1],
    ['/system.slice/slurmstepd.scope/slurmd/job_1/step_extern', v2],
    ['/system.slice/slurmstepd.scope/uid_1/job_1/step_extern', v2],
    ['/system.slice/slurmstepd.scope/sEKNKTV3WPV50I/step_extern', v2],
  ])('names no job for %s', (path, top) => {
    expect(parseJobPath(cgroupPath(path), top)?.job).toBeUndefined();
  });

  it.each([
    ['/slurm/uid_1/job_1/step_/task_0', v1],
    ['/slurm/uid_1/job_1/x/step_extern', v1],
    ['/system.slice/slurmstepd.scope/job_1/step_', v2],
  ])('names no step for %s', (path, top) => {
    const place = parseJobPath(cgroupPath(path), top);
    expect(place?.job).toEqual({ jobId: 1 });
    expect(place?.stepId).toBeUndefined();
  });

  it('keeps odd step names as they are', () => {
    for (const stepId of [
      '0+1',
      'EXTERN',
      '4294967292',
      'a b',
      'x:y',
      '\udcff',
      ' (deleted)',
      'x'.repeat(200),
      '_',
      '..',
    ]) {
      const path = cgroupPath(`/slurm/uid_1/job_1/step_${stepId}`);
      expect(parseJobPath(path, v1)).toMatchObject({ stepId, below: [] });
    }
  });

  it('does not take a task below something else for a task of the step', () => {
    const place = parseJobPath(cgroupPath('/system.slice/slurmstepd.scope/job_1/step_0/task_0'), v2);
    expect(place).toMatchObject({ stepId: '0', below: ['task_0'] });
    expect(place?.taskId).toBeUndefined();
    const deep = parseJobPath(cgroupPath('/system.slice/slurmstepd.scope/job_1/step_0/slurm/task_0'), v2);
    expect(deep).toMatchObject({ side: 'slurm', below: ['task_0'] });
  });
});

describe('names', () => {
  it.each([
    ['job_1', { jobId: 1 }],
    ['job_4294967293', { jobId: 4_294_967_293 }],
    ['sEKNKTV3WPV500', { sluid: 'sEKNKTV3WPV500' }],
    ['job_0', undefined],
    ['job_00', undefined],
    ['job_007', undefined],
    ['job_-1', undefined],
    ['job_1 ', undefined],
    ['job_1\n', undefined],
    ['job_4294967294', undefined],
    ['job_4294967295', undefined],
    ['job_', undefined],
    ['job', undefined],
    ['Job_1', undefined],
    ['sEKNKTV3WPV50', undefined],
    ['sEKNKTV3WPV5000', undefined],
    ['sEKNKTV3WPV5OO', undefined],
    ['sEKNKTV3WPV5ll', undefined],
    ['SEKNKTV3WPV500', undefined],
    ['system.slice.x', undefined],
  ])('parseJobName() reads %j as %o', (name, job) => {
    expect(parseJobName(name)).toEqual(job);
  });

  it('parseJobName() takes no letter outside the alphabet of SLUIDs', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 13, maxLength: 13 }), (text) => {
        const isInside = /^[0-9ABCDEFGHJKMNPQRSTVWXYZ]{13}$/.test(text);
        expect(parseJobName(`s${text}`)).toEqual(isInside ? { sluid: `s${text}` } : undefined);
      }),
    );
  });

  it.each([
    ['uid_0', 0],
    ['uid_1001', 1001],
    ['uid_4294967294', 4_294_967_294],
    ['uid_4294967295', undefined],
    ['uid_', undefined],
    ['uid_x', undefined],
    ['uid_007', undefined],
    ['uid_-1', undefined],
    ['uid_1e3', undefined],
  ])('parseUidName() reads %j as %o', (name, uid) => {
    expect(parseUidName(name)).toBe(uid);
  });

  it('parseStepName() and parseTaskName() read what stands behind the underscore', () => {
    expect([parseStepName('step_extern'), parseStepName('step_'), parseStepName('xstep_1')]).toEqual([
      'extern',
      undefined,
      undefined,
    ]);
    expect([parseTaskName('task_0'), parseTaskName('task_special'), parseTaskName('task_x')]).toEqual([
      '0',
      'special',
      undefined,
    ]);
  });

  it('parseTopV1() and parseTopV2() read the name of the node', () => {
    expect(['slurm', 'slurm_vm', 'slurm_', 'slurmd', 'myslurm'].map(parseTopV1)).toEqual([
      {},
      { nodeName: 'vm' },
      undefined,
      undefined,
      undefined,
    ]);
    expect(
      ['slurmstepd.scope', 'a_b_slurmstepd.scope', '_slurmstepd.scope', 'xslurmstepd.scope', 'slurmstepd.scope.d'].map(
        parseTopV2,
      ),
    ).toEqual([{}, { nodeName: 'a_b' }, undefined, undefined, undefined]);
  });

  it('isSameJob() compares ids with ids and SLUIDs with SLUIDs', () => {
    expect(isSameJob({ jobId: 1 }, { jobId: 1 })).toBe(true);
    expect(isSameJob({ jobId: 1 }, { jobId: 2 })).toBe(false);
    expect(isSameJob({ sluid: 's' }, { sluid: 's' })).toBe(true);
    expect(isSameJob({ jobId: 1 }, { sluid: 's' })).toBe(false);
    expect(isSameJob({ sluid: 's' }, { jobId: 1 })).toBe(false);
  });
});

const part = fc
  .string({ minLength: 1, maxLength: 12, unit: 'grapheme' })
  .filter((text) => /^(?!\.{1,2}$)[^/\0\n]+$/.test(text));
const jobId = fc.integer({ min: 1, max: 0xffff_fffd });
const sluid = fc
  .array(fc.constantFrom(...'0123456789ABCDEFGHJKMNPQRSTVWXYZ'), { minLength: 13, maxLength: 13 })
  .map((letters) => `s${letters.join('')}`);
const stepId = fc.oneof(fc.constantFrom('extern', 'batch', 'interactive', '0', '0+1'), part);
const taskId = fc.oneof(fc.nat().map(String), fc.constant('special'));
const nodeName = fc.option(part, { nil: undefined });
/** What the job's own processes may make below: never a name of the next level. */
const below = fc.array(
  part.map((name) => `x${name}`),
  { maxLength: 3 },
);

/** Slots as deep as `depth` says: 0 the top itself. */
const anyPlace: fc.Arbitrary<readonly [SlurmTop, JobPlace]> = fc
  .record({
    version: fc.constantFrom(1 as const, 2 as const),
    nodeName,
    parents: fc.array(part, { maxLength: 2 }),
    depth: fc.integer({ min: 0, max: 4 }),
    uid: fc.integer({ min: 0, max: 0xffff_fffe }),
    jobId,
    sluid: fc.option(sluid, { nil: undefined }),
    stepId,
    side: fc.constantFrom('user' as const, 'slurm' as const),
    taskId,
    below,
  })
  .map((x) => {
    const node = x.nodeName === undefined ? {} : { nodeName: x.nodeName };
    const name =
      x.version === 1
        ? x.nodeName === undefined
          ? 'slurm'
          : `slurm_${x.nodeName}`
        : `${x.nodeName === undefined ? '' : `${x.nodeName}_`}slurmstepd.scope`;
    const top: SlurmTop = { version: x.version, path: cgroupPath(`/${[...x.parents, name].join('/')}`), ...node };
    const base = { version: x.version, top: top.path, ...node, below: x.below };
    const job = x.version === 2 && x.sluid !== undefined ? { sluid: x.sluid } : { jobId: x.jobId };
    const levels: readonly Partial<JobPlace>[] =
      x.version === 1
        ? [{ uid: x.uid }, { job }, { stepId: x.stepId }, { taskId: x.taskId }]
        : [{ job }, { stepId: x.stepId }, { side: x.side }, x.side === 'user' ? { taskId: x.taskId } : {}];
    return [top, Object.assign({}, base, ...levels.slice(0, x.depth))] as const;
  });

describe('formatJobPath()', () => {
  it('is read back as the same place, in every layout', () => {
    fc.assert(
      fc.property(anyPlace, ([top, place]) => {
        expect(parseJobPath(formatJobPath(place), top)).toEqual(place);
      }),
      { numRuns: 1000 },
    );
  });

  it('writes every path again that parseJobPath() reads', () => {
    const names = fc.oneof(
      fc.constantFrom(
        'uid_1',
        'job_1',
        'step_extern',
        'user',
        'slurm',
        'task_0',
        'task_special',
        'sEKNKTV3WPV500',
        'uid_x',
        'job_0',
        'step_',
      ),
      part,
    );
    fc.assert(
      fc.property(fc.constantFrom(v1, v1Named, v2, v2Named), fc.array(names, { maxLength: 6 }), (top, parts) => {
        const path = cgroupPath([top.path, ...parts].join('/'));
        const place = parseJobPath(path, top);
        expect(place === undefined ? undefined : formatJobPath(place)).toBe(path);
      }),
      { numRuns: 1000 },
    );
  });

  it.each<Partial<JobPlace>>([
    { version: 1, job: { jobId: 1 } },
    { version: 1, uid: 1, stepId: '0' },
    { version: 1, uid: 1, job: { jobId: 1 }, taskId: '0' },
    { version: 1, uid: 1, job: { jobId: 1 }, stepId: '0', side: 'user' },
    { version: 2, uid: 1, job: { jobId: 1 } },
    { version: 2, side: 'user' },
    { version: 2, job: { jobId: 1 }, stepId: '0', taskId: '0' },
    { version: 2, job: { jobId: 1 }, stepId: '0', side: 'slurm', taskId: '0' },
  ])('refuses a place that leaves out what lies above: %o', (place) => {
    const top = place.version === 1 ? v1.path : v2.path;
    expect(() => formatJobPath({ version: 1, below: [], ...place, top })).toThrow(ParseError);
  });

  it.each(['', '.', 'a/b', 'a\0b', 'a\nb'])('refuses the name %j', (name) => {
    const place = { version: 1, top: v1.path, uid: 1, job: { jobId: 1 }, stepId: '0', below: [name] } as const;
    expect(() => formatJobPath(place)).toThrow(ParseError);
  });
});
