import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { liveHost } from '../../src/machine/live-host.js';
import { listeningPaths, parseListeningPaths } from '../../src/machine/unix-table.js';
import { unixSandbox } from '../support/unix-server.js';

const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 101 /spool/vm_1.4294967292
ffff888003c4c400: 00000002 00000000 00010000 0001 01  9102 /spool/vm_2.0
0000000000000000: 00000003 00000000 00000000 0001 03 103 /spool/vm_3.0
0000000000000000: 00000002 00000000 00010000 0005 01 104 /spool/vm_4.0
0000000000000000: 00000002 00000000 00000000 0002 01 105 /spool/vm_5.0
0000000000000000: 00000002 00000000 00010000 0001 01 106 @/spool/vm_6.0
0000000000000000: 00000002 00000000 00010000 0001 01 107 vm_7.0
0000000000000000: 00000002 00000000 00010000 0001 01 108 /spool/../etc/vm_8.0
0000000000000000: 00000002 00000000 00010000 0001 01 109 /home/u/x
/spool/vm_9.0
0000000000000000: 00000002 00000000 00010000 0001 01 110
`;

describe('parseListeningPaths()', () => {
  it('gives absolute paths of listening streams', () => {
    expect(parseListeningPaths(table)).toEqual(['/spool/vm_1.4294967292', '/spool/vm_2.0', '/home/u/x']);
  });

  it('is told what a name with a line break says, which only looks like a line of the kernel', () => {
    const forged = '0000000000000000: 00000002 00000000 00010000 0001 01 7 /spool/vm_9.0';
    expect(parseListeningPaths(`0000000000000000: 00000002 00000000 00010000 0001 01 6 /tmp/x\n${forged}\n`)).toEqual([
      '/tmp/x',
      '/spool/vm_9.0',
    ]);
    expect(
      parseListeningPaths('0000000000000000: 00000002 00000000 00010000 0001 01 6 /tmp/x /spool/vm_9.0\n'),
    ).toEqual(['/tmp/x /spool/vm_9.0']);
  });
});

describe('listeningPaths()', () => {
  it('names what listens here, by the kernel', async () => {
    const sandbox = unixSandbox();
    try {
      await sandbox.serve('vm_1.0', () => {});
      expect(listeningPaths(liveHost())).toContain(`${sandbox.folder}/vm_1.0`);
      // The kernel prints a line break of a name as it is: a user can write any line into this table.
      const line = `0000000000000000: 00000002 00000000 00010000 0001 01 7 /nonexistent/${process.pid}`;
      await sandbox.serve(`x\n${line.replaceAll('/', '')}`, () => {});
      expect(liveHost().read('/proc/net/unix').split('\n')).toContain(line.replaceAll('/', ''));
    } finally {
      await sandbox.close();
    }
  });
});
