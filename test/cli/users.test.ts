import { describe, expect, it } from 'vitest';
import { namesOf, requireUid, usersLine } from '../../src/cli/users.js';
import type { Host, RunResult } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';

const answering = (stdout: string, timedOut = false): { readonly host: Host; readonly asked: string[][] } => {
  const asked: string[][] = [];
  const host: Host = {
    ...liveHost(),
    run: async (file, args): Promise<RunResult> => {
      asked.push([file, ...args]);
      return { exitCode: 2, stdout, stderr: '', timedOut };
    },
  };
  return { host, asked };
};
const mute = recordedHost('{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n');

describe('namesOf()', () => {
  it('asks once for all, by absolute path, and keeps what is known', async () => {
    const { host, asked } = answering('alice:x:1001:1001::/home/alice:/bin/sh\n');
    const names = await namesOf(host, [1001, 64731, 1001]);
    expect([names(1001), names(64731)]).toEqual(['alice', undefined]);
    expect(asked).toEqual([['/usr/bin/getent', 'passwd', '1001', '64731']]);
  });

  it('asks nothing where there is no uid, and in parts for thousands', async () => {
    const { host, asked } = answering('');
    await namesOf(host, []);
    expect(asked).toHaveLength(0);
    await namesOf(
      host,
      Array.from({ length: 1200 }, (_, at) => at),
    );
    expect(asked).toHaveLength(3);
  });

  it('lets numbers stand where there is no answer', async () => {
    expect((await namesOf(answering('', true).host, [1001]))(1001)).toBeUndefined();
    expect((await namesOf(mute, [1001]))(1001)).toBeUndefined();
  });

  it('finds those that a recording holds, and none in one of version 1', async () => {
    const line = await usersLine(answering('alice:x:1001:1001::/home/alice:/bin/sh\n').host, [1001, 1002]);
    const played = recordedHost(`{"recording":"slurm-cgroups","version":2,"self":{"pid":1,"uid":0}}\n${line}\n`);
    const names = await namesOf(played, [1001, 1002]);
    expect([names(1001), names(1002)]).toEqual(['alice', undefined]);
    expect(await requireUid(played, 'alice')).toBe(1001);
    for (const host of [played, mute])
      await expect(requireUid(host, 'bob')).rejects.toThrow(
        'The recording does not hold the uid of "bob": give it with --uid',
      );
    for (const text of ['3', '[3]', '[{"name":1,"uid":"x"}]', 'nonsense']) {
      const written = recordedHost(
        `{"recording":"slurm-cgroups","version":2,"self":{"pid":1,"uid":0}}\n${JSON.stringify({ read: 'users', text })}\n`,
      );
      expect((await namesOf(written, [1001]))(1001)).toBeUndefined();
    }
  });

  it('knows root on this machine', async () => {
    expect((await namesOf(liveHost(), [0]))(0)).toBe('root');
  });
});

describe('requireUid()', () => {
  it('finds a user of this machine', async () => {
    expect(await requireUid(liveHost(), 'root')).toBe(0);
  });

  it.each(['', '-s', '1001', 'a:b', 'a b', 'a\nb'])('refuses %j without asking', async (name) => {
    const { host, asked } = answering('');
    await expect(requireUid(host, name)).rejects.toThrow('is not a valid user name');
    expect(asked).toHaveLength(0);
  });

  it('says that there is no such user, and when there is no answer', async () => {
    await expect(requireUid(liveHost(), 'no-such-user-here')).rejects.toThrow('There is no user "no-such-user-here"');
    await expect(requireUid(answering('', true).host, 'alice')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    await expect(requireUid(answering('bob:x:7:7:::\n').host, 'alice')).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });
});
