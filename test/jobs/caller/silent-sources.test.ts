import fs from 'node:fs';
import process from 'node:process';
import { afterEach, describe, expect, it } from 'vitest';
import { rememberSilent, silentFor } from '../../../src/jobs/caller/silent-sources.js';
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

describe('A silent source', () => {
  afterEach(() => {
    for (let last = 1; last <= 3; last++) fs.rmSync(fileOf(last), { force: true });
  });

  rootTest('is remembered for a minute, and for itself alone', () => {
    expect(silentFor(host, source(1))).toBe(0);
    rememberSilent(host, source(1));
    expect(silentFor(host, source(1))).toBeGreaterThan(50);
    expect(silentFor(host, source(1))).toBeLessThanOrEqual(60);
    expect(silentFor(host, source(2))).toBe(0);
    expect(silentFor(later(30), source(1))).toBeLessThanOrEqual(30);
    expect(silentFor(later(61), source(1))).toBe(0);
    expect(fs.statSync(fileOf(1)).mode & 0o777).toBe(0o600);
  });

  rootTest('is remembered anew, and what is over is removed', () => {
    rememberSilent(host, source(1));
    rememberSilent(later(50), source(1));
    expect(silentFor(later(70), source(1))).toBeGreaterThan(30);
    rememberSilent(later(200), source(2));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });

  rootTest('of an earlier boot, cut off, empty or garbage, is none', () => {
    rememberSilent(host, source(1));
    for (const text of ['99999999.00\n', '', '\n', 'soon', '-5', '0', 'NaN', '1e3', 'Infinity']) {
      fs.writeFileSync(fileOf(1), text);
      expect([text, silentFor(host, source(1))]).toEqual([text, 0]);
    }
  });

  rootTest('is not remembered with more than a thousand others', () => {
    const crowd: Host = {
      ...host,
      names: (path) => (path === folder ? Array.from({ length: 2000 }, (_, at) => String(at)) : host.names(path)),
      stat: (path) => host.stat(path.startsWith(`${folder}/`) ? folder : path),
      read: (path) =>
        path.startsWith(`${folder}/`) ? String(Number(host.read('/proc/uptime').split(' ')[0]) + 30) : host.read(path),
    };
    rememberSilent(crowd, source(1));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });

  rootTest('that cannot be written down or read is asked again: whatever fails, nothing is thrown', () => {
    for (let nth = 1; nth <= 12; nth++) {
      for (const errno of ['EIO', 'EACCES', 'ENOSPC', 'EEXIST', 'ENOENT']) {
        rememberSilent(failingHost(host, { nth, errno }), source(3));
        silentFor(failingHost(host, { nth, errno }), source(3));
      }
    }
    expect(silentFor({ ...host, read: () => 'no uptime' }, source(3))).toBe(0);
  });

  it('is remembered by root alone', () => {
    rememberSilent({ ...host, self: () => ({ pid: 1, uid: 64_700 }) }, source(1));
    expect(fs.existsSync(fileOf(1))).toBe(false);
  });
});
