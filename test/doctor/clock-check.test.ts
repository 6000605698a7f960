import { describe, expect, it } from 'vitest';
import { clocks } from '../../src/doctor/clock-check.js';

const second = 1_000_000_000n;
const now = 1_700_000_000n * second;

describe('clocks()', () => {
  it.each([
    ['no step', [], 'ok', 'no extern step'],
    ['mtimes that agree', [{ mtimes: [now - 60n * second], socketNs: now - 60n * second }], 'ok', 'agree'],
    [
      'an mtime after ls',
      [{ mtimes: [now - second], socketNs: now - 60n * second }],
      'ok',
      'the default rank uses the sockets',
    ],
    ['no socket', [{ mtimes: [now - second] }], 'ok', 'no socket'],
    ['a step in the future', [{ mtimes: [now + 3600n * second] }], 'warn', '1 of 1'],
    ['a socket in the future', [{ mtimes: [now], socketNs: now + 10n * second }], 'warn', 'the clock was set back'],
  ] as const)('%s', (_, steps, outcome, detail) => {
    const found = clocks(steps, now);
    expect(found.outcome).toBe(outcome);
    expect(found.detail).toContain(detail);
  });

  it('compares without a clock too', () => {
    expect(clocks([{ mtimes: [now * 2n], socketNs: now }], undefined).outcome).toBe('ok');
  });
});
