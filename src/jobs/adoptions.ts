// Which processes were adopted into a job of this node: a file for each below /run/slurm-cgroups/adoptions, written
// before the first move, completed after the proof, removed with the job. A login leaves it for the end of the job, which
// is to find what the session started and what has left the job's cgroups since. Beside it the module notes the audit session
// of the login, where that is set only after the account phase.

import { bootIdOf } from '../cgroup/note-owner.js';
import type { ProcessFiles, ProcessIdentity } from '../cgroup/process.js';
import type { Deadline } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { ifReadable, ifThere, isGone, quote, SlurmCgroupsError, SystemCallError, someOf } from '../machine/errors.js';
import { withHeld } from '../machine/held.js';
import { type Directory, type Host, isRegularFile } from '../machine/host.js';
import { othersCanWrite } from '../machine/ownership.js';
import { Pace } from '../machine/pace.js';
import { makeStateFolder, removeStateFile, requireStateFolder, stateFolder } from '../machine/state-folder.js';
import { type Job, nameOfJob } from './job.js';
import { type JobName, parseJobName } from './layout.js';

const folder = stateFolder('adoptions');

/** Each takes a page of memory in /run. A job of four weeks with a login every ten minutes has as many. */
const mostOfJob = 4096;
const mostJobs = 4096;
/** One is about 300 bytes long. */
const longestRecord = 4096;

/** A process that was, or is just being, put into a job. */
export interface AdoptedSession extends AdoptedProcess {
  readonly version: 1;
  readonly bootId: string;
  /** `pid:[4026531836]`: in another namespace the pid is another process's. */
  readonly pidNamespace: string;
  /** When the adoption began: ISO 8601, UTC. */
  readonly time: string;
  /**
   * `moving`: an adoption had begun to move it. Where that was killed, or came to an end half way, it stays so.
   * `adopted`: /proc proved that it was in the job.
   */
  readonly state: 'moving' | 'adopted';
  /**
   * The audit session of the login, as /proc/PID/sessionid has it: every process that it starts keeps it. Only where the
   * login made it: see auditSessionOf.
   */
  readonly auditSession?: number;
}

/** What is known of it before it is moved. */
export interface AdoptedProcess {
  readonly pid: number;
  /** Clock ticks since boot, as text: JSON has no bigint. */
  readonly startTime: string;
  readonly uid: number;
  readonly job: NamesOfJob;
}

/** One of the two is known at least. */
export type NamesOfJob = Pick<Job, 'jobId' | 'sluid'>;

/** The record of one adoption, which has been written. */
export interface OpenRecord {
  /** After the proof. What an earlier adoption of the same process knew of its audit session stays. */
  complete(facts: { readonly auditSession?: number }): void;
  /** The process is where it was: so is the record of an earlier adoption, if there was one. */
  remove(): void;
}

/** How often a folder is made that others remove at the same time. */
const tries = 3;

/**
 * Writes, before the first move, that a process is being put into a job; the record of an earlier adoption of it into
 * that job is replaced. Two adoptions of one process must exclude each other (adopt/adopting-lock.ts).
 *
 * @throws SlurmCgroupsError where it cannot be written, or there are too many. Nothing is left then.
 */
export function openAdoptionRecord(
  host: Host,
  { process, uid, job }: { readonly process: ProcessIdentity; readonly uid: number; readonly job: NamesOfJob },
): OpenRecord {
  const { jobId, sluid } = job;
  const [directory] = foldersOf(job);
  if (directory === undefined)
    throw new SlurmCgroupsError(
      'ERR_NOT_SUPPORTED',
      `Cannot record an adoption into ${nameOfJob(job)}: it has no name`,
    );
  const name = `${process.pid}-${process.startTime}`;
  const file = `${directory}/${name}`;
  const record: AdoptedSession = {
    version: 1,
    bootId: bootIdOf(host),
    pidNamespace: host.readlink('/proc/self/ns/pid'),
    pid: process.pid,
    startTime: process.startTime.toString(),
    uid,
    job: defined({ jobId, sluid }),
    time: new Date().toISOString(),
    state: 'moving',
  };
  let earlier: AdoptedSession | undefined;
  for (let number = 1; ; number++) {
    const isAgain = requireRoom(host, { directory, name, job });
    try {
      makeStateFolder(host, directory);
      earlier = isAgain ? earlierOf(host, directory, record) : undefined;
      put(host, file, record);
      break;
    } catch (error) {
      // The job is being ended, or another adoption into it has failed: its folder was removed in between.
      if (!isGone(error) || number === tries) throw error;
    }
  }
  return {
    complete: ({ auditSession = earlier?.auditSession }) =>
      put(host, file, { ...record, state: 'adopted', ...defined({ auditSession }) }),
    remove: () => {
      if (earlier !== undefined) {
        put(host, file, earlier);
        return;
      }
      removeStateFile(host, file);
      removeIfEmpty(host, directory);
    },
  };
}

/**
 * The audit session of a process, where it proves that a process belongs to that login: it was set for that user
 * (pam_loginuid), and is another than that of sshd, which can be an administrator's who started it by hand.
 */
export function auditSessionOf(
  files: Pick<ProcessFiles, 'read'>,
  { uid, sshdSession }: { readonly uid: number; readonly sshdSession: number },
): number | undefined {
  if (ifReadable(() => numberIn(files.read('loginuid'))) !== uid) return undefined;
  const session = sessionIdOf(files);
  return session === sshdSession || session === unset ? undefined : session;
}

/** The audit session of a process, 4294967295 where it has none. `undefined`: it cannot be read, or the kernel has no audit. */
export function sessionIdOf(files: Pick<ProcessFiles, 'read'>): number | undefined {
  return ifReadable(() => numberIn(files.read('sessionid')));
}

/** (u32)-1: the process, and those that it comes from, never had one. */
const unset = 0xffff_ffff;

function numberIn(text: string): number | undefined {
  return /^\d{1,10}\n?$/.test(text) ? Number(text) : undefined;
}

/** What readAdoptions found. */
export interface AdoptionsOfJob {
  readonly sessions: readonly AdoptedSession[];
  /** Files that are no records of this boot, for people. */
  readonly notes: readonly string[];
  /** Why there may be more. */
  readonly unknown?: string;
}

/**
 * Reads which processes were adopted into a job since the boot. They may have ended, and their pids be others': whoever
 * acts on one compares its start time. It throws nothing but the reason of the deadline's signal.
 */
export async function readAdoptions(host: Host, job: NamesOfJob, deadline: Deadline): Promise<AdoptionsOfJob> {
  const sessions: AdoptedSession[] = [];
  const [malformed, foreign]: [string[], string[]] = [[], []];
  const unknown: string[] = [];
  const pace = new Pace(host, deadline);
  for (const directory of foldersOf(job)) {
    try {
      if (!requireStateFolder(host, directory)) continue;
      const own = { bootId: bootIdOf(host), pidNamespace: host.readlink('/proc/self/ns/pid') };
      const held = host.open(directory);
      try {
        // A record, and what the module noted beside it.
        const found = held.entries('', 2 * mostOfJob + 1);
        const ofRecords = found.filter(({ name }) => !name.endsWith(auditEnding));
        if (found.length > 2 * mostOfJob || ofRecords.length > mostOfJob)
          unknown.push(`there are more than ${mostOfJob} records in ${quote(directory)}`);
        const audits = new Map<string, number>();
        const records: AdoptedSession[] = [];
        for (const { name } of found) {
          if (name === fullMark) {
            unknown.push(`not every adoption is recorded: there was no room for more than ${mostOfJob}`);
            continue;
          }
          if (pace.isDue()) await pace.pause();
          if (pace.isOver()) {
            unknown.push('the time was over before all records were read');
            break;
          }
          if (name.endsWith(nextEnding)) continue; // its writer is at it, or was killed
          if (name.endsWith(auditEnding)) {
            const noted = auditNoteIn(host, held, name);
            if (noted === 'malformed') malformed.push(name);
            else if (noted !== 'gone') audits.set(name.slice(0, -auditEnding.length), noted);
            continue;
          }
          const record = recordIn(host, held, name);
          if (record === 'gone') continue;
          if (record === 'malformed') malformed.push(name);
          else if (record.bootId !== own.bootId || record.pidNamespace !== own.pidNamespace) foreign.push(name);
          else records.push(record);
        }
        for (const record of records) {
          const { auditSession = audits.get(`${record.pid}-${record.startTime}`) } = record;
          sessions.push({ ...record, ...defined({ auditSession }) });
        }
      } finally {
        held.close();
      }
    } catch (error) {
      if (isGone(error)) continue; // removed meanwhile
      if (!(error instanceof SlurmCgroupsError)) throw error;
      unknown.push(error.message);
    }
  }
  return {
    sessions,
    notes: [
      ...noteOn(malformed, 'not as this program writes them'),
      ...noteOn(foreign, 'of an earlier boot or another pid namespace'),
    ],
    ...(unknown.length === 0 ? {} : { unknown: unknown.join('; ') }),
  };
}

function noteOn(names: readonly string[], what: string): readonly string[] {
  return names.length === 0 ? [] : [`${names.length} records of adoptions are ${what}: ${someOf(names.map(quote))}`];
}

/**
 * Removes what is recorded of a job, which has ended. It throws nothing but the reason of the deadline's signal.
 *
 * @returns why something is left.
 */
export async function removeAdoptions(host: Host, job: NamesOfJob, deadline: Deadline): Promise<string | undefined> {
  const pace = new Pace(host, deadline);
  try {
    for (const directory of foldersOf(job)) {
      // Again where a login has written a record meanwhile.
      for (let number = 1; requireStateFolder(host, directory); number++) {
        for (const name of ifThere(() => host.names(directory)) ?? []) {
          if (pace.isDue()) await pace.pause();
          if (pace.isOver()) return 'the time was over before all records of adoptions were removed';
          removeStateFile(host, `${directory}/${name}`);
        }
        if (removeIfEmpty(host, directory)) break;
        if (number === tries) return `${quote(directory)} is left: others write to it`;
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error.message;
    throw error;
  }
}

/**
 * The jobs of which adoptions are recorded, at most some thousand.
 *
 * @throws SlurmCgroupsError where that cannot be read
 */
export function jobsWithAdoptions(host: Host): readonly JobName[] {
  if (!requireStateFolder(host, folder)) return [];
  const found = ifThere(() => withHeld(host.open(folder), (held) => held.entries('', 2 * mostJobs))) ?? [];
  return found.flatMap(({ name, kind }) => (kind === 'directory' ? (jobOfFolder(name) ?? []) : []));
}

/** The job that a folder is of. */
function jobOfFolder(name: string): JobName | undefined {
  return parseJobName(/^\d/.test(name) ? `job_${name}` : name);
}

/** The name of the folder in which the adoptions into a job are recorded. */
export function recordFolderOf(job: NamesOfJob): string | undefined {
  return foldersOf(job)[0]?.slice(folder.length + 1);
}

/** By the id, and by the SLUID, as a login has known the job; the first is the one that is written to. */
function foldersOf({ jobId, sluid }: NamesOfJob): readonly string[] {
  const names = [...(jobId === undefined ? [] : [String(jobId)]), ...(sluid === undefined ? [] : [sluid])];
  return names.filter((name) => jobOfFolder(name) !== undefined).map((name) => `${folder}/${name}`);
}

/**
 * That one more may be written. Two at once can both be the last: what is counted is not locked.
 *
 * @returns whether the process has a record there already
 * @throws SlurmCgroupsError ERR_NOT_SUPPORTED
 */
function requireRoom(
  host: Host,
  { directory, name, job }: { readonly directory: string; readonly name: string; readonly job: NamesOfJob },
): boolean {
  const records = ifThere(() => host.names(directory))?.filter((one) => !one.endsWith(auditEnding));
  const isAgain = records?.includes(name) === true;
  const isFull =
    records === undefined
      ? (ifThere(() => host.names(folder)) ?? []).length >= mostJobs
      : records.length >= mostOfJob && !isAgain;
  if (!isFull) return isAgain;
  // Who reads the records is to know that there were more.
  if (records !== undefined) ifReadable(() => host.create(`${directory}/${fullMark}`, ''));
  const many = records === undefined ? `adoptions into ${mostJobs} jobs` : `${mostOfJob} adoptions into it`;
  throw new SlurmCgroupsError(
    'ERR_NOT_SUPPORTED',
    `Cannot record an adoption into ${nameOfJob(job)}: ${many} are recorded already`,
    { path: directory },
  );
}

/** Of the same process, adopted into the same job; anything else is of no use here. */
function earlierOf(host: Host, directory: string, record: AdoptedSession): AdoptedSession | undefined {
  const name = `${record.pid}-${record.startTime}`;
  const found = ifReadable(() => withHeld(host.open(directory), (held) => recordIn(host, held, name)));
  if (found === undefined || found === 'gone' || found === 'malformed') return undefined;
  if (found.bootId !== record.bootId || found.pidNamespace !== record.pidNamespace) return undefined;
  return found.uid === record.uid && found.job.sluid === record.job.sluid ? found : undefined;
}

const nextEnding = '.next';
/** native/pam/protocol.h has the same. */
export const auditEnding = '.audit';
/** The name of no record: stands where one could not be written for want of room. */
const fullMark = 'full';

/** Written whole under another name, then put in its place: no half of it is ever read. */
function put(host: Host, file: string, record: AdoptedSession): void {
  const next = `${file}.${host.self().pid}${nextEnding}`;
  const text = `${JSON.stringify(record)}\n`;
  try {
    try {
      host.create(next, text);
    } catch (error) {
      if (!(error instanceof SystemCallError && error.errno === 'EEXIST')) throw error;
      removeStateFile(host, next); // an earlier process of this pid was killed in between
      host.create(next, text);
    }
    host.rename(next, file);
  } catch (error) {
    ifReadable(() => removeStateFile(host, next)); // a full file system leaves an empty one
    throw error;
  }
}

/** Gone counts as removed. */
function removeIfEmpty(host: Host, directory: string): boolean {
  try {
    host.rmdir(directory);
    return true;
  } catch (error) {
    if (isGone(error)) return true;
    if (error instanceof SystemCallError && (error.errno === 'ENOTEMPTY' || error.errno === 'EEXIST')) return false;
    throw error;
  }
}

function recordIn(host: Host, held: Directory, name: string): AdoptedSession | 'gone' | 'malformed' {
  const text = textIn(host, held, name);
  const record = text === undefined ? undefined : parseRecord(text);
  if (text === undefined) return 'gone';
  return record !== undefined && name === `${record.pid}-${record.startTime}` ? record : 'malformed';
}

/** What the module wrote (native/pam/audit.c): the audit session that pam_loginuid set behind the account phase. */
function auditNoteIn(host: Host, held: Directory, name: string): number | 'gone' | 'malformed' {
  const text = textIn(host, held, name);
  if (text === undefined) return 'gone';
  const session = numberIn(text);
  return session === undefined || session >= unset ? 'malformed' : session;
}

/**
 * In a folder that only root can write: what is looked at cannot be exchanged by another user before it is read. Empty:
 * it is not as it has to be. `undefined`: it is gone.
 */
function textIn(host: Host, held: Directory, name: string): string | undefined {
  const stat = held.stat(name);
  if (stat === undefined) return undefined;
  const isRoots = isRegularFile(stat) && stat.uid === BigInt(host.self().uid) && !othersCanWrite(stat);
  return !isRoots || stat.size > longestRecord ? '' : ifThere(() => held.read(name));
}

function parseRecord(text: string): AdoptedSession | undefined {
  const value = parsed(text);
  const job = fieldsOf(value, 'job');
  if (value === undefined || job === undefined || value['version'] !== 1) return undefined;
  const { bootId, pidNamespace, pid, startTime, uid, time, state, auditSession } = value;
  const { jobId, sluid } = job;
  if (typeof bootId !== 'string' || typeof pidNamespace !== 'string' || typeof time !== 'string') return undefined;
  if (typeof startTime !== 'string' || !/^\d{1,20}$/.test(startTime)) return undefined;
  if (!isNumber(pid, 1) || !isNumber(uid) || (state !== 'moving' && state !== 'adopted')) return undefined;
  if (jobId !== undefined && !isNumber(jobId, 1)) return undefined;
  if (sluid !== undefined && typeof sluid !== 'string') return undefined;
  if (jobId === undefined && sluid === undefined) return undefined;
  if (auditSession !== undefined && !isNumber(auditSession)) return undefined;
  const names = defined({ jobId, sluid });
  return {
    ...{ version: 1, bootId, pidNamespace, pid, startTime, uid, job: names, time, state },
    ...defined({ auditSession }),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parsed(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return asFields(value);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function fieldsOf(value: Fields | undefined, name: string): Fields | undefined {
  return asFields(value?.[name]);
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

/** Of 32 bits, as the kernel's and Slurm's are. */
function isNumber(value: unknown, from = 0): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= from && value <= 0xffff_ffff;
}
