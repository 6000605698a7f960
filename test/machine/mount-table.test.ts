import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { liveHost } from '../../src/machine/live-host.js';
import { answersAtOnce, parseMountLine, parseMountTable, readMountTable } from '../../src/machine/mount-table.js';

// As systemd leaves it: the root was mounted after what lies on it.
const systemd = [
  '22 27 0:20 / /sys rw,nosuid shared:2 - sysfs sysfs rw',
  '26 27 0:24 / /run rw,nosuid shared:11 - tmpfs tmpfs rw',
  '27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
  '40 27 0:35 / /etc/slurm rw - nfs4 server:/slurm rw,hard',
  '41 27 0:36 / /with\\040blank rw - lustre mgs@tcp:/fs rw',
  '42 40 0:37 / /etc/slurm/local rw - tmpfs tmpfs rw',
  '43 27 0:38 / /home rw - autofs systemd-1 rw',
  '',
].join('\n');
// /a/b was mounted first, and then /a over it.
const covered = '1 1 8:1 / / rw - ext4 a rw\n2 1 8:2 / /a/b rw - xfs b rw\n3 1 0:9 / /a rw - nfs s:/a rw\n';
const stacked = '1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /a rw - nfs s:/a rw\n3 2 0:9 / /a rw - tmpfs t rw\n';

describe('parseMountLine()', () => {
  test('gives every field of a mount, decoded', () => {
    expect(
      parseMountLine('36 35 0:9 /a\\040b /m\\011p\\134040 rw,ro shared:1 master:2 - nfs4 f:/x\\012y rw,hard'),
    ).toEqual({
      id: '36',
      parent: '35',
      root: '/a b',
      point: '/m\tp\\040',
      options: 'rw,ro',
      type: 'nfs4',
      source: 'f:/x\ny',
      superOptions: 'rw,hard',
    });
  });

  test.each([
    ['an empty source', '1 2 0:3 / /c rw - xfs  rw', ['xfs', '']],
    ['a source that is a dash', '1 2 0:3 / /c rw - xfs - rw', ['xfs', '-']],
  ])('reads %s', (_, line, expected) => {
    const mount = parseMountLine(line);
    expect([mount?.type, mount?.source]).toEqual(expected);
  });

  test.each([
    '',
    '1 2 0:3 / /c rw xfs x rw',
    '1 2 / - xfs x rw',
    '1 2 0:3 / c rw - xfs x rw',
    '1 2 0:3 / /c rw - xfs x',
    '1 2 0:3 / /c rw -  x rw',
  ])('takes %j for no mount', (line) => {
    expect(parseMountLine(line)).toBeUndefined();
  });
});

describe('MountTable.at()', () => {
  test.each([
    [systemd, '/', 'ext4'],
    [systemd, '/etc', 'ext4'],
    [systemd, '/etc/slurm.conf', 'ext4'],
    [systemd, '/etc/slurm', 'nfs4'],
    [systemd, '/etc/slurm/slurm.conf', 'nfs4'],
    [systemd, '/etc/slurm/local/x', 'tmpfs'],
    [systemd, '/run/slurm/conf', 'tmpfs'],
    [systemd, '/with blank/x', 'lustre'],
    [systemd, '/home/x', 'autofs'],
    [covered, '/a/b/c', 'nfs'],
    [stacked, '/a/b', 'tmpfs'],
    ['', '/', undefined],
    [systemd, 'pipe:[1]', undefined],
  ])('%#: %s', (table, path, type) => {
    expect(parseMountTable(table).at(path)?.type).toBe(type);
  });

  test('knows where /proc is on this machine', () => {
    expect(readMountTable(liveHost()).at('/proc/self/status')?.type).toBe('proc');
  });

  test('ends for any table', () => {
    const id = fc.constantFrom('1', '2', '3');
    const point = fc.constantFrom('/', '/a', '/a/b');
    const line = fc.tuple(id, id, point).map(([own, parent, where]) => `${own} ${parent} 0:1 / ${where} rw - xfs x rw`);
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string()), { maxLength: 8 }), (table) => {
        const type = parseMountTable(table.join('\n')).at('/a/b/c')?.type;
        expect(type === undefined || typeof type === 'string').toBe(true);
      }),
    );
  });
});

describe('answersAtOnce()', () => {
  test.each(['ext4', 'xfs', 'tmpfs', 'overlay', 'zfs'])('%s does', (type) => {
    expect(answersAtOnce(type)).toBe(true);
  });
  test.each([
    'nfs',
    'nfs4',
    'cifs',
    'smb3',
    'lustre',
    'gpfs',
    'beegfs',
    'ceph',
    'afs',
    '9p',
    'glusterfs',
    'fuse',
    'fuse.sshfs',
    'orangefs',
    'pvfs2',
    'panfs',
    'wekafs',
    'autofs',
    'proc',
    'of-the-future',
    undefined,
  ])('%s need not', (type) => {
    expect(answersAtOnce(type)).toBe(false);
  });
});
