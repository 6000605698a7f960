// What is kept of one login or adoption: a plain value that JSON can hold. The login answers from it, logs are written
// from it, and metrics and `why` read it.

import type { HierarchyMove } from '../cgroup/move.js';
import { identityOf } from '../cgroup/process.js';
import { defined } from '../machine/defined.js';
import { type ErrorCode, ifReadable, type SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { AdoptDecision, AdoptionTarget, AnswerDecision, Rule } from '../policy/answer.js';
import type { FactName } from '../policy/facts.js';
import type { EvidenceRequest } from './evidence.js';
import type { AdoptionResult } from './result.js';

/** What a login spends its time on: gathering each fact, waiting for jobs, adopting, asking what else the
 * job has. */
export type Stage = FactName | 'wait' | 'adoption' | 'setting';

/** An error as JSON can hold it. */
export interface RecordedError {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Where a session goes; a job by its names alone. */
export type RecordedTarget =
  | { readonly kind: 'job'; readonly jobId?: number; readonly sluid?: string; readonly uid?: number }
  | { readonly kind: 'user'; readonly uid: number };

/** What policy decided, in the end, before or instead of an adoption. */
export interface RecordedDecision {
  readonly action: 'adopt' | 'allow' | 'ignore' | 'deny';
  readonly rule: Rule;
  readonly reason: string;
  readonly target?: RecordedTarget;
  /** With `mode=observe`: what would have been decided. */
  readonly would?: RecordedDecision;
}

/** What adopt() did, its errors as JSON can hold them. */
export interface RecordedAdoption extends Omit<AdoptionResult, 'hierarchies' | 'error'> {
  readonly hierarchies: readonly (Omit<HierarchyMove, 'error'> & { readonly error?: RecordedError })[];
  readonly error?: RecordedError;
}

/** All that is known of one login: who came, what was decided and why, what was done, and the answer. */
export interface AdoptionRecord {
  /** Names this login in every log and report: pid, start of the process, and the time. */
  readonly id: string;
  /** When it came: ISO 8601, UTC. */
  readonly time: string;
  /** The process that was to be adopted. `startTime` (clock ticks since boot) is absent where it could not be read. */
  readonly process: { readonly pid: number; readonly startTime?: string };
  readonly uid: number;
  readonly user?: string;
  readonly service?: string;
  /** As sshd gave it. */
  readonly connection?: string;
  readonly decision: RecordedDecision;
  /** Where the last adoption that was tried was to go. */
  readonly target?: RecordedTarget;
  /** Who was to move the process: writes to cgroup.procs, or slurmstepd; `none`: no adoption was tried. */
  readonly route: AdoptionResult['route'];
  /** Where /proc showed the process in the end, in each hierarchy of its target that it reached. */
  readonly proof: readonly { readonly controllers: readonly string[]; readonly path: string }[];
  /** The last adoption that was tried. */
  readonly adoption?: RecordedAdoption;
  /** The answer to the login. */
  readonly action: 'allow' | 'ignore' | 'deny';
  readonly rule: Rule;
  readonly reason: string;
  /** Lines for an administrator, in the order of what happened. */
  readonly trace: readonly string[];
  /** How long each stage took, in ms. */
  readonly stagesMs: Readonly<Partial<Record<Stage, number>>>;
  /** From the beginning to the proof that could be answered (`onProven`), in ms. */
  readonly provenMs?: number;
  readonly totalMs: number;
}

/** What became of a login, as its record needs it. */
export interface Ending {
  readonly decision: AdoptDecision | AnswerDecision;
  readonly answer: Pick<AnswerDecision, 'action' | 'rule' | 'reason'>;
  readonly trace: readonly string[];
  readonly tried: { readonly target: AdoptionTarget; readonly adoption: AdoptionResult } | undefined;
}

/** Takes the times of one login as it goes, and makes its record. */
export class Recorder {
  readonly #host: Host;
  readonly #request: EvidenceRequest & { readonly pid: number };
  readonly #begun: Date = new Date();
  readonly #begunMs: number;
  readonly #startTime: string | undefined;
  readonly #stagesMs = new Map<Stage, number>();
  #provenMs: number | undefined;

  constructor(host: Host, request: EvidenceRequest & { readonly pid: number }) {
    this.#host = host;
    this.#request = request;
    this.#begunMs = host.now();
    this.#startTime = startTimeOf(host, request.pid);
  }

  /** Does something, and counts its time to that stage, also where it fails. */
  async during<T>(stage: Stage, act: () => Promise<T>): Promise<T> {
    const from = this.#host.now();
    try {
      return await act();
    } finally {
      this.#stagesMs.set(stage, (this.#stagesMs.get(stage) ?? 0) + this.#host.now() - from);
    }
  }

  /** The login can be answered now. */
  proven(): void {
    this.#provenMs = this.#sinceMs();
  }

  end({ decision, answer, trace, tried }: Ending): AdoptionRecord {
    const { pid, uid, user, service, connection } = this.#request;
    const startTime = this.#startTime;
    return {
      id: `${pid}-${startTime ?? 'unknown'}-${this.#begun.getTime()}`,
      time: this.#begun.toISOString(),
      process: { pid, ...defined({ startTime }) },
      uid,
      ...defined({ user, service, connection }),
      decision: recordedDecision(decision),
      ...(tried === undefined ? {} : { target: recordedTarget(tried.target) }),
      route: tried?.adoption.route ?? 'none',
      proof: tried === undefined ? [] : proofOf(tried.adoption),
      ...(tried === undefined ? {} : { adoption: recordedAdoption(tried.adoption) }),
      action: answer.action,
      rule: answer.rule,
      reason: answer.reason,
      trace,
      stagesMs: Object.fromEntries([...this.#stagesMs].map(([stage, ms]) => [stage, roundMs(ms)])),
      ...defined({ provenMs: this.#provenMs }),
      totalMs: this.#sinceMs(),
    };
  }

  #sinceMs(): number {
    return roundMs(this.#host.now() - this.#begunMs);
  }
}

/** In whole microseconds. */
function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** A login is answered also where its process is gone, or cannot be read. */
function startTimeOf(host: Host, pid: number): string | undefined {
  return ifReadable(() => String(identityOf(host, pid).startTime));
}

function proofOf({ outcome, hierarchies }: AdoptionResult): AdoptionRecord['proof'] {
  if (outcome !== 'adopted' && outcome !== 'partial') return [];
  return hierarchies
    .filter((one) => one.outcome === 'moved' || one.outcome === 'already')
    .map(({ controllers, path }) => ({ controllers, path }));
}

export function recordedTarget(target: AdoptionTarget): RecordedTarget {
  if (target.kind === 'user') return target;
  const { jobId, sluid, uid } = target.job;
  return {
    kind: 'job',
    ...defined({ jobId, sluid, uid }),
  };
}

function recordedDecision(decision: AdoptDecision | AnswerDecision): RecordedDecision {
  const { action, rule, reason } = decision;
  return {
    ...{ action, rule, reason },
    ...(decision.action === 'adopt' ? { target: recordedTarget(decision.target) } : {}),
    ...(decision.action === 'adopt' || decision.would === undefined ? {} : { would: recordedDecision(decision.would) }),
  };
}

function recordedAdoption({ error, hierarchies, ...rest }: AdoptionResult): RecordedAdoption {
  return {
    ...rest,
    hierarchies: hierarchies.map(({ error: why, ...one }) => ({ ...one, ...recordedError(why) })),
    ...recordedError(error),
  };
}

function recordedError(error: SlurmCgroupsError | undefined): { readonly error?: RecordedError } {
  return error === undefined ? {} : { error: { code: error.code, message: error.message } };
}
