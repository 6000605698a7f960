// Where the log goes that --log-level asks for: standard error, the journal, or syslog, which is written through logger(1),
// since Node cannot send datagrams to /dev/log. Nothing here may hold up or fail a command: a journal that is not there or
// does not take it is passed over, and that is said on standard error.

import { deadlineIn } from '../machine/deadline.js';
import { quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { writeError } from '../machine/live-host.js';
import { atEnd, usageError } from './exit.js';
import { openJournal, type Severity } from './journal.js';

/** Takes one JSON line of pino, with its line break. */
export type WriteLine = (line: string) => void;

const logger = '/usr/bin/logger';
/** For connecting to the journal, and for all calls of logger that are left at the end. */
const timeoutMs = 2000;
/** Lines that wait for logger: more are dropped, since a command that runs for days must not collect them. */
const mostWaiting = 1000;

/** @throws SlurmCgroupsError ERR_USAGE for an unknown destination. */
export async function openDestination(host: Host, where: string): Promise<WriteLine> {
  switch (where) {
    case 'stderr':
      return writeError;
    case 'journal':
      return toJournal(host);
    case 'syslog':
      return toSyslog(host);
    default:
      throw usageError(`Unknown destination of the log ${quote(where)}; there are stderr, journal, syslog`);
  }
}

async function toJournal(host: Host): Promise<WriteLine> {
  try {
    const journal = await openJournal(host, { timeoutMs });
    atEnd(() => journal.close());
    return (line) => journal.write(severityOf(line), line);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    writeError(`slurm-cgroups: the journal is not written, standard error is: ${error.message}\n`);
    return writeError;
  }
}

function toSyslog(host: Host): WriteLine {
  let last = Promise.resolve();
  let waiting = 0;
  let isFailed = false;
  const run = async (line: string): Promise<void> => {
    const args = ['-t', 'slurm-cgroups', '-p', `authpriv.${levels[severityOf(line)] ?? 'info'}`, '--', line.trimEnd()];
    try {
      const { exitCode } = isFailed ? { exitCode: undefined } : await host.run(logger, args, { timeoutMs });
      if (exitCode === 0) return;
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
    }
    if (!isFailed) writeError(`slurm-cgroups: ${logger} does not take the log, standard error does\n`);
    isFailed = true;
    writeError(line);
  };
  atEnd(async () => {
    const deadline = deadlineIn(host, timeoutMs);
    await Promise.race([last, host.sleep(deadline.leftMs())]);
  });
  return (line) => {
    if (waiting >= mostWaiting) return;
    waiting++;
    last = last.then(() => run(line)).finally(() => waiting--);
  };
}

const levels: Readonly<Record<number, string>> = { 2: 'crit', 3: 'err', 4: 'warning', 6: 'info', 7: 'debug' };

/** The severity of syslog(3) for the level that a line of pino begins with. */
function severityOf(line: string): Severity {
  const level = Number(/^\{"level":(\d+)/.exec(line)?.[1] ?? 30);
  if (level >= 60) return 2;
  if (level >= 50) return 3;
  if (level >= 40) return 4;
  return level >= 25 ? 6 : 7;
}
