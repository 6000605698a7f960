// Unix sockets as the kernel lists them in /proc/net/unix (proc_pid_net(5)): those of this network namespace. A line is
// a claim, not a proof: any user can bind any name, and the kernel prints a line break in a name as it is, so a user can
// write any line into this table. A caller looks at what lies at a path before it believes it.

import path from 'node:path';
import type { Host } from './host.js';

/** @throws SlurmCgroupsError when the table cannot be read. */
export function listeningPaths(host: Pick<Host, 'read'>): readonly string[] {
  return parseListeningPaths(host.read('/proc/net/unix'));
}

/** Absolute paths of listening stream sockets in a text of /proc/net/unix. */
export function parseListeningPaths(text: string): readonly string[] {
  const paths: string[] = [];
  for (const line of text.split('\n')) {
    // Num: RefCount Protocol Flags Type St Inode Path; flag 00010000 is __SO_ACCEPTCON, type 0001 a stream.
    const bound = /^[0-9a-fA-F]+: [0-9A-F]{8} [0-9A-F]{8} 00010000 0001 01 +\d+ (\/.*)$/.exec(line)?.[1];
    if (bound !== undefined && path.normalize(bound) === bound) paths.push(bound);
  }
  return paths;
}
