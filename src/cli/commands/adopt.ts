// slurm-cgroups adopt: one process into one job, chosen by the rules of a login or named. On the login path: it imports
// only what it needs, and no package.

import { type ChildrenOutside, childrenOutside } from '../../adopt/children-outside.js';
import { parseSshConnection } from '../../adopt/connection.js';
import { inOtherJob, otherJobKeeping } from '../../adopt/other-job.js';
import { type RecordedAdoption, type RecordedTarget, recordedTarget } from '../../adopt/record.js';
import { admitSession, decideSession, type SessionRequest } from '../../adopt/session.js';
import { hierarchyKey } from '../../cgroup/membership.js';
import { identityOf, parseProcStat, withProcess } from '../../cgroup/process.js';
import { discoverJobs } from '../../jobs/discovery.js';
import { directoryNameOf } from '../../jobs/layout.js';
import type { SlurmNode } from '../../jobs/node.js';
import { checkMayMove } from '../../jobs/protected.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { ifReadable, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { liveHost, writeError } from '../../machine/live-host.js';
import type { AdoptionTarget, Rule } from '../../policy/answer.js';
import { type AdoptionOptions, checkOptions, defaultOptions, optionTable, readOption } from '../../policy/options.js';
import { type Context, openContext, requireSlurm } from '../context.js';
import { usageError } from '../exit.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, jobIdOf, pidOf, type Words, whose } from '../spec.js';
import { stoppable } from '../stop.js';
import { columns, count, json, type Output, standardOutput, visible } from '../terminal/output.js';

/** The options of a login that steer the decision; the others are about PAM and mean nothing here. */
const decisionOptions = optionTable.filter((option) =>
  [
    'action_no_jobs',
    'action_unknown',
    'action_adopt_failure',
    'action_generic_failure',
    'action_suspended',
    'ignore_root',
    'single_job_skip_rpc',
    'callerid_timeout',
    'budget',
    'rank',
    'wait_for_job',
  ].includes(option.name),
);

/** A person does not wait three seconds for a job that may start. */
const commandDefaults: AdoptionOptions = { ...defaultOptions, waitForJobMs: 0 };

export const adoptSpec: CommandSpec = {
  name: 'adopt',
  summary: 'put a process into a job, prove it, or leave it where it was',
  about:
    "Moves a process of the job's user (or the sshd that watches over that user's connection) into the extern step of " +
    'the job, in every cgroup hierarchy, and proves it from /proc; a failure in the middle is undone. Without --job the ' +
    'rules of a login choose: the only job, else the one the connection comes from (caller ID), else action_unknown ' +
    '(the newest). A process that is in another job which still runs is taken out of it only with --force. Exit code 0: ' +
    'it is in the job.',
  operands: ['<pid>'],
  flags: [
    { name: 'uid', takes: 'U', description: "whose session it is (default: the process's own user)" },
    { name: 'user', takes: 'NAME', description: 'the same by name' },
    { name: 'job', takes: 'N', description: 'into this job instead of the one the rules choose' },
    {
      name: 'connection',
      takes: 'C',
      description:
        'the connection of the session, "SRC SPORT DST DPORT" as in SSH_CONNECTION (default: the one that the process, an sshd, holds)',
    },
    { name: 'dry-run', description: 'decide and explain, move nothing' },
    { name: 'descendants', description: 'move its living children too' },
    { name: 'force', description: 'also take it out of another job that still runs' },
    ...decisionOptions.map((option) => ({
      name: option.flag,
      takes: 'VALUE',
      description: `${option.description}: ${option.allowed}`,
    })),
    { ...fromFlag, description: `${fromFlag.description} (with --dry-run)` },
    ...commonFlags,
  ],
  examples: [
    ['slurm-cgroups adopt 4711 --uid 1001 --dry-run', 'which job would it be, and why?'],
    ['slurm-cgroups adopt self --job 5', 'the process that runs this command: a shell'],
    ['slurm-cgroups adopt 4711 --job 5 --descendants', 'a shell that is already running, with its children'],
    ['slurm-cgroups adopt 4711 --user alice --action-unknown deny', 'only if the job is beyond doubt'],
    [
      'slurm-cgroups adopt 4711 --user alice --connection "$SSH_CONNECTION"',
      'into the job that the session comes from',
    ],
  ],
};

/** What the command prints. */
interface AdoptReport {
  readonly action: 'adopt' | 'allow' | 'ignore' | 'deny';
  readonly job?: { readonly jobId?: number; readonly sluid?: string; readonly uid?: number };
  readonly reason: string;
  readonly trace: readonly string[];
  readonly dryRun: boolean;
  readonly adoption?: RecordedAdoption;
  /** Children of the process that are not in the job, where it is or would be in one. */
  readonly childrenOutside?: ChildrenOutside;
}

export async function runAdopt(words: Words, output: Output = standardOutput()): Promise<number> {
  const operand = words.operands[0] ?? '';
  const pid = operand === 'self' ? callerOf(liveHost()) : pidOf(operand);
  const dryRun = words.flags.has('dry-run');
  if (words.flags.has('from') && !dryRun) throw usageError('On a recorded node nothing can be ended: add --dry-run');
  const said = whose(words);
  const jobId = namedJob(words);
  const options = optionsOf(words);
  const connection = connectionIn(words);
  const context = await openContext('adopt', words);
  await requireSlurm(context.node);
  if (context.node.tops[0] !== undefined) checkOptions(options, { cgroupVersion: context.node.tops[0].version });
  if (!dryRun && context.host.self().uid !== 0)
    throw new SlurmCgroupsError(
      'ERR_NOT_PERMITTED',
      `Cannot move process ${pid}: only root may move processes between jobs`,
      { pid },
    );
  const uid = await uidFor(context, said, { pid, budgetMs: options.budgetMs });
  const request: SessionRequest = {
    ...{ pid, uid },
    ...defined({ jobId, connection }),
  };
  const [descendants, force] = [words.flags.has('descendants'), words.flags.has('force')];
  // A sandbox has ids of jobs that this node's Slurm has, too.
  const isRecorded = !words.flags.has('within');
  const asked = { request, options, dryRun, descendants, force, isRecorded };
  return stoppable(
    async (signal) => answer(context, { ...asked, signal }, { words, output }),
    (by) => writeError(`slurm-cgroups adopt: stopped by ${by}: process ${pid} is where it was\n`),
  );
}

/** The process that runs this command: a shell. */
function callerOf(host: Host): number {
  return parseProcStat(host.read(`/proc/${host.self().pid}/stat`)).ppid;
}

async function answer(
  context: Context,
  asked: Asked,
  { words, output }: { readonly words: Words; readonly output: Output },
): Promise<number> {
  const { dryRun, request } = asked;
  const { pid, uid } = request;
  const report = await (dryRun ? decideOnly : decideAndAdopt)(context, asked);
  for (const line of report.trace) context.log('verbose', line);
  context.log('info', report.reason, { action: report.action, pid, uid, dryRun, outcome: report.adoption?.outcome });
  if (words.flags.has('json')) output.print(json(report));
  else output.print(...render(pid, report, { output, descendants: asked.descendants }));
  return report.action === 'adopt' ? 0 : 1;
}

function namedJob(words: Words): number | undefined {
  const text = flagValue(words, 'job');
  if (text === undefined) return undefined;
  for (const other of ['action-unknown', 'connection'])
    if (words.flags.has(other)) throw usageError(`--job and --${other} both say which job: give one of them`);
  return jobIdOf(text);
}

/**
 * A login goes on without a connection that cannot be read; a person who wrote one here wants to know. sshd's own
 * word for an unknown caller is no mistake. */
function connectionIn(words: Words): string | undefined {
  const text = flagValue(words, 'connection');
  const found = text === undefined ? undefined : parseSshConnection(text);
  if (found !== undefined && 'why' in found && found.isUnknown !== true)
    throw usageError(
      `Cannot read the connection: ${found.why}; --connection takes what SSH_CONNECTION holds, "SRC SPORT DST DPORT"`,
    );
  return text;
}

function optionsOf(words: Words): AdoptionOptions {
  return decisionOptions.reduce((options, option) => {
    const text = flagValue(words, option.flag);
    return text === undefined ? options : readOption(option, text, options, `--${option.flag}`);
  }, commandDefaults);
}

/** Whose session it is: as said, else the effective user of the process. */
async function uidFor(
  { host, node }: Context,
  whoseIt: ReturnType<typeof whose>,
  { pid, budgetMs }: { readonly pid: number; readonly budgetMs: number },
): Promise<number> {
  const said =
    whoseIt === undefined
      ? undefined
      : 'uid' in whoseIt
        ? whoseIt.uid
        : await (await import('../users.js')).requireUid(host, whoseIt.user);
  return withProcess(host, pid, async (held) => {
    const uid = said ?? held.status().uids[1];
    if (said === undefined && uid === 0)
      throw usageError(`Process ${pid} is root's: say whose session it is with --uid or --user`);
    await checkMayMove(node, held, { uid, deadline: deadlineIn(host, budgetMs) });
    return uid;
  });
}

interface Asked {
  readonly request: SessionRequest;
  readonly options: AdoptionOptions;
  readonly descendants: boolean;
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly isRecorded: boolean;
  readonly signal: AbortSignal;
}

async function decideOnly({ node }: Context, asked: Asked): Promise<AdoptReport> {
  const { request, options } = asked;
  const { decision } = await decideSession(request, { node, options });
  checkIsThere(request, decision);
  const { action, reason, trace } = decision;
  if (decision.action !== 'adopt') return { action, ...jobOf(request, undefined), reason, trace, dryRun: true };
  const taken = await takenOutOf(node, asked, decision.target);
  const target = recordedTarget(decision.target);
  return {
    ...{ action, ...jobOf(request, target), reason, trace: [...trace, ...taken], dryRun: true },
    ...(await outsideOf(node, request.pid, target)),
  };
}

/**
 * What the adoption would say of another living job that the process is in.
 *
 * @throws SlurmCgroupsError ERR_PROTECTED where it would refuse
 */
async function takenOutOf(
  node: SlurmNode,
  { request: { pid }, options, force }: Asked,
  target: AdoptionTarget,
): Promise<readonly string[]> {
  const deadline = deadlineIn(node.host, options.budgetMs);
  return withProcess(node.host, pid, async (held) => {
    const other = await otherJobKeeping(node, held, { target: target.kind === 'job' ? target.job : target, deadline });
    if (other === undefined) return [];
    if (!force) throw inOtherJob(held, other);
    return [`process ${pid} would be taken out of ${other}, which still runs: force`];
  });
}

/** For the children of a process, of which there can be thousands. */
const childrenMs = 2000;

async function outsideOf(
  node: SlurmNode,
  pid: number,
  target: RecordedTarget | undefined,
): Promise<Pick<AdoptReport, 'childrenOutside'>> {
  if (target?.kind !== 'job') return {};
  const only = directoryNameOf(target);
  const identity = ifReadable(() => identityOf(node.host, pid));
  const job =
    only === undefined ? undefined : ifReadable(() => discoverJobs(node, { only, ...defined({ uid: target.uid }) })[0]);
  if (identity === undefined || job === undefined) return {}; // both have ended
  const childrenOfIt = await childrenOutside(node, identity, { job, deadline: deadlineIn(node.host, childrenMs) });
  return { childrenOutside: childrenOfIt };
}

async function decideAndAdopt(
  { node }: Context,
  { request, options, descendants, force, isRecorded, signal }: Asked,
): Promise<AdoptReport> {
  const record = await admitSession(request, {
    ...{ node, options, descendants, force, signal, onFailure: 'undo' },
    ...(isRecorded ? { recorded: {} } : {}),
  });
  checkIsThere(request, record);
  const { reason, trace, adoption } = record;
  const isAdopted = adoption?.outcome === 'adopted';
  return {
    action: isAdopted ? 'adopt' : record.action,
    ...jobOf(request, record.target),
    ...{ reason, trace, dryRun: false },
    ...defined({ adoption }),
    ...(isAdopted ? await outsideOf(node, request.pid, record.target) : {}),
  };
}

/** A job that was named and is not there is an error, as for every command that takes a job. */
function checkIsThere(
  { jobId, uid }: SessionRequest,
  { rule, reason }: { readonly rule: Rule; readonly reason: string },
): void {
  if (rule === 'no-such-job') throw new SlurmCgroupsError('ERR_NO_SUCH_JOB', reason, { uid, ...defined({ jobId }) });
}

function jobOf({ jobId, uid }: SessionRequest, target: RecordedTarget | undefined): Pick<AdoptReport, 'job'> {
  if (target?.kind === 'job') {
    const { kind: _, ...names } = target;
    return { job: { ...names, uid } };
  }
  return jobId === undefined ? {} : { job: { jobId, uid } };
}

function render(
  pid: number,
  report: AdoptReport,
  { output, descendants }: { readonly output: Output; readonly descendants: boolean },
): readonly string[] {
  const { adoption } = report;
  const head =
    report.action === 'adopt'
      ? output.style('green', visible(report.reason))
      : output.style('red', `${report.action}: ${visible(report.reason)}`);
  const trace = report.trace.map((line) => output.style('dim', `  ${visible(line)}`));
  const outside = childrenLines(pid, report, descendants).map((line) => output.style('yellow', line));
  if (adoption === undefined)
    return [head, ...trace, ...outside, ...(report.dryRun ? ['Nothing was moved (--dry-run).'] : [])];
  const rows = adoption.hierarchies.map((one) => [
    hierarchyKey(one.controllers),
    one.outcome,
    visible(one.error === undefined ? one.path : one.error.message),
  ]);
  const children =
    adoption.descendants.length === 0
      ? []
      : [
          `${count(adoption.descendants.length, 'child process')} of ${pid} moved along: ${adoption.descendants.map((one) => one.pid).join(', ')}`,
        ];
  return [
    head,
    ...trace,
    ...columns(rows).map((line) => `  ${line}`),
    ...countedIn(report, adoption),
    ...children,
    ...outside,
  ];
}

/** Of the children that are not in the job, in words: an sshd whose session runs already is moved alone. */
function childrenLines(
  pid: number,
  { childrenOutside: found, dryRun }: AdoptReport,
  descendants: boolean,
): readonly string[] {
  if (found === undefined) return [];
  const { count: many, processes, unknown } = found;
  const more = unknown === undefined ? [] : [`There may be more children outside: ${visible(unknown)}`];
  if (many === 0) return more;
  const first = processes.slice(0, 4).map(({ pid: child, comm }) => `${child} (${visible(comm)})`);
  const names = [...first, ...(many > first.length ? [`${many - first.length} more`] : [])].join(', ');
  const children = `${count(many, 'child process')} of ${pid}`;
  const [stay, are] = many === 1 ? ['stays', 'is'] : ['stay', 'are'];
  if (dryRun && descendants) return [`${children} ${are} outside the job, and would be moved too: ${names}`, ...more];
  const does = dryRun ? 'would stay outside the job' : `${stay} outside the job`;
  const hint = descendants ? '' : `; --descendants moves ${many === 1 ? 'it' : 'them'} too`;
  return [`${children} ${does}: ${names}${hint}`, ...more];
}

/** Whether Slurm counts what the process uses, in words; nothing where it is not in the job. */
function countedIn(
  { job }: AdoptReport,
  { outcome, moved, accounting, uncountedWhy }: RecordedAdoption,
): readonly string[] {
  if (outcome !== 'adopted') return [];
  if (accounting === 'stepd') return ['Slurm counts its use.'];
  if (job === undefined) return ["In the user's own cgroup: no job's limits apply, and no job counts it."];
  if (moved === 'none')
    return ['It was already in the job: slurmstepd is not told again, since it would count it twice.'];
  return [`Limited by the job, but not counted by Slurm: ${visible(uncountedWhy ?? 'slurmstepd is not told of it')}`];
}
