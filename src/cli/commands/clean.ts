// slurm-cgroups clean: end all processes of a job on this node and nothing else, and report what survived.

import { type CleanOptions, cleanJob } from '../../cleanup/ending.js';
import type { CleanReport } from '../../cleanup/report.js';
import { nameOfJob } from '../../jobs/job.js';
import { type JobName, parseJobName } from '../../jobs/layout.js';
import { defined } from '../../machine/defined.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import { openContext, requireSlurm } from '../context.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, jobIdOf, numberOf, type Words } from '../spec.js';
import { stoppable } from '../stop.js';
import { columns, count, json, type Output, standardOutput, visible } from '../terminal/output.js';

export const cleanSpec: CommandSpec = {
  name: 'clean',
  summary: 'end all processes of a job on this node and nothing else, and report what survived',
  about:
    "Ends every process in the job's cgroups: SIGTERM, after --grace SIGKILL, again until no new process appears. Then " +
    'removes the empty cgroups. Only membership in these cgroups counts, never a user name. slurmstepd, this command and ' +
    'its ancestors are spared. Without --force, a job whose slurmstepd still runs is not touched. Exit code 0: nothing of ' +
    'the job is left, also where nothing of it was here. 1: something is left, or that cannot be told.',
  operands: ['<job>'],
  flags: [
    { name: 'dry-run', description: 'show what would be ended, and end nothing' },
    { name: 'force', description: 'end the job even if its slurmstepd still runs' },
    { name: 'grace', takes: 'SECONDS', description: 'time from SIGTERM to SIGKILL; 0 sends no SIGTERM (default 5)' },
    {
      name: 'timeout',
      takes: 'SECONDS',
      description: 'time limit for the killing, and again for the removal (default 15)',
    },
    { ...fromFlag, description: `${fromFlag.description} (with --dry-run)` },
    ...commonFlags,
  ],
  examples: [
    ['slurm-cgroups clean 4711 --dry-run', 'what belongs to job 4711?'],
    ['slurm-cgroups clean 4711 --grace 0', 'end it at once'],
    ['nice -n -20 slurm-cgroups clean 4711', 'when a fork bomb keeps the machine busy'],
  ],
};

export async function runClean(words: Words, output: Output = standardOutput()): Promise<number> {
  return stoppable(
    (signal) => clean(words, output, signal),
    (by) =>
      output.print(
        `Stopped by ${by}: nothing is left frozen, but processes of the job may still run. Run the command again.`,
      ),
  );
}

async function clean(words: Words, output: Output, signal: AbortSignal): Promise<number> {
  const job = jobNameOf(words.operands[0] ?? '');
  const dryRun = words.flags.has('dry-run');
  if (words.flags.has('from') && !dryRun)
    throw new SlurmCgroupsError('ERR_USAGE', 'On a recorded node nothing can be ended: add --dry-run');
  const [graceMs, timeoutMs] = [secondsOf(words, 'grace'), secondsOf(words, 'timeout')];
  const { node, host, log } = await openContext('clean', words);
  await requireSlurm(node);
  if (!dryRun && host.self().uid !== 0)
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', `Cannot end ${nameOfJob(job)}: only root may`);
  const options: CleanOptions = {
    node,
    dryRun,
    force: words.flags.has('force'),
    ...defined({ graceMs, timeoutMs }),
    signal,
    // A sandbox has ids of jobs that this node's Slurm has, too.
    forgetAdoptions: !words.flags.has('within'),
  };
  const report = await cleanJob(job, options);
  log(
    'info',
    report.found === false
      ? `nothing of ${nameOfJob(job)} is on this node`
      : `${nameOfJob(job)}: ${count(report.ended.length, 'process')} ended, ${count(report.survivors.length, 'survivor')}`,
    { refused: report.refused },
  );
  if (words.flags.has('json')) output.print(json(report));
  else output.print(...renderReport(headNameOf(report), report, output));
  const { refused, survivors, left, unknown } = report;
  return refused === undefined && survivors.length === 0 && left.length === 0 && unknown === undefined ? 0 : 1;
}

function jobNameOf(text: string): JobName {
  const name = parseJobName(text);
  return name !== undefined && 'sluid' in name ? name : { jobId: jobIdOf(text) };
}

function secondsOf(words: Words, flag: string): number | undefined {
  const text = flagValue(words, flag);
  return text === undefined ? undefined : numberOf(text, 'a number of seconds', { from: 0, to: 3600 }) * 1000;
}

function renderReport(name: string, report: CleanReport, output: Output): readonly string[] {
  const rows = columns(
    report.ended.map((one) => [
      `  ${one.pid}`,
      `uid ${one.uid}`,
      visible(one.comm),
      one.signal === 'none' ? '' : one.signal,
      visible(pathBelowJob(one.cgroup)),
    ]),
  );
  const lines = [cleanHead(name, report, output), ...rows];
  for (const one of report.spared) lines.push(`  spared ${one.pid} (${visible(one.comm)}): ${visible(one.why)}`);
  for (const one of report.survivors) lines.push(output.style('red', `  survivor: ${visible(one.why)}`));
  if (report.removed.length > 0) lines.push(`  ${count(report.removed.length, 'cgroup')} removed`);
  for (const one of report.left) lines.push(output.style('yellow', `  left ${visible(one.path)}: ${visible(one.why)}`));
  if (report.unknown !== undefined)
    lines.push(output.style('red', `  there may be more that was not seen: ${visible(report.unknown)}`));
  return [...lines, ...report.notes.map((note) => output.style('yellow', `note: ${visible(note)}`))];
}

/** Where in the job it was. --json has the whole proof. */
function pathBelowJob(cgroup: string): string {
  return `in ${/\/(step_.*)$/.exec(cgroup)?.[1] ?? cgroup}`;
}

/** Both names if both are known: people know the id, the directory has the SLUID. */
function headNameOf({ jobId, sluid }: CleanReport): string {
  if (jobId === null) return `job ${sluid}`;
  return sluid === undefined ? `job ${jobId}` : `job ${jobId} (${sluid})`;
}

function cleanHead(name: string, report: CleanReport, output: Output): string {
  if (report.found === false) return `Nothing of ${visible(name)} is on this node.`;
  if (report.refused !== undefined)
    return output.style('red', `${visible(name)} was not touched: ${visible(report.refused)}`);
  if (report.dryRun)
    return `${visible(name)}: ${count(report.ended.length, 'process')} would be ended. Nothing was touched (--dry-run).`;
  const survivors = report.survivors.length === 0 ? '' : `, ${count(report.survivors.length, 'process')} survived`;
  return output.style(
    survivors === '' ? 'green' : 'red',
    `${visible(name)}: ${count(report.ended.length, 'process')} ended${survivors}`,
  );
}
