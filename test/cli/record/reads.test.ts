import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { keepingTitles, readForRecording, recorder } from '../../../src/cli/record/reads.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { verify } from '../../../src/jobs/verification.js';
import { liveHost } from '../../../src/machine/live-host.js';
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
