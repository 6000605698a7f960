import fs from 'node:fs';
import process from 'node:process';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { rememberSilent, silentForMs } from '../../../src/jobs/caller/silent-sources.js';
import { uptimeMs } from '../../../src/machine/clock.js';
import { failingHost } from '../../../src/machine/failing.js';
import type { Host } from '../../../src/machine/host.js';
import { parseAddress } from '../../../src/machine/ip-address.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { stateFolder } from '../../../src/machine/state-folder.js';
import { rootTest } from '../../support/test-cgroups.js';

const host = liveHost();
const folder = stateFolder('silent');
/** Addresses of a documentation network (RFC 3849) that no other test uses. */
const source = (last: number) =>
  parseAddress(`2001:db8:51:${process.pid.toString(16).slice(-4)}::${last.toString(16)}`) ?? expect.unreachable();
const fileOf = (last: number) => `${folder}/${source(last).text}`;

/** This machine, so many seconds later. */
const later = (seconds: number): Host => ({
  ...host,
  read: (path) => {
    const text = host.read(path);
    return path === '/proc/uptime' ? `${(Number(text.split(' ')[0]) + seconds).toFixed(2)} 0.00\n` : text;
  },
});

/** A machine with that uptime, whose state folder is in memory. */
function memoryHost(hundredths: () => number): Host {
  const files = new Map<string, string>();
  const directory = { mode: 0o040700n, uid: BigInt(0) };
  return {
    ...host,
    self: () => ({ pid: 2, uid: 0 }),
    read: (path) => {
      const at = hundredths();
      const uptime = `${Math.floor(at / 100)}.${String(at % 100).padStart(2, '0')} 0.00\n`;
      return path === '/proc/uptime' ? uptime : (files.get(path) ?? host.read('/proc/no-such-file'));
    },
    names: () => [...files.keys()].map((path) => path.slice(folder.length + 1)),
    stat: (path) => (path.startsWith(`${folder}/`) && !files.has(path) ? undefined : { ...ofFolder, ...directory }),
    mkdir: () => {},
    create: (path, text) => void files.set(path, text),
    unlink: (path) => void files.delete(path),
  };
}
const ofFolder = host.stat('/') ?? expect.unreachable();

it('A silent source is remembered for exactly a minute, at every uptime', () => {
  const oneMinute = 6000;
  const check = (begin: number) => {
    let at = begin;
    const machine = memoryHost(() => at);
    rememberSilent(machine, source(1));
    const left = (later: number) => {
      at = begin + later;
      return silentForMs(machine, source(1));
    };
    expect([begin, left(0), left(1), left(oneMinute - 1), left(oneMinute)]).toEqual([begin, 60_000, 59_990, 10, 0]);
  };
  for (let begin = 0; begin < 20_000; begin++) check(begin);
  fc.assert(fc.property(fc.nat(1e10), check), { numRuns: 2000 }); // to three years
});

describe('A silent source', () => {
  afterEach(() => {
    for (let last = 1; last <= 3; last++) fs.rmSync(fileOf(last), { force: true });
  });

  rootTest('is remembered for a minute, and for itself alone', () => {
    expect(silentForMs(host, source(1))).toBe(0);
    rememberSilent(host, source(1));
    expect(silentForMs(host, source(1))).toBeGreaterThan(50_000);
    expect(silentForMs(host, source(1))).toBeLessThanOrEqual(60_000);
    expect(silentForMs(host, source(2))).toBe(0);
    expect(silentForMs(later(30), source(1))).toBeLessThanOrEqual(30_000);
    expect(silentForMs(later(61), source(1))).toBe(0);
    expect(fs.statSync(fileOf(1)).mode & 0o777).toBe(0o600);
  });

  rootTest('is remembered anew, and what is over is removed', () => {
    rememberSilent(host, source(1));
    rememberSilent(later(50), source(1));
    expect(silentForMs(later(70), source(1))).toBeGreaterThan(30_000);
    rememberSilent(later(200), source(2));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });

  rootTest('of an earlier boot, cut off, empty or garbage, is none', () => {
    rememberSilent(host, source(1));
    for (const text of [
      '99999999000\n',
      '',
      '\n',
      'soon',
      '-5',
      '0',
      'NaN',
      '1e3',
      'Infinity',
      '12.34\n',
      '0x10\n',
      '1 \n',
    ]) {
      fs.writeFileSync(fileOf(1), text);
      expect([text, silentForMs(host, source(1))]).toEqual([text, 0]);
    }
  });

  rootTest('is not remembered with more than a thousand others', () => {
    const crowd: Host = {
      ...host,
      names: (path) => (path === folder ? Array.from({ length: 2000 }, (_, at) => String(at)) : host.names(path)),
      stat: (path) => host.stat(path.startsWith(`${folder}/`) ? folder : path),
      read: (path) => (path.startsWith(`${folder}/`) ? `${uptimeMs(host) + 30_000}\n` : host.read(path)),
    };
    rememberSilent(crowd, source(1));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });

  rootTest('that cannot be written down or read is asked again: whatever fails, nothing is thrown', () => {
    for (let nth = 1; nth <= 12; nth++) {
      for (const errno of ['EIO', 'EACCES', 'ENOSPC', 'EEXIST', 'ENOENT']) {
        rememberSilent(failingHost(host, { nth, errno }), source(3));
        silentForMs(failingHost(host, { nth, errno }), source(3));
      }
    }
    expect(silentForMs({ ...host, read: () => 'no uptime' }, source(3))).toBe(0);
  });

  it('is remembered by root alone', () => {
    rememberSilent({ ...host, self: () => ({ pid: 1, uid: 64_700 }) }, source(1));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });
});
