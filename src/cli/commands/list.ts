// slurm-cgroups list: the jobs on this node, with their steps and processes.

import type { Usage } from '../../cgroup/usage.js';
import { findOutside, type OutsideReport } from '../../cleanup/strays/outside.js';
import { discoverJobs } from '../../jobs/discovery.js';
import { externStartMs, withExternTimes } from '../../jobs/extern-times.js';
import { type Job, nameOfJob, type OwnedJob, type Step } from '../../jobs/job.js';
import type { SlurmNode } from '../../jobs/node.js';
import { findOwners } from '../../jobs/owners/find.js';
import { processSeen, seenOfStep, usageOf } from '../../jobs/processes.js';
import { unplacedNote, unplacedOnNode } from '../../jobs/stepd/unplaced.js';
import { isSuspended } from '../../jobs/suspension.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import { Pace } from '../../machine/pace.js';
import { newestJob } from '../../policy/newest.js';
import { openContext, requireSlurm } from '../context.js';
import { usageError } from '../exit.js';
import { outsideJson, outsideLines } from '../process-trees.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, jobIdOf, type Words, whose } from '../spec.js';
import {
  bytesText,
  columns,
  count,
  json,
  type Output,
  standardOutput,
  type TreeNode,
  treeLines,
  visible,
} from '../terminal/output.js';
import { namesOf, requireUid, type UserNames } from '../users.js';
import { ageOf } from '../watch-page.js';

export const listSpec: CommandSpec = {
  name: 'list',
  summary: 'show the jobs on this node, their steps and processes',
  about:
    'Reads the directories that Slurm makes for its jobs in every cgroup hierarchy. Works while slurmd and slurmctld are down.',
  operands: [],
  flags: [
    { name: 'uid', takes: 'U', description: 'only jobs of this user id' },
    { name: 'user', takes: 'NAME', description: 'only jobs of this user' },
    { name: 'job', takes: 'N', description: 'only this job' },
    { name: 'summary', description: 'one line a job: state, processes, memory, CPU time and age' },
    { name: 'outside', description: 'also every process of users that is in no job' },
    fromFlag,
    ...commonFlags,
  ],
  examples: [
    ['slurm-cgroups list', 'all jobs as a tree'],
    ['slurm-cgroups list --user alice', "alice's jobs; on cgroup v1 nothing else is read"],
    ['slurm-cgroups list --summary', 'one line a job'],
    ['slurm-cgroups list --outside', 'and what users run here in no job'],
    ['slurm-cgroups list --json | jq .jobs[].jobId', 'for programs'],
  ],
};

/** Users can make trees that take long to look through: one step's does not keep the others from being shown. */
const limits = { allMs: 30_000, stepMs: 2000 };

interface ListedProcess {
  readonly pid: number;
  readonly uid?: number;
  readonly user?: string;
  readonly comm?: string;
}

interface ListedStep {
  readonly stepId: string;
  readonly processes: readonly ListedProcess[];
  readonly cgroups: readonly { readonly controllers: readonly string[]; readonly path: string }[];
  /** Why there may be more processes. */
  readonly unknown?: string;
}

/**
 * `newest`: the newest of its user's jobs here; null where the owner is not known. `suspended`: frozen, as by
 * `scontrol suspend`; null where that is not to be seen.
 */
interface ListedJob {
  readonly jobId: number | null;
  readonly sluid?: string;
  readonly uid?: number;
  readonly user?: string;
  readonly nodeName?: string;
  readonly newest: boolean | null;
  readonly suspended: boolean | null;
  readonly steps: readonly ListedStep[];
}

/** A job of `--summary`. What no file tells is absent. */
interface SummedJob extends Omit<ListedJob, 'steps'> {
  readonly steps: readonly string[];
  /** null: they cannot all be seen, and `unknown` says why. */
  readonly processes: number | null;
  readonly unknown?: string;
  readonly memoryBytes?: number;
  readonly cpuSeconds?: number;
  /** Since its extern step began at the latest; absent in a recording. */
  readonly ageSeconds?: number;
}

export async function runList(words: Words, output: Output = standardOutput()): Promise<number> {
  const said = whose(words);
  const jobId = flagValue(words, 'job');
  const wanted = jobId === undefined ? undefined : jobIdOf(jobId);
  const isOutsideAsked = words.flags.has('outside');
  for (const flag of ['job', 'node'])
    if (isOutsideAsked && words.flags.has(flag))
      throw usageError(`--outside is about processes in no job, of whatever node: leave --${flag} out`);
  const { node, log } = await openContext('list', words, { configurationError: 'note' });
  await requireSlurm(node);
  const uid = said === undefined ? undefined : 'uid' in said ? said.uid : await requireUid(node.host, said.user);
  const found = await findOwners(discoverJobs(node, defined({ uid })), { node });
  const all = found.filter((job) => uid === undefined || job.uid === uid);
  const byUser = groupedByUser(all);
  const newest = newestOf([...byUser.values()], node);
  const jobs = wanted === undefined ? all : all.filter((job) => job.jobId === wanted);
  const unplaced = unplacedOnNode(node).filter(({ jobId: id }) => wanted === undefined || id === wanted);
  const unplacedWord = unplacedNote(unplaced);
  const hidden = [...hiddenFrom(found, uid, wanted), ...(unplacedWord === undefined ? [] : [unplacedWord])];
  if (wanted !== undefined && jobs.length === 0) {
    throw new SlurmCgroupsError(
      'ERR_NO_SUCH_JOB',
      `There is no job ${wanted}${uid === undefined ? '' : ` of uid ${uid}`} on this node${unlessIn(hidden)}`,
      { jobId: wanted },
    );
  }
  log('verbose', `found ${count(jobs.length, 'job')}`);
  const outside = isOutsideAsked ? await findOutside({ node, ...defined({ uid }) }) : undefined;
  const isNewest = (job: Job) => (job.uid === undefined ? null : newest.has(job));
  const { listed, uids, notes, render } = await (words.flags.has('summary') ? summaryOf : treesOf)(
    node,
    jobs,
    isNewest,
  );
  const names = await namesOf(node.host, [...uids, ...(outside?.outside ?? []).map((one) => one.uid)]);
  const allNotes = [...node.notes, ...hidden, ...notes, ...(outside?.notes ?? [])];
  if (words.flags.has('json')) {
    const head = { node: node.nodeName ?? null, mode: node.hierarchies.mode };
    output.print(json({ ...head, jobs: listed(names), ...outsideKeys(outside, names), notes: allNotes }));
  } else {
    const name = node.nodeName === undefined ? 'this node' : `node ${visible(node.nodeName)}`;
    output.print(
      `${output.style('bold', name)}: ${count(jobs.length, 'job')}, ${node.hierarchies.mode} cgroups`,
      ...render(names, (job) => (byUser.get(userKey(job)) ?? []).length > 1, output),
      ...(outside === undefined ? [] : ['', ...outsideLines(outside, names, output)]),
      ...(allNotes.length === 0
        ? []
        : ['', ...allNotes.map((note) => output.style('yellow', `note: ${visible(note)}`))]),
    );
  }
  return 0;
}

/** The jobs as they are shown, in one of two forms. */
interface Shown {
  /** For JSON. */
  readonly listed: (names: UserNames) => readonly object[];
  /** Users that are to be named. */
  readonly uids: readonly number[];
  readonly notes: readonly string[];
  /** `isOneOfMore`: whether its user has other jobs here, shown or not. */
  readonly render: (
    names: UserNames,
    isOneOfMore: (job: Pick<ListedJob, 'uid' | 'nodeName'>) => boolean,
    output: Output,
  ) => readonly string[];
}

async function treesOf(
  node: SlurmNode,
  jobs: readonly OwnedJob[],
  isNewest: (job: Job) => boolean | null,
): Promise<Shown> {
  const listed: ListedJob[] = [];
  const pace = new Pace(node.host, deadlineIn(node.host, limits.allMs));
  for (const job of jobs) listed.push(await listJob(node, job, isNewest(job), pace));
  const named = (names: UserNames) => listed.map((job) => withNames(job, names));
  return {
    listed: named,
    uids: [...uidsIn(listed)],
    notes: [...jobs.flatMap(notesOf), ...listed.flatMap(unlistedIn)],
    render: (names, isOneOfMore, output) => renderJobs(named(names), isOneOfMore, output),
  };
}

async function summaryOf(
  node: SlurmNode,
  jobs: readonly OwnedJob[],
  isNewest: (job: Job) => boolean | null,
): Promise<Shown> {
  const summed: SummedJob[] = [];
  for (const job of jobs) summed.push(await sumJob(node, job, isNewest(job)));
  const named = (names: UserNames) =>
    summed.map((job) => ({ ...job, ...defined({ user: job.uid === undefined ? undefined : names(job.uid) }) }));
  return {
    listed: named,
    uids: summed.flatMap((job) => job.uid ?? []),
    notes: summed.flatMap((job) => (job.unknown === undefined ? [] : [`${nameOfListed(job)}: ${job.unknown}`])),
    render: (names, isOneOfMore, output) => renderSummary(named(names), isOneOfMore, output),
  };
}

/** Of users that are known. */
function groupedByUser(jobs: readonly Job[]): ReadonlyMap<string, readonly Job[]> {
  const byUser = new Map<string, Job[]>();
  for (const job of jobs) {
    if (job.uid === undefined) continue;
    const known = byUser.get(userKey(job));
    if (known === undefined) byUser.set(userKey(job), [job]);
    else known.push(job);
  }
  return byUser;
}

function userKey({ uid, nodeName }: Pick<ListedJob, 'uid' | 'nodeName'>): string {
  return `${nodeName ?? ''} ${uid}`;
}

/** The newest of the jobs of each user. */
function newestOf(groups: readonly (readonly Job[])[], node: SlurmNode): ReadonlySet<Job> {
  return new Set(
    groups.flatMap((own) => {
      if (own.length === 1) return own;
      const dated = withExternTimes(own, node);
      const first = newestJob(dated)?.job;
      return own.filter((_, at) => dated[at] === first);
    }),
  );
}

async function listJob(node: SlurmNode, job: Job, newest: boolean | null, pace: Pace): Promise<ListedJob> {
  const steps: ListedStep[] = [];
  for (const step of job.steps) steps.push(await listStep(node, step, pace.part(limits.stepMs)));
  return {
    jobId: job.jobId ?? null,
    ...defined({ sluid: job.sluid, uid: job.uid, nodeName: job.nodeName }),
    newest,
    suspended: isSuspended(node, job) ?? null,
    steps,
  };
}

/** Of one job's tree that cannot be looked through the others are shown all the same. */
async function usageIfSeen(
  node: SlurmNode,
  job: Job,
): Promise<Pick<Usage, 'memoryBytes' | 'cpuUsec'> & { readonly processes: number | null; readonly unknown?: string }> {
  try {
    return await usageOf(job, { node, timeoutMs: limits.stepMs });
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { processes: null, unknown: error.message };
  }
}

async function sumJob(node: SlurmNode, job: Job, newest: boolean | null): Promise<SummedJob> {
  const { processes, memoryBytes, cpuUsec, unknown } = await usageIfSeen(node, job);
  const [dated = job] = withExternTimes([job], node);
  const startMs = externStartMs(dated);
  // The clock of a recorded node is not to be seen.
  const isLive = node.host.source === 'live';
  const ageSeconds =
    startMs === undefined || !isLive ? undefined : Math.max(0, Math.round((Date.now() - startMs) / 1000));
  return {
    jobId: job.jobId ?? null,
    ...defined({ sluid: job.sluid, uid: job.uid, nodeName: job.nodeName }),
    newest,
    suspended: isSuspended(node, job) ?? null,
    steps: job.steps.map(({ stepId }) => stepId),
    processes,
    ...defined({ unknown, memoryBytes, cpuSeconds: cpuUsec === undefined ? undefined : cpuUsec / 1e6, ageSeconds }),
  };
}

async function listStep(node: SlurmNode, step: Step, pace: Pace): Promise<ListedStep> {
  const { all, unknown } = await seenOfStep(node, step, { pace });
  return {
    stepId: step.stepId,
    processes: all.map((member) => {
      const { pid, uid, comm } = processSeen(node.host, member.pid);
      return uid === undefined || comm === undefined ? { pid } : { pid, uid, comm };
    }),
    cgroups: step.cgroups.map(({ controllers, path }) => ({ controllers, path })),
    ...defined({ unknown }),
  };
}

/** A step of which not all processes could be seen: none is missing without a word. */
function unlistedIn(job: ListedJob): readonly string[] {
  const name = nameOfListed(job);
  return job.steps.flatMap(({ stepId, unknown }) =>
    unknown === undefined ? [] : [`${name}, step ${stepId}: there may be more processes: ${unknown}`],
  );
}

function* uidsIn(jobs: readonly ListedJob[]): Generator<number> {
  for (const job of jobs) {
    if (job.uid !== undefined) yield job.uid;
    for (const step of job.steps)
      for (const process of step.processes) if (process.uid !== undefined) yield process.uid;
  }
}

function withNames(job: ListedJob, names: UserNames): ListedJob {
  const user = job.uid === undefined ? undefined : names(job.uid);
  return {
    ...job,
    ...defined({ user }),
    steps: job.steps.map((step) => ({
      ...step,
      processes: step.processes.map((process) => {
        const name = process.uid === undefined ? undefined : names(process.uid);
        return name === undefined
          ? process
          : {
              pid: process.pid,
              ...defined({ uid: process.uid }),
              user: name,
              ...defined({ comm: process.comm }),
            };
      }),
    })),
  };
}

function notesOf(job: OwnedJob): readonly string[] {
  const unknown = whatIsUnknown(job);
  const notes = unknown === undefined ? [] : [unknown];
  if (job.extern === undefined)
    return [...notes, `${nameOfJob(job)} has no extern step: no session can be adopted into it`];
  return job.externMissingIn.length === 0
    ? notes
    : [
        ...notes,
        `${nameOfJob(job)} has no extern step in ${job.externMissingIn.join(', ')} yet: slurmstepd makes it at the first adoption`,
      ];
}

function whatIsUnknown(job: OwnedJob): string | undefined {
  if (job.uid !== undefined && job.jobId !== undefined) return undefined;
  const what = job.uid !== undefined ? 'its id is' : job.jobId !== undefined ? 'its owner is' : 'its id and owner are';
  return `${nameOfJob(job)}: ${what} not known${job.unknownWhy === undefined ? '' : `: ${job.unknownWhy}`}`;
}

/** With --uid, --user or --job: jobs that may match, but whose owner or id is not known. */
function hiddenFrom(
  found: readonly OwnedJob[],
  uid: number | undefined,
  wanted: number | undefined,
): readonly string[] {
  return found
    .filter(
      (job) =>
        (uid === undefined || job.uid === undefined || job.uid === uid) &&
        (wanted === undefined || job.jobId === undefined || job.jobId === wanted) &&
        ((uid !== undefined && job.uid === undefined) || (wanted !== undefined && job.jobId === undefined)),
    )
    .flatMap((job) => whatIsUnknown(job) ?? [])
    .map((unknown) => `not shown: ${unknown}`);
}

/** Unknown is not "none". */
function unlessIn(hidden: readonly string[]): string {
  const [first, ...more] = hidden;
  if (first === undefined) return '';
  return `, as far as is known (${first}${more.length === 0 ? '' : `; and ${more.length} more`})`;
}

/** The keys of `--outside`; none without it. */
function outsideKeys(found: OutsideReport | undefined, names: UserNames): object {
  if (found === undefined) return {};
  const { outside, complete } = outsideJson(found, names);
  return { outside, outsideComplete: complete };
}

function renderJobs(
  jobs: readonly ListedJob[],
  isOneOfMore: (job: ListedJob) => boolean,
  output: Output,
): readonly string[] {
  const several = new Set(jobs.map((job) => job.nodeName)).size > 1;
  return jobs.flatMap((job) => [
    '',
    jobHead(job, { several, isOneOfMore: isOneOfMore(job) }, output),
    ...treeLines(job.steps.map((step) => stepNode(step))),
  ]);
}

function renderSummary(
  jobs: readonly (SummedJob & { readonly user?: string })[],
  isOneOfMore: (job: SummedJob) => boolean,
  output: Output,
): readonly string[] {
  if (jobs.length === 0) return [];
  const rows = jobs.map((job) => [
    job.jobId === null ? (job.sluid ?? '?') : String(job.jobId),
    visible(job.user ?? (job.uid === undefined ? '?' : `uid ${job.uid}`)),
    job.suspended === true ? 'suspended' : job.processes === 0 ? 'empty' : 'running',
    job.processes === null ? '?' : String(job.processes),
    job.memoryBytes === undefined ? '?' : bytesText(job.memoryBytes),
    job.cpuSeconds === undefined ? '?' : ageOf(job.cpuSeconds * 1000),
    job.ageSeconds === undefined ? '?' : ageOf(job.ageSeconds * 1000),
    `${job.steps.map(visible).join(' ')}${job.newest === true && isOneOfMore(job) ? '  newest' : ''}`,
  ]);
  const [names = '', ...lines] = columns([
    ['JOB', 'USER', 'STATE', 'PROCESSES', 'MEMORY', 'CPU', 'AGE', 'STEPS'],
    ...rows,
  ]);
  return ['', output.style('bold', names), ...lines];
}

function jobHead(
  job: ListedJob,
  { several, isOneOfMore }: { readonly several: boolean; readonly isOneOfMore: boolean },
  output: Output,
): string {
  const owner = job.user ?? (job.uid === undefined ? 'owner unknown' : `uid ${job.uid}`);
  const where = several && job.nodeName !== undefined ? ` on ${visible(job.nodeName)}` : '';
  const newest = job.newest === true && isOneOfMore ? output.style('green', '  newest') : '';
  const suspended = job.suspended === true ? output.style('yellow', '  suspended') : '';
  return `${output.style('bold', nameOfListed(job))}  ${visible(owner)}${where}${newest}${suspended}`;
}

function nameOfListed({ jobId, sluid }: Pick<ListedJob, 'jobId' | 'sluid'>): string {
  return nameOfJob({ ...(jobId === null ? {} : { jobId }), ...defined({ sluid }) });
}

function stepNode(step: ListedStep): TreeNode {
  const rows = step.processes.map((process) => [
    String(process.pid),
    process.user === undefined ? (process.uid === undefined ? '?' : `uid ${process.uid}`) : visible(process.user),
    process.comm === undefined ? '(ended, or hidden)' : visible(process.comm),
  ]);
  const where = step.cgroups.map((cgroup) => cgroup.controllers.join(',') || 'unified').join(' ');
  const total = step.processes.length === 0 ? 'no process' : count(step.processes.length, 'process');
  return {
    line: `step ${visible(step.stepId)}: ${total}  (${where})`,
    children: columns(rows).map((line) => ({ line })),
  };
}
