// One conversation with a slurmstepd: questions one after the other, each answered, refused or given up in time.
// How one comes to it is ask.ts.

import type { Deadline } from '../../machine/deadline.js';
import { ParseError, quote, SlurmCgroupsError, SystemCallError } from '../../machine/errors.js';
import type { Connection } from '../../machine/socket.js';
import {
  encodeAddPid,
  encodeQuestion,
  knowsQuestion,
  type Reading,
  readAdded,
  readAnswer,
  type StepdAnswers,
  type StepdQuestion,
} from './protocol.js';
import type { StepSocket } from './sockets.js';

/**
 * absent: there is no such socket; dead: nothing listens there any more; refused: it said no, or closed without an
 * answer, as a step that is ending does; silent: no answer in time; garbled: no slurmstepd says that; untrusted:
 * it is no socket, or not in a folder of root's alone; unsupported: a slurmstepd of that release does not know the
 * question; unreachable: the kernel does not let us (the cause says why).
 */
export type StepdFailure =
  | 'absent'
  | 'dead'
  | 'refused'
  | 'silent'
  | 'garbled'
  | 'untrusted'
  | 'unsupported'
  | 'unreachable';

/** Why a slurmstepd gave no answer. `subject.path` is its socket. */
export class StepdError extends SlurmCgroupsError {
  readonly failure: StepdFailure;
  /** What was asked; absent when it did not come to that. */
  readonly request?: StepdQuestion | 'addPid';

  constructor(
    failure: StepdFailure,
    { socket, request, why }: { socket: StepSocket; request?: StepdQuestion | 'addPid' | undefined; why: string },
    cause?: unknown,
  ) {
    const path = `${socket.folder}/${socket.name}`;
    const what = request === undefined ? 'ask' : `ask ${request} of`;
    super('ERR_STEPD', `Cannot ${what} slurmstepd at ${quote(path)}: ${why}`, { path, jobId: socket.jobId }, cause);
    this.failure = failure;
    if (request !== undefined) this.request = request;
  }
}

export type StepdAnswer<T> =
  | { readonly outcome: 'answered'; readonly value: T }
  | { readonly outcome: StepdFailure; readonly error: StepdError };

/** A connection to one slurmstepd. The caller closes it. */
export class StepdConnection {
  readonly socket: StepSocket;
  /** SLURM_PROTOCOL_VERSION of the server: 38 << 8 is 22.05, 45 << 8 is 26.05. */
  readonly serverVersion: number;
  readonly #connection: Connection;
  /** Why nothing can be asked any more: after a silence the next answer would be one to the question before. */
  #over: { readonly failure: StepdFailure; readonly why: string } | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(made: { socket: StepSocket; serverVersion: number; connection: Connection }) {
    this.socket = made.socket;
    this.serverVersion = made.serverVersion;
    this.#connection = made.connection;
  }

  /** Asks one question, after those asked before. */
  ask<Q extends StepdQuestion>(question: Q, deadline: Deadline): Promise<StepdAnswer<StepdAnswers[Q]>> {
    const unknown = this.#whyUnsupported(question);
    if (unknown !== undefined) return Promise.resolve(unknown);
    return this.#exchange(question, { bytes: encodeQuestion(question), reading: readAnswer(question) }, deadline);
  }

  /**
   * Asks several at once: slurmstepd reads them one after the other, and is waited for once instead of once a question.
   * The deadline is over all of them; after the first failure the rest fail with it.
   */
  askAll(
    questions: readonly StepdQuestion[],
    deadline: Deadline,
  ): Promise<readonly StepdAnswer<StepdAnswers[StepdQuestion]>[]> {
    const known = questions.filter((question) => this.#whyUnsupported(question) === undefined);
    let isFirst = true;
    return Promise.all(
      questions.map((question): Promise<StepdAnswer<StepdAnswers[StepdQuestion]>> => {
        const unknown = this.#whyUnsupported(question);
        if (unknown !== undefined) return Promise.resolve(unknown);
        const bytes = isFirst ? Buffer.concat(known.map(encodeQuestion)) : undefined;
        isFirst = false;
        return this.#exchange(question, { bytes, reading: readAnswer(question) }, deadline);
      }),
    );
  }

  #whyUnsupported(question: StepdQuestion): { outcome: StepdFailure; error: StepdError } | undefined {
    if (knowsQuestion(this.serverVersion, question)) return undefined;
    return this.#failed('unsupported', question, `its release (${this.serverVersion >> 8}) has none`);
  }

  /**
   * Has slurmstepd take a process into its extern step. `answered` proves nothing (on v2 a process that is gone
   * gives it too): read /proc/PID/cgroup. On v1 a move that fails is tried four times, a second each, before it is
   * refused (Slurm's proctrack_g_add; measured, 22.05). What was given up as `silent` may still be done later, with
   * the process that has that pid then: ask for the state first, on the same connection.
   */
  async addPid(pid: number, deadline: Deadline): Promise<StepdAnswer<'accepted'>> {
    const answer = await this.#exchange('addPid', { bytes: encodeAddPid(pid), reading: readAdded() }, deadline);
    if (answer.outcome !== 'answered') return answer;
    return answer.value === 'accepted'
      ? { outcome: 'answered', value: answer.value }
      : this.#failed(
          'refused',
          'addPid',
          'it does not take the process: no extern step, we are not root, or the process is gone',
        );
  }

  close(): void {
    this.#over ??= { failure: 'unreachable', why: 'the connection was closed' };
    this.#connection.close();
  }

  #exchange<T>(
    request: StepdQuestion | 'addPid',
    /** Without bytes: it was asked with the question before. */
    { bytes, reading }: { bytes: Uint8Array | undefined; reading: Reading<T> },
    deadline: Deadline,
  ): Promise<StepdAnswer<T>> {
    const act = async (): Promise<StepdAnswer<T>> => {
      const over = this.#over;
      if (over !== undefined) return this.#failed(over.failure, request, over.why);
      if (bytes !== undefined && this.#connection.pending)
        return this.#end('garbled', request, 'it talks without being asked');
      let complete = false;
      try {
        if (bytes !== undefined) this.#connection.send(bytes);
        const value = await readFrom(this.#connection, reading, deadline);
        complete = true;
        return { outcome: 'answered', value };
      } catch (error) {
        const { failure, why } = failureOf(error);
        complete = true;
        return this.#end(failure, request, why, error);
      } finally {
        if (!complete) this.#over = { failure: 'silent', why: 'an earlier question was given up' };
      }
    };
    const answer = this.#last.then(act);
    this.#last = answer.catch(() => {}); // the one who asked is told
    return answer;
  }

  /** The end of this connection: what comes next cannot be told from what was asked before. */
  #end(
    failure: StepdFailure,
    request: StepdQuestion | 'addPid',
    why: string,
    cause?: unknown,
  ): { outcome: StepdFailure; error: StepdError } {
    this.#over ??= { failure, why }; // closed by us meanwhile: that is why
    return this.#failed(this.#over.failure, request, this.#over.why, cause);
  }

  #failed(
    failure: StepdFailure,
    request: StepdQuestion | 'addPid',
    why: string,
    cause?: unknown,
  ): { outcome: StepdFailure; error: StepdError } {
    return { outcome: failure, error: new StepdError(failure, { socket: this.socket, request, why }, cause) };
  }
}

/** Runs a reading over a connection. */
export async function readFrom<T>(connection: Connection, reading: Reading<T>, deadline: Deadline): Promise<T> {
  let step = reading.next();
  while (step.done !== true) {
    const bytes = await connection.receive(step.value, deadline.wait());
    if (bytes === undefined) throw new Closed();
    step = reading.next(bytes);
  }
  return step.value;
}

/** The other side closed before it had answered. */
class Closed extends Error {
  readonly closed = true;
}

/** What an error of a connection means; whatever is none (an abort, a host that plays a recording) is thrown again. */
export function failureOf(error: unknown): { readonly failure: StepdFailure; readonly why: string } {
  if (error instanceof Closed) return { failure: 'refused', why: 'it closed without an answer: the step is ending' };
  if (error instanceof ParseError) return { failure: 'garbled', why: `its answer makes no sense: ${error.message}` };
  if (!(error instanceof SystemCallError)) throw error;
  if (error.errno === 'ETIMEDOUT') return { failure: 'silent', why: 'it does not answer in time' };
  if (error.errno === 'ECONNREFUSED') return { failure: 'dead', why: 'nothing listens there: its slurmstepd has died' };
  // ENOTDIR: its folder is something else, or a symbolic link; none is followed.
  if (error.errno === 'ELOOP' || error.errno === 'ENOTDIR') return { failure: 'untrusted', why: error.message };
  if (error.code === 'ERR_NOT_FOUND') return { failure: 'absent', why: error.message };
  return { failure: 'unreachable', why: error.message };
}
