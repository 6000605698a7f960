// One row: the login that both adopters are given, and what is expected of their answers.

import { expect } from 'vitest';
import type { Adopter, Login, Outcome } from './adopter.js';
import { other, type Sides } from './adopters.js';
import { type Row, titleOf } from './rows.js';

/** Where a row happens. */
export interface Place {
  /** The jobs by their names in the rows; the names of their directories. */
  readonly directories: ReadonlyMap<string, string>;
  /** An adoption is in so many hierarchies at least. */
  readonly hierarchies: number;
  /** At the beginning of the login here. */
  readonly begun?: () => void;
}

type Answered = Outcome & { readonly became: string };

/** Lets both answer, one after the other; `record` has a line of the table before anything is expected of it. */
export async function compareRow(
  row: Row,
  sides: Sides,
  login: Login,
  place: Place,
  record: (line: string) => void,
): Promise<void> {
  const there = await answerOf(sides.there, login, place);
  const here = await answerOf(sides.here, { ...login, ...(place.begun && { begun: place.begun }) }, place);
  record(lineOf(row, there, here));
  expect([row.there, ...(row.sometimes ?? [])], `${sides.there.name}: ${there.said}`).toContain(there.became);
  expect(allowed(row), `${sides.here.name}: ${here.said}`).toContain(here.became);
  // In every hierarchy of the job, and in as many.
  if (here.became === there.became) expect(here.hierarchies).toEqual(there.hierarchies);
  if (here.place === 'job') expect(here.hierarchies.length).toBeGreaterThanOrEqual(place.hierarchies);
}

/** slurm-cgroups must differ where it says so; another adopter may. */
function allowed({ there, differs }: Row): readonly string[] {
  if (differs === undefined) return [there];
  return other === undefined ? [differs.here] : [differs.here, there];
}

async function answerOf(adopter: Adopter, login: Login, place: Place): Promise<Answered> {
  const outcome = await adopter.login(login);
  return { ...outcome, became: wordsOf(outcome, place) };
}

/** In the words of rows.ts. */
function wordsOf({ answer, place, job, unkillable }: Outcome, { directories }: Place): string {
  const name = [...directories].find(([, directory]) => directory === job)?.[0];
  const where = { job: ` in ${name ?? job}`, user: " in the user's cgroup", torn: ' torn', outside: '' }[place];
  if (answer === 'in') return place === 'outside' ? 'in no job' : where.trim();
  return `${answer}${where}${unkillable ? ', unkillable' : ''}`;
}

export const tableHead =
  '| situation | login | pam_slurm_adopt | slurm-cgroups | difference |\n|---|---|---|---|---|\n';

function lineOf(row: Row, there: Answered, here: Answered): string {
  const cell = ({ became, ms }: Answered) => `${became} (${Math.round(ms)} ms)`;
  return `| ${row.situation} | ${titleOf(row)} | ${cell(there)} | ${cell(here)} | ${row.differs?.name ?? ''} |`;
}
