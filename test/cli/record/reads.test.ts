import fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findStrays } from '../../../src/cleanup/strays/find.js';
import { keepingTitles, readForRecording, recorder, uidsIn } from '../../../src/cli/record/reads.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { verify } from '../../../src/jobs/verification.js';
import { hasCode, SystemCallError } from '../../../src/machine/errors.js';
import type { Directory, Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { completingHost, recordedHost, recordingHost } from '../../../src/machine/recording.js';
import { expectedFor, loadRecording, recordingNames } from '../../recordings/recordings.js';

describe('readForRecording()', () => {
  it.each(recordingNames)('reads all of %s that list and verify need', async (name) => {
    const lines: string[] = [];
    const host = recordingHost(recordedHost(loadRecording(name)), (line) => lines.push(line));
    const node = await readNode({ host });
    await readForRecording(node, new Set([1001]));
    const played = await readNode({ host: recordedHost(lines.join('\n')) });
    expect(discoverJobs(played)).toEqual(discoverJobs(node));
    const pids = expectedFor(name).list.flatMap(({ steps }) => steps.flatMap((step) => step.pids));
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of pids) expect(await verify(pid, { node: played })).toEqual(await verify(pid, { node }));
  });
});

/** A node whose processes come and go while it is looked at. */
function churning(base: Host, isThere: (pid: string) => boolean): Host {
  const gone = (where: string) => {
    const pid = /^\/proc\/(\d+)(?:\/|$)/.exec(where)?.[1];
    if (pid !== undefined && !isThere(pid)) throw new SystemCallError('read', where, 'ENOENT');
  };
  const lists = (where: string, text: string) =>
    /\/(?:cgroup\.procs|tasks|children)$/.test(where)
      ? text.replace(/\d+(?=\s)/g, (pid) => (isThere(pid) ? pid : '')).replace(/^\n/gm, '')
      : text;
  const checked =
    <T>(act: (where: string) => T) =>
    (where: string): T => {
      gone(where);
      return act(where);
    };
  const entries = checked((where) =>
    base.entries(where).filter(({ name }) => where !== '/proc' || !/^\d+$/.test(name) || isThere(name)),
  );
  const host: Host = {
    ...base,
    read: checked((where) => lists(where, base.read(where))),
    readlink: checked(base.readlink),
    entries,
    names: (where) => entries(where).map(({ name }) => name),
    stat: (where) => {
      const pid = /^\/proc\/(\d+)(?:\/|$)/.exec(where)?.[1];
      return pid !== undefined && !isThere(pid) ? undefined : base.stat(where);
    },
    open: (where) => {
      gone(where);
      return byPath(() => host, base.open(where));
    },
  };
  return host;
}

/** A directory whose files are asked for by their paths, of the host as it is wrapped. */
function byPath(host: () => Host, held: Directory): Directory {
  const at = (name: string) => (name === '' ? held.path : `${held.path}/${name}`);
  return {
    ...held,
    read: (name) => host().read(at(name)),
    readlink: (name) => host().readlink(at(name)),
    names: (name = '') => host().names(at(name)),
    entries: (name = '') => host().entries(at(name)),
    stat: (name = '') => host().stat(at(name)),
    open: (name) => host().open(at(name)),
  };
}

/** A played node, and what was asked of it that it does not hold. */
function watched(text: string): { readonly host: Host; readonly missing: readonly string[] } {
  const base = recordedHost(text);
  const missing: string[] = [];
  const noting =
    <T>(act: (where: string) => T) =>
    (where: string): T => {
      try {
        return act(where);
      } catch (error) {
        if (hasCode(error, 'ERR_NOT_RECORDED')) missing.push(where);
        throw error;
      }
    };
  const host: Host = {
    ...base,
    read: noting(base.read),
    readlink: noting(base.readlink),
    entries: noting(base.entries),
    names: noting(base.names),
    stat: noting(base.stat),
    open: (where) => byPath(() => host, noting(base.open)(where)),
  };
  return { host, missing };
}

describe('a node whose processes come and go while it is recorded', () => {
  it.each(['slurm-22.05-v1', 'slurm-24.11-v2', 'slurm-26.05-v2'])(
    'is played without a gap: %s',
    { timeout: 300_000 },
    async (name) => {
      const text = loadRecording(name);
      const pids = expectedFor(name).list.flatMap(({ steps }) => steps.flatMap((step) => step.pids));
      /** Asked for, and not even in the recording that stands for the machine. */
      const unheld = async () => {
        const { host, missing } = watched(text);
        await readForRecording(await readNode({ host }), new Set([1001]));
        return new Set(missing);
      };
      const known = await unheld();
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ pid: fc.constantFrom(...pids), from: fc.nat(400), lasts: fc.nat(800) }), {
            maxLength: 8,
          }),
          async (visits) => {
            let calls = 0;
            const isThere = (pid: string) => {
              calls++;
              return visits.every(
                (one) => String(one.pid) !== pid || (calls >= one.from && calls < one.from + one.lasts),
              );
            };
            const lines: string[] = [];
            const host = recorder(churning(recordedHost(text), isThere), lines);
            // What doctor has read before.
            const node = await readNode({ host });
            discoverJobs(node);
            await findStrays({ node });
            await readForRecording(await readNode({ host: completingHost(host, lines) }), new Set([1001]));
            const played = watched(lines.join('\n'));
            await readForRecording(await readNode({ host: played.host }), new Set([1001]));
            expect(played.missing.filter((where) => !known.has(where) && where.startsWith('/'))).toEqual([]);
          },
        ),
        { numRuns: 8 },
      );
    },
  );
});

describe('uidsIn()', () => {
  it('finds the users of the processes that are recorded', () => {
    const status = (uids: string) => `Name:\tsh\nUid:\t${uids}\nGid:\t5\t5\t5\t5\n`;
    const lines = [
      { read: '/proc/7/status', text: status('1001\t0\t0\t0') },
      { read: '/proc/8/task/9/status', text: status('7\t7\t7\t7') },
      { read: '/etc/hostname', text: status('8\t8\t8\t8') },
    ].map((one) => JSON.stringify(one));
    expect([...uidsIn(lines)].sort()).toEqual([0, 1001, 7]);
  });
});

describe('keepingTitles()', () => {
  it.each([
    ['slurmstepd: [7.extern]\0', 1],
    ['slurmstepd: [7.0+1]\0\0', 1],
    ['slurmstepd: [7.extern] --password=x\0', 0],
    ['slurmstepd: [7.extern]\0--password=x\0', 0],
    ['mysql\0--password=x\0', 0],
  ])('of %j keeps %d line', (text, count) => {
    const header = JSON.stringify({ recording: 'slurm-cgroups', version: 1, self: { pid: 1, uid: 0 } });
    const is = ['16749', '0', '0', '5', '9', '9', '0', '1', '1'];
    const answers = [
      { stat: '/proc/9', is },
      { read: '/proc/9/cmdline', text },
    ].map((one) => JSON.stringify(one));
    const lines: string[] = [];
    const host = keepingTitles(recordedHost([header, ...answers].join('\n')), (line) => lines.push(line));
    for (const _ of ['once', 'twice']) expect(host.open('/proc/9').read('cmdline')).toBe(text);
    expect(lines).toHaveLength(count);
    expect(recordedHost([header, ...lines].join('\n')).self().pid).toBe(1);
  });
});

describe('recorder()', () => {
  it('keeps no password of Slurm’s configuration, however it is written, and all that is read of it', async () => {
    const slurm = fs.mkdtempSync('/root/slurm-cgroups-test-');
    try {
      const text = [
        'ClusterName=x AccountingStoragePass=SECRET3',
        'SlurmctldHost=c1',
        'AccountingStoragePass=\\',
        'SECRET2',
        '#AccountingStoragePass=SECRET6 (old)',
        'JobCompLoc=https://u:SECRET4@host/',
        'StoragePass = "SECRET1 b"',
        'Include more.conf',
        'SlurmdSpoolDir=/var/spool/none # SECRET5',
        'NodeName=n1 NodeHostName=h1 Comment=SECRET7',
        'PrologFlags=Contain SECRET8',
      ];
      fs.writeFileSync(`${slurm}/slurm.conf`, `${text.join('\n')}\n`);
      fs.writeFileSync(`${slurm}/more.conf`, 'TaskPlugin=task/cgroup\nAuthAltParameters=jwt_key=SECRET9\n');
      fs.writeFileSync(`${slurm}/cgroup.conf`, 'ConstrainCores=yes\n#SECRET0\n');
      const lines: string[] = [];
      const configFile = `${slurm}/slurm.conf`;
      const { configuration } = await readNode({ host: recorder(liveHost(), lines), configFile });
      expect(lines.join('\n').match(/SECRET\d/g)).toBeNull();
      expect(lines.filter((line) => line.includes(`"read":"${slurm}/`))).toHaveLength(3);
      const played = (await readNode({ host: recordedHost(lines.join('\n')), configFile })).configuration;
      expect({ ...played, slurmd: undefined }).toEqual({ ...configuration, slurmd: undefined });
      expect(configuration).toMatchObject({ clusterName: 'x', taskPlugin: ['task/cgroup'], constrainCores: true });
    } finally {
      fs.rmSync(slurm, { recursive: true });
    }
  });
});
