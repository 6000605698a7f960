// The log of the commands: pino, JSON lines, with Slurm's names for the levels. The library itself never logs;
// the commands log the records that it returns.

import { pino } from 'pino';
import { escapeHidden } from '../machine/kernel-text.js';
import { type LogLevel, logLevels } from '../policy/options.js';
import { usageError } from './exit.js';
import type { WriteLine } from './log-destination.js';
import { numberOf } from './spec.js';

/** pino's numbers: fatal 60, error 50, warn 40, info 30, debug 20, trace 10. */
const levels: Readonly<Record<LogLevel, number>> = {
  quiet: 100,
  fatal: 60,
  error: 50,
  info: 30,
  verbose: 25,
  debug: 20,
  debug2: 15,
  debug3: 10,
  debug4: 10,
  debug5: 10,
};

export type Log = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;

/** A log for the value of `--log-level`: a name, or its number as in slurm.conf. */
export function openLog(command: string, wanted: string, write: WriteLine): Log {
  const level = /^\d+$/.test(wanted)
    ? logLevels[numberOf(wanted, 'a log level', { from: 0, to: 9 })]
    : logLevels.find((name) => name === wanted.toLowerCase());
  if (level === undefined)
    throw usageError(`Unknown log level "${wanted}"; the levels are ${logLevels.join(' ')} and 0–9`);
  const logger = pino(
    {
      base: { command },
      customLevels: { verbose: levels.verbose, debug2: levels.debug2 },
      level: level === 'quiet' ? 'silent' : (pinoNames[levels[level]] ?? 'info'),
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    // Not pino's own destination: it leaves C1 characters as they are, and ends the program when the reader has gone.
    { write: (line: string) => write(escapeHidden(line)) },
  );
  return (at, message, fields = {}) => {
    const name = pinoNames[levels[at]];
    if (name !== undefined) logger[name](fields, message);
  };
}

const pinoNames: Readonly<Record<number, 'fatal' | 'error' | 'info' | 'verbose' | 'debug' | 'debug2' | 'trace'>> = {
  60: 'fatal',
  50: 'error',
  30: 'info',
  25: 'verbose',
  20: 'debug',
  15: 'debug2',
  10: 'trace',
};
