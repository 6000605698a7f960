// The page of `watch`: what is known of the jobs, as lines that fit a terminal. Pure: the command draws it, and
// decides when.

import { externStartMs } from '../jobs/extern-times.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { directoryKeyOf } from '../jobs/watch/changes.js';
import type { JobEvent } from '../jobs/watch/watch.js';
import { count, type Output, visible } from './terminal/output.js';
import type { ScreenSize } from './terminal/screen.js';
import type { UserNames } from './users.js';

/** A job and since when it runs. */
export interface ShownJob {
  readonly job: Job;
  /** Milliseconds since 1970; the job may be older, not younger. */
  readonly startedMs: number;
}

/** What happened a short time ago, for the last lines of the page. */
interface RecentEvent {
  readonly time: string;
  readonly text: string;
  readonly style: 'green' | 'yellow' | 'dim';
}

const recentLines = 4;

/** The jobs as the events told them. */
export class JobTable {
  readonly #steps: boolean;
  readonly #jobs = new Map<string, ShownJob>();
  #recent: readonly RecentEvent[] = [];
  #isReady = false;
  #note: string | undefined;

  /** @param steps whether beginning and ending steps are listed, too */
  constructor(steps: boolean) {
    this.#steps = steps;
  }

  get note(): string | undefined {
    return this.#note;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** The youngest first. */
  get jobs(): readonly ShownJob[] {
    return [...this.#jobs.values()].sort(
      (a, b) =>
        b.startedMs - a.startedMs ||
        (b.job.jobId ?? 0) - (a.job.jobId ?? 0) ||
        compare(directoryKeyOf(b.job), directoryKeyOf(a.job)),
    );
  }

  apply(event: JobEvent): void {
    switch (event.event) {
      case 'ready':
        this.#isReady = true;
        return;
      case 'note':
        this.#note = event.note;
        return;
      case 'removed':
        this.#jobs.delete(directoryKeyOf(event.job));
        break;
      case 'added':
        this.#jobs.set(directoryKeyOf(event.job), {
          job: event.job,
          startedMs: startOf(event.job, Date.parse(event.time)),
        });
        break;
      case 'changed':
      case 'step-added':
      case 'step-removed': {
        const known = this.#jobs.get(directoryKeyOf(event.job));
        if (known !== undefined)
          this.#jobs.set(directoryKeyOf(event.job), { job: event.job, startedMs: startOf(event.job, known.startedMs) });
      }
    }
    if (this.#isReady) this.#remember(event);
  }

  #remember(event: Extract<JobEvent, { job: Job }>): void {
    const name = visible(nameOfJob(event.job));
    const recent = ((): RecentEvent | undefined => {
      switch (event.event) {
        case 'added':
          return { time: event.time, style: 'green', text: `${name} started` };
        case 'removed':
          return { time: event.time, style: 'yellow', text: `${name} ended` };
        case 'step-added':
          if (!this.#steps) return undefined;
          return { time: event.time, style: 'dim', text: `${name}: step ${visible(event.stepId)} started` };
        case 'step-removed':
          if (!this.#steps) return undefined;
          return { time: event.time, style: 'dim', text: `${name}: step ${visible(event.stepId)} ended` };
        case 'changed':
          return undefined; // a hierarchy more or less does not concern a person
      }
    })();
    if (recent !== undefined) this.#recent = [recent, ...this.#recent].slice(0, recentLines);
  }

  get recent(): readonly RecentEvent[] {
    return this.#recent;
  }
}

/** When the job started at the latest: each sign of its extern step can only be too late (newest, in policy). */
function startOf(job: Job, knownMs: number): number {
  return Math.min(knownMs, externStartMs(job) ?? knownMs);
}

/** In which order the jobs stand. */
export type SortBy = 'newest' | 'job' | 'user' | 'steps';
export const sortOrders: readonly SortBy[] = ['newest', 'job', 'user', 'steps'];

/** What of the jobs is shown, as the keys of the terminal say. */
export interface View {
  /** The first job that is shown, from 0. */
  readonly first: number;
  readonly sortBy: SortBy;
}

export interface PageOptions {
  /** Default: all from the newest on, and no line about keys. */
  readonly view?: View;
  /** Whether a job is suspended, where that can be seen. */
  readonly isSuspended?: (job: Job) => boolean | undefined;
  readonly node: string | undefined;
  readonly mode: string;
  readonly nowMs: number;
  readonly size: ScreenSize;
  /** A line for each step. */
  readonly steps: boolean;
  readonly names: UserNames;
  /** Number of processes in a step; asked only for what is shown. */
  readonly processes: (job: Job, stepId: string) => Promise<number>;
}

type Style = Parameters<Output['style']>[0];
/** Parts of a line, some of them in a style of their own. */
type Line = readonly (readonly [text: string, style?: Style])[];

/** The whole page: no more lines than the screen has rows, none longer than it is wide. */
export async function pageOf(
  table: JobTable,
  options: PageOptions,
  output: Pick<Output, 'style'>,
): Promise<readonly string[]> {
  const { size, view: { sortBy } = { sortBy: 'newest' } } = options;
  const head = headLines(table, options);
  const isTall = size.rows > 12;
  const foot: readonly Line[] = table.recent.map(({ time, text, style }) => [
    [`${clockOf(Date.parse(time))}  `, 'dim'],
    [text, style],
  ]);
  // The last lines stay where they are, so that the table does not jump when something happens.
  const room = Math.max(1, size.rows - head.length - 2 - (isTall ? recentLines + 1 : 0));
  const { rows, left } = await fitting(sorted(table, options), { table, options, room });
  const [names = '', ...body] = aligned(
    [['JOB', 'USER', options.steps ? '' : 'STEPS', 'PROCESSES', 'AGE'], ...rows],
    size.columns,
  );
  const lines: readonly Line[] = [
    ...head,
    [],
    [[names, 'bold']],
    ...body.map((line): Line => [table.jobs.length === 0 ? [line, 'dim'] : [line]]),
    ...(left > 0 ? [[[`… and ${count(left, sortBy === 'newest' ? 'older job' : 'more job')}`, 'dim'] as const]] : []),
    ...(isTall && foot.length > 0 ? [[], ...foot] : []),
  ];
  return lines.slice(0, size.rows).map((line) => written(line, size.columns, output));
}

function headLines(table: JobTable, { node, mode, nowMs, size, view }: PageOptions): readonly Line[] {
  const title = node === undefined ? 'this node' : `node ${visible(node)}`;
  const about = `  ${count(table.jobs.length, 'job')}${table.isReady ? '' : ' so far'}, ${mode} cgroups`;
  const clock = clockOf(nowMs);
  const gap = Math.max(2, size.columns - widthOf(title + about) - clock.length);
  const first: Line = [[title, 'bold'], [about + ' '.repeat(gap)], [clock, 'dim']];
  const keys: readonly Line[] =
    view === undefined
      ? []
      : [
          [
            [
              `by ${view.sortBy}${view.first > 0 ? `, from row ${view.first + 1}` : ''}  ·  s sort  ↑↓ PgUp PgDn scroll  q quit`,
              'dim',
            ],
          ],
        ];
  return [first, ...keys, ...(table.note === undefined ? [] : [[[`note: ${visible(table.note)}`, 'yellow'] as const]])];
}

/** The jobs in the order of the view, from its first on. */
function sorted(table: JobTable, { view, names }: PageOptions): readonly ShownJob[] {
  if (view === undefined) return table.jobs;
  const user = ({ job: { uid } }: ShownJob) => (uid === undefined ? '' : (names(uid) ?? String(uid)));
  const orders: Readonly<Record<SortBy, (a: ShownJob, b: ShownJob) => number>> = {
    newest: () => 0,
    job: (a, b) => (a.job.jobId ?? 0) - (b.job.jobId ?? 0),
    user: (a, b) => compare(user(a), user(b)),
    steps: (a, b) => b.job.steps.length - a.job.steps.length,
  };
  // A stable sort: among equals the newest stands first.
  return [...table.jobs].sort(orders[view.sortBy]).slice(view.first);
}

/** Rows of the first jobs, each with all its steps where there is room, and how many jobs have no row. */
async function fitting(
  jobs: readonly ShownJob[],
  { table, options, room }: { readonly table: JobTable; readonly options: PageOptions; readonly room: number },
): Promise<{ readonly rows: readonly (readonly string[])[]; readonly left: number }> {
  if (jobs.length === 0) return { rows: [[table.isReady ? 'no job' : 'looking …']], left: 0 };
  const rows: (readonly string[])[] = [];
  let shown = 0;
  for (const one of jobs) {
    const isLast = shown + 1 === jobs.length;
    const lines = 1 + (options.steps ? one.job.steps.length : 0); // processes are counted only of what is shown
    if (shown > 0 && rows.length + lines > room - (isLast ? 0 : 1)) break;
    rows.push(...(await rowsOf(one, options)));
    shown += 1;
  }
  const left = jobs.length - shown;
  return { rows: rows.slice(0, room - (left > 0 ? 1 : 0)), left };
}

function written(line: Line, columns: number, output: Pick<Output, 'style'>): string {
  let [text, room] = ['', columns];
  for (const [part, style] of line) {
    const shown = cut(part, room);
    text += style === undefined || shown === '' ? shown : output.style(style, shown);
    room -= widthOf(shown);
    if (shown !== part) break;
  }
  return text;
}

async function rowsOf({ job, startedMs }: ShownJob, options: PageOptions): Promise<readonly (readonly string[])[]> {
  const user = job.uid === undefined ? '?' : (options.names(job.uid) ?? `uid ${job.uid}`);
  const processes: number[] = [];
  for (const { stepId } of job.steps) processes.push(await options.processes(job, stepId));
  const total = processes.reduce((sum, one) => sum + one, 0);
  const steps = job.steps.map(({ stepId }) => visible(stepId));
  const name = job.jobId === undefined ? (job.sluid ?? '?') : String(job.jobId);
  const first = [
    name,
    visible(user),
    options.steps ? '' : steps.join(' '),
    options.isSuspended?.(job) === true ? `suspended ${total}` : String(total),
    ageOf(options.nowMs - startedMs),
  ];
  if (!options.steps) return [first];
  return [
    first,
    ...steps.map((stepId, at) => [
      '',
      '',
      `${at === steps.length - 1 ? '└─' : '├─'} ${stepId}`,
      String(processes[at] ?? 0),
      '',
    ]),
  ];
}

/** Columns of job, user, steps, processes and age: numbers to the right; the steps are cut where there is little room. */
function aligned(rows: readonly (readonly string[])[], columns: number): readonly string[] {
  const widths = [0, 0, 0, 0, 0];
  for (const row of rows) {
    if (row.length === 1) continue;
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, widthOf(cell));
  }
  const over = widths.reduce((sum, width) => sum + width, 2 * (widths.length - 1)) - columns;
  if (over > 0) widths[2] = Math.max(5, (widths[2] ?? 0) - over);
  return rows.map((row) =>
    row
      .map((cell, at) => {
        const width = widths[at] ?? 0;
        const shown = row.length === 1 ? cell : cut(cell, width);
        const padding = ' '.repeat(Math.max(0, width - widthOf(shown)));
        return at >= 3 ? padding + shown : shown + padding;
      })
      .join('  ')
      .trimEnd(),
  );
}

/** Columns on a terminal: East Asian wide characters and emoji take two. */
function widthOf(text: string): number {
  let width = 0;
  for (const character of text)
    width += (character.codePointAt(0) ?? 0) >= 0x1100 && !/[─-╿…]/u.test(character) ? 2 : 1;
  return width;
}

function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let [kept, width] = ['', 0];
  for (const character of text) {
    width += widthOf(character);
    if (width > columns - 1) break;
    kept += character;
  }
  return columns < 1 ? '' : `${kept}…`;
}

/** `42s`, `3m 12s`, `5h 07m`, `2d 04h`. */
export function ageOf(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3600), Math.floor(seconds / 86_400)];
  const two = (number: number) => String(number).padStart(2, '0');
  if (days > 0) return `${days}d ${two(hours % 24)}h`;
  if (hours > 0) return `${hours}h ${two(minutes % 60)}m`;
  return minutes > 0 ? `${minutes}m ${two(seconds % 60)}s` : `${seconds}s`;
}

/** The time of the day, in the time zone of this machine. */
function clockOf(ms: number): string {
  const date = new Date(ms);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((one) => String(one).padStart(2, '0')).join(':');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
