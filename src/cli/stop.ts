// Ctrl-C, SIGTERM and SIGHUP: the command is told to stop and cleans up, instead of being cut off.

import process from 'node:process';

const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** As a shell gives them for a program that a signal ended: 128 plus its number. */
const exitCodes: Readonly<Record<string, number>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/**
 * Runs `act` with an AbortSignal that fires when the program is asked to stop. If `act` then throws, `stopped` tells the
 * user, and the exit code is that of a shell.
 */
export async function stoppable(
  act: (signal: AbortSignal) => Promise<number>,
  stopped: (by: string) => void,
): Promise<number> {
  const controller = new AbortController();
  let by = '';
  const stop = (signal: NodeJS.Signals) => {
    by = by === '' ? signal : by;
    controller.abort(signal);
  };
  for (const signal of signals) process.on(signal, stop);
  try {
    return await act(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    stopped(by);
    return exitCodes[by] ?? 1;
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
