// Whether a file is still the one that was read, told by its inode, size and times. Looked at so that it ends in time:
// what lies on a file system that may not answer is looked at by a child, all such files by one.

import path from 'node:path';
import { boundedReads } from './bounded-reads.js';
import type { Deadline } from './deadline.js';
import { ConfigError, ifReadable, quote } from './errors.js';
import { type FileStat, type Host, isDirectory } from './host.js';
import { answersAtOnce, type MountTable, mountTable, readMountTable } from './mount-table.js';

/** A file as it was: who changes it, or puts another in its place, changes one of these. */
export interface FileMark {
  /** Absent on a file system that may not answer: with each mount it gets another number (autofs mounts often). */
  readonly device?: bigint;
  readonly inode: bigint;
  /** In bytes. */
  readonly size: bigint;
  readonly mtimeNs: bigint;
  /** Its owner and mode did not change either. Only the kernel sets it. */
  readonly ctimeNs: bigint;
}

/**
 * The marks of what these absolute paths lead to, symbolic links followed, by path; `undefined`: there is nothing.
 *
 * @throws ConfigError where a file system does not answer in time, or does not say; SystemCallError where the kernel
 * refuses.
 */
export async function readFileMarks(
  host: Host,
  paths: readonly string[],
  deadline: Deadline,
): Promise<ReadonlyMap<string, FileMark | undefined>> {
  const mounts = ifReadable(() => readMountTable(host)) ?? mountTable([]);
  const marks = new Map<string, FileMark | undefined>();
  const elsewhere: string[] = [];
  for (const file of new Set(paths)) {
    const found = walkTo(host, mounts, file);
    if (found === 'elsewhere') elsewhere.push(file);
    else marks.set(file, found === undefined ? undefined : markOf(found));
  }
  if (elsewhere.length === 0) return marks;
  for (const [file, mark] of await askChild(host, elsewhere, deadline)) marks.set(file, mark);
  return marks;
}

export function isSameMark(one: FileMark, other: FileMark): boolean {
  return (
    (one.device === undefined || other.device === undefined || one.device === other.device) &&
    one.inode === other.inode &&
    one.size === other.size &&
    one.mtimeNs === other.mtimeNs &&
    one.ctimeNs === other.ctimeNs
  );
}

function markOf({ dev, ino, size, mtimeNs, ctimeNs }: FileStat): FileMark {
  return { device: dev, inode: ino, size, mtimeNs, ctimeNs };
}

const maxLinks = 40; // MAXSYMLINKS, include/linux/namei.h

/**
 * Name by name, since lstat follows the links of the folders above: one that leads to a dead server would hang this
 * process, also where it came after the file was marked.
 */
function walkTo(host: Host, mounts: MountTable, file: string): FileStat | 'elsewhere' | undefined {
  let at = '/';
  let last: FileStat | undefined;
  let links = 0;
  const names = ['.', ...namesInPath(file)];
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (last !== undefined && !isDirectory(last)) return undefined; // a name below what is no folder
    const where = path.join(at, name); // there is no link in `at`, so that `..` just takes a name away
    if (host.source === 'live' && !answersAtOnce(mounts.at(where)?.type)) return 'elsewhere';
    last = host.stat(where);
    if (last === undefined) return undefined;
    if (!isSymlink(last)) {
      at = where;
      continue;
    }
    if (++links > maxLinks) return undefined; // in a circle: they lead to nothing
    const target = host.readlink(where);
    if (target.startsWith('/')) at = '/';
    names.unshift('.', ...namesInPath(target));
    last = undefined;
  }
  return last;
}

function namesInPath(text: string): readonly string[] {
  return text.split('/').filter((name) => name !== '');
}

function isSymlink({ mode }: Pick<FileStat, 'mode'>): boolean {
  return (mode & 0o170000n) === 0o120000n;
}

/** Inode, size, times with nine decimals, and the name as it was given. What is not there stat(1) says on stderr. host.run gives it no locale to translate into. */
const format = '%i %s %.9Y %.9Z %n';
const line = /^(\d+) (\d+) (\d+)\.(\d{9}) (\d+)\.(\d{9}) (\/.*)$/;

async function askChild(
  host: Host,
  files: readonly string[],
  deadline: Deadline,
): Promise<ReadonlyMap<string, FileMark | undefined>> {
  const strange = files.find((file) => /\p{Cc}/u.test(file));
  if (strange !== undefined)
    throw new ConfigError(`Cannot look at ${quote(strange)}: its name has control characters`, { path: strange });
  const { run, timeoutMs } = boundedReads(host, deadline);
  const result = await run('/usr/bin/stat', ['-L', '-c', format, '--', ...files]);
  const [first = ''] = files;
  if (result === undefined)
    throw new ConfigError(`Cannot look at ${quote(first)}: its file system does not answer within ${timeoutMs} ms`, {
      path: first,
    });
  const complaints = result.stderr.split('\n').filter((text) => text !== '');
  const other = complaints.find((text) => !/: (?:No such file or directory|Not a directory)$/.test(text));
  if (other !== undefined) throw new ConfigError(`Cannot look at ${quote(first)}: ${quote(other)}`, { path: first });
  const marks = new Map(result.stdout.split('\n').flatMap(markIn));
  const answers = files.filter((file) => marks.has(file)).length + complaints.length;
  if (answers !== files.length) throw new ConfigError(`Cannot look at ${quote(first)}: no answer`, { path: first });
  return new Map(files.map((file) => [file, marks.get(file)]));
}

function markIn(text: string): readonly (readonly [file: string, mark: FileMark])[] {
  const [, inode = '', size = '', seconds, decimals, changed, changedDecimals, file] = line.exec(text) ?? [];
  if (file === undefined) return [];
  const mark = {
    inode: BigInt(inode),
    size: BigInt(size),
    mtimeNs: BigInt(`${seconds}${decimals}`),
    ctimeNs: BigInt(`${changed}${changedDecimals}`),
  };
  return [[file, mark]];
}
