// A whole login: ask policy, gather what it asks for, wait where it says so, adopt, and let policy say what
// the outcome means. The only place where deciding and doing meet.

import type { SlurmNode } from '../jobs/node.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { AdoptDecision, AdoptionTarget, AnswerDecision } from '../policy/answer.js';
import { decideAdoption, decideAfterAdoption } from '../policy/decision.js';
import { type AdoptionFacts, afterWaiting, withEnding, withExcluded } from '../policy/facts.js';
import { type AdoptionOptions, defaultOptions } from '../policy/options.js';
import { type AdoptionResult, type AdoptOptions, adopt } from './adoption.js';
import { type EvidenceRequest, withFact } from './evidence.js';

/** A session at the door: whose it is, the process that is to be adopted, and the connection if sshd tells it. */
export interface SessionRequest extends EvidenceRequest {
  readonly pid: number;
}

export interface SessionOptions {
  readonly node: SlurmNode;
  readonly options?: AdoptionOptions;
  readonly descendants?: boolean;
  /** What a half adoption becomes. Default: `keep` where action_adopt_failure lets it in, else `undo`. */
  readonly onFailure?: 'undo' | 'keep';
  readonly signal?: AbortSignal;
  /**
   * As in AdoptOptions: the login may be let in when it is called. If slurmstepd takes nobody in after that, the
   * admission says so (`adoption.accounting` is `refused`), and the session is to be ended.
   */
  readonly onProven?: AdoptOptions['onProven'];
  /** As in AdoptOptions: the session phase of a login whose account phase had slurmstepd take it in. */
  readonly isCounted?: boolean;
}

/** A decision that asks for nothing more, and the facts it came from. */
export interface SessionDecision {
  readonly decision: AdoptDecision | AnswerDecision;
  readonly facts: AdoptionFacts;
}

/** How a login ended. */
export interface Admission {
  readonly action: 'allow' | 'ignore' | 'deny';
  readonly reason: string;
  readonly trace: readonly string[];
  readonly target?: AdoptionTarget;
  readonly adoption?: AdoptionResult;
}

/** How often a job that is just starting is looked for. */
const pauseMs = 100;

/** Decides without doing anything: what `--dry-run` shows. Jobs are waited for, and caller ID is asked, as the options say. */
export async function decideSession(
  request: EvidenceRequest,
  session: SessionOptions,
  known: AdoptionFacts = {},
): Promise<SessionDecision> {
  const { node, options = defaultOptions } = session;
  return decide(request, session, known, { endMs: node.host.now() + options.budgetMs, dryRun: true });
}

/** The bounds of one login, over all that it decides. */
interface Bounds {
  readonly endMs: number;
  readonly dryRun: boolean;
  /** When its jobs were first waited for. */
  waitingSinceMs?: number;
}

/** A wait ends before the budget does: the adoption takes its time, too. */
const reserve = { most: 1000, part: 0.2 };

async function decide(
  request: EvidenceRequest,
  session: SessionOptions,
  known: AdoptionFacts,
  bounds: Bounds,
): Promise<SessionDecision> {
  const { node, options = defaultOptions } = session;
  let facts = known;
  for (;;) {
    const decision = decideAdoption(request, facts, options);
    switch (decision.action) {
      case 'ask':
        facts = await withFact(facts, decision.fact, {
          node,
          request,
          options,
          ...{ endMs: bounds.endMs, dryRun: bounds.dryRun },
          ...(session.signal && { signal: session.signal }),
        });
        break;
      case 'wait':
        facts = afterWaiting(facts, await waitForJobs(decision.forMs, { facts, session, bounds }));
        break;
      default:
        return { decision, facts };
    }
  }
}

interface Waiting {
  readonly facts: AdoptionFacts;
  readonly session: SessionOptions;
  readonly bounds: Bounds;
}

/**
 * Waits a moment; how much longer than `facts` say this login has waited for its jobs now. What it took to ask for them
 * in between counts: a slurmstepd that does not answer, asked again and again, must not make a wait without end of it.
 */
async function waitForJobs(forMs: number, { facts, session, bounds }: Waiting): Promise<number> {
  const { node, options = defaultOptions, signal } = session;
  const { budgetMs } = options;
  const before = node.host.now();
  bounds.waitingSinceMs ??= before;
  const untilMs = bounds.endMs - Math.min(reserve.most, budgetMs * reserve.part);
  const pause = Math.max(0, Math.min(pauseMs, forMs, untilMs - before));
  await node.host.sleep(pause, signal);
  const now = node.host.now();
  if (now >= untilMs) return budgetMs; // all that there can be
  // At least the pause: a clock that stands still must not keep the login here.
  return Math.max(now - bounds.waitingSinceMs - (facts.waitedMs ?? 0), pause);
}

/**
 * Admits a session: decides, adopts, and answers.
 *
 * @throws SlurmCgroupsError only where the process cannot be asked about at all (ERR_NO_SUCH_PROCESS,
 * ERR_PROTECTED, ERR_NOT_PERMITTED); every other failure is an answer.
 */
export async function admitSession(request: SessionRequest, session: SessionOptions): Promise<Admission> {
  const { node, options = defaultOptions } = session;
  const bounds: Bounds = { endMs: node.host.now() + options.budgetMs, dryRun: false };
  let facts: AdoptionFacts = {};
  /** What was tried before, in vain: it may have left something behind. */
  const earlier: string[] = [];
  for (;;) {
    const decided = await decide(request, session, facts, bounds);
    const { decision } = decided;
    facts = decided.facts;
    if (decision.action !== 'adopt')
      return { action: decision.action, reason: decision.reason, trace: [...earlier, ...decision.trace] };
    const { target } = decision;
    const adoption = await attempt(request, target, session, bounds.endMs);
    const lines = [...adoption.trace, ...(adoption.error === undefined ? [] : [adoption.error.message])];
    if (adoption.ending === true && target.kind === 'job') {
      // Its directories outlive it. As in pam_slurm_adopt it does not count: to the last login of a job that is over
      // action_adopt_failure=allow would open the node.
      facts = withEnding(facts, target.job);
      earlier.push(...lines);
      continue;
    }
    const report = {
      outcome: adoption.outcome,
      ...(adoption.error === undefined ? {} : { reason: adoption.error.message }),
    };
    const answer = decideAfterAdoption(decision, report, options);
    if (answer.action !== 'next') {
      return {
        action: answer.action,
        reason: answer.reason,
        trace: [...earlier, ...decision.trace, ...adoption.trace, ...answer.trace.slice(decision.trace.length)],
        target,
        adoption,
      };
    }
    facts = withExcluded(facts, [answer.exclude]);
    earlier.push(...lines);
  }
}

/** Errors about the process itself are the caller's; those about the job are an outcome for policy. */
const ofTheProcess: ReadonlySet<string> = new Set([
  'ERR_NO_SUCH_PROCESS',
  'ERR_PROTECTED',
  'ERR_NOT_PERMITTED',
  'ERR_NOT_RECORDED',
]);

async function attempt(
  request: SessionRequest,
  target: AdoptionTarget,
  session: SessionOptions,
  /** Of the budget that is over everything a login waits for. */
  endMs: number,
): Promise<AdoptionResult> {
  const { node, options = defaultOptions, descendants = false } = session;
  const onFailure = session.onFailure ?? (options.actionAdoptFailure === 'allow' ? 'keep' : 'undo');
  try {
    return await adopt(request.pid, target.kind === 'job' ? target.job : target, {
      node,
      onFailure,
      descendants,
      timeoutMs: Math.max(0, endMs - node.host.now()),
      ...(session.signal && { signal: session.signal }),
      ...(session.onProven && { onProven: session.onProven }),
      ...(session.isCounted === undefined ? {} : { isCounted: session.isCounted }),
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
