// Finding a file that root is asked to believe: through symbolic links, with everything on the way that says
// who could change it. Whether its owners are believed is said in jobs/config/trust.ts.

import path from 'node:path';
import { type BoundedReads, boundedReads, type FileFacts } from './bounded-reads.js';
import type { Deadline } from './deadline.js';
import { ConfigError, hasCode, quote } from './errors.js';
import type { Host } from './host.js';
import { othersCanWrite } from './ownership.js';

/** Something on the way to a file, or the file itself. */
export interface Owned {
  readonly path: string;
  readonly uid: bigint;
  readonly mode: bigint;
}

/** A regular file that only the owners of it and of what leads to it can change. */
export interface LocatedFile {
  /** As it was asked for. */
  readonly path: string;
  /** Where symbolic links led. */
  readonly target: string;
  /** Size in bytes; 0 where a recording does not tell. */
  readonly size: number;
  /** Folders, links and the file that do not belong to root. */
  readonly foreign: readonly Owned[];
  /** A recording that does not hold who owns them. */
  readonly ownersUnknown: boolean;
}

export interface ConfigFiles extends Pick<BoundedReads, 'run' | 'timeoutMs'> {
  /**
   * Looks for a file. `undefined`: it is not there.
   *
   * @throws ConfigError where it is there and is no regular file, or others than its owners could change it, or
   * where the file system does not answer in time; SystemCallError where the kernel refuses.
   */
  locate(file: string): Promise<LocatedFile | undefined>;
  /** @throws ConfigError where it is larger than `maxBytes` or does not answer in time. */
  read(file: LocatedFile, maxBytes: number): Promise<string>;
}

/** Files that are all found and read before one deadline. The mount table is read once. */
export function configFiles(host: Host, deadline: Deadline): ConfigFiles {
  const reads = boundedReads(host, deadline);
  return {
    run: reads.run,
    timeoutMs: reads.timeoutMs,
    locate: (file) => locateFile(host, reads, file),
    read: async (file, maxBytes) => {
      const text = file.size > maxBytes ? undefined : await reads.text(file.target, maxBytes);
      if (text !== undefined) return text;
      throw new ConfigError(
        `Cannot read ${quote(file.path)}: it is larger than the ${maxBytes} bytes left for all files together`,
        { path: file.path },
      );
    },
  };
}

/** @throws ConfigError where the file, a folder or a link that leads to it is not root's: nobody else may configure us. */
export function requireRoots({ path: file, foreign: [stranger] }: LocatedFile): void {
  if (stranger !== undefined)
    throw new ConfigError(`Cannot trust ${quote(file)}: ${quote(stranger.path)} is not root's (chown root)`, {
      path: file,
    });
}

const typeMask = 0o170000n;
const directory = 0o040000n;
const regular = 0o100000n;
const symlink = 0o120000n;
const kinds: ReadonlyMap<bigint, string> = new Map([
  [directory, 'a folder'],
  [0o010000n, 'a FIFO'],
  [0o020000n, 'a device'],
  [0o060000n, 'a device'],
  [0o140000n, 'a socket'],
]);
const maxLinks = 40; // MAXSYMLINKS, include/linux/namei.h

/**
 * Walks from the root, since the owner of a folder can put another file, or link, at every name in it. Folders above
 * that are checked before what lies in them is looked at, so that nothing can be exchanged in between by others.
 */
async function locateFile(host: Host, reads: BoundedReads, file: string): Promise<LocatedFile | undefined> {
  if (!file.startsWith('/') || file.includes('\0')) {
    throw new ConfigError(`Cannot read ${quote(file)}: its path is not absolute`, { path: file });
  }
  const foreign: Owned[] = [];
  let open: Owned | undefined;
  let ownersUnknown = false;
  let at = '/';
  let last: FileFacts | undefined;
  let links = 0;
  // `.` is looked at like every name: the root first, and what a link leads to that ends in a slash.
  const names = ['.', ...namesInPath(file)];
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (last !== undefined && typeOf(last) !== directory) return undefined; // a name below what is no folder
    const where = path.join(at, name); // there is no link in `at`, so that `..` just takes a name away
    try {
      last = await reads.stat(where);
    } catch (error) {
      if (host.source !== 'recording' || !hasCode(error, 'ERR_NOT_RECORDED')) throw error;
      ownersUnknown = true;
      last = undefined;
      at = where;
      continue;
    }
    if (last === undefined) return undefined;
    const owned = { path: where, uid: last.uid, mode: last.mode };
    if (last.uid !== 0n) foreign.push(owned);
    if (typeOf(last) === symlink) {
      if (++links > maxLinks) {
        throw new ConfigError(`Cannot read ${quote(file)}: its symbolic links go round in a circle`, { path: file });
      }
      const target = await reads.readlink(where);
      if (target.startsWith('/')) at = '/';
      names.unshift('.', ...namesInPath(target));
      last = undefined;
      continue;
    }
    // Sticky folders too: in /tmp any user could have put the file there first.
    if (othersCanWrite(last)) open ??= owned;
    at = where;
  }
  // Only now: a folder with nothing in it does no harm.
  if (last !== undefined && typeOf(last) !== regular) {
    const kind = kinds.get(typeOf(last)) ?? 'something else';
    throw new ConfigError(`Cannot read ${quote(file)}: it is ${kind}, not a file`, { path: file });
  }
  if (open !== undefined) throw openToOthers(file, open);
  return { path: file, target: at, size: Number(last?.size ?? 0n), foreign, ownersUnknown };
}

function namesInPath(text: string): readonly string[] {
  return text.split('/').filter((name) => name !== '');
}

function typeOf({ mode }: FileFacts): bigint {
  return mode & typeMask;
}

function openToOthers(file: string, { path: where, mode }: Owned): ConfigError {
  const what = where === file ? 'it has' : `${quote(where)} has`;
  return new ConfigError(
    `Cannot trust ${quote(file)}: ${what} mode ${formatMode(mode)}, so others than its owner can write there; ` +
      `take that away (chmod go-w ${quote(where)})`,
    { path: file },
  );
}

/** The permission bits as chmod(1) takes them. */
export function formatMode(mode: bigint): string {
  return (mode & 0o7777n).toString(8).padStart(4, '0');
}
