import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readSlurmConfiguration } from '../../../src/jobs/config/read.js';
import { SlurmCgroupsError } from '../../../src/machine/errors.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recordedHost } from '../../../src/machine/recording.js';
import {
  afterwards,
  hostWithMount,
  isRoot,
  needsRoot,
  nodeWith,
  put,
  trustedFolder,
} from '../../support/config-sandbox.js';

const file = '/etc/slurm/slurm.conf';
const passwd = { text: 'root:x:0:0::/root:/bin/sh\nslurm:x:64030:64030::/:/bin/false\nalice:x:1001:1001::/:/bin/sh\n' };
const node = (files: Parameters<typeof nodeWith>[0]) => nodeWith({ '/etc/passwd': passwd, ...files });

/** What LAB.md and lab/up.sh write for Slurm 26.05 in a guest. */
const labSlurm = `ClusterName=lab
SlurmctldHost=vm(127.0.0.1)
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/lab/state
SlurmdSpoolDir=/var/spool/lab/spool
SlurmctldLogFile=/var/log/lab/ctld.log
SlurmdLogFile=/var/log/lab/slurmd.log
SlurmctldPidFile=/run/slurmctld/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
PrologFlags=contain,x11
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0
LaunchParameters=use_interactive_step
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdDebug=debug2
ReturnToService=2
MpiDefault=none
KillWait=30



NodeName=vm NodeAddr=127.0.0.1 CPUs=2 CoresPerSocket=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
`;
const labCgroup =
  'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainCores=yes\nConstrainDevices=yes\nConstrainRAMSpace=no\n';

/** Debian's examples (slurmd 22.05.8-4+deb12u3, /usr/share/doc/slurmd/examples), their comments cut short. */
const debianSlurm = `# /etc/slurm/slurm.conf
#
# See the slurm.conf man page for more information.

# Cluster name.
ClusterName=cluster

SlurmctldHost=workstation
ProctrackType=proctrack/cgroup
ReturnToService=2
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=/var/lib/slurm/slurmd
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmUser=slurm
TaskPlugin=task/cgroup
SchedulerType=sched/backfill
JobAcctGatherType=jobacct_gather/cgroup
NodeName=server CPUs=16 RealMemory=64000
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`;
const debianCgroup = `# <https://slurm.schedmd.com/cgroups.html>.
CgroupAutomount=yes
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=yes
ConstrainDevices=yes
ConstrainKmemSpace=no        #avoid known Kernel issues
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=200
`;

describe('readSlurmConfiguration() on recorded nodes', () => {
  test("reads the lab's", async () => {
    const host = node({ [file]: { text: labSlurm }, '/etc/slurm/cgroup.conf': { text: labCgroup } });
    expect(await readSlurmConfiguration(host)).toEqual({
      file,
      foundBy: 'default',
      cgroupFile: '/etc/slurm/cgroup.conf',
      files: [file, '/etc/slurm/cgroup.conf'],
      clusterName: 'lab',
      slurmUser: 'slurm',
      slurmdUser: 'root',
      slurmdSpoolDir: '/var/spool/lab/spool',
      prologFlags: ['contain', 'x11'],
      proctrackType: 'proctrack/cgroup',
      taskPlugin: ['task/cgroup'],
      jobAcctGatherType: 'jobacct_gather/cgroup',
      launchParameters: ['use_interactive_step'],
      nodes: [{ nodeNames: 'vm', place: { file, line: 27 } }],
      cgroupMountpoint: '/sys/fs/cgroup',
      cgroupPlugin: 'cgroup/v1',
      constrainCores: true,
      constrainDevices: true,
      constrainRamSpace: false,
      places: expect.any(Map),
      notes: [],
    });
  });

  test("reads Debian's examples", async () => {
    const host = node({ [file]: { text: debianSlurm }, '/etc/slurm/cgroup.conf': { text: debianCgroup } });
    const found = await readSlurmConfiguration(host);
    expect(found).toMatchObject({
      clusterName: 'cluster',
      slurmdSpoolDir: '/var/lib/slurm/slurmd',
      constrainSwapSpace: true,
      notes: [],
    });
    expect(found?.places.get('constrainRamSpace')).toEqual({ file: '/etc/slurm/cgroup.conf', line: 7 });
    expect(found?.prologFlags).toBeUndefined();
  });

  test.each(
    fs.readdirSync(path.join(import.meta.dirname, '../../recordings')).filter((name) => name.endsWith('.jsonl')),
  )('reads %s', async (name) => {
    const host = recordedHost(fs.readFileSync(path.join(import.meta.dirname, '../../recordings', name), 'utf8'));
    expect((await readSlurmConfiguration(host))?.clusterName).toBe('lab');
  });

  test('finds nothing where nothing is', async () => {
    expect(await readSlurmConfiguration(node({}))).toBeUndefined();
  });

  test('finds the configless one behind its link, and cgroup.conf beside it', async () => {
    const host = node({
      '/run/slurm/conf': { link: '/var/spool/slurmd/conf-cache' },
      '/var/spool/slurmd/conf-cache/slurm.conf': { text: 'ClusterName=a\nInclude b.conf\n' },
      '/var/spool/slurmd/conf-cache/b.conf': { text: 'SlurmUser=slurm\n' },
      '/var/spool/slurmd/conf-cache/cgroup.conf': { text: 'CgroupSlice=x.slice\n' },
    });
    expect(await readSlurmConfiguration(host)).toMatchObject({
      file: '/run/slurm/conf/slurm.conf',
      foundBy: 'configless',
      cgroupFile: '/run/slurm/conf/cgroup.conf',
      clusterName: 'a',
      slurmUser: 'slurm',
      cgroupSlice: 'x.slice',
    });
  });

  test('prefers /etc/slurm to the configless one', async () => {
    const host = node({ [file]: { text: 'ClusterName=a' }, '/run/slurm/conf/slurm.conf': { text: 'ClusterName=b' } });
    expect(await readSlurmConfiguration(host)).toMatchObject({ clusterName: 'a' });
  });

  test('does not pass over a file that it cannot trust', async () => {
    const host = node({ [file]: { text: '', mode: 0o666 }, '/run/slurm/conf/slurm.conf': { text: 'ClusterName=b' } });
    await expect(readSlurmConfiguration(host)).rejects.toMatchObject({ code: 'ERR_CONFIG', subject: { path: file } });
  });

  test('says that a named file is missing', async () => {
    const error = { code: 'ERR_CONFIG', message: 'Cannot read "/x/slurm.conf" (option): it does not exist' };
    await expect(readSlurmConfiguration(node({}), { file: '/x/slurm.conf' })).rejects.toMatchObject(error);
    await expect(readSlurmConfiguration(node({}), { file: 'slurm.conf' })).rejects.toMatchObject({
      code: 'ERR_CONFIG',
    });
  });

  test('says that it does not know what a recording leaves out', async () => {
    const host = recordedHost(JSON.stringify({ recording: 'slurm-cgroups', version: 1, self: { pid: 1, uid: 0 } }));
    const found = await readSlurmConfiguration(host, { lookForSlurmd: true });
    expect(found?.file).toBeUndefined();
    expect(found?.notes).toEqual([
      expect.stringContaining('What slurmd was started with is not known'),
      expect.stringContaining('"/etc/slurm/slurm.conf": the recording does not hold it'),
      expect.stringContaining('"/run/slurm/conf/slurm.conf": the recording does not hold it'),
    ]);
  });
});

describe('readSlurmConfiguration() believes', () => {
  const include = 'Include nodes.conf\n';
  test.each([
    ["root's", { [file]: { text: 'SlurmUser=alice' } }],
    ["the usual account's that names itself", { [file]: { text: 'SlurmUser=slurm', uid: 64030 } }],
    ['it by its number', { [file]: { text: 'SlurmUser=64030', uid: 64030 } }],
    ['it in a folder of its own', { [file]: { text: 'SlurmUser=slurm', uid: 64030 }, '/etc/slurm': { uid: 64030 } }],
    [
      "files of whom root's slurm.conf names, also below",
      { [file]: { text: `${include}SlurmUser=alice\n` }, '/etc/slurm/nodes.conf': { text: '', uid: 1001 } },
    ],
    [
      'the cgroup.conf of that user too',
      { [file]: { text: 'SlurmUser=alice' }, '/etc/slurm/cgroup.conf': { text: 'CgroupSlice=a', uid: 1001 } },
    ],
  ])('%s', async (_, files) => {
    expect((await readSlurmConfiguration(node(files)))?.slurmUser).toBeDefined();
  });

  test.each([
    ["another's, whatever it says", { [file]: { text: 'SlurmUser=alice', uid: 1001 } }],
    [
      "another's in a folder of the usual account",
      { [file]: { text: 'SlurmUser=slurm', uid: 1001 }, '/etc/slurm': { uid: 64030 } },
    ],
    ['the usual account where it names another', { [file]: { text: 'SlurmUser=alice', uid: 64030 } }],
    ['the usual account where it names none', { [file]: { text: 'ClusterName=a', uid: 64030 } }],
    ['the usual account where it names root', { [file]: { text: 'SlurmUser=0', uid: 64030 } }],
    [
      "an included file of another's",
      { [file]: { text: include }, '/etc/slurm/nodes.conf': { text: 'SlurmUser=alice', uid: 1001 } },
    ],
    [
      "what another's included file says of itself",
      {
        [file]: { text: `SlurmUser=slurm\n${include}` },
        '/etc/slurm/nodes.conf': { text: 'SlurmUser=alice\nInclude more.conf\n', uid: 64030 },
        '/etc/slurm/more.conf': { text: '', uid: 1001 },
      },
    ],
    [
      "another's cgroup.conf",
      { [file]: { text: 'SlurmUser=slurm' }, '/etc/slurm/cgroup.conf': { text: '', uid: 1001 } },
    ],
  ])('not %s', async (_, files) => {
    await expect(readSlurmConfiguration(node(files))).rejects.toMatchObject({ code: 'ERR_CONFIG' });
  });

  test("root's word on who SlurmUser is", async () => {
    const host = node({ [file]: { text: 'SlurmUser=alice', uid: 1001 } });
    expect(await readSlurmConfiguration(host, { slurmUser: 'alice' })).toMatchObject({ slurmUser: 'alice' });
    await expect(readSlurmConfiguration(host, { slurmUser: 'slurm' })).rejects.toMatchObject({ code: 'ERR_CONFIG' });
  });

  test('without asking for names that do not matter', async () => {
    const host = nodeWith({ [file]: { text: 'SlurmUser=from-ldap' } });
    const watched: Host = {
      ...host,
      read: (where) => (where === '/etc/passwd' ? expect.fail(where) : host.read(where)),
    };
    expect(await readSlurmConfiguration(watched)).toMatchObject({ slurmUser: 'from-ldap' });
  });
});

describe.skipIf(!isRoot)(`readSlurmConfiguration() on the machine (${needsRoot})`, () => {
  const read = (where: string, host: Host = liveHost()) =>
    readSlurmConfiguration(host, { file: where, timeoutMs: 3000 });

  test('reads what is there', async () => {
    const folder = trustedFolder();
    put(folder, 'cgroup.conf', labCgroup);
    const slurm = put(folder, 'slurm.conf', labSlurm);
    expect(await read(slurm)).toMatchObject({ file: slurm, foundBy: 'option', constrainCores: true, notes: [] });
  });

  test('reads the same by a child where the file system may not answer', async () => {
    const folder = trustedFolder();
    put(folder, 'cgroup.conf', labCgroup);
    put(folder, 'nodes.conf', 'NodeName=n[1-9]\n');
    const slurm = put(folder, 'slurm.conf', `${labSlurm}Include nodes.conf\n`);
    const live = liveHost();
    const host = hostWithMount(folder, 'nfs4');
    const strict = {
      ...host,
      read: (where: string) => (where.startsWith(folder) ? expect.fail(where) : host.read(where)),
    };
    expect(await read(slurm, strict)).toEqual(await read(slurm, live));
  });

  test('ends with an error where it does not answer', async () => {
    const host = hostWithMount('/run/slurm-cgroups-nfs', 'nfs4', { run: () => new Promise(() => {}) });
    const reading = readSlurmConfiguration(host, { file: '/run/slurm-cgroups-nfs/slurm.conf', timeoutMs: 100 });
    await expect(reading).rejects.toThrow('its file system (type nfs4) does not answer within 100 ms');
  });

  test('reads what the slurmd of the node was told', async () => {
    const folder = trustedFolder();
    const slurm = put(folder, 'slurm.conf', 'ClusterName=told\n');
    const program = path.join(folder, 'slurmd');
    fs.copyFileSync('/bin/bash', program);
    const nodeName = path.basename(folder);
    const args = ['-c', 'echo up; read x', '-f', slurm, '-N', nodeName];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    afterwards(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    const found = await readSlurmConfiguration(liveHost(), { lookForSlurmd: true, nodeName, timeoutMs: 5000 });
    expect(found).toMatchObject({
      file: slurm,
      foundBy: 'slurmd -f',
      clusterName: 'told',
      slurmd: { pid: child.pid, nodeName },
    });
    fs.rmSync(slurm);
    const missing = readSlurmConfiguration(liveHost(), { lookForSlurmd: true, nodeName, timeoutMs: 5000 });
    await expect(missing).rejects.toThrow(`Cannot read "${slurm}" (slurmd -f): it does not exist`);
  });

  test('gives a value or our error for any file', async () => {
    const folder = trustedFolder();
    const whole = Buffer.from(`${labSlurm}Include nodes.conf\n`);
    put(folder, 'nodes.conf', 'NodeName=n[1-9]\n');
    const cut = fc.nat(whole.length).map((length) => whole.subarray(0, length));
    const changed = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
      const bytes = Buffer.from(whole);
      bytes[at] = byte;
      return bytes;
    });
    const any = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(fc.oneof(cut, changed, any), async (bytes) => {
        const slurm = put(folder, 'slurm.conf', bytes);
        try {
          expect((await read(slurm))?.file).toBe(slurm);
        } catch (error) {
          if (!(error instanceof SlurmCgroupsError)) throw error;
          expect(['ERR_CONFIG', 'ERR_PARSE']).toContain(error.code);
        }
      }),
      { numRuns: 300 },
    );
  });
});
