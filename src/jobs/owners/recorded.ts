// What slurmstepds told of their jobs when a node was recorded: a recording has no slurmstepd to ask. Kept beside the host's
// answers under a name that is no path.

import { hasCode } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import type { Job, OwnedJob } from '../job.js';
import type { AskedOwner } from './asked.js';

/** The name under which a recording keeps them. */
export const ownersAnswer = 'owners';

/** The text of that answer: of the jobs that slurmstepd was asked about, by the path of their directory. */
export function ownersText(jobs: readonly OwnedJob[]): string {
  return JSON.stringify(
    jobs.flatMap(({ jobId, uid, ownerFrom, cgroups: [cgroup] }) =>
      ownerFrom === 'stepd' && cgroup !== undefined ? [{ cgroup: cgroup.path, jobId, uid }] : [],
    ),
  );
}

/** Whose job it is by the recording; `undefined`: it does not say. */
export type RecordedOwners = (job: Job) => AskedOwner | undefined;

/** Of a recording that was made without these, or in which they are no such text, no owner is known. */
export function recordedOwners(host: Host): RecordedOwners {
  const owners = new Map<string, AskedOwner>();
  for (const told of answersIn(host)) {
    if (typeof told !== 'object' || told === null) continue;
    const [cgroup, jobId, uid] = ['cgroup', 'jobId', 'uid'].map((key): unknown => Reflect.get(told, key));
    if (typeof cgroup === 'string' && isId(jobId) && isId(uid)) owners.set(cgroup, { jobId, uid });
  }
  return ({ cgroups: [cgroup] }) => (cgroup === undefined ? undefined : owners.get(cgroup.path));
}

function answersIn(host: Host): readonly unknown[] {
  try {
    const told: unknown = JSON.parse(host.read(ownersAnswer));
    return Array.isArray(told) ? told : [];
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, 'ERR_NOT_RECORDED')) return [];
    throw error;
  }
}

function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 0xffff_fffe;
}
