// The log of the logins: each AdoptionRecord as one line of JSON, in the journal, or where there is none in a file that
// only root can read. On the login path: it imports no package, and holds up or fails no login.

import type { AdoptionRecord } from '../adopt/record.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import { type FileStat, type Host, isRegularFile } from '../machine/host.js';
import { escapeHidden } from '../machine/kernel-text.js';
import { makeStateFolder, stateFolder } from '../machine/state-folder.js';
import { openJournal } from './journal.js';

const timeoutMs = 300;

/** The journal splits longer lines: LineMax of journald.conf(5) is 48 KiB, the prefix `<6>` among them. */
const mostBytes = 48_000;

/** Then it becomes `logins.log.1`, in the place of an earlier one: /run is memory. */
const mostOfFile = 4 << 20;

/**
 * Writes down what became of a login.
 *
 * @returns why it was not written, for people.
 */
export async function logLogin(host: Host, record: AdoptionRecord): Promise<string | undefined> {
  const line = loginLine(record);
  const noJournal = await unwritten(async () => {
    const journal = await openJournal(host, { timeoutMs });
    journal.write(record.action === 'deny' ? 5 : 6, line);
    journal.close();
  });
  if (noJournal === undefined) return undefined;
  const noFile = await unwritten(async () => appendTo(host, line));
  return noFile === undefined ? undefined : `${noJournal}; ${noFile}`;
}

async function unwritten(write: () => Promise<void>): Promise<string | undefined> {
  try {
    await write();
    return undefined;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error.message;
    throw error;
  }
}

function appendTo(host: Host, line: string): void {
  const folder = stateFolder();
  makeStateFolder(host, folder);
  const file = `${folder}/logins.log`;
  const stat = host.stat(file);
  if (stat !== undefined && !isOwnersAlone(stat, BigInt(host.self().uid))) {
    const why = `Cannot write "${file}": it must be a file that only root can read`;
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', why, { path: file });
  }
  if (stat !== undefined && stat.size >= mostOfFile) rotate(host, file);
  host.append(file, line);
}

function isOwnersAlone(stat: FileStat, uid: bigint): boolean {
  return isRegularFile(stat) && stat.uid === uid && (stat.mode & 0o77n) === 0n;
}

/** Many logins at once can find it full: the first takes it away, and what the next takes away then is nearly empty. */
function rotate(host: Host, file: string): void {
  const aside = `${file}.${host.self().pid}`;
  try {
    host.rename(file, aside);
    if ((host.stat(aside)?.size ?? 0n) >= mostOfFile) host.rename(aside, `${file}.1`);
    else {
      host.append(file, host.read(aside));
      host.unlink(aside);
    }
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // another was first; else it grows until the next login
  }
}

/**
 * One line of JSON, of 48,000 bytes at most, without control characters. What had to be left out is said in the record
 * itself: `cut` is true, and the trace says how many lines it lacks.
 */
export function loginLine(record: AdoptionRecord): string {
  for (const one of [record, shortened(record)]) {
    const line = loginJson(one);
    if (Buffer.byteLength(line) <= mostBytes) return line;
  }
  return loginJson(essential(record)); // 20 kB, if each character has to be escaped
}

function loginJson(record: object): string {
  return `${escapeHidden(JSON.stringify(record))}\n`;
}

/** Thousands of children moved along, or of lines about them. */
function shortened(record: AdoptionRecord): object {
  const { adoption } = record;
  return {
    ...record,
    ...(adoption === undefined
      ? {}
      : {
          adoption: { ...adoption, descendants: adoption.descendants.slice(0, 20), trace: [] },
        }),
    trace: someLines(record.trace, { lines: 20, length: 300 }),
    cut: true,
  };
}

/** Who came, and the answer. */
function essential(record: AdoptionRecord): object {
  const { id, time, process, uid, user, service, connection, decision, target, route } = record;
  const { action, rule, reason, trace, totalMs } = record;
  const short = (text: string | undefined) => (text === undefined ? undefined : cutAt(text, 200));
  return {
    ...{ id, time, process, uid, user: short(user), service: short(service), connection: short(connection) },
    ...{ decision: { action: decision.action, rule: decision.rule, reason: short(decision.reason) } },
    ...{ target, route, action, rule, reason: short(reason) },
    trace: someLines(trace, { lines: 5, length: 200 }),
    ...{ totalMs, cut: true },
  };
}

/** The first and the last, each cut. */
function someLines(
  trace: readonly string[],
  { lines, length }: { readonly lines: number; readonly length: number },
): readonly string[] {
  const cut = (some: readonly string[]) => some.map((line) => cutAt(line, length));
  const rest = trace.length - 2 * lines;
  if (rest <= 0) return cut(trace);
  return [...cut(trace.slice(0, lines)), `… ${rest} lines are left out here …`, ...cut(trace.slice(-lines))];
}

function cutAt(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}
