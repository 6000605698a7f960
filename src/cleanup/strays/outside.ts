// Processes of people that are in no job, also of users who have jobs here: what runs on the node past Slurm. It only
// looks. Whether such a process is a stray is another question (find.ts): a user with a job may log in.

import type { Membership } from '../../cgroup/membership.js';
import { holdProcess } from '../../cgroup/process.js';
import { defined } from '../../machine/defined.js';
import { isGone, SlurmCgroupsError } from '../../machine/errors.js';
import { withHeld } from '../../machine/held.js';
import { isPersonsUid, readUidMin } from '../../machine/users.js';
import {
  type FindStraysOptions,
  isInContainer,
  isInNoJob,
  type JobsKnown,
  knowJobs,
  mapsRange,
  personBehind,
  type Stray,
  tellingPath,
  uidMapOf,
} from './find.js';
import { daemonUsers, isPeoplesPlace } from './people.js';
import { knownUptimeMs, type ProcessRow, type ProcessTable, readProcessTable, readUse } from './process-table.js';

/** A process of a person in no job; `proof` says so, and what jobs its user has. */
export interface OutsideProcess extends Stray {
  /** Whether its user has a job on this node; `null`: that is not known. */
  readonly hasJob: boolean | null;
}

export interface OutsideReport {
  readonly outside: readonly OutsideProcess[];
  /** `false`: not all processes were seen. */
  readonly complete: boolean;
  readonly notes: readonly string[];
}

/**
 * Looks for every process of people that is in no job's cgroup, in any hierarchy. Processes of Slurm's own users and of
 * the machine's containers are no person's. What cannot be read is a note, never an error.
 */
export async function findOutside(options: FindStraysOptions): Promise<OutsideReport> {
  const { node, uid, uidMin = readUidMin(node.host), timeoutMs, signal } = options;
  const { host } = node;
  const isWanted = (one: number) => isPersonsUid(one, uidMin) && (uid === undefined || one === uid);
  const isContained = isInContainer(host);
  const isOutside = (memberships: readonly Membership[]) => isInNoJob(memberships, { node, isContained });
  let table: ProcessTable;
  try {
    table = await readProcessTable(host, {
      isPerson: isWanted,
      isWantedAt: isOutside,
      ...defined({ timeoutMs, signal }),
    });
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { outside: [], complete: false, notes: [`The processes could not be looked at: ${error.message}`] };
  }
  const jobs = await knowJobs(node);
  const slurms = await daemonUsers(node);
  const notes = [...jobs.unknown.map((why) => `Of some users it is not known whether they have a job: ${why}`)];
  if (table.unknown !== undefined) notes.push(`There may be more: ${table.unknown}`);
  if (table.hidden > 0) notes.push(`${table.hidden} processes could not be looked at: run it as root`);
  const unplaced = table.unplaced.length;
  if (unplaced > 0)
    notes.push(
      `The kernel shows no cgroup path of ${unplaced} ${unplaced === 1 ? 'process' : 'processes'} (nested too deep): whether ${unplaced === 1 ? 'it is' : 'they are'} in a job is not known`,
    );
  const uptime = knownUptimeMs(host);
  const look = ({ pid }: ProcessRow): readonly OutsideProcess[] =>
    withHeld(holdProcess(host, pid), (held) => {
      const memberships = held.memberships();
      const [real] = held.status().uids;
      const { isZombie, kernelThread, startTime, ...use } = readUse(held, uptime);
      if (isZombie || kernelThread || pid === host.self().pid) return [];
      if (!isWanted(real) || slurms.uids.has(real) || !isOutside(memberships)) return [];
      const uidMap = uidMapOf(held);
      const maker = personBehind(uidMap);
      if (maker === undefined && mapsRange(uidMap) && !isPeoplesPlace(memberships)) return [];
      const hasJob = hasJobHere(jobs, maker ?? real);
      const proof = proofs[String(hasJob)] ?? '';
      const cgroup = tellingPath(memberships);
      return [{ pid, startTime: startTime.toString(), uid: real, cgroup, proof, hasJob, ...use }];
    });
  const outside = table.rows.flatMap((row) => {
    try {
      return look(row);
    } catch (error) {
      if (isGone(error)) return []; // it ended meanwhile
      if (!(error instanceof SlurmCgroupsError)) throw error;
      notes.push(error.message);
      return [];
    }
  });
  if (outside.length > 0) notes.push(...slurms.notes);
  return { outside, complete: table.unknown === undefined && table.hidden === 0 && unplaced === 0, notes };
}

function hasJobHere({ owners, unknown }: JobsKnown, uid: number): boolean | null {
  if (owners.has(uid)) return true;
  return unknown.length > 0 ? null : false;
}

const proofs: Readonly<Record<string, string>> = {
  true: "in no job's cgroup, though its user has a job on this node",
  false: "in no job's cgroup, and its user has no job on this node",
  null: "in no job's cgroup; whether its user has a job on this node is not known",
};
