// Files in which a machine is told how to let people in (/etc/pam.d, sshd_config, logind.conf), read so that it ends
// in time. What they mean is said in the files that ask for them.

import { deadlineIn } from '../machine/deadline.js';
import { isGone, quote, SlurmCgroupsError } from '../machine/errors.js';
import { configFiles } from '../machine/guarded-files.js';
import type { Host } from '../machine/host.js';
import { answersAtOnce, readMountTable } from '../machine/mount-table.js';

/** All in one time budget. */
export interface EtcFiles {
  /** `undefined`: it is not there. @throws SlurmCgroupsError where it cannot be read, or others could change it. */
  text(file: string): Promise<string | undefined>;
  /** Names in a folder, sorted; none where it is not there. */
  names(folder: string): readonly string[];
}

const maxBytes = 1 << 20;

export function etcFiles(host: Host, timeoutMs = 2000): EtcFiles {
  const files = configFiles(host, deadlineIn(host, timeoutMs));
  return {
    text: async (file) => {
      try {
        const found = await files.locate(file);
        return found === undefined ? undefined : await files.read(found, maxBytes);
      } catch (error) {
        if (isGone(error)) return undefined;
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
      try {
        return [...host.names(folder)].sort();
      } catch (error) {
        if (isGone(error)) return [];
        throw error;
      }
    },
  };
}

/** The lines of a text without comments and blank ones, continuations joined, each with its 1-based number. */
export function linesOf(text: string): readonly { readonly line: number; readonly text: string }[] {
  const lines: { line: number; text: string }[] = [];
  let open: { line: number; text: string } | undefined;
  for (const [at, raw] of text.split('\n').entries()) {
    const continues = raw.endsWith('\\');
    const part = continues ? `${raw.slice(0, -1)} ` : raw;
    const joined: { line: number; text: string } = open ?? { line: at + 1, text: '' };
    joined.text += part;
    open = continues ? joined : undefined;
    if (open === undefined) lines.push(joined);
  }
  if (open !== undefined) lines.push(open);
  return lines
    .map(({ line, text: whole }) => ({ line, text: whole.trim() }))
    .filter(({ text: whole }) => whole !== '' && !whole.startsWith('#'));
}
