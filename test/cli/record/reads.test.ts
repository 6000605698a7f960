import { describe, expect, it } from 'vitest';
import { keepingTitles, readForRecording, withoutPasswords } from '../../../src/cli/record/reads.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { verify } from '../../../src/jobs/verification.js';
import { recordedHost, recordingHost } from '../../../src/machine/recording.js';
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

describe('withoutPasswords()', () => {
  it('leaves out what is a password in slurm.conf, and nothing else', () => {
    const line = (text: string) => JSON.stringify({ read: '/etc/slurm/slurm.conf', text });
    expect(withoutPasswords(line('A=1\nAccountingStoragePass=secret word\njobcomppass = x\nB=2\n'))).toBe(
      line('A=1\nAccountingStoragePass=left-out\njobcomppass = left-out\nB=2\n'),
    );
    for (const text of ['A=1\n', 'PassengerName=x\n']) expect(withoutPasswords(line(text))).toBe(line(text));
    const listing = JSON.stringify({ list: '/etc', entries: { passwd: 'file' } });
    expect(withoutPasswords(listing)).toBe(listing);
  });
});
