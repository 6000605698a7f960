import { describe, expect, it } from 'vitest';
import { unplacedNote, unplacedSteps } from '../../../src/jobs/stepd/unplaced.js';
import { nodeWith } from '../../support/config-sandbox.js';

const spool = '/var/spool/slurmd';
const names = ['n1_5.4294967292', 'n1_6.4294967292'];
const job = (jobId: number) => ({ jobId, steps: [], cgroups: [], externMissingIn: [] });

function nodeOf(listening: readonly string[] | undefined) {
  const lines = listening?.map((name) => `00: 00000002 00000000 00010000 0001 01 9 ${spool}/${name}\n`);
  const host = nodeWith({
    ...Object.fromEntries(names.map((name) => [`${spool}/${name}`, { text: '', mode: 0o777 }])),
    ...(lines === undefined ? {} : { '/proc/net/unix': { text: `Num\n${lines.join('')}` } }),
  });
  return { host, spools: new Map([['n1', spool]]) };
}

describe('unplacedSteps()', () => {
  it('names what listens and has no cgroup', () => {
    const ids = (listening: readonly string[], jobs: readonly number[]) =>
      unplacedSteps(nodeOf(listening), jobs.map(job)).map(({ jobId }) => jobId);
    expect(ids(names, [])).toEqual([5, 6]);
    expect(ids(names, [5])).toEqual([6]);
    expect(ids([names[0] ?? ''], [])).toEqual([5]);
    expect(ids([], [])).toEqual([]);
  });

  it('takes a spool that is there and holds no socket for none', () => {
    expect(unplacedSteps({ host: nodeWith({ [spool]: {} }), spools: new Map([['n1', spool]]) }, [])).toEqual([]);
  });
});

describe('unplacedNote()', () => {
  it('is one line, or nothing', () => {
    expect(unplacedNote([])).toBeUndefined();
    expect(unplacedNote(unplacedSteps(nodeOf(names), []))).toBe(
      'slurmstepd of job 5, job 6 listens here, but no cgroup of them was found',
    );
  });
});
