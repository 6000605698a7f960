import { describe, expect, it } from 'vitest';
import {
  activityIn,
  familyIn,
  familyOfType,
  frameOfChannel,
  moduleIn,
  parseStack,
} from '../../../src/cleanup/survivors/kernel-stack.js';

const nfs = `[<0>] rpc_wait_bit_killable+0x20/0xa0 [sunrpc]
[<0>] nfs4_do_close+0x1d8/0x290 [nfsv4 1a2b]
[<0>] do_syscall_64+0x71/0x290
`;

describe('parseStack()', () => {
  it('reads functions and their modules, the innermost first', () => {
    expect(parseStack(nfs)).toEqual([
      { name: 'rpc_wait_bit_killable', module: 'sunrpc' },
      { name: 'nfs4_do_close', module: 'nfsv4' },
      { name: 'do_syscall_64' },
    ]);
    // FUSE in Debian, 6.1: a module.
    expect(parseStack('[<0>] request_wait_answer+0x11a/0x220 [fuse]\n')).toEqual([
      { name: 'request_wait_answer', module: 'fuse' },
    ]);
    // Linux 3.10 and 4.18 write addresses, and a last frame without a place.
    expect(
      parseStack(
        '[<ffffffffc0a1b2c3>] cl_sync_io_wait.isra.3+0x2bf/0x520 [obdclass]\n[<ffffffffffffffff>] 0xffffffffffffffff\n',
      ),
    ).toEqual([{ name: 'cl_sync_io_wait.isra.3', module: 'obdclass' }, { name: '0xffffffffffffffff' }]);
    expect(parseStack('')).toEqual([]);
  });

  it('frameOfChannel() takes the wait channel where there is no stack', () => {
    expect(frameOfChannel('request_wait_answer')).toEqual([{ name: 'request_wait_answer' }]);
    expect(frameOfChannel('0')).toEqual([]);
    expect(frameOfChannel('')).toEqual([]);
  });
});

describe('familyIn()', () => {
  it.each([
    ['rpc_wait_bit_killable', 'nfs'],
    ['nfs_wait_bit_killable', 'nfs'],
    ['__fuse_simple_request', 'fuse'],
    ['request_wait_answer', 'fuse'],
    ['autofs_wait', 'autofs'],
    ['ceph_mdsc_do_request', 'ceph'],
    ['cifs_call_async', 'cifs'],
    ['ptlrpc_set_wait', 'lustre'],
    ['cxiWaitEventWait', 'gpfs'],
    ['FhgfsOps_open', 'beegfs'],
    ['p9_client_rpc', 'plan9'],
    ['io_schedule', undefined],
    ['pipe_read', undefined],
    ['ll', undefined],
  ])('%s is %s', (name, family) => {
    expect(familyIn([{ name: 'schedule' }, { name }])).toBe(family);
  });

  it('takes the innermost: a FUSE program of which NFS is behind is another process', () => {
    expect(
      familyIn([{ name: 'io_schedule' }, { name: 'x', module: 'lustre' }, { name: 'nfs_file_read', module: 'nfs' }]),
    ).toBe('lustre');
  });
});

it.each([
  ['nfs4', 'nfs'],
  ['nfs', 'nfs'],
  ['nfsd', undefined],
  ['fuse', 'fuse'],
  ['fuse.sshfs', 'fuse'],
  ['fusectl', undefined],
  ['smb3', 'cifs'],
  ['9p', 'plan9'],
  ['lustre', 'lustre'],
  ['ext4', undefined],
])('familyOfType() says that %s is %s', (type, family) => {
  expect(familyOfType(type)).toBe(family);
});

it('activityIn() knows what else keeps a process', () => {
  const activity = (name: string) => activityIn([{ name: 'schedule' }, { name }]);
  expect(['__refrigerator', 'zap_pid_ns_processes', 'do_coredump', 'exit_mmap', 'vfs_read'].map(activity)).toEqual([
    'frozen',
    'pid-namespace',
    'dumping',
    'exiting',
    undefined,
  ]);
});

it('moduleIn() names the driver', () => {
  expect(
    moduleIn(
      parseStack('[<0>] down+0x1/0x2\n[<0>] os_acquire_mutex+0x1/0x2 [nvidia]\n[<0>] uvm_ioctl+0x1/0x2 [nvidia_uvm]\n'),
    ),
  ).toBe('nvidia');
  expect(moduleIn([{ name: 'x' }])).toBeUndefined();
});
