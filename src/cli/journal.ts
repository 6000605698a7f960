// The journal's stream socket (sd_journal_stream_fd(3)): what the log of the commands and that of the logins write it by.
// Node cannot send datagrams, which the journal's other socket and /dev/log take.

import type { WaitOptions } from '../machine/deadline.js';
import type { Host } from '../machine/host.js';

const folder = '/run/systemd/journal';

/** authpriv of syslog(3), where administrators look for logins: 10 times 8. */
const facility = 80;

/** Severities of syslog(3). */
export type Severity = 2 | 3 | 4 | 5 | 6 | 7;

export interface Journal {
  /** One line, with its line break. It is handed to the kernel at once, as far as the journal has room for it there. */
  write(severity: Severity, line: string): void;
  close(): void;
}

/** @throws SlurmCgroupsError where there is no journal, or it takes no connection in time. */
export async function openJournal(host: Host, options: WaitOptions): Promise<Journal> {
  const held = host.open(folder);
  try {
    const connection = await held.connect('stdout', options);
    // Identifier, unit, priority, whether lines begin with a level, and three forwards.
    connection.send(Buffer.from(`slurm-cgroups\n\n${facility + 6}\n1\n0\n0\n0\n`));
    return {
      write: (severity, line) => connection.send(Buffer.from(`<${severity}>${line}`)),
      close: () => connection.close(),
    };
  } finally {
    held.close();
  }
}
