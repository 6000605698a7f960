// What is said to a slurmstepd and what it answers, as bytes: numbers in host order, one after the other, no
// frames. Pure: connecting, and for how long, is ask.ts'. Sources: Slurm src/common/stepd_api.c and
// src/slurmd/slurmstepd/req.c, each series from 19.05 to 26.05 (up to 18.08 a munge credential came first).

import { ParseError } from '../../machine/errors.js';
import { decodeKernelText } from '../../machine/kernel-text.js';

/** Value of SLURM_PROTOCOL_VERSION by release: 20.11 = 36, one more each release; 26.05 = 45. */
const release = (number: number): number => number << 8;

/** The first that take a bare number (19.05). Older ones answer -1 to it. */
const oldestServer = release(34);

/** A server keeps its version in 16 bits (stepd_connect). */
const newestServer = 0xffff;

/** SLUIDs are there from 25.11 on; an older slurmstepd closes the connection. */
const firstWithSluid = release(44);

/**
 * What a client may say it speaks, in this order: the newest that these requests were compared with (26.11), and,
 * to a server that takes only newer ones, more than there is: all took any larger number so far.
 */
export const offeredVersions: readonly number[] = [release(46), 0x7fff_ff00];

/** Greatest number of processes a kernel can have (PID_MAX_LIMIT): no true list is longer. */
const maxPid = 4_194_304;

/** PATH_MAX, with its NUL. */
const maxPathBytes = 4096;

/**
 * ending: slurmstepd accepts no process any more (25.11 on; before that it does, and then ends it). `starting`: the
 * step's container may not be there yet.
 */
export type StepState = 'not-running' | 'starting' | 'running' | 'ending';

/** Absent: none was set up. */
export interface X11Display {
  readonly display?: number;
  readonly xauthority?: string;
}

/** What can be asked, and what the answer is. */
export interface StepdAnswers {
  /** Owner of the job. */
  readonly uid: number;
  readonly state: StepState;
  /** Pid of slurmstepd itself. */
  readonly daemonPid: number;
  /** Index of this node in the job: Slurm's number of the extern task here. */
  readonly nodeId: number;
  readonly x11Display: X11Display;
  /** `s` and 13 characters, as directories of 26.05 are named. */
  readonly sluid: string;
}

export type StepdQuestion = keyof StepdAnswers;

/** step_msg_t */
const numbers: Readonly<Record<StepdQuestion | 'addPid', number>> = {
  sluid: 1,
  state: 5,
  daemonPid: 9,
  uid: 20,
  nodeId: 21,
  addPid: 22,
  x11Display: 23,
};

/** Asks for so many bytes with each `yield`, and gives the value in the end. */
export type Reading<T> = Generator<number, T, Uint8Array>;

type Readers = { readonly [question in StepdQuestion]: () => Reading<StepdAnswers[question]> };

const readers: Readers = {
  *uid() {
    const uid = yield* readUint32();
    if (uid >= 0xffff_fffe) throw strange('uid', uid); // NO_VAL and -1: no user
    return uid;
  },
  *state() {
    const state = yield* readInt32();
    // 3 was ENDING up to 23.02.4; since then it is CANCELLED, and ENDING is 4.
    const word = (['not-running', 'starting', 'running', 'ending', 'ending'] as const)[state];
    if (word === undefined) throw strange('state', state);
    return word;
  },
  *daemonPid() {
    const pid = yield* readInt32();
    if (pid <= 1 || pid > maxPid) throw strange('pid of slurmstepd', pid);
    return pid;
  },
  *nodeId() {
    const nodeId = yield* readUint32();
    if (nodeId >= 0xffff_fffe) throw strange('index of this node', nodeId);
    return nodeId;
  },
  *x11Display() {
    const display = yield* readInt32();
    const length = yield* readInt32();
    if (display < 0 || display > 0xffff) throw strange('display', display);
    if (length < 0 || length > maxPathBytes) throw strange('length of the path of .Xauthority', length);
    const bytes = length === 0 ? new Uint8Array() : yield length;
    // Up to its NUL, which is counted in the length.
    const path = decodeKernelText(bytes.subarray(0, bytes.indexOf(0) < 0 ? bytes.length : bytes.indexOf(0)));
    return { ...(display === 0 ? {} : { display }), ...(path === '' ? {} : { xauthority: path }) };
  },
  *sluid() {
    const bytes = yield 8;
    const sluid = new BigUint64Array(ownBytes(bytes))[0] ?? 0n;
    if (sluid === 0n) throw strange('SLUID', sluid);
    return formatSluid(sluid);
  },
};

/** The bytes of a question. */
export function encodeQuestion(question: StepdQuestion): Uint8Array {
  return encodeNumbers(numbers[question]);
}

/** The bytes of ADD_EXTERN_PID. */
export function encodeAddPid(pid: number): Uint8Array {
  if (!Number.isSafeInteger(pid) || pid <= 1 || pid > maxPid) throw new RangeError(`addPid() takes a pid, not ${pid}`);
  return encodeNumbers(numbers.addPid, pid);
}

export function encodeVersion(version: number): Uint8Array {
  return encodeNumbers(version);
}

/** Whether a server of that version knows the question. */
export function knowsQuestion(serverVersion: number, question: StepdQuestion): boolean {
  return question !== 'sluid' || serverVersion >= firstWithSluid;
}

/** Reads the answer to a question; throws ParseError where no slurmstepd would say that. */
export function readAnswer<Q extends StepdQuestion>(question: Q): Reading<StepdAnswers[Q]> {
  return readers[question]();
}

/** Reads what answers the version we speak: the server's own, or its refusal. */
export function* readVersion(): Reading<{ readonly serverVersion: number } | 'refused'> {
  const version = yield* readInt32();
  if (version < 0) return 'refused';
  const plausible = version >= oldestServer && version <= newestServer && (version & 0xff) === 0;
  if (!plausible) throw strange('protocol version', version);
  return { serverVersion: version };
}

/** Reads what answers ADD_EXTERN_PID. `accepted` proves nothing: Slurm logs a failed move and says 0. */
export function* readAdded(): Reading<'accepted' | 'refused'> {
  const code = yield* readInt32();
  if (code !== 0 && code !== -1) throw strange('result', code);
  return code === 0 ? 'accepted' : 'refused';
}

const crockford = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** A SLUID as Slurm prints it (src/common/sluid.c): 13 digits of five bits, the first of four. */
export function formatSluid(sluid: bigint): string {
  let digits = '';
  for (let shift = 60n; shift >= 0n; shift -= 5n) digits += crockford[Number((sluid >> shift) & 31n)];
  return `s${digits}`;
}

function* readInt32(): Reading<number> {
  const bytes = yield 4;
  return new Int32Array(ownBytes(bytes))[0] ?? 0;
}

function* readUint32(): Reading<number> {
  const bytes = yield 4;
  return new Uint32Array(ownBytes(bytes))[0] ?? 0;
}

/** A copy with memory of its own: a Buffer lies anywhere in Node's pool, and its slice() copies nothing. */
function ownBytes(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

/** Typed arrays are in the order of this machine, as a slurmstepd on it writes. */
function encodeNumbers(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Int32Array(values).buffer);
}

function strange(what: string, value: number | bigint): ParseError {
  return new ParseError(`${value} is no ${what}`);
}
