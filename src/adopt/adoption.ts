// One process into one job: check that it may be moved, move it, prove it from /proc; or put it back, or say exactly
// what remains. Policy says which job. Where the job lacks a leaf for the process, the job's slurmstepd moves it.

import { frozenAt } from '../cgroup/freezer.js';
import { hierarchyKey, placesLine } from '../cgroup/membership.js';
import { Move, OwnMove } from '../cgroup/move.js';
import { type HeldProcess, holdProcess } from '../cgroup/process.js';
import { exitOf } from '../cgroup/process-end.js';
import { auditSessionOf, type OpenRecord, openAdoptionRecord } from '../jobs/adoptions.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { directoryNameOf } from '../jobs/layout.js';
import { holdUserCgroups, isJobIn } from '../jobs/leaves.js';
import { otherJobsIn } from '../jobs/membership-in-job.js';
import type { SlurmNode } from '../jobs/node.js';
import { checkMayMove } from '../jobs/protected.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, SlurmCgroupsError } from '../machine/errors.js';
import { poolingHost } from '../machine/handle-pool.js';
import { putBackAbandoned } from './abandoned.js';
import { mayStillAccept, type Registration, register, settle, whyIncomplete } from './accounting.js';
import { type AdoptingLock, lockAdoption, removeLeftLocks } from './adopting-lock.js';
import { moveDescendants } from './descendants.js';
import { inOtherJob, otherJobKeeping } from './other-job.js';
import { type AdoptionOutcome, type AdoptionResult, isElsewhere, placesOf, summaryOf } from './result.js';
import {
  type CgroupRoute,
  type Counted,
  closeRoute,
  findRoute,
  type NoRoute,
  type Route,
  routeForChildren,
  type StepdRoute,
} from './route.js';

/** A user's own cgroup (`action_unknown=user`, v1 only): no job's accounting, no job's memory limit. */
export interface UserTarget {
  readonly kind: 'user';
  readonly uid: number;
}

export interface AdoptOptions {
  readonly node: SlurmNode;
  /**
   * What a failure in the middle does: put everything back (default), or keep what was reached. Where slurmstepd
   * refuses the process, everything is put back either way: its step is ending, and what is kept would outlive the job.
   */
  readonly onFailure?: 'undo' | 'keep';
  /** Move its living children too, and theirs, until no new one appears. */
  readonly descendants?: boolean;
  /**
   * The process itself asks for it, through PAM: also root's program that is no sshd (login, su, cron) may then be
   * moved. Slurm's daemons, the sshd that listens and the first process never are.
   */
  readonly asksItself?: boolean;
  /**
   * Also take the process out of another job that lives, which is refused otherwise (ERR_PROTECTED). Its children that
   * are in another living job stay there without it.
   */
  readonly force?: boolean;
  /** The limit over all that is waited for: slurmstepd, and children that keep appearing. Default 5000. */
  readonly timeoutMs?: number;
  /** How long slurmstepd may take to say that it runs. Default 1000. */
  readonly stepdTimeoutMs?: number;
  /**
   * Its reason is thrown, with the process and its children where they were; where one could not be put back, the
   * outcome is `partial`. A login that was answered is not stopped any more.
   */
  readonly signal?: AbortSignal;
  /**
   * Called at most once, as soon as /proc proves an adoption of which slurmstepd is told only afterwards: the login can
   * be answered. Not called where slurmstepd has to come first (it moves the process, or LaunchParameters has
   * ulimit_pam_adopt), nor where it is not told at all: then the promise is the answer. What it throws, adopt() throws,
   * with the process in the job.
   *
   * After the call nothing is put back any more, since that would set the session free. If slurmstepd then refuses the
   * process, its step is ending: the outcome stays `adopted`, `accounting` is `refused`, and `error` says why. If /proc
   * then shows that slurmstepd has moved the process out of the job, or cannot be read, the outcome is `partial`. With
   * an `error` the caller has to end the session; adopt() ends no process.
   */
  readonly onProven?: (result: AdoptionResult) => void;
  /**
   * Whether slurmstepd accepted the process in an earlier adoption (`accounting: 'stepd'`): then it is not told again,
   * since it would count the process twice. Absent: a process that already stood in every leaf of the job is not
   * registered.
   */
  readonly isCounted?: boolean;
  /** Called when the first move is about to be made, if one is needed: where the process stands is not changed yet. */
  readonly onMoving?: () => void;
  /**
   * Keeps a record of the adoption into a job, for the end of that job (jobs/adoptions.ts): written before the first
   * move, removed where the process is not adopted. Only for the jobs of this node's Slurm, never for those of a
   * sandbox, whose ids are the same. `sshdSession`: the audit session of the sshd that listens; then the record has that
   * of the login, if it has one of its own. That a record could not be kept is said in the trace, and fails nothing.
   */
  readonly recorded?: { readonly sshdSession?: number };
}

const defaultTimeoutMs = 5000;
/** After so many children that are put back all else in this process has its turn. */
const yieldEvery = 32;
const defaultStepdTimeoutMs = 1000;
/** No slurmstepd answers in less time. Taking it for silent, and moving by cgroup, could be into a step that is ending. */
const leastMs = 50;

/**
 * Adopts a process into a job's extern step (or a user's own cgroup): by cgroup writes, or through slurmstepd where a
 * leaf is missing that only slurmstepd makes (25.05 on, until the first adoption).
 *
 * @throws SlurmCgroupsError, with nothing moved: ERR_NO_SUCH_PROCESS, ERR_PROTECTED, ERR_NOT_SUPPORTED (a leaf is
 * missing and slurmstepd cannot be asked, or the job's owner is unknown), ERR_CGROUP_GONE (the step ended),
 * ERR_NOT_PERMITTED. ERR_PROTECTED is also that of a process in another job that lives, without `force`.
 */
export async function adopt(pid: number, target: Job | UserTarget, options: AdoptOptions): Promise<AdoptionResult> {
  const { uid } = target;
  const name = 'kind' in target ? `the cgroup of uid ${target.uid}` : nameOfJob(target);
  if (uid === undefined)
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot adopt process ${pid} into ${name}: its owner is not known here`,
      { pid },
    );
  const adoption = new Adoption({ uid, name, target, options });
  try {
    const held = await holdMovable(adoption, pid);
    removeLeftLocks(adoption.node.host);
    const locked = await lock(adoption, held);
    if ('busy' in locked) return resultOf(adoption, 'untouched', locked.busy);
    await checkOtherJob(adoption, held);
    const route = await routeTo(adoption, target, pid);
    adoption.route = route;
    if (route.by === 'none') return notTried(adoption, route);
    const session = planMove(adoption, adoption.node, held, route);
    const elsewhere = locked.movedMeanwhile && !session.complete ? movedByAnother(session) : undefined;
    if (elsewhere !== undefined) return resultOf(adoption, 'untouched', elsewhere);
    return await moveRecorded(adoption, session, route);
  } finally {
    adoption.close();
  }
}

/** What one adoption is to do, what it holds open and what it has done so far: the state that its stages share. */
class Adoption {
  readonly uid: number;
  readonly name: string;
  readonly target: Job | UserTarget;
  readonly options: AdoptOptions;
  readonly node: SlurmNode;
  readonly deadline: Deadline;
  #nodeForChildren: SlurmNode | undefined;
  readonly trace: string[] = [];
  /** The process, then its children. */
  readonly processes: HeldProcess[] = [];
  /** One for each of the processes, in the same order. */
  readonly moves: Move[] = [];
  /** Against other adoptions of these processes. */
  readonly locks: AdoptingLock[] = [];
  record: OpenRecord | undefined;
  route: Route | undefined;
  /** Where slurmstepd moves the process. */
  routeForChildren: CgroupRoute | undefined;
  /** Names of other jobs that were found to live, by what their members' places say. */
  readonly keepers = new Map<string, string>();
  accounting: AdoptionResult['accounting'] = 'none';
  uncountedWhy: string | undefined;
  /** Where the route says otherwise: slurmstepd moved what was found to be there already. */
  movedBy: 'stepd' | undefined;
  /** The login was answered: nothing is put back any more. */
  isAnswered = false;

  constructor({ uid, name, target, options }: Pick<Adoption, 'uid' | 'name' | 'target' | 'options'>) {
    this.uid = uid;
    this.name = name;
    this.target = target;
    this.options = options;
    this.node = options.node;
    this.deadline = deadlineIn(options.node.host, options.timeoutMs ?? defaultTimeoutMs);
  }

  /** Of children there can be thousands: what is held for them shares few descriptors. */
  get nodeForChildren(): SlurmNode {
    this.#nodeForChildren ??= { ...this.node, host: poolingHost(this.node.host) };
    return this.#nodeForChildren;
  }

  get stepdTimeoutMs(): number {
    return this.options.stepdTimeoutMs ?? defaultStepdTimeoutMs;
  }

  close(): void {
    for (const lock of this.locks) lock.release();
    for (const move of this.moves) move.close();
    for (const process of this.processes) process.close();
    if (this.route !== undefined) closeRoute(this.route);
    if (this.routeForChildren !== undefined) closeRoute(this.routeForChildren);
  }
}

// The stages, in their order. Up to the first move a failure is thrown; from then on it is a result.

async function holdMovable(adoption: Adoption, pid: number): Promise<HeldProcess> {
  const { node, processes, uid, deadline, options } = adoption;
  const held = holdProcess(node.host, pid);
  processes.push(held);
  const ended = exitOf(held);
  if (ended !== undefined) throw ended;
  await checkMayMove(node, held, { uid, deadline, ...defined({ asksItself: options.asksItself }) });
  return held;
}

/** From here on no other adoption moves this process. What a killed one had begun is put back first. */
async function lock(
  adoption: Adoption,
  held: HeldProcess,
): Promise<{ readonly movedMeanwhile: boolean } | { readonly busy: SlurmCgroupsError }> {
  const { node, deadline, trace } = adoption;
  const before = placesLine(held.memberships());
  try {
    const taken = await lockAdoption(node.host, held, deadline);
    adoption.locks.push(taken.lock);
    if (taken.abandoned !== undefined)
      trace.push(...(await putBackAbandoned(node.host, node.hierarchies, { held, abandoned: taken.abandoned })));
    return { movedMeanwhile: taken.waited && placesLine(held.memberships()) !== before };
  } catch (error) {
    if (hasCode(error, 'ERR_BUSY')) return { busy: error };
    throw error;
  }
}

/** Writes into the lock that was taken last what is about to be moved: if this program is killed, the next puts it back. */
function note({ locks }: Adoption, move: Move): void {
  locks.at(-1)?.note(
    move.sources.map(({ controllers, path }, at) => ({
      hierarchy: hierarchyKey(controllers),
      from: path,
      to: move.cgroups[at]?.path ?? path,
    })),
  );
}

/**
 * A process that is in another living job is that job's, limited, counted and ended with it.
 *
 * @throws SlurmCgroupsError ERR_PROTECTED, unless `force` says otherwise
 */
async function checkOtherJob(adoption: Adoption, held: HeldProcess): Promise<void> {
  const { node, target, deadline, options, trace } = adoption;
  const other = await otherJobKeeping(node, held, { target, deadline });
  if (other === undefined) return;
  if (options.force !== true) throw inOtherJob(held, other);
  trace.push(`process ${held.pid} is taken out of ${other}, which still runs: force`);
}

/** Both were to move it, and the other was first: to move it on would make a lie of what the other has answered. */
function movedByAnother(session: Move): SlurmCgroupsError {
  const { pid } = session.process;
  return new SlurmCgroupsError('ERR_BUSY', `Another adoption has moved process ${pid} to ${placesOf(session)}`, {
    pid,
  });
}

async function routeTo(adoption: Adoption, target: Job | UserTarget, pid: number): Promise<Route> {
  const { node, name, deadline, stepdTimeoutMs, options, trace } = adoption;
  if ('kind' in target) return { by: 'cgroup', targets: holdUserCgroups(node, target.uid) };
  const leftMs = deadline.leftMs();
  if (leftMs < leastMs) {
    const why = `No time was left to ask slurmstepd whether ${name} accepts process ${pid}`;
    return { by: 'none', why: new SlurmCgroupsError('ERR_TIMEOUT', why, { pid }) };
  }
  return findRoute(node, target, {
    stepdTimeoutMs: Math.min(stepdTimeoutMs, leftMs),
    ...(options.signal && { signal: options.signal }),
    say: (line) => trace.push(line),
  });
}

function notTried(adoption: Adoption, { why }: NoRoute): AdoptionResult {
  return { ...resultOf(adoption, 'untouched', why), ...(why.code === 'ERR_TIMEOUT' ? {} : { ending: true }) };
}

/** Looks where the process is now. Nothing is moved yet. */
function planMove({ moves }: Adoption, { host }: SlurmNode, held: HeldProcess, route: CgroupRoute | StepdRoute): Move {
  const move = route.by === 'cgroup' ? OwnMove.plan(host, held, route.targets) : Move.follow(host, held, route.goals);
  moves.push(move);
  return move;
}

/** A process that is not adopted has no record. */
async function moveRecorded(
  adoption: Adoption,
  session: Move,
  route: CgroupRoute | StepdRoute,
): Promise<AdoptionResult> {
  try {
    const result = await moveAndProve(adoption, session, route);
    if (result.outcome === 'adopted' || result.outcome === 'partial') return result;
    withdrawRecord(adoption);
    return { ...result, trace: [...adoption.trace] };
  } catch (error) {
    if (!adoption.isAnswered && !isElsewhere(session)) withdrawRecord(adoption);
    throw error;
  }
}

/** Before the first move: so the end of the job hears of it also where this program is killed in the middle. */
function openRecord(adoption: Adoption, { process }: Move): void {
  const { node, uid, target, options } = adoption;
  if (options.recorded === undefined || 'kind' in target) return;
  recording(adoption, 'is not recorded', () => {
    adoption.record = openAdoptionRecord(node.host, { process, uid, job: target });
  });
}

function completeRecord(adoption: Adoption, { process }: Move): void {
  const { record, options, uid } = adoption;
  if (record === undefined) return;
  const sshdSession = options.recorded?.sshdSession;
  const auditSession = sshdSession === undefined ? undefined : auditSessionOf(process.directory, { uid, sshdSession });
  recording(adoption, 'stays recorded as one that has only begun', () => record.complete(defined({ auditSession })));
}

function withdrawRecord(adoption: Adoption): void {
  const { record } = adoption;
  if (record !== undefined) recording(adoption, 'stays recorded, though it was not done', () => record.remove());
}

/** What cannot be recorded fails no adoption. */
function recording({ trace }: Adoption, what: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    trace.push(`the adoption ${what}: ${error.message}`);
  }
}

async function moveAndProve(
  adoption: Adoption,
  session: Move,
  route: CgroupRoute | StepdRoute,
): Promise<AdoptionResult> {
  const { name, trace } = adoption;
  const before = frozenPlace(adoption);
  if (before !== undefined) return resultOf(adoption, 'suspended', suspended(name, before));
  trace.push(`process ${session.process.pid} came from ${placesOf(session)}`);
  openRecord(adoption, session);
  note(adoption, session);
  const wasThere = session.complete;
  if (!wasThere) adoption.options.onMoving?.();
  const failure = await moveAll(adoption, session, route);
  const frozen = whyFrozen(adoption);
  if (frozen !== undefined) return takeBack(adoption, frozen);
  if (failure !== undefined) return failed(adoption, session, failure);
  trace.push(`/proc shows it in ${name} in every hierarchy of the job`);
  completeRecord(adoption, session);
  if (route.by === 'stepd' || route.counted === undefined) return resultOf(adoption, 'adopted');
  return count(adoption, session, { counted: route.counted, wasThere });
}

/** The session, then its children: the first failure. What is not a failure of ours is thrown, with everything undone. */
async function moveAll(
  adoption: Adoption,
  session: Move,
  route: CgroupRoute | StepdRoute,
): Promise<SlurmCgroupsError | undefined> {
  const { uid, deadline, processes, options, trace } = adoption;
  try {
    const failure = await moveOne(adoption, session, route);
    options.signal?.throwIfAborted();
    if (failure !== undefined || options.descendants !== true) return failure;
    return await moveDescendants({
      ...{ node: adoption.nodeForChildren, uid, family: processes },
      // What was moved by then takes about as long to put back.
      deadline: options.onFailure === 'keep' ? deadline : deadline.part(deadline.leftMs() / 2),
      move: (held) => moveChild(adoption, held, { session, route }),
      say: (line) => trace.push(line),
    });
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error;
    await undo(adoption);
    if (options.signal?.aborted === true && remains(adoption)) return stoppedHalfway(adoption);
    throw error;
  }
}

/** The other living job that a child stays in. One job, which thousands of children can be in, is asked for once. */
async function keeperOf(
  { node, target, deadline, options, keepers }: Adoption,
  held: HeldProcess,
): Promise<string | undefined> {
  const job = 'kind' in target ? undefined : directoryNameOf(target);
  const others = options.force === true ? [] : otherJobsIn(node, held.memberships(), job);
  if (others.length === 0) return undefined;
  const key = JSON.stringify(others);
  const found = keepers.get(key) ?? (await otherJobKeeping(node, held, { target, deadline }));
  if (found !== undefined) keepers.set(key, found);
  return found;
}

function stoppedHalfway({ name }: Adoption): SlurmCgroupsError {
  return new SlurmCgroupsError('ERR_TIMEOUT', `The adoption into ${name} was stopped before it was done`);
}

async function moveChild(
  adoption: Adoption,
  held: HeldProcess,
  { session, route }: { readonly session: Move; readonly route: CgroupRoute | StepdRoute },
): Promise<SlurmCgroupsError | 'moved' | 'already' | 'stays'> {
  adoption.options.signal?.throwIfAborted();
  if (route.by === 'stepd') adoption.routeForChildren ??= routeForChildren(adoption.node.host, session);
  const childRoute = adoption.routeForChildren ?? route;
  const locked = await lock(adoption, held);
  if ('busy' in locked) throw locked.busy;
  // Not before that: what a killed adoption had moved into the other job is put back first.
  const other = await keeperOf(adoption, held);
  if (other !== undefined) {
    adoption.trace.push(
      `child process ${held.pid} (${held.stat().comm}) stays where it is: it is in ${other}, which still runs (--force moves it too)`,
    );
    return 'stays';
  }
  const move = planMove(adoption, adoption.nodeForChildren, held, childRoute);
  adoption.processes.push(held);
  const wasThere = move.complete;
  const elsewhere = locked.movedMeanwhile && !wasThere ? movedByAnother(move) : undefined;
  if (elsewhere !== undefined) return elsewhere;
  note(adoption, move);
  return (await moveOne(adoption, move, childRoute)) ?? (wasThere ? 'already' : 'moved');
}

/** Makes one move and proves it; the first error, if it is not complete. */
async function moveOne(
  adoption: Adoption,
  move: Move,
  route: CgroupRoute | StepdRoute,
): Promise<SlurmCgroupsError | undefined> {
  try {
    if (route.by === 'stepd') {
      const refusal = await moveByStepd(adoption, move, route).catch(ownErrorOrThrow);
      // slurmstepd is told a number, and moves whatever process has it by then.
      await move.lookForStranger();
      if (move.stranger !== undefined) return move.stranger;
      if (refusal !== undefined) return refusal;
    } else if (move instanceof OwnMove) {
      await move.run(adoption.options.onFailure === 'keep');
      if (move.stranger !== undefined) return move.stranger;
      move.prove();
    }
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return error; // /proc could not be read: not proven, so not done
  }
  return whyIncomplete(move);
}

function ownErrorOrThrow(error: unknown): SlurmCgroupsError {
  if (error instanceof SlurmCgroupsError) return error;
  throw error;
}

/**
 * Has slurmstepd move the process, and reads from /proc what came of it. Its answer proves nothing here: on v2 it also
 * answers with success for a process that it could not move, and for a process that is gone.
 */
async function moveByStepd(
  adoption: Adoption,
  move: Move,
  { stepd, job }: StepdRoute,
): Promise<SlurmCgroupsError | undefined> {
  const { node, deadline, trace } = adoption;
  const { pid } = move.process;
  const ended = exitOf(move.process);
  if (ended !== undefined) return ended;
  const answer = await stepd.addPid(pid, deadline);
  move.observe((hierarchy) => isJobIn(node, job, hierarchy));
  switch (answer.outcome) {
    case 'answered':
      adoption.accounting = 'stepd';
      return undefined;
    case 'silent':
    case 'garbled':
    case 'unreachable':
      if (move.complete) {
        trace.push(`slurmstepd has moved process ${pid}, but did not say so: ${answer.error.message}`);
        adoption.uncountedWhy = 'slurmstepd moved it, but did not say that it counts it';
        return undefined;
      }
      trace.push(mayStillAccept(pid));
      return answer.error;
    default:
      adoption.accounting = 'refused';
      return answer.error;
  }
}

/** Has Slurm count the process, which stands in the job now. */
async function count(
  adoption: Adoption,
  session: Move,
  { counted, wasThere }: { readonly counted: Counted; readonly wasThere: boolean },
): Promise<AdoptionResult> {
  const { node, options, trace } = adoption;
  const { isCounted, onProven } = options;
  if (isCounted ?? wasThere) {
    if (isCounted === true) adoption.accounting = 'stepd';
    else adoption.uncountedWhy = 'it was already in the job';
    trace.push('slurmstepd is not told again: it would count the process twice');
    return resultOf(adoption, 'adopted');
  }
  if (counted.unasked !== undefined) {
    adoption.uncountedWhy = counted.unasked;
    return resultOf(adoption, 'adopted');
  }
  if (counted.first !== undefined) trace.push(`slurmstepd is told before the answer: ${counted.first}`);
  else if (onProven !== undefined) {
    adoption.isAnswered = true;
    onProven(resultOf(adoption, 'adopted'));
  }
  const wrote = isElsewhere(session);
  const registration = await tellStepd(adoption, session, counted);
  const settled = settle(node, session, counted, registration);
  adoption.accounting = settled.accounting;
  adoption.uncountedWhy = settled.uncountedWhy;
  trace.push(...settled.trace);
  if (!wrote) adoption.movedBy = 'stepd';
  // slurmstepd is told a number, and moves whatever process has it by then.
  await session.lookForStranger();
  if (session.stranger !== undefined) return failed(adoption, session, session.stranger);
  // A session that was answered is suspended with its job, as every process in it is.
  const frozen = adoption.isAnswered ? undefined : whyFrozen(adoption);
  if (frozen !== undefined) return takeBack(adoption, frozen);
  return settled.error === undefined ? resultOf(adoption, 'adopted') : failed(adoption, session, settled.error);
}

async function tellStepd(adoption: Adoption, session: Move, { job, stepd }: Counted): Promise<Registration> {
  const { node, deadline, stepdTimeoutMs } = adoption;
  try {
    return await register({ node, job, stepd, process: session.process, deadline, stepdTimeoutMs });
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { outcome: 'untold', error };
    if (!adoption.isAnswered) await undo(adoption);
    throw error;
  }
}

// How an adoption ends that did not succeed.

/** The job was suspended meanwhile, or that cannot be read. */
async function takeBack(adoption: Adoption, frozen: SlurmCgroupsError): Promise<AdoptionResult> {
  await undo(adoption);
  if (remains(adoption)) return resultOf(adoption, 'partial', frozen);
  return resultOf(adoption, frozen.code === 'ERR_FROZEN' ? 'suspended' : 'undone', frozen);
}

async function failed(adoption: Adoption, session: Move, failure: SlurmCgroupsError): Promise<AdoptionResult> {
  if (adoption.isAnswered) return resultOf(adoption, session.complete ? 'adopted' : 'partial', failure);
  if (adoption.options.onFailure === 'keep' && adoption.accounting !== 'refused') {
    const isReached = session.report.some(
      (one) => one.outcome === 'moved' || one.outcome === 'already' || one.outcome === 'remains',
    );
    return resultOf(adoption, isReached ? 'partial' : 'untouched', failure);
  }
  const wasTouched = adoption.moves.some(isElsewhere);
  await undo(adoption);
  return resultOf(adoption, remains(adoption) ? 'partial' : wasTouched ? 'undone' : 'untouched', failure);
}

async function undo({ node, moves, accounting, trace }: Adoption): Promise<void> {
  for (const [at, move] of [...moves].reverse().entries()) {
    await move.undo();
    const line = move.stranger?.message;
    if (line !== undefined && !trace.includes(line)) trace.push(line);
    if (at % yieldEvery === 0) await node.host.turn();
  }
  if (accounting === 'stepd') trace.push('slurmstepd had accepted it, and may go on counting it');
}

function remains({ moves }: Adoption): boolean {
  return moves.some((move) => move.report.some((one) => one.outcome === 'remains'));
}

/** Where the target is frozen. A job can be suspended at any moment, so this is asked before and after a move. */
function frozenPlace({ node, route, moves }: Adoption): string | undefined {
  const goals = route?.by === 'stepd' ? route.goals : [];
  // Where slurmstepd has put a process is known afterwards; up to 23.02 a user can freeze a task that they made.
  const cgroups = [...goals, ...moves.flatMap((move) => move.cgroups)];
  // Thousands of children are in the same few.
  for (const cgroup of new Map(cgroups.map((one) => [one.directory, one])).values()) {
    const place = frozenAt(node.host, cgroup);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** After the move: what cannot be read is taken as frozen, since a session must never hang in a frozen job. */
function whyFrozen(adoption: Adoption): SlurmCgroupsError | undefined {
  try {
    const place = frozenPlace(adoption);
    return place === undefined ? undefined : suspended(adoption.name, place);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error;
    throw error;
  }
}

function suspended(name: string, place: string): SlurmCgroupsError {
  return new SlurmCgroupsError(
    'ERR_FROZEN',
    `${name[0]?.toUpperCase()}${name.slice(1)} is suspended: "${place}" is frozen`,
    { path: place },
  );
}

// The result.

function resultOf(adoption: Adoption, outcome: AdoptionOutcome, error?: SlurmCgroupsError): AdoptionResult {
  const { route, moves, accounting, uncountedWhy, movedBy, trace } = adoption;
  const [session, ...others] = moves;
  const by = route?.by ?? 'none';
  return {
    outcome,
    route: by,
    moved: session === undefined || !isElsewhere(session) ? 'none' : (movedBy ?? by),
    accounting,
    ...(outcome !== 'adopted' || uncountedWhy === undefined ? {} : { uncountedWhy }),
    hierarchies: session?.report ?? [],
    ...defined({ error }),
    descendants: others.map((move) => ({ pid: move.process.pid, outcome: summaryOf(move) })),
    trace: [...trace],
  };
}
