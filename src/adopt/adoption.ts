// One process into one job: check that it may, move it, prove it from /proc, or put it back and say exactly
// what remains. Which job is policy's word. Where the job lacks a leaf for it, its slurmstepd moves it.

import type { Cgroup } from '../cgroup/cgroup.js';
import { hasCode, isGone, SlurmCgroupsError } from '../cgroup/errors.js';
import { frozenAt } from '../cgroup/freezer.js';
import { placesLine } from '../cgroup/membership.js';
import { endOf, type HierarchyMove, hasEnded, Move, type MoveTarget } from '../cgroup/move.js';
import { childrenOf, type HeldProcess, holdProcess } from '../cgroup/process.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { closeTargets, externGoals, holdExternLeaves, holdUserCgroups, isJobIn, needsStepd } from '../jobs/leaves.js';
import type { SlurmNode } from '../jobs/node.js';
import { refusalToMove } from '../jobs/protected.js';
import type { StepdConnection } from '../jobs/stepd-connection.js';
import { reachExternStepd } from './extern-stepd.js';

/** A user's own cgroup (`action_unknown=user`, v1 only): no job's accounting, no job's memory limit. */
export interface UserTarget {
  readonly kind: 'user';
  readonly uid: number;
}

export interface AdoptOptions {
  readonly node: SlurmNode;
  /** What a refusal in the middle does: put everything back (default), or keep what was reached. */
  readonly onFailure?: 'undo' | 'keep';
  /** Move its living children too, and theirs, until no new one appears. */
  readonly descendants?: boolean;
  /** How long children may keep appearing, and slurmstepd may take for one process. Default 5000. */
  readonly timeoutMs?: number;
  /** How long slurmstepd may take to say that it runs. Default 1000. */
  readonly stepdTimeoutMs?: number;
  /** Its reason is thrown; after the first move nothing stops an adoption. */
  readonly signal?: AbortSignal;
}

/**
 * adopted: in the job in every hierarchy, proven; untouched: nothing was moved (also: the step is ending); undone: it is where it was;
 * partial: `hierarchies` says where it is; suspended: the job is frozen, so nothing was moved into it, or it was
 * moved back.
 */
export type AdoptionOutcome = 'adopted' | 'untouched' | 'undone' | 'partial' | 'suspended';

export interface AdoptionResult {
  readonly outcome: AdoptionOutcome;
  /** By whom: writes to cgroup.procs, slurmstepd, or nobody (it was there already, or nothing was moved). */
  readonly moved: 'cgroup' | 'stepd' | 'none';
  /**
   * Whether Slurm counts its use: slurmstepd took it in (`stepd`, also where it was put back afterwards), or said no.
   * `none`: it was not told; then Slurm counts only where its plugin reads the cgroups.
   */
  readonly accounting: 'stepd' | 'none' | 'refused';
  readonly hierarchies: readonly HierarchyMove[];
  /** Why it is not adopted. */
  readonly error?: SlurmCgroupsError;
  /** Nothing was moved because the job's extern step takes nobody any more: it is ending, has ended, or died. */
  readonly ending?: true;
  /** Children moved along. */
  readonly descendants: readonly {
    readonly pid: number;
    readonly outcome: 'adopted' | 'already' | 'undone' | 'partial';
  }[];
  /** Lines for an administrator. */
  readonly trace: readonly string[];
}

const defaultTimeoutMs = 5000;
const defaultStepdTimeoutMs = 1000;

/**
 * Adopts a process into a job's extern step (or a user's own cgroup): by cgroup writes, or where a leaf is missing
 * that only slurmstepd makes (25.05 on, until the first adoption), through slurmstepd.
 *
 * @throws SlurmCgroupsError, with nothing moved: ERR_NO_SUCH_PROCESS, ERR_PROTECTED, ERR_NOT_SUPPORTED (a leaf is
 * missing and slurmstepd cannot be asked, or the job's owner is unknown), ERR_CGROUP_GONE (the step ended),
 * ERR_NOT_PERMITTED.
 */
export async function adopt(pid: number, target: Job | UserTarget, options: AdoptOptions): Promise<AdoptionResult> {
  const { node } = options;
  const uid = target.uid;
  const name = 'kind' in target ? `the cgroup of uid ${target.uid}` : nameOfJob(target);
  if (uid === undefined) {
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot adopt process ${pid} into ${name}: whose job it is cannot be told here`,
      { pid },
    );
  }
  const adoption = new Adoption(node, { uid, name, options });
  try {
    await adoption.begin(pid, target);
    return await adoption.run();
  } finally {
    adoption.close();
  }
}

interface Task {
  readonly uid: number;
  readonly name: string;
  readonly options: AdoptOptions;
}

interface StepdWay {
  readonly by: 'stepd';
  readonly stepd: StepdConnection;
  readonly job: Job;
  readonly goals: readonly Cgroup[];
}

/** Who moves the processes, and where to. */
type Way = { readonly by: 'cgroup'; readonly targets: readonly MoveTarget[] } | StepdWay;

/** What one adoption holds open and has moved so far, the session first. */
class Adoption {
  readonly #node: SlurmNode;
  readonly #task: Task;
  readonly #trace: string[] = [];
  readonly #processes: HeldProcess[] = [];
  readonly #moves: Move[] = [];
  #way: Way = { by: 'cgroup', targets: [] };
  #stepd: StepdConnection | undefined;
  #accounting: AdoptionResult['accounting'] = 'none';
  /** The step takes nobody any more. */
  #ending: SlurmCgroupsError | undefined;

  constructor(node: SlurmNode, task: Task) {
    this.#node = node;
    this.#task = task;
  }

  /** Everything that can say no before anything is moved. */
  async begin(pid: number, target: Job | UserTarget): Promise<void> {
    const held = holdProcess(this.#node.host, pid);
    this.#processes.push(held);
    const ended = endOf(held);
    if (ended !== undefined) throw ended;
    const { comm } = held.stat();
    const refusal = refusalToMove(this.#node, held, this.#task.uid);
    if (refusal !== undefined) {
      throw new SlurmCgroupsError('ERR_PROTECTED', `Process ${pid} (${comm}) is not moved: it ${refusal}`, {
        pid,
        uid: this.#task.uid,
      });
    }
    if ('kind' in target) this.#way = { by: 'cgroup', targets: holdUserCgroups(this.#node, target.uid) };
    else await this.#findWay(target);
    if (this.#ending === undefined) this.#moves.push(this.#plan(held));
  }

  /** Asks slurmstepd first: into a step that is ending nobody is moved, however whole its cgroups look. */
  async #findWay(job: Job): Promise<void> {
    const { stepdTimeoutMs = defaultStepdTimeoutMs, signal } = this.#task.options;
    const reached = await reachExternStepd(this.#node, job, { timeoutMs: stepdTimeoutMs, ...(signal && { signal }) });
    if (reached.outcome === 'ending') {
      this.#ending = reached.error;
      return;
    }
    if (reached.outcome === 'ready') this.#stepd = reached.stepd;
    const leaves = holdExternLeaves(this.#node, job);
    if (leaves.outcome === 'held') {
      this.#way = { by: 'cgroup', targets: leaves.targets };
      if (reached.outcome === 'unasked') this.#trace.push(`by its cgroups alone: ${reached.why}`);
      return;
    }
    if (reached.outcome === 'unasked') needsStepd(job, { why: leaves.why, unasked: reached.why });
    this.#way = { by: 'stepd', stepd: reached.stepd, job, goals: externGoals(this.#node, job) };
    this.#trace.push(`through slurmstepd: ${leaves.why}`);
  }

  #plan(held: HeldProcess): Move {
    return this.#way.by === 'cgroup'
      ? Move.plan(this.#node.host, held, this.#way.targets)
      : Move.follow(this.#node.host, held, this.#way.goals);
  }

  async run(): Promise<AdoptionResult> {
    if (this.#ending !== undefined) return { ...this.#result('untouched', this.#ending), ending: true };
    const [session] = this.#moves;
    if (session === undefined) throw new TypeError('run() comes after begin()');
    const before = this.#frozen();
    if (before !== undefined) return this.#result('suspended', suspended(this.#task.name, before));
    this.#trace.push(`process ${session.process.pid} came from ${placesOf(session)}`);
    const failure = await this.#moveAll(session);
    const frozen = this.#frozenNow();
    if (frozen !== undefined) {
      await this.#undo();
      if (this.#remains()) return this.#result('partial', frozen);
      return this.#result(frozen.code === 'ERR_FROZEN' ? 'suspended' : 'undone', frozen);
    }
    if (failure === undefined) {
      this.#trace.push(`/proc shows it in ${this.#task.name} in every hierarchy of the job`);
      return this.#result('adopted');
    }
    if (this.#task.options.onFailure === 'keep') {
      const reached = session.report.some(
        (one) => one.outcome === 'moved' || one.outcome === 'already' || one.outcome === 'remains',
      );
      return this.#result(reached ? 'partial' : 'untouched', failure);
    }
    const touched = this.#moves.some((move) =>
      move.report.some((one) => one.outcome === 'moved' || one.outcome === 'remains'),
    );
    await this.#undo();
    return this.#result(this.#remains() ? 'partial' : touched ? 'undone' : 'untouched', failure);
  }

  /** The session, then its children; the first refusal. Whatever else goes wrong, nothing half done is left behind. */
  async #moveAll(session: Move): Promise<SlurmCgroupsError | undefined> {
    try {
      const failure = await this.#attempt(session);
      return failure === undefined && this.#task.options.descendants === true ? await this.#moveDescendants() : failure;
    } catch (error) {
      if (error instanceof SlurmCgroupsError) return error;
      await this.#undo();
      throw error;
    }
  }

  /** Writes and proves one move; the first error, if it is not complete. */
  async #attempt(move: Move): Promise<SlurmCgroupsError | undefined> {
    try {
      if (this.#way.by === 'stepd') {
        const refusal = await this.#addByStepd(this.#way, move);
        if (refusal !== undefined) return refusal;
      } else {
        await move.run(this.#task.options.onFailure === 'keep');
        move.prove();
      }
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      return error; // /proc could not be read: not proven, so not done
    }
    if (move.complete) return undefined;
    return (
      move.report.find((one) => one.error !== undefined)?.error ??
      new SlurmCgroupsError('ERR_CGROUP_REFUSED', `Cannot move process ${move.process.pid}`)
    );
  }

  /**
   * Has slurmstepd move it, and takes from /proc what came of it. No answer means nothing here: a process that was
   * moved in vain is answered with success on v2, one that is gone too.
   */
  async #addByStepd({ stepd, job }: StepdWay, move: Move): Promise<SlurmCgroupsError | undefined> {
    const { pid } = move.process;
    const ended = endOf(move.process);
    if (ended !== undefined) return ended;
    const answer = await stepd.addPid(pid, { timeoutMs: this.#task.options.timeoutMs ?? defaultTimeoutMs });
    move.observe((hierarchy) => isJobIn(this.#node, job, hierarchy));
    switch (answer.outcome) {
      case 'answered':
        this.#accounting = 'stepd';
        return undefined;
      case 'silent':
      case 'garbled':
      case 'unreachable':
        if (move.complete) {
          this.#trace.push(`slurmstepd has moved process ${pid}, but did not say so: ${answer.error.message}`);
          return undefined;
        }
        // What it was told it may still do (measured): whoever reads this has to know.
        this.#trace.push(
          `slurmstepd was told to take in process ${pid} and may still do so, whoever has that pid then`,
        );
        return answer.error;
      default:
        this.#accounting = 'refused';
        return answer.error;
    }
  }

  /**
   * Children that were there before: those made later are born in the job. A child of another user, a setuid
   * program and whatever else is never moved stays, and the trace says so.
   */
  async #moveDescendants(): Promise<SlurmCgroupsError | undefined> {
    const { host } = this.#node;
    const deadline = host.now() + (this.#task.options.timeoutMs ?? defaultTimeoutMs);
    const seen = new Set<number>(this.#processes.map((one) => one.pid));
    for (let moved = true; moved; ) {
      moved = false;
      // The list grows while it is walked: the children of a child are looked at in the same round. A round in which
      // all that was new had been born in the job is the last: such children may come for ever.
      for (const parent of this.#processes) {
        if (host.now() > deadline) {
          return new SlurmCgroupsError('ERR_TIMEOUT', 'New children kept appearing until the deadline');
        }
        for (const pid of childrenIfThere(this.#node, parent)) {
          if (seen.has(pid)) continue;
          seen.add(pid);
          const outcome = await this.#moveChild(pid);
          if (outcome instanceof SlurmCgroupsError) return outcome;
          if (outcome === 'gone') seen.delete(pid); // if it is listed again, it is there
          moved = moved || outcome === 'moved' || outcome === 'gone';
        }
      }
    }
    return undefined;
  }

  /** `stays`: nothing to be moved, also of one whose parent has not asked for its exit code yet; or the first error. */
  async #moveChild(pid: number): Promise<SlurmCgroupsError | 'moved' | 'already' | 'stays' | 'gone'> {
    let held: HeldProcess;
    try {
      held = holdProcess(this.#node.host, pid);
    } catch (error) {
      return endedOr(error);
    }
    try {
      if (endOf(held) !== undefined) {
        held.close();
        return 'stays';
      }
      const refusal = refusalToMove(this.#node, held, this.#task.uid);
      if (refusal !== undefined) {
        this.#trace.push(`its child ${pid} (${held.stat().comm}) stays where it is: it ${refusal}`);
        held.close();
        return 'stays';
      }
      const move = this.#plan(held);
      this.#processes.push(held);
      this.#moves.push(move);
      const wasThere = move.complete;
      const failure = await this.#attempt(move);
      if (failure === undefined) return wasThere ? 'already' : 'moved';
      return hasCode(failure, 'ERR_NO_SUCH_PROCESS') ? 'gone' : failure;
    } catch (error) {
      if (!this.#processes.includes(held)) held.close();
      return endedOr(error);
    }
  }

  async #undo(): Promise<void> {
    for (const move of [...this.#moves].reverse()) await move.undo();
    if (this.#way.by === 'stepd' && this.#accounting === 'stepd')
      this.#trace.push('slurmstepd had taken it in: it may count it on');
  }

  #remains(): boolean {
    return this.#moves.some((move) => move.report.some((one) => one.outcome === 'remains'));
  }

  /** Where the target is frozen. A job can be suspended at any moment, so this is asked before and after. */
  #frozen(): string | undefined {
    const { goals } = this.#way.by === 'stepd' ? this.#way : { goals: this.#way.targets.map(({ cgroup }) => cgroup) };
    // Where slurmstepd has put somebody is known afterwards; up to 23.02 a user can freeze a task of his own making.
    for (const cgroup of [...goals, ...this.#moves.flatMap((move) => move.cgroups)]) {
      const place = frozenAt(this.#node.host, cgroup);
      if (place !== undefined) return place;
    }
    return undefined;
  }

  /** After the move: what cannot be read is taken as frozen, since a session must never hang in a frozen job. */
  #frozenNow(): SlurmCgroupsError | undefined {
    try {
      const place = this.#frozen();
      return place === undefined ? undefined : suspended(this.#task.name, place);
    } catch (error) {
      if (error instanceof SlurmCgroupsError) return error;
      throw error;
    }
  }

  #result(outcome: AdoptionOutcome, error?: SlurmCgroupsError): AdoptionResult {
    const [session, ...others] = this.#moves;
    const hierarchies = session?.report ?? [];
    const wrote = hierarchies.some((one) => one.outcome === 'moved' || one.outcome === 'remains');
    return {
      outcome,
      moved: wrote ? this.#way.by : 'none',
      accounting: this.#accounting,
      hierarchies,
      ...(error === undefined ? {} : { error }),
      descendants: others.map((move) => ({ pid: move.process.pid, outcome: summaryOf(move) })),
      trace: this.#trace,
    };
  }

  close(): void {
    for (const move of this.#moves) move.close();
    for (const process of this.#processes) process.close();
    if (this.#way.by === 'cgroup') closeTargets(this.#way.targets);
    this.#stepd?.close();
  }
}

/** `/user.slice` or, where hierarchies differ, `/a in memory, cpuset; /b in freezer`. */
function placesOf({ sources }: Move): string {
  const [first] = sources;
  return first !== undefined && sources.every(({ path }) => path === first.path) ? first.path : placesLine(sources);
}

function summaryOf(move: Move): 'adopted' | 'already' | 'undone' | 'partial' {
  const outcomes = move.report.map((one) => one.outcome);
  if (outcomes.every((one) => one === 'already')) return 'already';
  if (move.complete) return 'adopted';
  return outcomes.includes('remains') || outcomes.includes('moved') ? 'partial' : 'undone';
}

function endedOr(error: unknown): SlurmCgroupsError | 'gone' {
  if (hasCode(error, 'ERR_NO_SUCH_PROCESS')) return 'gone'; // it ended between being listed and being moved
  if (error instanceof SlurmCgroupsError) return error;
  throw error;
}

function childrenIfThere(node: SlurmNode, parent: HeldProcess): readonly number[] {
  try {
    return childrenOf(node.host, parent);
  } catch (error) {
    if (!isGone(error)) throw error;
    // Where it has ended, its children belong to another parent now, and are seen there or not at all.
    return hasEnded(parent) ? [] : childrenOf(node.host, parent);
  }
}

function suspended(name: string, place: string): SlurmCgroupsError {
  return new SlurmCgroupsError(
    'ERR_FROZEN',
    `${name[0]?.toUpperCase()}${name.slice(1)} is suspended: "${place}" is frozen`,
    { path: place },
  );
}
