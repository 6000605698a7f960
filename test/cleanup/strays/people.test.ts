import { describe, expect, it } from 'vitest';
import { parseProcCgroup } from '../../../src/cgroup/membership.js';
import { containerOf, daemonUsers, isPeoplesPlace, serviceOf } from '../../../src/cleanup/strays/people.js';
import { nodeWith } from '../../support/config-sandbox.js';

describe('daemonUsers()', () => {
  const passwd = { text: 'root:x:0:0::/:/bin/sh\nslurm:x:64030:64030::/:/bin/false\nd:x:1500:1500::/:/bin/sh\n' };
  const plain = { files: [], nodes: [], places: new Map(), notes: [] };
  const ask = (users: object, files: Parameters<typeof nodeWith>[0] = { '/etc/passwd': passwd }) =>
    daemonUsers({ host: nodeWith(files), configuration: { ...plain, ...users } });

  it('knows them by name or number', async () => {
    expect(await ask({ slurmUser: 'slurm', slurmdUser: 'root' })).toEqual({ uids: new Set([64_030]), notes: [] });
    expect(await ask({ slurmUser: '64030', slurmdUser: 'd' })).toEqual({ uids: new Set([64_030, 1500]), notes: [] });
    expect(await ask({})).toEqual({ uids: new Set(), notes: [] });
    expect(await daemonUsers({ host: nodeWith({}), configuration: undefined })).toEqual({ uids: new Set(), notes: [] });
  });

  it('says whose uid is not known', async () => {
    expect(await ask({ slurmUser: 'slurm' }, {})).toEqual({
      uids: new Set(),
      notes: ['"slurm" runs Slurm, but its uid is not known: its processes may be among the strays'],
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

describe('containerOf()', () => {
  const at = (path: string) => parseProcCgroup(`0::${path}\n`);
  it.each([
    ['/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0.slice/cri-containerd-4.scope', 'kubepods.slice'],
    ['/kubepods/burstable/pod0/4567', 'kubepods'],
    ['/kubelet.slice/kubelet-kubepods.slice/x', 'kubepods.slice'],
    ['/machine.slice/systemd-nspawn@cn1.service/payload/x.service', 'machine.slice'],
    ['/lxc.payload.cn1/init.scope', 'lxc.payload.cn1'],
    ['/user.slice/user-1000.slice/user@1000.service/kubepods.slice/x', undefined],
    ['/system.slice/sshd.service', undefined],
  ])('%s: %s', (path, name) => {
    expect(containerOf(at(path))).toBe(name);
  });

  it('knows where sessions of people stand', () => {
    expect(isPeoplesPlace(at('/user.slice/user-1000.slice/session-3.scope'))).toBe(true);
    expect(isPeoplesPlace(at('/system.slice/sshd.service'))).toBe(true);
    expect(isPeoplesPlace(at('/system.slice/docker-4567.scope'))).toBe(false);
  });
});
