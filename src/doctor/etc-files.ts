// Files in /etc, /usr/etc and /usr/lib that steer a login (PAM, sshd, logind), read within one time budget. Their
// grammars are in etc-lines.ts.

import path from 'node:path';
import { deadlineIn } from '../machine/deadline.js';
import { hasCode, ifThere, isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import { configFiles, type LocatedFile } from '../machine/guarded-files.js';
import type { Host, RunResult } from '../machine/host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';

/** All within one time budget. */
export interface EtcFiles {
  /**
   * `undefined`: there is no such file. A link to /dev/null is an empty file, as systemd takes it.
   *
   * @throws SlurmCgroupsError where it cannot be read, or where others than its owner could change it.
   */
  text(file: string): Promise<string | undefined>;
  /** Names in a folder, sorted; none where it does not exist. */
  names(folder: string): readonly string[];
  /** A file with its owners, as in ConfigFiles. `undefined`: there is no such file. @throws as `text`. */
  locate(file: string): Promise<LocatedFile | undefined>;
  /** Runs a program by absolute path. `undefined`: it did not end in time, or this host cannot run programs. */
  run(program: string, args: readonly string[]): Promise<RunResult | undefined>;
}

const maxBytes = 1 << 20;

export function etcFiles(host: Host, timeoutMs = 2000): EtcFiles {
  const files = configFiles(host, deadlineIn(host, timeoutMs));
  const locate = async (file: string): Promise<LocatedFile | undefined> => {
    try {
      return await files.locate(file);
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  };
  return {
    locate,
    text: async (file) => {
      try {
        const found = await locate(file);
        return found === undefined ? undefined : await files.read(found, maxBytes);
      } catch (error) {
        if (isGone(error)) return undefined;
        if (hasCode(error, 'ERR_CONFIG') && leadsToNull(host, file)) return '';
        throw error;
      }
    },
    names: (folder) => {
      if (host.source === 'live' && !answersAtOnce(readMountTable(host).at(folder)?.type))
        throw new SlurmCgroupsError(
          'ERR_TIMEOUT',
          `Cannot list ${quote(folder)}: it is on a file system that may not answer`,
          { path: folder },
        );
      return [...(ifThere(() => host.names(folder)) ?? [])].sort();
    },
    run: async (program, args) => (host.source === 'live' ? files.run(program, args) : undefined),
  };
}

/** Whether a path is a link to /dev/null: how systemd's files are masked. */
export function leadsToNull(host: Host, file: string): boolean {
  try {
    return path.resolve(path.dirname(file), host.readlink(file)) === '/dev/null';
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return false; // no link, not there, or not recorded
    throw error;
  }
}
