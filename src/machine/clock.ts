// The clocks that every process can read: the time since the boot, and the time of day. Both from /proc, so that a
// recorded node has them too. Whole numbers: times that are compared must not be rounded (60.00000000000001 > 60).

import { ifRecorded, ifThere, ParseError } from './errors.js';
import type { Host } from './host.js';

/**
 * Milliseconds since the boot, in steps of 10 (CLOCK_BOOTTIME: it cannot be set, and goes on in a suspended machine).
 *
 * @throws ParseError, and what reading /proc/uptime throws.
 */
export function uptimeMs(host: Host): number {
  return parseUptime(host.read('/proc/uptime'));
}

/**
 * The time of day, in nanoseconds since 1970, to a second: when the machine was booted, and how long ago that is.
 * `undefined`: a recording of an earlier version does not tell.
 *
 * @throws ParseError
 */
export function timeOfDayNs(host: Host): bigint | undefined {
  const [stat, uptime] = [answer(host, '/proc/stat'), answer(host, '/proc/uptime')];
  if (stat === undefined || uptime === undefined) return undefined;
  const [, bootSeconds] = /^btime (\d+)$/m.exec(stat) ?? [];
  if (bootSeconds === undefined) throw new ParseError('Cannot tell the time: /proc/stat has no line of btime');
  return BigInt(bootSeconds) * 1_000_000_000n + BigInt(parseUptime(uptime)) * 1_000_000n;
}

/** `12345.67 45678.90`: the kernel writes two decimals, always (fs/proc/uptime.c). */
function parseUptime(text: string): number {
  const [, seconds, hundredths] = /^(\d+)\.(\d\d) /.exec(text) ?? [];
  if (seconds === undefined || hundredths === undefined)
    throw new ParseError('Cannot tell the time: /proc/uptime is not as the kernel writes it');
  return Number(seconds) * 1000 + Number(hundredths) * 10;
}

function answer(host: Host, file: string): string | undefined {
  return ifRecorded(() => ifThere(() => host.read(file)));
}
