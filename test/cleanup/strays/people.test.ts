import { describe, expect, it } from 'vitest';
import { parseProcCgroup } from '../../../src/cgroup/membership.js';
import { isPersonsUid, parseUidMin, readUidMin, serviceOf, slurmsUsers } from '../../../src/cleanup/strays/people.js';
import { nodeWith } from '../../support/config-sandbox.js';

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

describe('slurmsUsers()', () => {
  const passwd = { text: 'root:x:0:0::/:/bin/sh\nslurm:x:64030:64030::/:/bin/false\nd:x:1500:1500::/:/bin/sh\n' };
  const plain = { files: [], nodes: [], places: new Map(), notes: [] };
  const ask = (users: object, files: Parameters<typeof nodeWith>[0] = { '/etc/passwd': passwd }) =>
    slurmsUsers({ host: nodeWith(files), configuration: { ...plain, ...users } });

  it('knows them by name or number', async () => {
    expect(await ask({ slurmUser: 'slurm', slurmdUser: 'root' })).toEqual({ uids: new Set([64_030]), notes: [] });
    expect(await ask({ slurmUser: '64030', slurmdUser: 'd' })).toEqual({ uids: new Set([64_030, 1500]), notes: [] });
    expect(await ask({})).toEqual({ uids: new Set(), notes: [] });
    expect(await slurmsUsers({ host: nodeWith({}), configuration: undefined })).toEqual({ uids: new Set(), notes: [] });
  });

  it('says whose uid nobody tells', async () => {
    expect(await ask({ slurmUser: 'slurm' }, {})).toEqual({
      uids: new Set(),
      notes: ['"slurm" runs Slurm, but nobody tells his uid: what he runs may be among the strays'],
    });
    expect(await ask({ slurmUser: 'slurm' }, { '/etc/passwd': { ...passwd, mode: 0o666 } })).toMatchObject({
      uids: new Set(),
      notes: [expect.stringMatching(/^"slurm" runs Slurm, .*: Cannot /)],
    });
  });
});

it.each([
  ['1:name=systemd:/system.slice/postgres.service\n', 'postgres.service'],
  ['0::/system.slice/system-web.slice/web@1.service/worker\n', 'web@1.service'],
  ['2:memory:/system.slice/postgres.service\n', undefined],
  ['1:name=systemd:/system.slice/slurmd.service\n', undefined],
  ['0::/system.slice/slurmd@n1.service/slurmd\n', undefined],
  ['0::/system.slice/ssh.service\n', undefined],
  ['0::/system.slice/sshd@3-10.0.0.1:22-10.0.0.2:5000.service\n', undefined],
  ['0::/system.slice/cron.service\n', undefined],
  ['0::/system.slice/docker-1a2b.scope\n', undefined],
  ['0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n', undefined],
  ['0::/mine/system.slice/postgres.service\n', undefined],
  ['0::/\n', undefined],
])('serviceOf() of %j is %s', (text, service) => {
  expect(serviceOf(parseProcCgroup(text))).toBe(service);
});
