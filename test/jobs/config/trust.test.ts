import { expect, test } from 'vitest';
import { requireTrusted, rootOnly, strangerAt, trustAlso, uidOfUser } from '../../../src/jobs/config/trust.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { configFiles, type LocatedFile } from '../../../src/machine/guarded-files.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { nodeWith } from '../../support/config-sandbox.js';

const passwd = 'root:x:0:0:root:/root:/bin/bash\nslurm:x:64030:64030::/nonexistent:/usr/sbin/nologin\n';
const node = nodeWith({ '/etc/passwd': { text: passwd } });
const files = configFiles(node, deadlineIn(node, 0));
const owned = (...uids: number[]): LocatedFile => ({
  path: '/etc/slurm/slurm.conf',
  target: '/etc/slurm/slurm.conf',
  size: 1,
  foreign: uids.map((uid, index) => ({
    path: ['/etc/slurm/slurm.conf', '/etc/slurm'][index] ?? '/',
    uid: BigInt(uid),
    mode: 0o644n,
  })),
  ownersUnknown: false,
});

test.each([
  ['root', 0],
  ['slurm', 64030],
  ['1234', 1234],
  ['nobody-here', undefined],
  ['-s', undefined],
  ['slurm:x', undefined],
  ['', undefined],
])('uidOfUser() of %j in /etc/passwd', async (user, uid) => {
  expect(await uidOfUser(node, files, user)).toBe(uid);
});

test('uidOfUser() asks getent for who is not in /etc/passwd', async () => {
  const live = liveHost();
  const asked: unknown[] = [];
  const run: typeof live.run = async (program, args) => {
    asked.push([program, ...args]);
    return { exitCode: 0, stdout: 'ldapslurm:*:777:7::/:/bin/false\n', stderr: '', timedOut: false };
  };
  const host = { ...live, run };
  expect(await uidOfUser(host, configFiles(host, deadlineIn(host, 1000)), 'ldapslurm')).toBe(777);
  expect(asked).toEqual([['/usr/bin/getent', 'passwd', 'ldapslurm']]);
});

test('uidOfUser() does not wait for a getent that does not end', async () => {
  const host = { ...liveHost(), run: () => new Promise<never>(() => {}) };
  expect(await uidOfUser(host, configFiles(host, deadlineIn(host, 20)), 'ldapslurm')).toBeUndefined();
});

test('strangerAt() is the first owner who is not trusted', async () => {
  const trusted = await trustAlso(node, files, 'slurm');
  expect(strangerAt(owned(), rootOnly)).toBeUndefined();
  expect(strangerAt(owned(64030), trusted)).toBeUndefined();
  expect(strangerAt(owned(64030), rootOnly)?.uid).toBe(64030n);
  expect(strangerAt(owned(64030, 1001), trusted)?.uid).toBe(1001n);
});

test('requireTrusted() names owner, mode and what to do', async () => {
  const trusted = await trustAlso(node, files, 'slurm');
  expect(() => requireTrusted(owned(64030, 1001), trusted)).toThrow(
    expect.objectContaining({
      code: 'ERR_CONFIG',
      subject: { path: '/etc/slurm/slurm.conf', uid: 1001 },
      message:
        'Cannot trust "/etc/slurm/slurm.conf": "/etc/slurm" belongs to uid 1001 (mode 0644), not to root nor to SlurmUser ' +
        'slurm (uid 64030); give it to root (chown root "/etc/slurm"), or name its owner as SlurmUser in a slurm.conf of root\'s',
    }),
  );
});

test('trustAlso() believes every owner only in a recording that cannot tell the uid', async () => {
  expect(strangerAt(owned(5), await trustAlso(node, files, 'from-ldap'))).toBeUndefined();
  const live = { ...liveHost(), run: async () => ({ exitCode: 2, stdout: '', stderr: '', timedOut: false }) };
  const nobody = await trustAlso(live, configFiles(live, deadlineIn(live, 1000)), 'from-ldap');
  expect(strangerAt(owned(5), nobody)?.uid).toBe(5n);
});
