// Who runs what on this machine, at the least cost: for each process one lstat of /proc/PID, and more only for
// those of people. The whole of a process is read, held open, when a stray is to be named.

import { type Membership, parseMemberships } from '../../cgroup/membership.js';
import { isUntold } from '../../cgroup/membership-fallback.js';
import {
  eachProcess,
  filesOf,
  type HeldProcess,
  parseProcStatus,
  readStanding,
  standingThread,
} from '../../cgroup/process.js';
import { isHeldDead } from '../../cgroup/process-end.js';
import { uptimeMs } from '../../machine/clock.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { hasCode, ifReadable, ifRecorded, isGone } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { Pace } from '../../machine/pace.js';

/** A process and whose it is. */
export interface ProcessRow {
  readonly pid: number;
  /** Real uid: who started it. In a table it is the effective one where that is a person's: look closer before it is named. */
  readonly uid: number;
}

export interface ProcessTable {
  readonly rows: readonly ProcessRow[];
  /** How many processes could not be looked at for want of permission. */
  readonly hidden: number;
  /** How many stand where /proc/PID/cgroup cannot tell: deeper than a path may be long, or under a name with a line break. */
  readonly unplaced: readonly { readonly pid: number; readonly uid: number }[];
  /** Why there may be more. */
  readonly unknown?: string;
}

interface ReadOptions {
  readonly isPerson: (uid: number) => boolean;
  /**
   * Whether a process in these places belongs into the table; asked once for all that stand there. The places are not
   * kept: of 10,000 processes, each in a cgroup of its own as deep as a path may be long, that would be 200 MB on v1.
   */
  readonly isWantedAt?: (memberships: readonly Membership[]) => boolean;
  /** Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const defaultTimeoutMs = 30_000;

/** Most processes stand where others stand. Of so many places it is known at once what they mean. */
const mostPlaces = 512;

/** What the text of /proc/PID/cgroup means. */
interface PlaceFacts {
  readonly mayHaveEnded: boolean;
  readonly isWanted: boolean;
}

/**
 * The processes of people. The owner of /proc/PID is the effective uid, but root for those
 * that are not dumpable (FACTS: measured) and for setuid programs: only then is the status read to tell.
 */
export async function readProcessTable(
  host: Host,
  { isPerson, isWantedAt = () => true, timeoutMs = defaultTimeoutMs, signal }: ReadOptions,
): Promise<ProcessTable> {
  const pace = new Pace(host, deadlineIn(host, timeoutMs, signal));
  const rows: ProcessRow[] = [];
  const known = new Map<string, PlaceFacts>();
  const factsOf = (text: string): PlaceFacts => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const memberships = parseMemberships(text);
    const facts = { mayHaveEnded: mayHaveEnded(memberships), isWanted: isWantedAt(memberships) };
    if (known.size >= mostPlaces) known.clear();
    known.set(text, facts);
    return facts;
  };
  let hidden = 0;
  const unplaced: { pid: number; uid: number }[] = [];
  const end = await eachProcess(host, pace, (pid) => {
    const folder = `/proc/${pid}`;
    let person: number | undefined;
    try {
      const stat = host.stat(folder);
      if (stat === undefined) return undefined;
      const owner = Number(stat.uid);
      const uid = owner === 0 ? parseProcStatus(host.read(`${folder}/status`)).uids[0] : owner;
      if (uid === undefined || !isPerson(uid)) return undefined;
      person = uid;
      const first = host.read(`${folder}/cgroup`);
      const text = factsOf(first).mayHaveEnded ? standingText(host, pid, first) : first;
      if (factsOf(text).isWanted) rows.push({ pid, uid });
    } catch (error) {
      if (hasCode(error, 'ERR_NOT_PERMITTED')) hidden++;
      // A user who nests cgroups that deep must not keep the strays of all others from being found.
      else if (isUntold(error) && person !== undefined) unplaced.push({ pid, uid: person });
      else if (!isGone(error)) throw error; // it ended between being listed and being looked at
    }
    return undefined;
  });
  const unknown = end === 'late' ? 'the time was over before all processes were looked at' : undefined;
  return { rows, hidden, unplaced, ...defined({ unknown }) };
}

/**
 * Whether a first thread that has ended would say so of itself while others of its process live: it is at the root on
 * v1, and on v2 it stays where it ended, until that cgroup is removed and after. One that was moved on v2 since then is
 * read where it was: when a stray is to be named, it is looked at again.
 */
function mayHaveEnded(memberships: readonly Membership[]): boolean {
  const v1 = memberships.filter(({ controllers }) => controllers.length > 0);
  return (v1.length > 0 && v1.every(({ path }) => path === '/')) || memberships.some(({ deleted }) => deleted);
}

function standingText(host: Host, pid: number, text: string): string {
  return ifRecorded(() => readStanding(filesOf(host, pid), text)) ?? text; // of a recording made before this was read
}

/** What it uses, as far as it can be told. */
export interface ProcessUse {
  readonly comm: string;
  readonly startTime: bigint;
  /** Dead in all its threads: it waits to be collected. */
  readonly isZombie: boolean;
  readonly kernelThread: boolean;
  readonly ageSeconds?: number;
  /** CPU time over age, in percent of one CPU. */
  readonly cpuPercent?: number;
  readonly memoryBytes: number;
}

/** The times in /proc are ticks of USER_HZ, 100 a second on every architecture Slurm runs on. */
const tickMs = 10;

/**
 * What a process uses, at an uptime in ms.
 *
 * @throws SlurmCgroupsError when it has ended or cannot be seen.
 */
export function readUse(held: HeldProcess, uptime: number | undefined): ProcessUse {
  const text = held.directory.read('stat');
  const first = held.stat();
  const { comm, kernelThread, startTime } = first;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [user, system] = [Number(fields[11]), Number(fields[12])]; // utime, stime
  const tid = standingThread(held.directory, first); // a first thread that has ended has no memory any more
  const status = held.directory.read(tid === held.pid ? 'status' : `task/${tid}/status`);
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  const ageMs = uptime === undefined ? undefined : Math.max(0, uptime - Number(startTime) * tickMs);
  return {
    comm,
    startTime,
    isZombie: isHeldDead(held),
    kernelThread,
    ...(ageMs === undefined
      ? {}
      : { ageSeconds: Math.round(ageMs / 1000), cpuPercent: percent((user + system) * tickMs, ageMs) }),
    memoryBytes: resident === undefined ? 0 : Number(resident) * 1024,
  };
}

/** With one decimal. A process younger than a tick has used nothing yet. */
function percent(usedMs: number, ageMs: number): number {
  return ageMs < tickMs ? 0 : Math.round((1000 * usedMs) / ageMs) / 10;
}

/** `undefined`: it cannot be told. */
export function knownUptimeMs(host: Host): number | undefined {
  return ifReadable(() => uptimeMs(host));
}
