// Whose job it is, and for a directory named by its SLUID, which job. On v1 the path says both. On v2 slurmstepd's
// place tells the job and the script that slurmd stored for a batch job its user; for the rest slurmstepd is asked.

import { type Deadline, deadlineIn } from '../../machine/deadline.js';
import { ifRecorded } from '../../machine/errors.js';
import { isRegularFile } from '../../machine/host.js';
import { isFolderOf } from '../../machine/ownership.js';
import type { Slots } from '../../machine/slots.js';
import type { OwnedJob } from '../job.js';
import type { SlurmNode } from '../node.js';
import { jobIdByPlace } from '../stepd/process.js';
import { type AskedOwner, askOwners } from './asked.js';
import { recordedOwners } from './recorded.js';

export interface FindOwnersOptions {
  readonly node: SlurmNode;
  /** Over all. Default 2000. */
  readonly timeoutMs?: number;
  /** For each slurmstepd. Default 1000. */
  readonly eachTimeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Shared by all that connect at the same time. Default: eight. */
  readonly slots?: Slots;
}

/**
 * The same jobs with their owners, and with the ids of those named by SLUID, as far as they can be known. On v1 no
 * slurmstepd is asked; on v2 one a job, at most, eight at a time, where neither a script nor its place tells.
 * `timeoutMs` (default 2000) is over all of it: one that is stopped costs its own deadline, and the others are told.
 *
 * @throws SlurmCgroupsError when the spool is there and cannot be read. Who gives no answer in time is `unknownWhy`.
 */
export async function findOwners(jobs: readonly OwnedJob[], options: FindOwnersOptions): Promise<readonly OwnedJob[]> {
  const { node, timeoutMs = 2000, signal } = options;
  const deadline = deadlineIn(node.host, timeoutMs, signal);
  const trusted = new Map([...node.spools].filter(([, spool]) => isTrusted(node, spool)));
  const seen = jobs.map((job) => lookAt(node, job, trusted));
  const open = seen.filter((job) => job.uid === undefined || job.jobId === undefined);
  if (open.length === 0) return seen;
  const asked = await answersFor(open, { ...options, deadline }, seen);
  return seen.map((job): OwnedJob => {
    const answer = asked.get(job);
    if (answer === undefined) return job;
    if ('why' in answer) return { ...job, unknownWhy: answer.why };
    return { ...job, jobId: answer.jobId, uid: answer.uid, ownerFrom: 'stepd' };
  });
}

async function answersFor(
  open: readonly OwnedJob[],
  options: FindOwnersOptions & { readonly deadline: Deadline },
  all: readonly OwnedJob[],
) {
  const { host } = options.node;
  if (host.source === 'recording') {
    const recorded = recordedOwners(host);
    const why = 'slurmstepd would have to be asked, and a recording has none';
    return new Map(open.map((job): readonly [OwnedJob, AskedOwner] => [job, recorded(job) ?? { why }]));
  }
  const answers = await askOwners(open, options, all);
  return new Map(open.flatMap((job, at) => (answers[at] === undefined ? [] : [[job, answers[at]] as const])));
}

/** What is seen without a question to slurmstepd. */
function lookAt(node: SlurmNode, job: OwnedJob, trusted: ReadonlyMap<string, string>): OwnedJob {
  const { unknownWhy, ...known } = job;
  const found = known.jobId ?? jobIdByPlace(node, known);
  const identified: OwnedJob = found === undefined ? known : { ...known, jobId: found };
  if (identified.uid !== undefined) return { ...identified, ownerFrom: identified.ownerFrom ?? 'path' };
  const name = identified.nodeName ?? node.nodeName;
  const spool = name === undefined ? undefined : trusted.get(name);
  const { jobId } = identified;
  const uid = spool === undefined || jobId === undefined ? undefined : ownerOfScript(node, spool, jobId);
  return uid === undefined ? identified : { ...identified, uid, ownerFrom: 'slurm_script' };
}

/** A folder that others can write, or that is not root's, proves nothing. */
function isTrusted(node: SlurmNode, spool: string): boolean {
  const stat = ifRecorded(() => node.host.stat(spool));
  return stat !== undefined && isFolderOf(stat);
}

/** `<spool>/job<5 digits>/slurm_script`, mode 0700, owned by the job's user (measured, 20.11 to 26.05). */
function ownerOfScript(node: SlurmNode, spool: string, jobId: number): number | undefined {
  const folder = `${spool}/job${String(jobId).padStart(5, '0')}`;
  const above = node.host.stat(folder);
  // slurmd makes it 0750, root's, with the group of the job's user: where others can write, the script may be theirs.
  if (above === undefined || !isFolderOf(above)) return undefined;
  const script = node.host.stat(`${folder}/slurm_script`);
  return script === undefined || !isRegularFile(script) ? undefined : Number(script.uid);
}
