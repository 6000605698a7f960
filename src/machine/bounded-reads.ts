// Looking at files so that it ends in time. What lies on a file system that may not answer is looked at by a
// child with a deadline, never by this process: a process that waits for a dead server cannot be helped.

import type { Deadline } from './deadline.js';
import { defined } from './defined.js';
import { ConfigError, ifReadable, quote, type SlurmCgroupsError, SystemCallError } from './errors.js';
import type { FileStat, Host, RunResult } from './host.js';
import { answersAtOnce, type MountTable, mountTable, readMountTable } from './mount-table.js';

/** What is needed here of lstat. */
export type FileFacts = Pick<FileStat, 'mode' | 'uid' | 'size'>;

/**
 * Reads that end in time, all before one deadline. Each throws ConfigError where the file system does not answer,
 * SystemCallError where the kernel refuses.
 */
export interface BoundedReads {
  /** How long they have together, in whole ms, for people. */
  readonly timeoutMs: number;
  /** lstat(2). `undefined`: there is nothing. */
  stat(path: string): Promise<FileFacts | undefined>;
  readlink(path: string): Promise<string>;
  /** The text of a regular file. `undefined`: it is larger than `maxBytes`. */
  text(path: string, maxBytes: number): Promise<string | undefined>;
  /** Runs a program by absolute path. `undefined`: it did not end in time. */
  run(program: string, args: readonly string[], maxBytes?: number): Promise<RunResult | undefined>;
}

/** How much longer than to its deadline a killed child is waited for. */
const killMs = 200;

export function boundedReads(host: Host, deadline: Deadline): BoundedReads {
  const { signal, wholeMs: timeoutMs } = deadline;
  let mounts: MountTable | undefined;

  const fileSystem = (path: string): string | undefined => {
    mounts ??= mountsOf(host);
    return mounts.at(path)?.type;
  };
  /** A recording is memory, whatever its node had mounted. */
  const isLocal = (path: string): boolean => {
    signal?.throwIfAborted();
    return host.source === 'recording' || answersAtOnce(fileSystem(path));
  };

  const run = async (program: string, args: readonly string[], maxBytes?: number): Promise<RunResult | undefined> => {
    signal?.throwIfAborted();
    const left = Math.floor(deadline.leftMs());
    if (left <= 0) return undefined;
    // host.run kills at its deadline and then waits for the death, which does not come in uninterruptible sleep.
    const over = new AbortController();
    const stop = signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]);
    const tooLate = host.sleep(left + killMs, stop).then(() => undefined);
    try {
      const options = { timeoutMs: left, ...defined({ maxBytes }) };
      const result = await Promise.race([host.run(program, args, options), tooLate]);
      return result?.timedOut === true ? undefined : result;
    } finally {
      over.abort();
    }
  };

  const ask = async (what: string, path: string, program: string, args: readonly string[], maxBytes?: number) => {
    const result = await run(program, args, maxBytes);
    if (result !== undefined) return result;
    const type = fileSystem(path) ?? 'unknown';
    const why = `its file system (type ${type}) does not answer within ${timeoutMs} ms`;
    throw new ConfigError(`Cannot ${what} ${quote(path)}: ${why}`, { path });
  };

  return {
    timeoutMs,
    run,
    stat: async (path) => {
      if (isLocal(path)) return host.stat(path);
      const result = await ask('look at', path, '/usr/bin/stat', ['-c', '%f %u %s', '--', path]);
      const [, mode, uid, size] = /^([0-9a-f]+) (\d+) (\d+)\n$/.exec(result.stdout) ?? [];
      if (mode !== undefined) return { mode: BigInt(`0x${mode}`), uid: BigInt(uid ?? 0), size: BigInt(size ?? 0) };
      if (/No such file or directory|Not a directory/.test(result.stderr)) return undefined;
      throw complaintError('look at', path, result);
    },
    readlink: async (path) => {
      if (isLocal(path)) return host.readlink(path);
      const result = await ask('read the link', path, '/bin/readlink', ['-n', '--', path]);
      if (result.exitCode !== 0) throw complaintError('read the link', path, result);
      return result.stdout;
    },
    text: async (path, maxBytes) => {
      if (isLocal(path)) return host.read(path);
      const result = await ask('read', path, '/bin/cat', ['--', path], maxBytes);
      if (result.exitCode === undefined) return undefined; // ended because it wrote more
      if (result.exitCode !== 0) throw complaintError('read', path, result);
      return result.stdout;
    },
  };
}

/** Without a mount table every path counts as one that may not answer. */
function mountsOf(host: Host): MountTable {
  return ifReadable(() => readMountTable(host)) ?? mountTable([]);
}

/** A program's complaint in place of an errno. host.run gives it no locale to translate into. */
function complaintError(what: string, path: string, { stderr }: RunResult): SlurmCgroupsError {
  if (/Permission denied/.test(stderr)) return new SystemCallError(what, path, 'EACCES');
  const why = stderr.trim().split(': ').at(-1) ?? '';
  return new ConfigError(`Cannot ${what} ${quote(path)}: ${why === '' ? 'no answer' : quote(why)}`, { path });
}
