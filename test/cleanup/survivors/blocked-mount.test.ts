import { describe, expect, it } from 'vitest';
import {
  blockedMount,
  type HeldPath,
  mayWait,
  type WaitFacts,
  whoAnswers,
} from '../../../src/cleanup/survivors/blocked-mount.js';
import { parseMountTable } from '../../../src/machine/mount-table.js';

const table = parseMountTable(
  [
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw',
    '23 22 0:5 / /proc rw - proc proc rw',
    '24 22 0:40 / /scratch rw shared:1 - nfs4 filer:/export rw,vers=4.2',
    '25 24 0:41 / /scratch/my\\040data rw - nfs4 other:/a\\040b rw',
    '26 22 0:42 / /home rw - nfs filer:/home rw',
    '27 22 0:43 / /mnt/s rw - fuse.sshfs host:/dir rw',
    '28 22 0:44 / /dev/shm rw - tmpfs tmpfs rw',
    '',
  ].join('\n'),
);

const cwd = (path: string): HeldPath => ({ by: 'its working directory', path });
const fd = (path: string): HeldPath => ({ by: 'descriptor 3', path });
const find = (facts: Omit<WaitFacts, 'table'>) => {
  const found = blockedMount({ table, ...facts });
  return found === undefined ? undefined : [found.point, found.by, found.sure];
};

describe('the mount table', () => {
  it('finds the nearest mount, with its source decoded', () => {
    expect(table.at('/scratch/my data/x')).toEqual({
      id: '25',
      parent: '24',
      root: '/',
      point: '/scratch/my data',
      options: 'rw',
      type: 'nfs4',
      source: 'other:/a b',
      superOptions: 'rw',
    });
    expect(table.at('/scratch/mydata')?.source).toBe('filer:/export');
    expect(table.at('/usr/bin/cat')?.source).toBe('/dev/sda1');
    expect(table.at('pipe:[1]')).toBeUndefined();
  });
});

describe('blockedMount()', () => {
  it.each<[string, Omit<WaitFacts, 'table'>, unknown]>([
    [
      'the descriptor of the call',
      { call: fd('/scratch/f'), others: [cwd('/home/a')] },
      ['/scratch', 'descriptor 3', true],
    ],
    ['… also on a disk', { call: fd('/var/f'), others: [cwd('/home/a')] }, ['/', 'descriptor 3', true]],
    ['… but not in memory', { call: fd('/dev/shm/f'), others: [] }, undefined],
    ['… nor made by the kernel', { call: fd('/proc/1/stat'), others: [] }, undefined],
    [
      'no call: what can wait, not sure',
      { others: [cwd('/usr'), fd('/scratch/f')] },
      ['/scratch', 'descriptor 3', false],
    ],
    ['nothing that can wait', { others: [cwd('/usr')] }, undefined],
    [
      'the kind the kernel names, not the descriptor of another',
      { call: fd('/var/f'), others: [cwd('/home/a')], family: 'nfs' },
      ['/home', 'its working directory', true],
    ],
    [
      'several of that kind: not sure',
      { others: [cwd('/home/a'), fd('/scratch/f')], family: 'nfs' },
      ['/home', 'its working directory', false],
    ],
    ['none in use, one there is', { others: [], family: 'fuse' }, ['/mnt/s', 'being the only one of its kind', true]],
    ['none in use, several there are', { others: [], family: 'nfs' }, ['/scratch', 'its kind', false]],
    ['none at all', { others: [cwd('/home/a')], family: 'lustre' }, undefined],
  ])('%s', (_what, facts, expected) => {
    expect(find(facts)).toEqual(expected);
  });
});

it('mayWait() knows what answers by itself', () => {
  expect(['nfs', 'fuse', 'lustre', 'newfs', 'autofs', 'ext4', 'proc', 'cgroup2'].map(mayWait)).toEqual([
    true,
    true,
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
});

it.each([
  ['nfs4', 'filer:/export', 'the NFS server filer:/export of /m', 'the server answers'],
  [
    'fuse.sshfs',
    'host:/dir',
    'the program behind the FUSE file system host:/dir of /m (fuse.sshfs)',
    'that program answers or ends',
  ],
  ['lustre', '10.0.0.1@o2ib:/fs', 'the Lustre servers 10.0.0.1@o2ib:/fs of /m', 'the servers answer'],
  ['cifs', '//srv/share', 'the SMB server //srv/share of /m', 'the server answers'],
  ['gpfs', '/dev/fs1', 'the GPFS file system /dev/fs1 of /m', 'GPFS answers'],
  ['beegfs', 'beegfs_nodev', 'the BeeGFS servers beegfs_nodev of /m', 'the servers answer'],
  ['ceph', 'a:/', 'the Ceph cluster a:/ of /m', 'the cluster answers'],
  ['9p', 'share', 'the 9P server share of /m', 'the server answers'],
  ['autofs', '/etc/auto.home', 'the automounter of /m', 'the mount succeeds or fails'],
  ['wekafs', 'w/fs', 'the file system w/fs of /m (wekafs)', 'it answers'],
  ['wekafs', 'none', 'the file system of /m (wekafs)', 'it answers'],
  ['xfs', '/dev/sdb', 'the disk /dev/sdb of /m (xfs)', 'the disk answers'],
])('whoAnswers() for %s %s', (type, source, who, until) => {
  expect(whoAnswers({ point: '/m', type, source })).toEqual({ who, until });
});
