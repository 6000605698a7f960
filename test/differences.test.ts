// docs/differences.md and the table of the differential test name the same differences, and each is shown somewhere.

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { cells } from './matrix/cells.js';
import { landingIn } from './slurm/differential/adopter.js';
import { rows, titleOf } from './slurm/differential/rows.js';
import { rowsInGuest } from './slurm/differential/rows-in-guests.js';
import { situations } from './slurm/differential/situations.js';

const root = path.resolve(import.meta.dirname, '..');

/** Each guest with one node, and its rows. */
const guests = cells.filter(({ nodes = 1 }) => nodes === 1).map((cell) => [cell.name, rowsInGuest(cell)] as const);

interface Section {
  readonly name: string;
  readonly text: string;
  /** `rows`, or files. */
  readonly shown: readonly string[];
}

const sections: readonly Section[] = fs
  .readFileSync(path.join(root, 'docs/differences.md'), 'utf8')
  .split(/^## /m)
  .slice(1)
  .map((text) => ({
    name: /^([a-z0-9-]+): /.exec(text)?.[1] ?? text.slice(0, 40),
    text,
    shown: /^Shown: (.+)$/m.exec(text)?.[1]?.split(', ') ?? [],
  }));

describe('docs/differences.md', () => {
  it('has a section for each difference of the table, and no other that says it is there', () => {
    const all = [rows, ...guests.map(([, own]) => own)].flat();
    const inRows = new Set(all.flatMap(({ differs }) => differs?.name ?? []));
    const inDocument = sections.filter(({ shown }) => shown.includes('rows')).map(({ name }) => name);
    expect(inDocument.sort()).toEqual([...inRows].sort());
  });

  it.each(sections.map(({ name, text, shown }) => [name, text, shown] as const))(
    'says of %s what is done there and here, why, and where it is shown',
    (_name, text, shown) => {
      for (const part of [/^There\b.*: /m, /^Here: /m, /^Harm: /m]) expect(text).toMatch(part);
      expect(shown).not.toEqual([]);
      for (const file of shown.filter((one) => one !== 'rows')) expect(fs.existsSync(path.join(root, file))).toBe(true);
    },
  );
});

describe('The table of the differential test', () => {
  it('has rows for each situation, and a situation for each row', () => {
    expect([...new Set(rows.map(({ situation }) => situation))].sort()).toEqual(
      situations.map(({ name }) => name).sort(),
    );
  });

  it.each([['the host', rows] as const, ...guests])(
    'has no row twice on %s, and no difference that is none',
    (_, all) => {
      const named = all.map((row) => `${row.situation}: ${titleOf(row)}`);
      expect(named.filter((one, index) => named.indexOf(one) !== index)).toEqual([]);
      expect(all.filter(({ there, differs }) => differs?.here === there)).toEqual([]);
    },
  );

  it.each(guests)('has twelve rows at most on %s', (_, own) => {
    expect(own.length).toBeGreaterThan(5);
    expect(own.length).toBeLessThanOrEqual(12);
  });
});

describe('landingIn()', () => {
  it.each([
    [
      '9:memory:/slurm_n/uid_1/job_5/step_extern/task_0\n8:cpuset:/slurm_n/uid_1/job_5/step_extern\n0::/',
      { place: 'job', job: 'job_5', hierarchies: ['cpuset', 'memory'] },
    ],
    [
      '0::/system.slice/slurmstepd.scope/job_5/step_extern/user/task_0',
      { place: 'job', job: 'job_5', hierarchies: ['unified'] },
    ],
    [
      '0::/system.slice/vm_slurmstepd.scope/sEKNKTV3WPV500/step_extern/user/task_0',
      { place: 'job', job: 'sEKNKTV3WPV500', hierarchies: ['unified'] },
    ],
    ['9:memory:/slurm/uid_1\n8:cpuset:/slurm/uid_1', { place: 'user', hierarchies: ['cpuset', 'memory'] }],
    ['9:memory:/slurm/uid_1/job_5/step_extern\n8:cpuset:/slurm/uid_1/job_6/step_extern', { place: 'torn' }],
    ['9:memory:/slurm/uid_1/job_5/step_extern\n8:cpuset:/slurm/uid_1', { place: 'torn' }],
    ['9:memory:/slurm/uid_1/job_5/step_batch\n1:name=systemd:/user.slice', { place: 'outside', hierarchies: [] }],
    ['', { place: 'outside', hierarchies: [] }],
  ])('%j', (text, landing) => {
    expect(landingIn(text)).toMatchObject(landing);
  });
});
