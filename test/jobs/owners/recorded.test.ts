import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OwnedJob, OwnerSource } from '../../../src/jobs/job.js';
import { ownersAnswer, ownersText, recordedOwners } from '../../../src/jobs/owners/recorded.js';
import { recordedHost } from '../../../src/machine/recording.js';

const header = JSON.stringify({ recording: 'slurm-cgroups', version: 1, self: { pid: 1, uid: 0 } });

const recordingWith = (text: string) => recordedHost([header, JSON.stringify({ read: ownersAnswer, text })].join('\n'));

const job = (at: number, known: Pick<OwnedJob, 'jobId' | 'uid' | 'ownerFrom'> = {}): OwnedJob => ({
  steps: [],
  cgroups: [{ hierarchy: 'unified', controllers: [], path: `/sys/fs/cgroup/system.slice/slurmstepd.scope/job_${at}` }],
  externMissingIn: [],
  ...known,
});

const ids = fc.integer({ min: 0, max: 0xffff_fffd });

describe('recordedOwners()', () => {
  it('has the jobs of which slurmstepd told, and no other', () => {
    const told = fc.record({
      jobId: ids,
      uid: ids,
      ownerFrom: fc.constantFrom<OwnerSource>('path', 'stepd', 'slurm_script'),
    });
    fc.assert(
      fc.property(fc.array(told), (owners) => {
        const recorded = recordedOwners(recordingWith(ownersText(owners.map((owner, at) => job(at, owner)))));
        for (const [at, { jobId, uid, ownerFrom }] of owners.entries())
          expect(recorded(job(at))).toEqual(ownerFrom === 'stepd' ? { jobId, uid } : undefined);
        expect(recorded(job(owners.length))).toBeUndefined();
      }),
    );
  });

  it.each([
    ['no JSON', '['],
    ['no list', '{"cgroup":"x"}'],
    ['a job that is none', ownersText([job(1, { jobId: 0xffff_fffe, uid: 1, ownerFrom: 'stepd' })])],
    ['a uid that is none', ownersText([job(1, { jobId: 7, uid: -1, ownerFrom: 'stepd' })])],
    ['a uid in words', `[{"cgroup":${JSON.stringify(job(1).cgroups[0]?.path)},"jobId":7,"uid":"root"}]`],
    ['something else', '[null, 7, "job"]'],
  ])('knows no owner by %s', (_what, text) => {
    expect(recordedOwners(recordingWith(text))(job(1))).toBeUndefined();
  });

  it('knows no owner in a recording that was made without', () => {
    expect(recordedOwners(recordedHost(header))(job(1))).toBeUndefined();
  });

  it('knows no owner of a job that lies nowhere', () => {
    const [nowhere, text] = [
      { ...job(1), cgroups: [] },
      ownersText([job(1, { jobId: 7, uid: 5, ownerFrom: 'stepd' })]),
    ];
    expect(recordedOwners(recordingWith(text))(nowhere)).toBeUndefined();
    expect(ownersText([{ ...nowhere, jobId: 7, uid: 5, ownerFrom: 'stepd' }])).toBe('[]');
  });
});
