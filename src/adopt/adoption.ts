// One process into one job: check that it may, move it, prove it from /proc, or put it back and say exactly
// what remains. Which job is policy's word. Where the job lacks a leaf for it, its slurmstepd moves it.

import { frozenAt } from '../cgroup/freezer.js';
import { placesLine } from '../cgroup/membership.js';
import { endOf, type HierarchyMove, hasEnded, Move } from '../cgroup/move.js';
import { type HeldProcess, holdProcess } from '../cgroup/process.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { holdUserCgroups, isJobIn } from '../jobs/leaves.js';
import type { SlurmNode } from '../jobs/node.js';
import { refusalToMove } from '../jobs/protected.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import { type Told, tellStepd } from './accounting.js';
import { moveDescendants } from './descendants.js';
import { type Counted, closeWay, findWay, type StepdWay, type Way, wayBehind } from './route.js';

/** A user's own cgroup (`action_unknown=user`, v1 only): no job's accounting, no job's memory limit. */
export interface UserTarget {
  readonly kind: 'user';
  readonly uid: number;
}

export interface AdoptOptions {
  readonly node: SlurmNode;
  /**
   * What a refusal in the middle does: put everything back (default), or keep what was reached. Where slurmstepd takes
   * nobody in, everything is put back either way: its step is ending, and nobody would end with the job what is kept.
   */
  readonly onFailure?: 'undo' | 'keep';
  /** Move its living children too, and theirs, until no new one appears. */
  readonly descendants?: boolean;
  /** How long all that may take which is waited for: slurmstepd, and children that keep appearing. Default 5000. */
  readonly timeoutMs?: number;
  /** How long slurmstepd may take to say that it runs. Default 1000. */
  readonly stepdTimeoutMs?: number;
  /** Its reason is thrown; after the first move nothing stops an adoption. */
  readonly signal?: AbortSignal;
  /**
   * Called at most once, as soon as /proc proves an adoption by writes to cgroup.procs of which slurmstepd is told only
   * then: a login can be answered. Not called where slurmstepd has to come first (it moves the process, or
   * LaunchParameters has ulimit_pam_adopt) or is not told at all: then the promise is the answer. What it throws, adopt()
   * throws, with the process in the job.
   *
   * Once it was called nothing is put back any more, which would set the session free. Where slurmstepd then says no,
   * its step is ending: the outcome stays `adopted`, `accounting` is `refused`, and `error` says why. Where /proc shows
   * afterwards that slurmstepd has moved it out of the job, or cannot be read, it is `partial`. With an `error` the
   * caller has to end the session; adopt() ends nobody.
   */
  readonly onProven?: (result: AdoptionResult) => void;
  /**
   * Whether an earlier adoption had slurmstepd take it in (`accounting: 'stepd'`): it is not told again, since it
   * counts twice what it was told of twice. Not given: what stood in every leaf of the job before is left as it is.
   */
  readonly isCounted?: boolean;
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
   * `none`: it was not told, or did not answer; then Slurm counts only where its plugin reads the cgroups.
   */
  readonly accounting: 'stepd' | 'none' | 'refused';
  /** Why it is not `stepd`, for people, where it is adopted. */
  readonly uncountedWhy?: string;
  readonly hierarchies: readonly HierarchyMove[];
  /** Why it is not adopted; with `adopted`, why the session is to be ended (`onProven`). */
  readonly error?: SlurmCgroupsError;
  /** Nothing was moved because the job's extern step takes nobody any more: it is ending, has ended, or died. */
  readonly ending?: true;
  /** Children moved along, by writes. Slurm counts them with the process: slurmstepd is not told of each. */
  readonly descendants: readonly {
    readonly pid: number;
    readonly outcome: 'adopted' | 'already' | 'undone' | 'partial';
  }[];
  /** Lines for an administrator. */
  readonly trace: readonly string[];
}

const defaultTimeoutMs = 5000;
const defaultStepdTimeoutMs = 1000;
/** In less time no slurmstepd answers: to take it for silent, and go by cgroup, could be into a step that is ending. */
const leastMs = 50;

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

/** What one adoption holds open and has moved so far, the session first. */
class Adoption {
  readonly #node: SlurmNode;
  readonly #task: Task;
  readonly #trace: string[] = [];
  readonly #processes: HeldProcess[] = [];
  readonly #moves: Move[] = [];
  readonly #until: number;
  #way: Way = { by: 'cgroup', targets: [] };
  /** Of its children, where it is another. */
  #wayBehind: Way | undefined;
  #accounting: AdoptionResult['accounting'] = 'none';
  #uncountedWhy: string | undefined;
  /** Where it is not who the way says. */
  #movedBy: 'stepd' | undefined;
  /** A login was answered: nothing is put back any more. */
  #isAnswered = false;

  constructor(node: SlurmNode, task: Task) {
    this.#node = node;
    this.#task = task;
    this.#until = node.host.now() + (task.options.timeoutMs ?? defaultTimeoutMs);
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
    const { signal } = this.#task.options;
    const left = this.#until - this.#node.host.now();
    if (left < leastMs && !('kind' in target)) {
      const why = `No time was left to ask slurmstepd whether ${this.#task.name} takes process ${pid}`;
      this.#way = { by: 'nobody', why: new SlurmCgroupsError('ERR_TIMEOUT', why, { pid }) };
      return;
    }
    const stepdTimeoutMs = Math.min(this.#task.options.stepdTimeoutMs ?? defaultStepdTimeoutMs, left);
    const say = (line: string) => this.#trace.push(line);
    this.#way =
      'kind' in target
        ? { by: 'cgroup', targets: holdUserCgroups(this.#node, target.uid) }
        : await findWay(this.#node, target, { stepdTimeoutMs, ...(signal && { signal }), say });
    if (this.#way.by !== 'nobody') this.#moves.push(this.#plan(held, this.#way));
  }

  #plan(held: HeldProcess, way: Way): Move {
    if (way.by === 'cgroup') return Move.plan(this.#node.host, held, way.targets);
    return Move.follow(this.#node.host, held, way.by === 'stepd' ? way.goals : []);
  }

  async run(): Promise<AdoptionResult> {
    const way = this.#way;
    if (way.by === 'nobody')
      return { ...this.#result('untouched', way.why), ...(way.why.code === 'ERR_TIMEOUT' ? {} : { ending: true }) };
    const [session] = this.#moves;
    if (session === undefined) throw new TypeError('run() comes after begin()');
    const before = this.#frozen();
    if (before !== undefined) return this.#result('suspended', suspended(this.#task.name, before));
    this.#trace.push(`process ${session.process.pid} came from ${placesOf(session)}`);
    const wasThere = session.complete;
    const failure = await this.#moveAll(session);
    const frozen = this.#frozenNow();
    if (frozen !== undefined) return this.#takeBack(frozen);
    if (failure !== undefined) return this.#failed(session, failure);
    this.#trace.push(`/proc shows it in ${this.#task.name} in every hierarchy of the job`);
    if (way.by === 'stepd' || way.counted === undefined) return this.#result('adopted');
    return this.#count(session, way.counted, wasThere);
  }

  /** The job was suspended meanwhile, or whether it was cannot be seen. */
  async #takeBack(frozen: SlurmCgroupsError): Promise<AdoptionResult> {
    await this.#undo();
    if (this.#remains()) return this.#result('partial', frozen);
    return this.#result(frozen.code === 'ERR_FROZEN' ? 'suspended' : 'undone', frozen);
  }

  async #failed(session: Move, failure: SlurmCgroupsError): Promise<AdoptionResult> {
    if (this.#isAnswered) return this.#result(session.complete ? 'adopted' : 'partial', failure);
    if (this.#task.options.onFailure === 'keep' && this.#accounting !== 'refused') {
      const reached = session.report.some(
        (one) => one.outcome === 'moved' || one.outcome === 'already' || one.outcome === 'remains',
      );
      return this.#result(reached ? 'partial' : 'untouched', failure);
    }
    const touched = this.#moves.some(isElsewhere);
    await this.#undo();
    return this.#result(this.#remains() ? 'partial' : touched ? 'undone' : 'untouched', failure);
  }

  /** Has Slurm count what stands in the job now, and looks again where it is: slurmstepd may have moved it on. */
  async #count(session: Move, counted: Counted, wasThere: boolean): Promise<AdoptionResult> {
    const { isCounted, onProven } = this.#task.options;
    if (isCounted ?? wasThere) {
      if (isCounted === true) this.#accounting = 'stepd';
      else this.#uncountedWhy = 'it was in the job before';
      this.#trace.push('slurmstepd is not told of it again: it counts twice what it is told of twice');
      return this.#result('adopted');
    }
    if (counted.unasked !== undefined) {
      this.#uncountedWhy = counted.unasked;
      return this.#result('adopted');
    }
    if (counted.first !== undefined) this.#trace.push(`slurmstepd comes before the answer: ${counted.first}`);
    else if (onProven !== undefined) {
      this.#isAnswered = true;
      onProven(this.#result('adopted'));
    }
    const wrote = isElsewhere(session);
    const told = await this.#tell(session, counted);
    const failure = this.#settle(session, counted, told);
    if (!wrote) this.#movedBy = 'stepd';
    // Who was answered is suspended with his job like everybody in it.
    const frozen = this.#isAnswered ? undefined : this.#frozenNow();
    if (frozen !== undefined) return this.#takeBack(frozen);
    return failure === undefined ? this.#result('adopted') : this.#failed(session, failure);
  }

  async #tell(session: Move, { job, stepd }: Counted): Promise<Told> {
    const { stepdTimeoutMs = defaultStepdTimeoutMs } = this.#task.options;
    try {
      return await tellStepd({
        ...{ node: this.#node, job, stepd, process: session.process },
        ...{ until: this.#until, stepdTimeoutMs },
      });
    } catch (error) {
      if (error instanceof SlurmCgroupsError) return { outcome: 'untold', error };
      if (!this.#isAnswered) await this.#undo();
      throw error;
    }
  }

  /** What came of the telling, by what was said and by where /proc shows the process; why it cannot stay as it is. */
  #settle(session: Move, { job, goals }: Counted, told: Told): SlurmCgroupsError | undefined {
    const { pid } = session.process;
    if (told.outcome === 'ended') {
      this.#uncountedWhy = 'it has ended';
      this.#trace.push(`process ${pid} has ended: slurmstepd has nothing to count`);
      return undefined;
    }
    if (told.outcome === 'taken') {
      this.#accounting = 'stepd';
      this.#trace.push('slurmstepd has taken it in: Slurm counts its use');
    } else if (told.outcome === 'refused') {
      this.#accounting = 'refused';
      this.#uncountedWhy = told.error.message;
      this.#trace.push(`slurmstepd does not take it in: ${told.error.message}`);
    } else {
      // Untold, or told and silent.
      this.#uncountedWhy = told.error.message;
      this.#trace.push(`limited by the job, but not counted: ${told.error.message}`);
      if (told.outcome === 'unanswered') this.#trace.push(mayStill(pid));
    }
    try {
      session.observe((hierarchy) => isJobIn(this.#node, job, hierarchy), goals);
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      if (!hasEnded(session.process)) return error;
      this.#trace.push(`process ${pid} has ended`);
    }
    // Of one that has ended meanwhile too (measured: it is killed with the step that takes it in no more).
    if (told.outcome === 'refused') return told.error;
    return session.complete ? undefined : whyIncomplete(session);
  }

  /** The session, then its children; the first refusal. Whatever else goes wrong, nothing half done is left behind. */
  async #moveAll(session: Move): Promise<SlurmCgroupsError | undefined> {
    try {
      const failure = await this.#attempt(session, this.#way);
      if (failure !== undefined || this.#task.options.descendants !== true) return failure;
      return await moveDescendants({
        ...{ node: this.#node, uid: this.#task.uid, until: this.#until, family: this.#processes },
        move: (held) => this.#moveChild(held, session),
        say: (line) => this.#trace.push(line),
      });
    } catch (error) {
      if (error instanceof SlurmCgroupsError) return error;
      await this.#undo();
      throw error;
    }
  }

  /** Writes and proves one move; the first error, if it is not complete. */
  async #attempt(move: Move, way: Way): Promise<SlurmCgroupsError | undefined> {
    try {
      if (way.by === 'stepd') {
        const refusal = await this.#addByStepd(way, move);
        if (refusal !== undefined) return refusal;
      } else {
        await move.run(this.#task.options.onFailure === 'keep');
        move.prove();
      }
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      return error; // /proc could not be read: not proven, so not done
    }
    return move.complete ? undefined : whyIncomplete(move);
  }

  async #moveChild(held: HeldProcess, session: Move): Promise<SlurmCgroupsError | 'moved' | 'already'> {
    if (this.#way.by === 'stepd') this.#wayBehind ??= wayBehind(this.#node.host, session);
    const way = this.#wayBehind ?? this.#way;
    const move = this.#plan(held, way);
    this.#processes.push(held);
    this.#moves.push(move);
    const wasThere = move.complete;
    return (await this.#attempt(move, way)) ?? (wasThere ? 'already' : 'moved');
  }

  /**
   * Has slurmstepd move it, and takes from /proc what came of it. No answer means nothing here: a process that was
   * moved in vain is answered with success on v2, one that is gone too.
   */
  async #addByStepd({ stepd, job }: StepdWay, move: Move): Promise<SlurmCgroupsError | undefined> {
    const { pid } = move.process;
    const ended = endOf(move.process);
    if (ended !== undefined) return ended;
    const answer = await stepd.addPid(pid, { timeoutMs: Math.max(0, this.#until - this.#node.host.now()) });
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
          this.#uncountedWhy = 'slurmstepd moved it, and did not say that it counts it';
          return undefined;
        }
        // What it was told it may still do (measured): whoever reads this has to know.
        this.#trace.push(mayStill(pid));
        return answer.error;
      default:
        this.#accounting = 'refused';
        return answer.error;
    }
  }

  async #undo(): Promise<void> {
    for (const move of [...this.#moves].reverse()) await move.undo();
    if (this.#accounting === 'stepd') this.#trace.push('slurmstepd had taken it in: it may count it on');
  }

  #remains(): boolean {
    return this.#moves.some((move) => move.report.some((one) => one.outcome === 'remains'));
  }

  /** Where the target is frozen. A job can be suspended at any moment, so this is asked before and after. */
  #frozen(): string | undefined {
    const goals = this.#way.by === 'stepd' ? this.#way.goals : [];
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
    return {
      outcome,
      moved: session === undefined || !isElsewhere(session) ? 'none' : this.#movers(),
      accounting: this.#accounting,
      ...(outcome !== 'adopted' || this.#uncountedWhy === undefined ? {} : { uncountedWhy: this.#uncountedWhy }),
      hierarchies,
      ...(error === undefined ? {} : { error }),
      descendants: others.map((move) => ({ pid: move.process.pid, outcome: summaryOf(move) })),
      trace: [...this.#trace],
    };
  }

  #movers(): 'cgroup' | 'stepd' {
    return this.#movedBy ?? (this.#way.by === 'stepd' ? 'stepd' : 'cgroup');
  }

  close(): void {
    for (const move of this.#moves) move.close();
    for (const process of this.#processes) process.close();
    closeWay(this.#way);
    if (this.#wayBehind !== undefined) closeWay(this.#wayBehind);
  }
}

/** `/user.slice` or, where hierarchies differ, `/a in memory, cpuset; /b in freezer`. */
function placesOf({ sources }: Move): string {
  const [first] = sources;
  return first !== undefined && sources.every(({ path }) => path === first.path) ? first.path : placesLine(sources);
}

/** Not where it was before. */
function isElsewhere({ report }: Move): boolean {
  return report.some((one) => one.outcome === 'moved' || one.outcome === 'remains');
}

function summaryOf(move: Move): 'adopted' | 'already' | 'undone' | 'partial' {
  const outcomes = move.report.map((one) => one.outcome);
  if (outcomes.every((one) => one === 'already')) return 'already';
  if (move.complete) return 'adopted';
  return outcomes.includes('remains') || outcomes.includes('moved') ? 'partial' : 'undone';
}

function whyIncomplete(move: Move): SlurmCgroupsError {
  return (
    move.report.find((one) => one.error !== undefined)?.error ??
    new SlurmCgroupsError('ERR_CGROUP_REFUSED', `Cannot move process ${move.process.pid}`)
  );
}

/** What it was told slurmstepd may still do (measured): whoever reads this has to know. */
function mayStill(pid: number): string {
  return `slurmstepd was told to take in process ${pid} and may still do so, whoever has that pid then`;
}

function suspended(name: string, place: string): SlurmCgroupsError {
  return new SlurmCgroupsError(
    'ERR_FROZEN',
    `${name[0]?.toUpperCase()}${name.slice(1)} is suspended: "${place}" is frozen`,
    { path: place },
  );
}
