import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { configChecks } from '../../src/doctor/config-checks.js';
import type { SlurmConfiguration } from '../../src/jobs/config/read.js';

const empty: SlurmConfiguration = { file: '/etc/slurm/slurm.conf', files: [], nodes: [], places: new Map(), notes: [] };

function finding(name: string, read: Partial<SlurmConfiguration>, place?: string) {
  const [, find] = configChecks.find(([one]) => one === name) ?? [];
  const places = place === undefined ? empty.places : new Map([[place, { file: '/etc/slurm/slurm.conf', line: 7 }]]);
  return find?.({ ...empty, places, ...read });
}

describe('configChecks', () => {
  it.each<readonly [string, Partial<SlurmConfiguration>, string]>([
    ['PrologFlags', {}, 'fail'],
    ['PrologFlags', { prologFlags: ['alloc'] }, 'fail'],
    ['PrologFlags', { prologFlags: ['alloc', 'contain'] }, 'ok'],
    ['PrologFlags', { prologFlags: ['x11'] }, 'ok'],
    ['PrologFlags', { prologFlags: ['runinjob'] }, 'ok'],
    ['ProctrackType', {}, 'ok'],
    ['ProctrackType', { proctrackType: 'proctrack/cgroup' }, 'ok'],
    ['ProctrackType', { proctrackType: 'proctrack/linuxproc' }, 'fail'],
    ['ProctrackType', { proctrackType: 'proctrack/cray_aries' }, 'warn'],
    ['TaskPlugin', {}, 'warn'],
    ['TaskPlugin', { taskPlugin: ['task/affinity'] }, 'warn'],
    ['TaskPlugin', { taskPlugin: ['task/affinity', 'task/cgroup'] }, 'ok'],
    ['constraints', {}, 'warn'],
    ['constraints', { constrainCores: true, constrainRamSpace: false, constrainDevices: true }, 'warn'],
    ['constraints', { constrainCores: true, constrainRamSpace: true, constrainDevices: true }, 'ok'],
    ['accounting', {}, 'ok'],
    ['accounting', { jobAcctGatherType: 'jobacct_gather/none' }, 'warn'],
    ['accounting', { jobAcctGatherType: 'jobacct_gather/cgroup' }, 'ok'],
  ])('%s of %j is %s', (name, read, outcome) => {
    expect(finding(name, read)?.outcome).toBe(outcome);
  });

  it('names file and line, and the key as it is written', () => {
    expect(finding('PrologFlags', { prologFlags: ['alloc'] }, 'prologFlags')).toEqual({
      outcome: 'fail',
      detail:
        'alloc does not include Contain (/etc/slurm/slurm.conf:7): jobs have no extern step, so no session can be adopted',
      remedy: 'set PrologFlags=Contain in slurm.conf, then restart slurmctld and slurmd',
    });
    expect(finding('constraints', { constrainCores: true, constrainDevices: true })).toMatchObject({
      detail: 'ConstrainRAMSpace is not on: these limits are not enforced on jobs and the sessions in them',
      remedy: 'set ConstrainRAMSpace=yes in cgroup.conf, then restart slurmd',
    });
    expect(finding('PrologFlags', { prologFlags: ['runinjob'] })?.detail).toContain('inside the extern step');
  });

  it('does not say of cray_aries that nothing is adopted', () => {
    expect(finding('ProctrackType', { proctrackType: 'proctrack/cray_aries' })?.detail).not.toContain('can be adopted');
    expect(finding('ProctrackType', { proctrackType: 'proctrack/pgid' })?.detail).toContain(
      'no session can be adopted',
    );
  });

  it('gives each finding that is not ok a remedy of one line, whatever is set', () => {
    const words = fc.option(fc.array(fc.string()), { nil: undefined });
    const word = fc.option(fc.string(), { nil: undefined });
    fc.assert(
      fc.property(words, words, word, word, (prologFlags, taskPlugin, proctrackType, jobAcctGatherType) => {
        const read = { ...empty, prologFlags, taskPlugin, proctrackType, jobAcctGatherType };
        for (const [, find] of configChecks) {
          const found = find(read);
          if (found.outcome !== 'ok') expect(found.remedy).toMatch(/^.+$/);
        }
      }),
    );
  });
});
