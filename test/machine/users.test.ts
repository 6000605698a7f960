import { describe, expect, it } from 'vitest';
import type { RunResult } from '../../src/machine/host.js';
import { askUsers, isPersonsUid, isUserName, parsePasswd, parseUidMin, readUidMin } from '../../src/machine/users.js';
import { nodeWith } from '../support/config-sandbox.js';

it('isUserName() refuses what getent would take for an option, a uid or two fields', () => {
  for (const name of ['', '-s', '1001', 'a:b', 'a b', 'a\nb']) expect(isUserName(name), name).toBe(false);
  for (const name of ['root', '_apt', 'svc-slurm', 'ALICE@EXAMPLE.ORG', 'DOM\\alice', 'host$', 'jürgen'])
    expect(isUserName(name), name).toBe(true);
});

it('parsePasswd() leaves out what is no user', () => {
  expect(parsePasswd('root:x:0:0:root:/root:/bin/sh\n\nbroken\na:x::1::/:\nb:x:7:7::/:\n')).toEqual([
    { name: 'root', uid: 0 },
    { name: 'b', uid: 7 },
  ]);
});

describe('askUsers()', () => {
  const answer = (stdout: string, timedOut = false): RunResult => ({ exitCode: 0, stdout, stderr: '', timedOut });

  it('asks getent by absolute path', async () => {
    const asked: unknown[] = [];
    const run = async (program: string, args: readonly string[]) => {
      asked.push([program, ...args]);
      return answer('alice:x:1001:1001::/:/bin/sh\n');
    };
    expect(await askUsers(run, ['alice', '1002'])).toEqual([{ name: 'alice', uid: 1001 }]);
    expect(asked).toEqual([['/usr/bin/getent', 'passwd', 'alice', '1002']]);
  });

  it('is undefined where there is no answer in time', async () => {
    expect(await askUsers(async () => undefined, ['a'])).toBeUndefined();
    expect(await askUsers(async () => answer('a:x:1:1::/:\n', true), ['a'])).toBeUndefined();
  });
});

describe('readUidMin()', () => {
  it.each([
    ['UID_MIN\t\t\t 1000\nUID_MAX 60000\n', 1000],
    ['SYS_UID_MIN 101\n#UID_MIN 1\nUID_MIN 500 # as of old\n', 500],
    ['UID_MIN 500\nUID_MIN 2000\n', 2000],
    ['UID_MIN 0\n', 1000],
    ['UID_MIN 99999999\n', 1000],
    ['UID_MIN x\n', 1000],
    ['', 1000],
  ])('%j', (text, uid) => {
    expect(parseUidMin(text)).toBe(uid);
    expect(readUidMin(nodeWith({ '/etc/login.defs': { text } }))).toBe(uid);
  });

  it('is 1000 without the file', () => {
    expect(readUidMin(nodeWith({}))).toBe(1000);
  });
});

it('isPersonsUid() takes root, system accounts and nobody out', () => {
  expect([0, 999, 1000, 65_533, 65_534, 65_535, 100_000].filter((uid) => isPersonsUid(uid, 1000))).toEqual([
    1000, 65_533, 100_000,
  ]);
  expect(isPersonsUid(0, 0)).toBe(false);
});
