// slurm-cgroups adopt: one process into one job, chosen by the rules or named. On the login path: nothing
// that is not needed is imported, no package at all.

import { type AdoptionResult, adopt } from '../../adopt/adoption.js';
import { parseSshConnection } from '../../adopt/connection.js';
import { admitSession, decideSession } from '../../adopt/session.js';
import { hierarchyKey } from '../../cgroup/membership.js';
import { withProcess } from '../../cgroup/process.js';
import { discoverJobs } from '../../jobs/discovery.js';
import { type Job, nameOfJob, type OwnedJob } from '../../jobs/job.js';
import { findOwners } from '../../jobs/owners/find.js';
import { refusalToMove } from '../../jobs/protected.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import type { AdoptionTarget } from '../../policy/answer.js';
import { type AdoptionOptions, checkOptions, defaultOptions, optionTable, readOption } from '../../policy/options.js';
import { type Context, openContext, requireSlurm } from '../context.js';
import { usageError } from '../exit.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, jobIdOf, pidOf, type Words, whose } from '../spec.js';
import { columns, count, json, type Output, standardOutput, visible } from '../terminal/output.js';

/** Options of a login that steer the decision; the rest is about PAM and has no meaning here. */
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

/** By hand nobody waits three seconds for a job that may start. */
const commandDefaults: AdoptionOptions = { ...defaultOptions, waitForJobMs: 0 };

export const adoptSpec: CommandSpec = {
  name: 'adopt',
  summary: 'put a process into a job, prove it, or leave it where it was',
  about:
    "Moves a process of the job's user (or the sshd that watches over that user's connection) into the extern step of " +
    'the job, in every cgroup hierarchy, and proves it from /proc; a failure in the middle is undone. Without --job the ' +
    'rules of a login choose: the only job, else the one the connection comes from (caller ID), else action_unknown ' +
    '(the newest). Exit code 0: it is in the job.',
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
  readonly adoption?: AdoptionResult;
}

export async function runAdopt(words: Words, output: Output = standardOutput()): Promise<number> {
  const pid = pidOf(words.operands[0] ?? '');
  const dryRun = words.flags.has('dry-run');
  if (words.flags.has('from') && !dryRun) throw usageError('A recorded node can only be asked with --dry-run');
  const said = whose(words);
  const job = flagValue(words, 'job');
  const wanted = job === undefined ? undefined : jobIdOf(job);
  const options = optionsOf(words);
  if (wanted !== undefined && words.flags.has('action-unknown'))
    throw usageError('--job and --action-unknown both say which job: give one of them');
  if (wanted !== undefined && words.flags.has('connection'))
    throw usageError('--job and --connection both say which job: give one of them');
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
  const uid = await uidFor(context, said, pid);
  const request: Adopting = {
    ...{ pid, uid, dryRun, options, descendants: words.flags.has('descendants') },
    ...(connection === undefined ? {} : { connection }),
  };
  const report =
    wanted === undefined ? await adoptByRules(context, request) : await adoptInto(context, request, wanted);
  for (const line of report.trace) context.log('verbose', line);
  context.log('info', report.reason, { action: report.action, pid, uid, dryRun, outcome: report.adoption?.outcome });
  if (words.flags.has('json'))
    output.print(json({ ...report, ...(report.adoption === undefined ? {} : { adoption: plain(report.adoption) }) }));
  else output.print(...render(pid, report, output));
  return report.action === 'adopt' ? 0 : 1;
}

interface Adopting {
  readonly pid: number;
  readonly uid: number;
  readonly connection?: string;
  readonly dryRun: boolean;
  readonly options: AdoptionOptions;
  readonly descendants: boolean;
}

/** A login goes on without a connection that cannot be read; whoever wrote it down here is told. */
function connectionIn(words: Words): string | undefined {
  const text = flagValue(words, 'connection');
  const found = text === undefined ? undefined : parseSshConnection(text);
  if (found !== undefined && 'why' in found)
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

/** Whose session it is: as said, else the user all of whose uids the process has. */
async function uidFor(context: Context, whoseIt: ReturnType<typeof whose>, pid: number): Promise<number> {
  const said =
    whoseIt === undefined
      ? undefined
      : 'uid' in whoseIt
        ? whoseIt.uid
        : await (await import('../users.js')).uidOfUser(context.host, whoseIt.user);
  return withProcess(context.host, pid, (held) => {
    const { uids } = held.status();
    const whose = said ?? uids[1];
    if (said === undefined && whose === 0)
      throw usageError(`Process ${pid} is root's: say whose session it is with --uid or --user`);
    const refusal = refusalToMove(context.node, held, whose);
    if (refusal !== undefined)
      throw new SlurmCgroupsError('ERR_PROTECTED', `Process ${pid} (${held.stat().comm}) is not moved: it ${refusal}`, {
        pid,
        uid: whose,
      });
    return whose;
  });
}

async function adoptByRules(
  { node }: Context,
  { pid, uid, connection, dryRun, options, descendants }: Adopting,
): Promise<AdoptReport> {
  const session = { node, options, descendants, onFailure: 'undo' as const };
  const request = { uid, pid, ...(connection === undefined ? {} : { connection }) };
  if (dryRun) {
    const { decision } = await decideSession(request, session);
    return {
      action: decision.action,
      ...jobOf(decision.action === 'adopt' ? decision.target : undefined, uid),
      reason: decision.reason,
      trace: decision.trace,
      dryRun,
    };
  }
  const { action, reason, trace, target, adoption } = await admitSession(request, session);
  const adopted = adoption?.outcome === 'adopted';
  return {
    action: adopted ? 'adopt' : action,
    ...jobOf(target, uid),
    reason,
    trace,
    dryRun,
    ...(adoption === undefined ? {} : { adoption }),
  };
}

/** A slurmstepd that is stopped must not use up the time of the adoption. */
const ownersMs = 2000;

async function adoptInto(
  { node }: Context,
  { pid, uid, dryRun, options, descendants }: Adopting,
  jobId: number,
): Promise<AdoptReport> {
  const endMs = node.host.now() + options.budgetMs;
  const leftMs = () => Math.max(0, endMs - node.host.now());
  const all = await findOwners(discoverJobs(node, { uid }), { node, timeoutMs: Math.min(ownersMs, leftMs()) });
  const here = all.filter((job) => job.jobId === jobId);
  const job = here.find((one) => one.uid === uid) ?? here[0];
  if (job === undefined)
    throw new SlurmCgroupsError('ERR_NO_SUCH_JOB', `uid ${uid} has no job ${jobId} on this node${unlessAmong(all)}`, {
      jobId,
      uid,
    });
  if (job.uid !== undefined && job.uid !== uid)
    throw new SlurmCgroupsError('ERR_NO_SUCH_JOB', `Job ${jobId} belongs to uid ${job.uid}, not to uid ${uid}`, {
      jobId,
      uid,
    });
  const reason = `The session goes into ${nameOfJob(job)}: it was named`;
  const about = jobOf({ kind: 'job', job }, uid);
  if (dryRun) return { action: 'adopt', ...about, reason, trace: [reason], dryRun };
  const adoption = await adopt(pid, job, { node, descendants, timeoutMs: leftMs() });
  const adopted = adoption.outcome === 'adopted';
  return {
    action: adopted ? 'adopt' : 'deny',
    ...about,
    reason: adopted
      ? `The session is in ${nameOfJob(job)}`
      : `The session could not be put into ${nameOfJob(job)}: ${adoption.error?.message ?? adoption.outcome}`,
    trace: [reason, ...adoption.trace],
    dryRun,
    adoption,
  };
}

/** A directory named by SLUID of which nothing tells the job could be it. */
function unlessAmong(jobs: readonly OwnedJob[]): string {
  const nameless = jobs.filter((job) => job.jobId === undefined);
  const [first] = nameless;
  if (first === undefined) return '';
  const why = first.unknownWhy === undefined ? '' : ` (${first.unknownWhy})`;
  return `, as far as is known: the id of ${nameless.map(nameOfJob).join(', ')} is not${why}`;
}

function jobOf(target: AdoptionTarget | undefined, uid: number): Pick<AdoptReport, 'job'> {
  if (target === undefined || target.kind === 'user') return {};
  const job: Job = target.job;
  return {
    job: {
      ...(job.jobId === undefined ? {} : { jobId: job.jobId }),
      ...(job.sluid === undefined ? {} : { sluid: job.sluid }),
      uid,
    },
  };
}

/** Errors as their code and message: JSON knows no Error. */
function plain(adoption: AdoptionResult): unknown {
  const say = (error: SlurmCgroupsError | undefined) =>
    error === undefined ? {} : { error: { code: error.code, message: error.message } };
  return {
    ...adoption,
    ...say(adoption.error),
    hierarchies: adoption.hierarchies.map((one) => ({ ...one, ...say(one.error) })),
  };
}

function render(pid: number, report: AdoptReport, output: Output): readonly string[] {
  const { adoption } = report;
  const head =
    report.action === 'adopt'
      ? output.style('green', visible(report.reason))
      : output.style('red', `${report.action}: ${visible(report.reason)}`);
  const trace = report.trace.map((line) => output.style('dim', `  ${visible(line)}`));
  if (adoption === undefined) return [head, ...trace, ...(report.dryRun ? ['Nothing was moved (--dry-run).'] : [])];
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
  return [head, ...trace, ...columns(rows).map((line) => `  ${line}`), ...countedIn(report, adoption), ...children];
}

/** Whether Slurm counts what it uses, in words; of one that is not in the job, nothing. */
function countedIn(
  { job }: AdoptReport,
  { outcome, moved, accounting, uncountedWhy }: AdoptionResult,
): readonly string[] {
  if (outcome !== 'adopted') return [];
  if (accounting === 'stepd') return ['Slurm counts its use.'];
  if (job === undefined) return ["In the user's own cgroup: no job's limits apply, and no job counts it."];
  if (moved === 'none')
    return ['It was already in the job: slurmstepd is not told again, since it would count it twice.'];
  return [`Limited by the job, but not counted by Slurm: ${visible(uncountedWhy ?? 'slurmstepd is not told of it')}`];
}
