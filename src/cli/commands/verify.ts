// slurm-cgroups verify: which job and step a process is in, hierarchy by hierarchy, proven from /proc.

import type { Limits } from '../../cgroup/limits.js';
import { hierarchyKey } from '../../cgroup/membership.js';
import { nameOfJob } from '../../jobs/job.js';
import {
  type HierarchyPlacement,
  type PlacementState,
  type Verdict,
  type Verification,
  verify,
} from '../../jobs/verification.js';
import { openContext } from '../context.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, jobIdOf, pidOf, type Words } from '../spec.js';
import { bytesText, columns, json, type Output, standardOutput, visible } from '../terminal/output.js';
import { namesOf } from '../users.js';

export const verifySpec: CommandSpec = {
  name: 'verify',
  summary: 'prove which job and step a process belongs to',
  about:
    'Compares /proc/PID/cgroup with the cgroups of the job. Exit code 0: the process is in a job (with --job: in that job), in every hierarchy where the job has a cgroup. 1: it is not, or there is no such process.',
  operands: ['<pid>'],
  flags: [{ name: 'job', takes: 'N', description: 'the process must be in this job' }, fromFlag, ...commonFlags],
  examples: [
    ['slurm-cgroups verify self', 'where does this command run? (needs no root)'],
    ['slurm-cgroups verify 4711 --job 5', 'is process 4711 in job 5?'],
    ['slurm-cgroups verify $$ --json', 'for programs'],
  ],
};

export async function runVerify(words: Words, output: Output = standardOutput()): Promise<number> {
  const [operand = 'self'] = words.operands;
  const pid = operand === 'self' ? operand : pidOf(operand);
  const job = flagValue(words, 'job');
  const wanted = job === undefined ? undefined : jobIdOf(job);
  const { node, log } = await openContext('verify', words, { configurationError: 'note' });
  const found = await verify(pid, { node });
  log('verbose', `process ${found.pid}: ${found.verdict}`, { job: found.job });
  const yes = found.verdict === 'contained' && (wanted === undefined || found.job?.jobId === wanted);
  const told = node.configurationError === undefined ? found.notes : [...node.notes, ...found.notes];
  const notes =
    node.evidence === undefined
      ? [...told, 'this is not a Slurm node: it has neither a Slurm cgroup nor a slurmd spool']
      : told;
  if (words.flags.has('json')) output.print(json({ ...found, notes }));
  else {
    const names = await namesOf(node.host, [found.uid]);
    output.print(...renderVerification({ ...found, notes }, names(found.uid) ?? `uid ${found.uid}`, output));
    if (!yes && wanted !== undefined && found.verdict === 'contained')
      output.print(output.style('red', `It is not in job ${wanted}.`));
  }
  return yes ? 0 : 1;
}

const verdicts: Readonly<Record<Verdict, (job: string) => string>> = {
  contained: (job) => `is in ${job}, in every hierarchy the job has`,
  partial: (job) => `is only partly in ${job}`,
  outside: () => 'is in no job',
  conflict: () => 'is in different jobs in different hierarchies',
};

const states: Readonly<Record<PlacementState, string>> = {
  'in-job': 'in the job',
  missing: 'NOT in the job, which has a cgroup here',
  'other-job': 'in ANOTHER job',
  outside: '',
  unknown: 'cannot be seen',
};

function renderVerification(found: Verification, user: string, output: Output): readonly string[] {
  const job =
    found.job === null
      ? ''
      : `${nameOfJob(found.job)}${found.job.stepId === undefined ? '' : ` step ${found.job.stepId}`}`;
  const style = found.verdict === 'contained' ? 'green' : found.verdict === 'outside' ? 'yellow' : 'red';
  const suspended = found.suspended === true ? output.style('yellow', ', which is suspended') : '';
  const head = `process ${found.pid} (${visible(found.comm)}) of ${visible(user)} ${output.style(style, verdicts[found.verdict](visible(job)))}${suspended}`;
  const rows = columns(found.hierarchies.map(row)).map((line) => `  ${line}`);
  return [
    head,
    ...rows,
    `limits: ${limitsLine(found.limits)}`,
    ...found.notes.map((note) => output.style('yellow', `note: ${visible(note)}`)),
  ];
}

function row(one: HierarchyPlacement): readonly string[] {
  const other = one.state === 'other-job' ? ` (${nameOfJob(one)})` : '';
  return [hierarchyKey(one.controllers), visible(one.path), `${states[one.state]}${other}`];
}

function limitsLine(limits: Limits): string {
  const parts = [
    limits.memoryBytes === undefined
      ? undefined
      : `memory ${limits.memoryBytes === 'max' ? 'unlimited' : bytesText(limits.memoryBytes)}`,
    limits.cpus === undefined ? undefined : `CPUs ${limits.cpus}`,
    limits.cpuQuota === undefined || limits.cpuQuota === 'max' ? undefined : `${limits.cpuQuota} CPUs of CPU time`,
    limits.pids === undefined ? undefined : `processes ${limits.pids === 'max' ? 'unlimited' : limits.pids}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? 'none that can be read here' : parts.join(', ');
}
