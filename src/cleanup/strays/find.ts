// Strays: processes of people who have no job on this node. First form: told by uid alone. Where it is not known
// whose jobs are here, no process is called a stray (law 7). It only looks.

import { type Membership, parseMemberships } from '../../cgroup/membership.js';
import { type HeldProcess, holdProcess } from '../../cgroup/process.js';
import { discoverJobs } from '../../jobs/discovery.js';
import { type Job, nameOfJob, type OwnedJob } from '../../jobs/job.js';
import { isJobLiving } from '../../jobs/living.js';
import { placeOf } from '../../jobs/membership-in-job.js';
import type { SlurmNode } from '../../jobs/node.js';
import { findOwners } from '../../jobs/owners/find.js';
import { unplacedSteps } from '../../jobs/stepd/unplaced.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { ifRecorded, ifThere, isGone, SlurmCgroupsError, someOf } from '../../machine/errors.js';
import { withHeld } from '../../machine/held.js';
import type { Host } from '../../machine/host.js';
import { isPersonsUid, readUidMin } from '../../machine/users.js';
import { lineOfDescent } from '../spared.js';
import { containerOf, daemonUsers, isPeoplesPlace, serviceOf } from './people.js';
import { knownUptimeMs, type ProcessRow, type ProcessTable, readProcessTable, readUse } from './process-table.js';

/** A process that should not be here. */
export interface Stray {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTime: string;
  /** Real uid: who started it. */
  readonly uid: number;
  readonly comm: string;
  /** Its most telling membership: systemd's, else that of v2, else the first that is not the root. */
  readonly cgroup: string;
  /** Why it is one. */
  readonly proof: string;
  /** The job it came from, where that is proven. */
  readonly jobId?: number;
  readonly ageSeconds?: number;
  /** CPU time over age, in percent of one CPU. */
  readonly cpuPercent?: number;
  readonly memoryBytes: number;
}

export interface StraysReport {
  readonly strays: readonly Stray[];
  /** `false`: it could not be told whose jobs are here, so `strays` is empty whatever runs; or not all processes were seen. */
  readonly complete: boolean;
  readonly notes: readonly string[];
}

export interface FindStraysOptions {
  /** Read without `nodeName`: the jobs of every node on the machine count. */
  readonly node: SlurmNode;
  /** Only this user's. */
  readonly uid?: number;
  /** First uid of people. Default: UID_MIN of /etc/login.defs, else 1000. */
  readonly uidMin?: number;
  /** To look through the processes. Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** What is known of the jobs here. */
export interface JobsKnown {
  readonly count: number;
  /** Uids that have a job. */
  readonly owners: ReadonlySet<number>;
  /** Why another user could have one, too. */
  readonly unknown: readonly string[];
}

/** What decides over a process. */
export interface StrayRules {
  readonly node: Pick<SlurmNode, 'tops'>;
  readonly uidMin: number;
  readonly jobs: JobsKnown;
  /** Whom Slurm's own daemons run as. */
  readonly slurmsUids: ReadonlySet<number>;
  /** This command and its ancestors. */
  readonly line: ReadonlySet<number>;
  /** The node is itself a container of another machine: then every process is in one. */
  readonly isContained?: boolean;
}

/** Why a process is a stray; `undefined`: it is none, or that cannot be told. Pure. */
export function strayProof(
  { memberships, ...row }: ProcessRow & { readonly memberships: readonly Membership[] },
  rules: StrayRules,
): string | undefined {
  if (!isOfStranger(row, rules) || !isStraysPlace(memberships, rules)) return undefined;
  const { jobs } = rules;
  const others = jobs.count === 1 ? '1 job of others' : `${jobs.count} jobs of others`;
  return `its user has no job on this node (${jobs.count === 0 ? 'no user has' : others}), and it is in no job's cgroup`;
}

/** By its user, who has no job here. */
function isOfStranger({ pid, uid }: ProcessRow, { uidMin, jobs, slurmsUids, line }: StrayRules): boolean {
  if (jobs.unknown.length > 0 || pid === 1 || line.has(pid)) return false;
  return isPersonsUid(uid, uidMin) && !slurmsUids.has(uid) && !jobs.owners.has(uid);
}

/** By where it stands: in no job, which it would belong to whatever its user is, in no service and no container. */
function isStraysPlace(
  memberships: readonly Membership[],
  { node, isContained = false }: Pick<StrayRules, 'node' | 'isContained'>,
): boolean {
  return serviceOf(memberships) === undefined && isInNoJob(memberships, { node, isContained });
}

/** In no cgroup of a job, and in no container of the machine's, which have jobs of their own kind. */
export function isInNoJob(
  memberships: readonly Membership[],
  { node, isContained = false }: Pick<StrayRules, 'node' | 'isContained'>,
): boolean {
  if (memberships.some((membership) => placeOf(node, membership)?.job !== undefined)) return false;
  return isContained || containerOf(memberships) === undefined;
}

/**
 * Looks for strays on this machine. What cannot be read is a note, never an error, and never "no job".
 */
export async function findStrays(options: FindStraysOptions): Promise<StraysReport> {
  const { node, uid, uidMin = readUidMin(node.host), timeoutMs, signal } = options;
  const { host } = node;
  const isWanted = (one: number) => isPersonsUid(one, uidMin) && (uid === undefined || one === uid);
  const isContained = isInContainer(host);
  let table: ProcessTable;
  let line: ReadonlySet<number>;
  try {
    table = await readProcessTable(host, {
      isPerson: isWanted,
      isWantedAt: (memberships) => isStraysPlace(memberships, { node, isContained }),
      ...defined({ timeoutMs, signal }),
    });
    line = host.source === 'live' ? lineOfDescent(host) : new Set();
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { strays: [], complete: false, notes: [`No process is called a stray: ${error.message}`] };
  }
  // After the processes: a job that began meanwhile counts, and one that ended meanwhile does not.
  const jobs = await knowJobs(node);
  const slurms = await daemonUsers(node);
  const rules: StrayRules = { node, uidMin, jobs, slurmsUids: slurms.uids, line, isContained };
  const notes = [...jobs.unknown.map((why) => `No process is called a stray: ${why}`)];
  if (table.unknown !== undefined) notes.push(`There may be more strays: ${table.unknown}`);
  if (table.hidden > 0) notes.push(`${table.hidden} processes could not be looked at: run it as root`);
  // Who has a job has no strays by this rule, wherever they are.
  const unplaced = table.unplaced.filter((one) => !jobs.owners.has(one.uid)).length;
  if (unplaced > 0)
    notes.push(
      `The kernel shows no cgroup path of ${unplaced} ${unplaced === 1 ? 'process' : 'processes'} (nested too deep): whether ${unplaced === 1 ? 'it is a stray' : 'they are strays'} is not known`,
    );
  const uptime = knownUptimeMs(host);
  const strays = table.rows
    .filter((row) => isOfStranger(row, rules))
    .flatMap((row) => lookCloser(host, row, { rules, uptime, notes }))
    .filter((stray) => isWanted(stray.uid));
  if (strays.length > 0) notes.push(...slurms.notes);
  const complete = jobs.unknown.length === 0 && table.unknown === undefined && unplaced === 0;
  return { strays, complete, notes };
}

interface Closer {
  readonly rules: StrayRules;
  /** In ms. */
  readonly uptime: number | undefined;
  readonly notes: string[];
}

/** Holds the process and decides again: between the two looks its pid may have become another's. */
function lookCloser(host: Host, { pid }: ProcessRow, { rules, uptime, notes }: Closer): readonly Stray[] {
  try {
    return withHeld(holdProcess(host, pid), (held) => {
      const memberships = held.memberships();
      const [uid] = held.status().uids;
      const proof = strayProof({ pid, uid, memberships }, rules);
      const { isZombie, kernelThread, startTime, ...use } = readUse(held, uptime);
      if (proof === undefined || isZombie || kernelThread) return [];
      const uidMap = uidMapOf(held);
      const maker = personBehind(uidMap);
      if (maker !== undefined && rules.jobs.owners.has(maker)) return [];
      if (maker === undefined && mapsRange(uidMap) && !isPeoplesPlace(memberships)) return [];
      return [{ pid, startTime: startTime.toString(), uid, cgroup: tellingPath(memberships), proof, ...use }];
    });
  } catch (error) {
    if (isGone(error)) return []; // it ended meanwhile
    if (!(error instanceof SlurmCgroupsError)) throw error;
    notes.push(error.message);
    return [];
  }
}

/**
 * Who made a process's user namespace, from /proc/PID/uid_map: rootless containers map their maker alone to one uid
 * and that user's subordinate uids to the rest. Such a uid has no job itself, but its maker may.
 */
export function personBehind(uidMap: string): number | undefined {
  for (const line of uidMap.split('\n')) {
    const [, outside, length] = line.trim().split(/\s+/);
    if (length === '1' && outside !== undefined && outside !== '0') return Number(outside);
  }
  return undefined;
}

/**
 * Whether a user namespace gives its root a range of uids and no person's (systemd-nspawn -U, LXD, Docker's userns-remap):
 * the machine's own containers. A user with subordinate uids can have one too, in a session or a job.
 */
export function mapsRange(uidMap: string): boolean {
  return uidMap.split('\n').some((line) => {
    const [inside, outside, length] = line.trim().split(/\s+/);
    return inside === '0' && outside !== '0' && Number(length) > 1;
  });
}

/** As a pod that sees its host's cgroups: pid 1 is in one. */
export function isInContainer(host: Host): boolean {
  try {
    return containerOf(parseMemberships(host.read('/proc/1/cgroup'))) !== undefined;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return false;
    throw error;
  }
}

export function uidMapOf(held: HeldProcess): string {
  // A kernel without user namespaces, or a recording without it. Whether the process lives was seen before.
  return ifRecorded(() => ifThere(() => held.directory.read('uid_map'))) ?? '';
}

/** The membership that tells most: the path in systemd's tree, else of v2, else the first that is not the root. */
export function tellingPath(memberships: readonly Membership[]): string {
  const systemd = memberships.find(({ controllers }) => controllers.includes('name=systemd'));
  const unified = memberships.find(({ controllers }) => controllers.length === 0);
  return [systemd, unified, ...memberships].find((one) => one !== undefined && one.path !== '/')?.path ?? '/';
}

/** What is not known by then counts as living. */
const livingMs = 2000;

/** Whose jobs are here. A list that cannot be read is a reason not to know, and so is a job without cgroup or owner. */
export async function knowJobs(node: SlurmNode): Promise<JobsKnown> {
  const nothing = { count: 0, owners: new Set<number>() };
  if (node.evidence === undefined)
    return { ...nothing, unknown: ["nothing here is Slurm's, so whose jobs are here is not known"] };
  try {
    const jobs = await findOwners(await livingJobs(node), { node });
    const owners = new Set(jobs.flatMap((job) => job.uid ?? []));
    const unknown = [...ownersUnknown(jobs.filter((job) => job.uid === undefined)), ...jobsBySocket(node, jobs)];
    return { count: jobs.length, owners, unknown };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return { ...nothing, unknown: [`the jobs here could not be read: ${error.message}`] };
  }
}

/** A directory that an ended job left behind gives no user a job. A recording keeps too little to tell. */
async function livingJobs(node: SlurmNode): Promise<readonly Job[]> {
  const jobs = discoverJobs(node);
  if (node.host.source === 'recording') return jobs;
  const deadline = deadlineIn(node.host, livingMs);
  const living: Job[] = [];
  for (const job of jobs) if (await isJobLiving(node, job, { deadline })) living.push(job);
  return living;
}

function ownersUnknown(jobs: readonly OwnedJob[]): readonly string[] {
  const [first] = jobs;
  if (first === undefined) return [];
  const why = first.unknownWhy === undefined ? '' : ` (${nameOfJob(first)}: ${first.unknownWhy})`;
  return [`the owner of ${someOf(jobs.map(nameOfJob), 5)} is not known${why}`];
}

/** Jobs that have a slurmstepd but no cgroup. */
function jobsBySocket(node: SlurmNode, jobs: readonly Job[]): readonly string[] {
  return [...new Set(unplacedSteps(node, jobs).map(({ jobId }) => jobId))].map(
    (jobId) => `job ${jobId} has a slurmstepd here but no cgroup, and its owner is not known`,
  );
}
