// One phase of a login, from the module's request to the reply: which process, which job, the adoption, and what the
// module needs to do the rest. The account phase decides; the session phase puts the session back where another module
// has moved it. Every failure is an answer.

import { directoryOf } from '../cgroup/hierarchies.js';
import { hierarchyKey, type Membership } from '../cgroup/membership.js';
import { filesOf, holdProcess, type ProcessIdentity } from '../cgroup/process.js';
import { recordFolderOf, sessionIdOf } from '../jobs/adoptions.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { placeOf } from '../jobs/membership-in-job.js';
import type { SlurmNode } from '../jobs/node.js';
import { uptimeMs } from '../machine/clock.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, ifReadable, SlurmCgroupsError } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import type { Host } from '../machine/host.js';
import type { AnswerDecision } from '../policy/answer.js';
import type { AdoptionOptions } from '../policy/options.js';
import { noSetting, settingOf } from './job-setting.js';
import { readLoginNote } from './login-note.js';
import { type LoginProcess, processOfLogin } from './login-process.js';
import { type BegunLogin, type LoginReply, type LoginRequest, parseLoginReply } from './login-protocol.js';
import { type Answer, inJob, notInJob, plainReply, type SiteMessages, settingIn, severities } from './login-words.js';
import { ownJobAround } from './own-job.js';
import { type AdoptionRecord, Recorder } from './record.js';
import { admitSession, decideSession, type SessionOptions } from './session.js';

export interface LoginOptions extends Pick<SessionOptions, 'signal'> {
  /** Whether the epilog is left a record of the adoption (`AdoptOptions.recorded`): on a node of Slurm's, not in a sandbox. */
  readonly isRecorded?: boolean;
  /** Called once, before the first move: whoever hears it can put the process back where this program is killed. */
  readonly onMoving?: (begun: BegunLogin) => void;
  readonly node: SlurmNode;
  readonly options: AdoptionOptions;
  readonly messages: SiteMessages;
}

export interface AnsweredLogin {
  readonly reply: LoginReply;
  readonly record: AdoptionRecord;
}

/** What is left of the time of a login when the answer is sent: for the note, the record and the way back. */
const reserveMs = 60;

/** How long this login may still take, in ms: never negative. */
export function leftOf(host: Host, { deadlineMs }: Pick<LoginRequest, 'deadlineMs'>): number {
  return Math.max(0, deadlineMs - uptimeMs(host) - reserveMs);
}

/**
 * Answers one phase of a login.
 *
 * @throws SlurmCgroupsError ERR_TIMEOUT where its time was over before anything was done.
 */
export async function answerLogin(request: LoginRequest, login: LoginOptions): Promise<AnsweredLogin> {
  const { host } = login.node;
  requireTime(host, request);
  const found = processFor(host, request);
  // Behind that look, which takes the time of the kernel's tables.
  const leftMs = requireTime(host, request);
  const options = { ...login.options, budgetMs: leftMs };
  const within = { ...login, options };
  if ('error' in found) return withoutProcess(request, found.error, within);
  const before = ifReadable(() => withHeld(holdProcess(host, found.process.pid), (held) => held.memberships())) ?? [];
  try {
    const around =
      found.asksItself && request.phase === 'account' ? await jobAround(request, found.process, within) : undefined;
    if (around !== undefined) return staying(request, { process: found.process, before, job: around, login: within });
    let setting = noSetting;
    const sshdSession = login.isRecorded === true ? sshdSessionOf(host, found.process) : undefined;
    let hasBegun = false;
    const admitted = await admitSession(sessionOf(request, found.process.pid), {
      ...{ node: login.node, options },
      ...defined({ signal: login.signal }),
      ...(found.asksItself ? { asksItself: true } : {}),
      ...(request.isCounted ? { isCounted: true } : {}),
      // The session phase has it from the account phase.
      ...(request.phase === 'session'
        ? {}
        : {
            onAdopted: async (job: Job, deadline: Deadline) => {
              setting = await settingOf(login.node, job, { options, deadline });
            },
          }),
      ...(login.isRecorded === true ? { recorded: defined({ sshdSession }) } : {}),
      onMoving: () => {
        if (!hasBegun) login.onMoving?.({ process: found.process, from: directoriesOf(login.node, before) });
        hasBegun = true;
      },
    });
    // Before anything is made of it: the log has the answer that the module is given.
    const record = request.phase === 'session' ? { ...admitted, ...answerOfSession(admitted, options) } : admitted;
    const said = adjustOom(host, found.process, { record, options });
    const lines = [...said, ...setting.notes];
    const reply = replyOf({ request, process: found.process, before, record, login: within, said: lines });
    return { reply: { ...reply, ...settingIn(setting, options), ...auditIn(record, sshdSession) }, record };
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return failed(request, error, { login: within, process: found.process });
  }
}

/** Of a program that is no sshd, and not root's own session: sudo in a job. */
async function jobAround(
  { uid }: LoginRequest,
  { pid }: ProcessIdentity,
  { node, options }: LoginOptions,
): Promise<Job | undefined> {
  if (uid === 0 || options.mode === 'observe') return undefined;
  const held = holdProcess(node.host, pid);
  try {
    const deadline = deadlineIn(node.host, Math.min(aroundMs, options.budgetMs / 2));
    return await ownJobAround(node, held, { uid, deadline });
  } finally {
    held.close();
  }
}

const aroundMs = 1000;

function staying(
  request: LoginRequest,
  {
    process,
    before,
    job,
    login: { node, options, messages },
  }: {
    readonly process: ProcessIdentity;
    readonly before: readonly Membership[];
    readonly job: Job;
    readonly login: LoginOptions;
  },
): AnsweredLogin {
  const reason = `This session is in ${nameOfJob(job)} already`;
  const answer: AnswerDecision = { action: 'allow', rule: 'already', reason, trace: [reason] };
  const session = sessionOf(request, process.pid);
  const inIt = before.filter((membership) => placeOf(node, membership)?.job !== undefined);
  return {
    reply: {
      ...plainReply(request, answer, { options, messages }),
      process,
      ...defined({ jobId: job.jobId }),
      cgroups: inIt.map(({ controllers, path }) => ({ controllers, path })),
      failure: options.actionAdoptFailure,
    },
    record: new Recorder(node.host, session).end({ decision: answer, answer, trace: answer.trace, tried: undefined }),
  };
}

/** The audit session of sshd itself, the parent of what watches over the connection: what has the same proves nothing. */
function sshdSessionOf(host: Host, { pid }: ProcessIdentity): number | undefined {
  return ifReadable(() => {
    const { ppid } = withHeld(holdProcess(host, pid), (held) => held.stat());
    return sessionIdOf(filesOf(host, ppid));
  });
}

/** In most stacks pam_loginuid is run behind us: the module notes what it set beside the record of the adoption. */
function auditIn({ target, action }: AdoptionRecord, sshdSession: number | undefined): Pick<LoginReply, 'audit'> {
  const folder = target?.kind === 'job' ? recordFolderOf(target) : undefined;
  if (action !== 'allow' || sshdSession === undefined || folder === undefined) return {};
  return { audit: { sshdSession, folder } };
}

/**
 * What the session starts from now on inherits it: where memory runs out, an editor ends before the computation. A line
 * for the log where the kernel refuses.
 */
function adjustOom(
  host: Host,
  { pid, startTime }: ProcessIdentity,
  { record, options }: { readonly record: AdoptionRecord; readonly options: AdoptionOptions },
): readonly string[] {
  const { sessionOomAdj } = options;
  if (sessionOomAdj === undefined || record.adoption?.outcome !== 'adopted') return [];
  try {
    withHeld(holdProcess(host, pid), (held) => {
      if (held.startTime === startTime) held.directory.write('oom_score_adj', String(sessionOomAdj));
    });
    return [];
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return [`session_oom_adj=${sessionOomAdj} is not set: ${error.message}`];
    throw error;
  }
}

/** @throws SlurmCgroupsError ERR_TIMEOUT where none is left. */
function requireTime(host: Host, request: LoginRequest): number {
  const leftMs = leftOf(host, request);
  if (leftMs > 0) return leftMs;
  throw new SlurmCgroupsError('ERR_TIMEOUT', 'The time of this login was over before anything was done', {
    pid: request.pid,
  });
}

/** Of the session phase it is the caller: its account phase has found it, and the module has read so in its note. */
function processFor(host: Host, request: LoginRequest): LoginProcess | { readonly error: SlurmCgroupsError } {
  const caller: ProcessIdentity = { pid: request.pid, startTime: request.startTime };
  if (request.phase === 'session') return { process: caller, asksItself: true };
  try {
    return processOfLogin(host, caller, request.connection);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { error };
    throw error;
  }
}

function sessionOf({ uid, user, service, connection, jobId }: LoginRequest, pid: number) {
  return { pid, uid, user, service, ...defined({ connection, jobId }) };
}

/** A user without a job is refused for that; one who would be adopted cannot be. */
async function withoutProcess(
  request: LoginRequest,
  error: SlurmCgroupsError,
  login: LoginOptions,
): Promise<AnsweredLogin> {
  const { node, options } = login;
  const { decision } = await decideSession(sessionOf(request, request.pid), { node, options });
  if (decision.action === 'adopt') return failed(request, error, { login });
  return unadopted(request, decision, { login });
}

function failed(
  request: LoginRequest,
  error: SlurmCgroupsError,
  its: { readonly login: LoginOptions; readonly process?: ProcessIdentity },
): AnsweredLogin {
  const { actionAdoptFailure } = its.login.options;
  const reason = `The session could not be put into its job: ${error.message}`;
  // Nobody is let in for a process that has ended.
  const action = hasCode(error, 'ERR_NO_SUCH_PROCESS') ? 'deny' : actionAdoptFailure;
  const trace = [error.message, `action_adopt_failure=${actionAdoptFailure}`];
  return unadopted(request, { action, reason, rule: 'adopt-failure', trace }, { ...its, error });
}

/** A login that ends without an adoption that was tried; it has its record as every other. */
function unadopted(
  request: LoginRequest,
  answer: AnswerDecision,
  {
    login: { node, options, messages },
    process,
    error,
  }: { readonly login: LoginOptions; readonly process?: ProcessIdentity; readonly error?: SlurmCgroupsError },
): AnsweredLogin {
  const reply = plainReply(request, answer, { options, messages });
  const failure = error === undefined ? [] : [{ severity: severities.error, line: error.message }];
  const session = sessionOf(request, process?.pid ?? request.pid);
  return {
    reply: { ...reply, log: [...reply.log, ...failure], ...defined({ process }) },
    record: new Recorder(node.host, session).end({ decision: answer, answer, trace: answer.trace, tried: undefined }),
  };
}

function replyOf({
  request,
  process,
  before,
  record,
  login: { node, options, messages },
  said,
}: {
  readonly request: LoginRequest;
  readonly process: ProcessIdentity;
  readonly before: readonly Membership[];
  readonly record: AdoptionRecord;
  readonly login: LoginOptions;
  readonly said: readonly string[];
}): LoginReply {
  const isIn = record.action === 'allow' && record.adoption?.outcome === 'adopted' && record.target?.kind === 'job';
  const jobId = record.target?.kind === 'job' ? record.target.jobId : undefined;
  const plain = plainReply(request, record, { options, messages }, record);
  return {
    ...plain,
    log: [...plain.log, ...said.map((line) => ({ severity: severities.error, line }))],
    messages: record.action === 'allow' ? [isIn ? inJob(jobId) : notInJob(record)] : plain.messages,
    process,
    ...(isIn ? defined({ jobId }) : {}),
    isCounted: isIn && (request.isCounted || record.adoption?.accounting === 'stepd'),
    cgroups: isIn ? placesOf(node.host, process, record) : [],
    ...(isIn ? { failure: options.actionAdoptFailure } : {}),
    from: isIn ? (earlierFrom(node.host, process, record) ?? directoriesOf(node, before)) : [],
  };
}

/** Of a process that was in the job before: where it came from when it went there, by an earlier account phase. */
function earlierFrom(
  host: Host,
  process: ProcessIdentity,
  { adoption }: AdoptionRecord,
): readonly string[] | undefined {
  if (adoption?.moved !== 'none') return undefined;
  const note = ifReadable(() => readLoginNote(host, process));
  return note === undefined ? undefined : ifReadable(() => parseLoginReply(note).from);
}

/** The session phase is late: what a failure means is said by action_adopt_failure alone. */
function answerOfSession(record: AdoptionRecord, { actionAdoptFailure }: AdoptionOptions): Answer {
  if (record.action !== 'deny' || record.adoption?.outcome === 'adopted') return record;
  const trace = [...record.trace, `session phase: action_adopt_failure=${actionAdoptFailure}`];
  return { action: actionAdoptFailure, rule: record.rule, reason: record.reason, trace };
}

/** Where it is now, in the hierarchies in which the adoption was proven. */
function placesOf(host: Host, { pid }: ProcessIdentity, { proof }: AdoptionRecord): LoginReply['cgroups'] {
  const proven = new Set(proof.map(({ controllers }) => hierarchyKey(controllers)));
  const memberships = ifReadable(() => withHeld(holdProcess(host, pid), (held) => held.memberships())) ?? [];
  return memberships
    .filter(({ controllers }) => proven.has(hierarchyKey(controllers)))
    .map(({ controllers, path }) => ({ controllers, path }));
}

/** The directories of the cgroups in which it was, where the mounts show them. */
function directoriesOf({ hierarchies }: SlurmNode, before: readonly Membership[]): readonly string[] {
  return before.flatMap(({ controllers, path }) => {
    const hierarchy = hierarchies.all.find((one) => hierarchyKey(one.controllers) === hierarchyKey(controllers));
    return hierarchy === undefined ? [] : (directoryOf(hierarchy, path) ?? []);
  });
}
