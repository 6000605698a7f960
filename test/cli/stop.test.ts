import { describe, expect, it } from 'vitest';
import { stoppable } from '../../src/cli/stop.js';
import { liveHost } from '../../src/machine/live-host.js';

const { pid } = liveHost().self();

describe('stoppable()', () => {
  it('gives the exit code of what it runs, and leaves no handler behind', async () => {
    const before = process.listenerCount('SIGTERM');
    expect(
      await stoppable(
        async () => 7,
        () => expect.unreachable(),
      ),
    ).toBe(7);
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s aborts what runs: exit code %i', async (signal, exitCode) => {
    const said: string[] = [];
    const ended = stoppable(
      async (aborted) => {
        process.kill(pid, signal);
        await liveHost().sleep(10_000, aborted);
        return 0;
      },
      (by) => said.push(by),
    );
    expect([await ended, said]).toEqual([exitCode, [signal]]);
  });

  it('passes on an error that is none of stopping', async () => {
    await expect(
      stoppable(
        () => Promise.reject(new TypeError('x')),
        () => expect.unreachable(),
      ),
    ).rejects.toThrow('x');
  });
});
