// Processes of people, by user, as `strays` and `--outside` print them: who, since when, what they use, where.

import type { Stray } from '../cleanup/strays/find.js';
import type { OutsideProcess, OutsideReport } from '../cleanup/strays/outside.js';
import { columns, count, type Output, treeLines, visible } from './terminal/output.js';
import type { UserNames } from './users.js';

/** What `--outside` adds to a JSON object. */
export interface OutsideJson {
  readonly outside: readonly (OutsideProcess & { readonly user?: string })[];
  readonly complete: boolean;
}

export function outsideJson({ outside, complete }: OutsideReport, names: UserNames): OutsideJson {
  return { outside: outside.map((one) => withUserName(one, names)), complete };
}

export function withUserName<T extends { readonly uid: number }>(
  one: T,
  names: UserNames,
): T & { readonly user?: string } {
  const user = names(one.uid);
  return user === undefined ? one : { ...one, user };
}

/** `3 processes of 2 people are in no job`, and a tree for each user. */
export function outsideLines(
  { outside, complete }: OutsideReport,
  names: UserNames,
  output: Output,
): readonly string[] {
  const people = new Set(outside.map(({ uid }) => uid)).size;
  const sum = `${complete ? '' : 'at least '}${count(outside.length, 'process')} of ${count(people, 'user')}`;
  const none = complete ? 'no process of a user is outside of the jobs' : 'cannot tell which processes are in no job';
  const head = outside.length === 0 ? none : `${sum} in no job`;
  return [head, ...processTrees(outside, names, output)];
}

/** A tree for each user, with the reason on top, which is the same for all that are the user's. */
export function processTrees(strays: readonly Stray[], names: UserNames, output: Output): readonly string[] {
  const byUser = new Map<number, Stray[]>();
  for (const stray of strays) {
    const own = byUser.get(stray.uid);
    if (own === undefined) byUser.set(stray.uid, [stray]);
    else own.push(stray);
  }
  return [...byUser].flatMap(([uid, own]) => {
    const user = names(uid);
    const head = `${output.style('bold', user === undefined ? `uid ${uid}` : `${visible(user)} (uid ${uid})`)}: ${visible(own[0]?.proof ?? '')}`;
    const rows = columns(
      own.map((stray) => [
        String(stray.pid),
        visible(stray.comm),
        ageText(stray),
        cpuOf(stray),
        sizeOf(stray),
        visible(stray.cgroup),
      ]),
    );
    return ['', head, ...treeLines(rows.map((line) => ({ line })))];
  });
}

const spans = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
] as const;

function ageText({ ageSeconds }: Stray): string {
  if (ageSeconds === undefined) return '';
  const [seconds, unit] = spans.find(([span]) => ageSeconds >= span) ?? [1, 's'];
  return `${Math.floor(ageSeconds / seconds)} ${unit} old`;
}

function cpuOf({ cpuPercent }: Stray): string {
  return cpuPercent === undefined ? '' : `${cpuPercent} % CPU`;
}

function sizeOf({ memoryBytes }: Stray): string {
  return `${(memoryBytes / 2 ** 20).toFixed(1)} MiB`;
}
