// Ending a job: plan, TERM, grace, kill until nothing new appears, remove what is empty, report. What belongs
// to the job is known by membership alone, never by a user's name; what could not be read ends nothing.

import { Cgroup } from '../cgroup/cgroup.js';
import type { Seen } from '../cgroup/cgroup-set.js';
import { thawLeftovers } from '../cgroup/frozen-note.js';
import { type Member, MemberReader } from '../cgroup/killing.js';
import { parentPath, pathBelow } from '../cgroup/path.js';
import { processKey } from '../cgroup/process.js';
import { isDead } from '../cgroup/process-end.js';
import { removeAdoptions } from '../jobs/adoptions.js';
import { cgroupOf } from '../jobs/discovery.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { type JobName, parseUidName } from '../jobs/layout.js';
import type { SlurmNode } from '../jobs/node.js';
import { removeUnderSlurmLock } from '../jobs/slurm-lock.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { ifThere, quote, SlurmCgroupsError, someOf } from '../machine/errors.js';
import { askToEnd, emptyAndRemove, membersIn } from './emptying.js';
import { findNamedJobs } from './named-job.js';
import { renamedCgroups } from './renamed.js';
import type { CleanReport, EndedProcess, SparedProcess } from './report.js';
import { endedJobsOf, isSlurmstepd, lineOfDescent, proofOf, spareReason } from './spared.js';
import { closeLookMs, describeSurvivor } from './survivors/describe.js';

export interface CleanOptions {
  readonly node: SlurmNode;
  /** Only say what would be done. */
  readonly dryRun?: boolean;
  /** Also a job whose slurmstepd still runs: its processes end, slurmstepd is spared. */
  readonly force?: boolean;
  /** Between SIGTERM and SIGKILL; 0: no SIGTERM. Default 5000. */
  readonly graceMs?: number;
  /** For the kill, and again for the removal. Default 15000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /**
   * Also removes what is recorded of adoptions into the job, once nothing of it is left. Only for the jobs of this
   * node's Slurm, never for those of a sandbox, whose ids are the same.
   */
  readonly forgetAdoptions?: boolean;
}

/** For the question whether other jobs live, in which members stand too. It is asked for the plan, and before the kill. */
const otherJobsMs = 1000;

/** What one survivor's children get at least: of hundreds none may be startable, and all would wait for long. */
const leastLookMs = 500;

const defaults = { graceMs: 5000, timeoutMs: 15_000 };

/**
 * Ends everything of a job on this node and removes its cgroups.
 *
 * @param job its id, or its SLUID where that names the directory. There the id is known while a slurmstepd of the
 * job lives.
 * Where nothing of the job is here, there is nothing to end: the report says so (`found: false`). Where that cannot be
 * told, or a list cannot be read, the report is `refused`, and nothing was ended.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED, and others where the effect itself fails
 */
export async function cleanJob(job: JobName, options: CleanOptions): Promise<CleanReport> {
  const { node, dryRun = false, timeoutMs = defaults.timeoutMs, signal } = options;
  const notes: string[] = [];
  if (!dryRun) {
    const deadline = deadlineIn(node.host, timeoutMs, signal);
    const thawed = await thawLeftovers(node.host, node.hierarchies, { deadline, ...defined({ within: node.within }) });
    notes.push(...noteOn(thawed, (names) => `thawed ${names}, which an earlier run that was killed had frozen`));
  }
  const plan = await planJob(job, options);
  const found = plan.found === undefined ? null : plan.found.length > 0;
  const base = { ...reportedNames(plan), dryRun, found, notes: [...notes, ...plan.notes] };
  if (dryRun || !found || plan.refused !== undefined) {
    const forgot = !dryRun && found === false && plan.refused === undefined ? await forget(plan, options) : [];
    const ended =
      plan.refused === undefined ? plan.members.map((member) => endedAs(member, 'none', { node, job: plan.job })) : [];
    return {
      ...base,
      notes: [...base.notes, ...forgot],
      ended,
      survivors: [],
      spared: plan.spared,
      removed: [],
      left: [],
      ...defined({ refused: plan.refused, unknown: plan.unknown }),
    };
  }
  return carryOut(plan, base, options);
}

/** For a few thousand records. */
const forgetMs = 1000;

/** Of a job of which nothing is left. What stays recorded is looked through again by whoever ends that job again. */
async function forget(plan: CleanPlan, { node, forgetAdoptions, signal }: CleanOptions): Promise<readonly string[]> {
  if (forgetAdoptions !== true) return [];
  const sluid = 'sluid' in plan.job ? plan.job.sluid : undefined;
  const jobId = plan.jobId;
  const why = await removeAdoptions(node.host, defined({ jobId, sluid }), deadlineIn(node.host, forgetMs, signal));
  return why === undefined ? [] : [`what is recorded of adoptions into ${calledOf(plan)} stays: ${why}`];
}

/** What there is of a job, and what is to be done with it. */
export interface CleanPlan {
  /** What names its directory, and so its members' places, whatever it was asked for by. */
  readonly job: JobName;
  /** Also where a SLUID names the directory, if a slurmstepd tells it. */
  readonly jobId?: number;
  /** Empty: nothing of the job is here. Absent: that cannot be told (`refused`). */
  readonly found?: readonly Job[];
  readonly cgroups: readonly Cgroup[];
  /** Which directories those are: another of the same name is that of a later run of the job. */
  readonly inodes: ReadonlyMap<Cgroup, bigint>;
  readonly members: readonly Member[];
  /** All that was found in its cgroups, to be spared or not. */
  readonly seen: readonly Member[];
  readonly spared: readonly SparedProcess[];
  /** Places in these spare no process: see endedJobsOf. */
  readonly ended: ReadonlySet<string>;
  readonly refused?: string;
  /** Why there may be more members than were seen. */
  readonly unknown?: string;
  readonly notes: readonly string[];
}

/** Lists, and decides, without touching anything. */
export async function planJob(asked: JobName, options: CleanOptions): Promise<CleanPlan> {
  const { node, force = false, signal, timeoutMs = defaults.timeoutMs } = options;
  const nothing = {
    ...namesOf(asked),
    cgroups: [],
    inodes: new Map(),
    members: [],
    seen: [],
    spared: [],
    ended: new Set<string>(),
    notes: [],
  };
  try {
    const found = findNamedJobs(asked, node);
    if (found.length === 0) return { ...nothing, found };
    const several = severalOf(found);
    if (several !== undefined)
      return { ...nothing, found, refused: `${nameOfJob(asked)} is there more than once ${several}` };
    const names = namesOf(asked, found[0]);
    const { job } = names;
    const cgroups = cgroupsOf(node, found);
    const inodes = new Map<Cgroup, bigint>();
    for (const cgroup of cgroups) {
      const stat = node.host.stat(cgroup.directory);
      if (stat !== undefined) inodes.set(cgroup, stat.ino);
    }
    const line = lineOfDescent(node.host);
    const spared: SparedProcess[] = [];
    const members: Member[] = [];
    let stepd: Member | undefined;
    const deadline = deadlineIn(node.host, timeoutMs, signal);
    const { all, unknown, ended } = await membersOf({ node, job, cgroups }, deadline);
    if (unknown !== undefined) stepd = slurmstepdOf(node, found);
    for (const member of all) {
      const why = spareReason(member, { node, job, line, ended });
      if (why === undefined) members.push(member);
      else spared.push({ pid: member.pid, comm: member.comm, why });
      if (isSlurmstepd(node, member)) stepd ??= member;
    }
    const refused =
      stepd !== undefined && !force
        ? `slurmstepd (${stepd.pid}) still runs ${calledOf(names)}: it is Slurm's to end (scancel); --force ends its processes all the same`
        : undefined;
    return {
      ...names,
      found,
      cgroups,
      inodes,
      members,
      seen: all,
      spared,
      ended,
      notes: [],
      ...defined({ refused, unknown }),
    };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return {
      ...nothing,
      refused: `nothing was ended, since what belongs to the job could not be read: ${error.message}`,
    };
  }
}

/** Who is in the job's cgroups, and which of the other jobs that they are in have ended. */
async function membersOf(
  { node, job, cgroups }: Pick<CleanPlan, 'job' | 'cgroups'> & { readonly node: SlurmNode },
  deadline: Deadline,
): Promise<Seen<Member> & Pick<CleanPlan, 'ended'>> {
  const seen = await membersIn(node.host, cgroups, deadline);
  const others = deadlineIn(node.host, otherJobsMs, deadline.signal);
  return { ...seen, ended: await endedJobsOf(seen.all, { node, job, deadline: others }) };
}

/** Where a user made more cgroups than can be looked through: slurmstepd is in those that Slurm made. */
function slurmstepdOf(node: SlurmNode, found: readonly Job[]): Member | undefined {
  const reader = new MemberReader(node.host);
  for (const one of found.flatMap(({ cgroups, steps }) => [...cgroups, ...steps.flatMap((step) => step.cgroups)])) {
    const cgroup = cgroupOf(node, one);
    for (const place of cgroup === undefined ? [] : [cgroup, cgroup.listed('slurm')]) {
      for (const pid of ifThere(() => place.procs()) ?? []) {
        const member = reader.read(pid, place);
        if (member !== undefined && isSlurmstepd(node, member)) return member;
      }
    }
  }
  return undefined;
}

/** Why what was found is not one job: which of them was named is not known. */
function severalOf(found: readonly Job[]): string | undefined {
  const owners = new Set(found.map((one) => `${one.nodeName ?? ''} ${one.uid ?? ''}`));
  const sluids = new Set(found.map((one) => one.sluid));
  if (sluids.size > 1) return `(${[...sluids].join(', ')}): name the SLUID`;
  return owners.size > 1 ? `(uids or nodes: ${[...owners].join('; ')}): name the node` : undefined;
}

function cgroupsOf(node: SlurmNode, found: readonly Job[]): readonly Cgroup[] {
  return found.flatMap((job) => job.cgroups.flatMap((cgroup) => cgroupOf(node, cgroup) ?? []));
}

async function carryOut(
  plan: CleanPlan,
  base: Pick<CleanReport, 'jobId' | 'sluid' | 'dryRun' | 'found' | 'notes'>,
  options: CleanOptions,
): Promise<CleanReport> {
  const { node, signal } = options;
  const { host } = node;
  const { job, cgroups } = plan;
  const line = lineOfDescent(host);
  let { ended } = plan;
  const madeAnew = (top: Cgroup) => {
    const stat = host.stat(top.directory);
    if (stat === undefined || stat.ino === plan.inodes.get(top)) return undefined;
    return `is of a later run of ${calledOf(plan)}: its cgroup was made while this one was ended`;
  };
  const spare = (member: Member) => {
    const top = cgroups.find((one) => holds(one, member.seenIn));
    return (top === undefined ? undefined : madeAnew(top)) ?? spareReason(member, { node, job, line, ended });
  };
  const graceMs = options.graceMs ?? defaults.graceMs;
  const timeoutMs = options.timeoutMs ?? defaults.timeoutMs;
  const asked = graceMs > 0 ? await askToEnd(host, cgroups, { spare, graceMs, ...defined({ signal }) }) : [];
  // Another job may have begun to live during the grace, or ended; without one the plan is a moment old.
  if (graceMs > 0) ({ ended } = await membersOf({ node, job, cgroups }, deadlineIn(host, otherJobsMs, signal)));
  const { killed, removal } = await emptyAndRemove(host, cgroups, {
    spare,
    madeAnew,
    timeoutMs,
    ...defined({ signal }),
  });
  const byKill = new Set(killed.ended.map(processKey));
  const onlyAsked = asked.filter(
    (member) => !byKill.has(processKey(member)) && !killed.remaining.some((one) => one.pid === member.pid),
  );
  const byTerm = onlyAsked.filter((member) => isDead(host, member));
  const left = onlyAsked.filter((member) => !byTerm.includes(member));
  const users = await removeUsers(node, cgroups, deadlineIn(host, Math.min(timeoutMs, lockMs), signal));
  // What was removed held no process; in what stays there may be some that were not seen.
  const [stays] = removal.left;
  const unseen =
    stays === undefined || killed.unknown === undefined
      ? []
      : [{ path: stays.path, why: `there may be processes in it that were not seen: ${killed.unknown}` }];
  // One that came to no end is still somewhere: out of the job, which is its own affair, or in it under another name.
  const reached = new Set([...killed.ended, ...killed.remaining].map(processKey));
  const renamed = renamedCgroups(
    host,
    plan.seen.filter((member) => !reached.has(processKey(member))),
    plan.inodes,
  );
  const survivors = [];
  const looking = deadlineIn(host, closeLookMs);
  for (const [at, member] of killed.remaining.entries()) {
    // An even share: a lone survivor has the time that a slow machine needs, the first of many does not use up all.
    const share = Math.floor(looking.leftMs() / (killed.remaining.length - at));
    const childMs = looking.isOver() ? 0 : Math.max(leastLookMs, share);
    survivors.push(await describeSurvivor(host, member, { childMs }));
  }
  const rest = [...removal.left, ...unseen, ...renamed];
  const isOver = survivors.length + rest.length + left.length === 0;
  const forgot = isOver ? await forget(plan, options) : [];
  return {
    ...base,
    ended: [
      ...byTerm.map((member) => endedAs(member, 'SIGTERM', { node, job })),
      ...killed.ended.map((member) => endedAs(member, member.by, { node, job })),
    ],
    survivors,
    spared: killed.spared.map(({ member, why }) => ({ pid: member.pid, comm: member.comm, why })),
    removed: [...removal.removed, ...users.removed],
    left: rest,
    notes: [
      ...base.notes,
      ...noteOn(killed.thawed, (names, one) =>
        one
          ? `${names} was suspended: thawed so that what is in it can end`
          : `${names} were suspended: thawed so that what is in them can end`,
      ),
      ...left.map(({ pid, comm }) => `process ${pid} (${comm}) got SIGTERM, and left the job alive`),
      ...users.notes,
      ...forgot,
    ],
  };
}

/** One note however many cgroups it is about: a user can make thousands. */
function noteOn(paths: readonly string[], say: (names: string, one: boolean) => string): readonly string[] {
  if (paths.length === 0) return [];
  const names = someOf(paths.map(quote));
  return [say(paths.length === 1 ? names : `${paths.length} cgroups (${names})`, paths.length === 1)];
}

/** Whether it is that cgroup, or below it. */
function holds(top: Cgroup, cgroup: Cgroup): boolean {
  return top.hierarchy.key === cgroup.hierarchy.key && pathBelow(cgroup.nameable.path, top.path) !== undefined;
}

/** For all hierarchies together: any user can hold that lock. */
const lockMs = 2000;

/**
 * `uid_<U>` of v1, once it is empty: only under Slurm's own lock, or a job that starts just now could fail. It is the
 * user's and not the job's, so that it stays is said and is no failure.
 */
async function removeUsers(node: SlurmNode, cgroups: readonly Cgroup[], deadline: Deadline) {
  const users = cgroups.flatMap(({ hierarchy, path }) => {
    const parent = parentPath(path);
    if (hierarchy.version !== 1 || parseUidName(parent.slice(parent.lastIndexOf('/') + 1)) === undefined) return [];
    const user = new Cgroup(node.host, hierarchy, parent);
    const stat = node.host.stat(user.directory);
    return stat === undefined || stat.nlink > 2n ? [] : [user]; // gone, or it holds other jobs
  });
  const { removed, kept } = await removeUnderSlurmLock(node.host, users, deadline);
  return {
    removed,
    notes: kept.map(({ path, why }) => `${quote(path)}, the user's, stays though it is empty: ${why}`),
  };
}

function endedAs(
  member: Member,
  signal: EndedProcess['signal'],
  about: { readonly node: SlurmNode; readonly job: JobName },
): EndedProcess {
  return {
    pid: member.pid,
    startTime: member.startTime.toString(),
    uid: member.uids[1],
    comm: member.comm,
    cgroup: member.seenIn.shown,
    signal,
    proof: proofOf(member, about.node, about.job),
  };
}

type PlanNames = Pick<CleanPlan, 'job' | 'jobId'>;

/** From the directory that was found on: its name is what its members' places say. */
function namesOf(asked: JobName, found?: Job): PlanNames {
  const jobId = 'jobId' in asked ? asked.jobId : found?.jobId;
  const job = found?.sluid === undefined ? asked : { sluid: found.sluid };
  return { job, ...defined({ jobId }) };
}

function calledOf({ job, jobId }: PlanNames): string {
  return nameOfJob(jobId === undefined ? job : { jobId });
}

function reportedNames({ job, jobId }: PlanNames): Pick<CleanReport, 'jobId' | 'sluid'> {
  return { jobId: jobId ?? null, ...('sluid' in job ? { sluid: job.sluid } : {}) };
}
