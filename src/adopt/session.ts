// A whole login: ask policy, gather the facts that it asks for, wait where it says so, adopt, and let policy say what
// the outcome means. Only here do deciding and doing meet.

import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { AdoptDecision, AnswerDecision } from '../policy/answer.js';
import { decideAdoption, decideAfterAdoption } from '../policy/decision.js';
import { type AdoptionFacts, afterWaiting, type FactName, withEnding, withExcluded } from '../policy/facts.js';
import { type AdoptionOptions, defaultOptions } from '../policy/options.js';
import { type AdoptOptions, adopt } from './adoption.js';
import { type EvidenceRequest, withFact } from './evidence.js';
import { type AdoptionRecord, type Ending, Recorder, type Stage } from './record.js';
import type { AdoptionResult } from './result.js';

/** A session at the door: whose it is, the process that is to be adopted, and the connection if sshd tells it. */
export interface SessionRequest extends EvidenceRequest {
  readonly pid: number;
}

export interface SessionOptions {
  readonly node: SlurmNode;
  readonly options?: AdoptionOptions;
  readonly descendants?: boolean;
  /** As in AdoptOptions: the process may be taken out of another job that lives. */
  readonly force?: boolean;
  /** What a half adoption becomes. Default: `keep` where action_adopt_failure lets the session in, else `undo`. */
  readonly onFailure?: 'undo' | 'keep';
  readonly signal?: AbortSignal;
  /**
   * As in AdoptOptions: the login can be answered when it is called. If slurmstepd refuses the process after that, the
   * record says so (`adoption.accounting` is `refused`), and the session has to be ended.
   */
  readonly onProven?: AdoptOptions['onProven'];
  /** As in AdoptOptions: for the session phase of a login in whose account phase slurmstepd accepted the process. */
  readonly isCounted?: boolean;
  /** As in AdoptOptions. */
  readonly asksItself?: boolean;
  /** As in AdoptOptions; once for each job that is tried. */
  readonly onMoving?: AdoptOptions['onMoving'];
  /** As in AdoptOptions. */
  readonly recorded?: AdoptOptions['recorded'];
  /** Called with the job once the session is in it; its time is the login's. */
  readonly onAdopted?: (job: Job, deadline: Deadline) => Promise<void>;
}

/** A decision that asks for nothing more, and the facts that it was made from. */
export interface SessionDecision {
  readonly decision: AdoptDecision | AnswerDecision;
  readonly facts: AdoptionFacts;
}

/** How often jobs that are just starting are looked for. */
const pauseMs = 100;

/** A wait ends before the budget does: the adoption takes its time, too. */
const reserve = { most: 1000, part: 0.2 };

/**
 * Decides and does nothing else: what `--dry-run` shows. Jobs are waited for, and caller ID is asked, as the options
 * say.
 */
export async function decideSession(
  request: EvidenceRequest,
  session: SessionOptions,
  known: AdoptionFacts = {},
): Promise<SessionDecision> {
  return decide(new Login(request, session), known);
}

/**
 * Admits a session: decides, adopts, and answers.
 *
 * @throws SlurmCgroupsError only where the process itself is the problem (ERR_NO_SUCH_PROCESS, ERR_PROTECTED,
 * ERR_NOT_PERMITTED); every other failure is an answer.
 */
export async function admitSession(request: SessionRequest, session: SessionOptions): Promise<AdoptionRecord> {
  const { node, options = defaultOptions } = session;
  const recorder = new Recorder(node.host, request);
  const login = new Login(request, session, recorder);
  let facts: AdoptionFacts = {};
  let tried: Ending['tried'];
  /** Of adoptions that failed before: they can have left something behind. */
  const earlier: string[] = [];
  for (;;) {
    const decided = await decide(login, facts);
    const { decision } = decided;
    facts = decided.facts;
    if (decision.action !== 'adopt')
      return recorder.end({ decision, answer: decision, trace: [...earlier, ...decision.trace], tried });
    const { target } = decision;
    const adoption = await recorder.during('adoption', () => attempt(login, request.pid, decision));
    tried = { target, adoption };
    const lines = [...adoption.trace, ...(adoption.error === undefined ? [] : [adoption.error.message])];
    if (adoption.ending === true && target.kind === 'job') {
      // The directories of a job outlive it. As for pam_slurm_adopt it does not count: else action_adopt_failure=allow
      // would open the node to the last login of a job that is over.
      facts = withEnding(facts, target.job);
      earlier.push(...lines);
      continue;
    }
    const report = {
      outcome: adoption.outcome,
      ...defined({ reason: adoption.error?.message }),
    };
    const answer = decideAfterAdoption(decision, report, options);
    if (answer.action !== 'next') {
      const { onAdopted } = session;
      if (
        onAdopted !== undefined &&
        answer.action === 'allow' &&
        adoption.outcome === 'adopted' &&
        target.kind === 'job'
      )
        await recorder.during('setting', () => onAdopted(target.job, login.deadline));
      const after = answer.trace.slice(decision.trace.length);
      const trace = [...earlier, ...decision.trace, ...adoption.trace, ...after];
      return recorder.end({ decision, answer, trace, tried });
    }
    facts = withExcluded(facts, [answer.exclude]);
    earlier.push(...lines);
  }
}

/** One login: what it is given, and its one deadline over all that it waits for. */
class Login {
  readonly request: EvidenceRequest;
  readonly session: SessionOptions;
  readonly options: AdoptionOptions;
  readonly deadline: Deadline;
  /** Absent: nothing is done, so nothing is recorded. */
  readonly #recorder: Recorder | undefined;
  /** When its jobs were first waited for. */
  waitingSinceMs: number | undefined;

  constructor(request: EvidenceRequest, session: SessionOptions, recorder?: Recorder) {
    this.request = request;
    this.session = session;
    this.options = session.options ?? defaultOptions;
    this.deadline = deadlineIn(session.node.host, this.options.budgetMs, session.signal);
    this.#recorder = recorder;
  }

  get isDryRun(): boolean {
    return this.#recorder === undefined;
  }

  during<T>(stage: Stage, act: () => Promise<T>): Promise<T> {
    return this.#recorder === undefined ? act() : this.#recorder.during(stage, act);
  }

  proven(): void {
    this.#recorder?.proven();
  }
}

async function decide(login: Login, known: AdoptionFacts): Promise<SessionDecision> {
  let facts = known;
  for (;;) {
    const decision = decideAdoption(login.request, facts, login.options);
    switch (decision.action) {
      case 'ask':
        facts = await gather(login, facts, decision.fact);
        break;
      case 'wait':
        facts = afterWaiting(facts, await waitForJobs(login, facts, decision.forMs));
        break;
      default:
        return { decision, facts };
    }
  }
}

function gather(login: Login, facts: AdoptionFacts, fact: FactName): Promise<AdoptionFacts> {
  const { request, options, deadline, isDryRun, session } = login;
  return login.during(fact, () =>
    withFact(facts, fact, { node: session.node, request, options, deadline, dryRun: isDryRun }),
  );
}

/**
 * Waits a moment, and says how much longer than `facts` say this login has waited for its jobs now. The time in which
 * they were asked for counts too: a slurmstepd that does not answer, asked again and again, must not make the wait
 * endless.
 */
async function waitForJobs(login: Login, facts: AdoptionFacts, forMs: number): Promise<number> {
  const { host } = login.session.node;
  const { budgetMs } = login.options;
  login.waitingSinceMs ??= host.now();
  const reserveMs = Math.min(reserve.most, budgetMs * reserve.part);
  const pause = Math.max(0, Math.min(pauseMs, forMs, login.deadline.leftMs() - reserveMs));
  await login.during('wait', () => host.sleep(pause, login.deadline.signal));
  if (login.deadline.leftMs() <= reserveMs) return budgetMs; // there is no longer wait
  // At least the pause: a clock that stands still must not keep the login here.
  return Math.max(host.now() - login.waitingSinceMs - (facts.waitedMs ?? 0), pause);
}

/** Errors about the process itself are thrown; those about the job are an outcome for policy. */
const ofTheProcess: ReadonlySet<string> = new Set([
  'ERR_NO_SUCH_PROCESS',
  'ERR_PROTECTED',
  'ERR_NOT_PERMITTED',
  'ERR_NOT_RECORDED',
]);

async function attempt(login: Login, pid: number, { target, rule }: AdoptDecision): Promise<AdoptionResult> {
  const { session, options, deadline } = login;
  const {
    node,
    descendants = false,
    force = false,
    signal,
    onProven,
    onMoving,
    isCounted,
    asksItself,
    recorded,
  } = session;
  // A named job that failed is refused, whatever the options say.
  const isLetIn = options.actionAdoptFailure === 'allow' && rule !== 'named';
  try {
    return await adopt(pid, target.kind === 'job' ? target.job : target, {
      node,
      onFailure: session.onFailure ?? (isLetIn ? 'keep' : 'undo'),
      descendants,
      force,
      timeoutMs: deadline.leftMs(),
      ...defined({ signal }),
      ...(onProven && {
        onProven: (result: AdoptionResult) => {
          login.proven();
          onProven(result);
        },
      }),
      ...defined({ onMoving, isCounted, asksItself, recorded }),
    });
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError) || ofTheProcess.has(error.code)) throw error;
    return {
      outcome: 'untouched',
      route: 'none',
      moved: 'none',
      accounting: 'none',
      hierarchies: [],
      error,
      descendants: [],
      trace: [],
    };
  }
}
