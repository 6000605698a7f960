import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import process from 'node:process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAddress } from '../../src/machine/ip-address.js';
import { liveHost } from '../../src/machine/live-host.js';
import {
  type Endpoint,
  established,
  findSockets,
  listening,
  parseEndpoint,
  readTcpTables,
  socketInodes,
  socketsBetween,
  socketsWith,
  tcpSocketsOf,
} from '../../src/machine/tcp-table.js';
import { families, Listener } from '../support/tcp-listener.js';

/** Of an x86 machine; an address of IPv6 is four words. */
const table4 = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17041 1 0000000000000000 100 0 0 10 0
   1: 0100007F:BEAA 0100007F:AE7D 01 00000000:00000000 00:00000000 00000000  1001        0 91234 2 0000000000000000 20 4 30 10 -1
   2: 0100007F:AE7D 0100007F:BEAA 01 00000000:00000000 00:00000000 00000000     0        0 91235 1 0000000000000000 20 4 0 10 -1
   3: 0100007F:AE7D 0100007F:BEAB 06 00000000:00000000 03:00000F1C 00000000     0        0 0 3 0000000000000000
`;
const table6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:AE7E 0000000000000000FFFF00000100007F:BEAC 01 00000000:00000000 00:00000000 00000000     7        0 5551 1 0000000000000000 20 4 0 10 -1
   1: 00000000000000000000000001000000:CCCC B80D0120000000000000000001000000:0016 01 00000000:00000000 00:00000000 00000000     8        0 5552 1 0000000000000000 20 4 0 10 -1
`;

const at = (address: string, port: number): Endpoint => ({
  address: parseAddress(address) ?? expect.unreachable(address),
  port,
});

describe.skipIf(os.endianness() !== 'LE')('A table of a little-endian machine', () => {
  it('socketsWith() reads the rows of the sockets that are asked for', () => {
    expect(socketsWith([table4, table6], ['91234', '17041', '5552', '4'])).toEqual([
      { local: '00000000:0016', remote: '00000000:0000', state: listening, uid: 0, inode: '17041' },
      { local: '0100007F:BEAA', remote: '0100007F:AE7D', state: established, uid: 1001, inode: '91234' },
      {
        local: '00000000000000000000000001000000:CCCC',
        remote: 'B80D0120000000000000000001000000:0016',
        state: established,
        uid: 8,
        inode: '5552',
      },
    ]);
    expect(socketsWith([table4, table6], [])).toEqual([]);
  });

  it('socketsWith() takes no number of another column for an inode, and no row twice', () => {
    const other = '   9: 0100007F:AE7D 0100007F:BEAA 01 0:0 0:0 0 91234 17041 91236 91235 0 20 4 0 10 -1\n';
    expect(socketsWith([`${other}${table4}${table4}`], ['91234', '17041', '91236'])).toMatchObject([
      { uid: 91234, inode: '91236' },
      { inode: '17041' },
      { inode: '91234' },
    ]);
    expect(socketsWith([other], ['91234', '17041', '91235'])).toEqual([]);
  });

  it('socketsWith() takes no row that is cut off or is none', () => {
    for (const text of ['', 'sl\n', 'sl\n 0: x y\n\n', `sl\n${'x '.repeat(50_000)}`, 'sl\n 0: 0100007F:BEAA 1 \n'])
      expect(socketsWith([text], ['1', '0'])).toEqual([]);
    const cut = table4.slice(0, table4.indexOf(' 91235') + 6);
    expect(socketsWith([cut], ['91234', '91235'])).toMatchObject([{ inode: '91234' }]);
  });

  it('parseEndpoint() knows the byte order of its words', () => {
    expect(parseEndpoint('0100007F:BEAA')).toMatchObject({ address: { text: '127.0.0.1' }, port: 0xbeaa });
    expect(parseEndpoint('B80D0120000000000000000001000000:0016')).toMatchObject({
      address: { text: '2001:db8::1' },
      port: 22,
    });
    expect(parseEndpoint('0000000000000000FFFF00000100007F:AE7E')?.address.text).toBe('127.0.0.1');
    for (const text of ['', '0100007F', '0100007F:', ':BEAA', '0100007FFF:0001', 'zz00007F:0001'])
      expect(parseEndpoint(text)).toBeUndefined();
  });

  it('socketsBetween() finds the one row of that direction, established and held by a process', () => {
    const between = (local: Endpoint, remote: Endpoint) =>
      socketsBetween([table4, table6], local, remote).map(({ inode, uid }) => [inode, uid]);
    expect(between(at('127.0.0.1', 0xbeaa), at('127.0.0.1', 0xae7d))).toEqual([['91234', 1001]]);
    expect(between(at('127.0.0.1', 0xae7d), at('127.0.0.1', 0xbeaa))).toEqual([['91235', 0]]);
    expect(between(at('127.0.0.1', 0xae7d), at('127.0.0.1', 0xbeab))).toEqual([]);
    expect(between(at('127.0.0.1', 0xae7e), at('::ffff:127.0.0.1', 0xbeac))).toEqual([['5551', 7]]);
    expect(between(at('::1', 0xcccc), at('2001:db8::1', 22))).toEqual([['5552', 8]]);
    expect(between(at('127.0.0.2', 0xbeaa), at('127.0.0.1', 0xae7d))).toEqual([]);
  });

  it('socketsBetween() finds the last row of a table that was cut off behind it', () => {
    const cut = table4.trimEnd().split('\n').slice(0, 3).join('\n');
    expect(socketsBetween([cut], at('127.0.0.1', 0xbeaa), at('127.0.0.1', 0xae7d))).toHaveLength(1);
    expect(socketsBetween([cut.slice(0, -70)], at('127.0.0.1', 0xbeaa), at('127.0.0.1', 0xae7d))).toEqual([]);
  });
});

describe('Any text', () => {
  it('has the rows that are found by reading each', () => {
    const word = fc.oneof(fc.nat(40).map(String), fc.constantFrom('01', '0A', 'x', ''));
    const table = fc
      .array(fc.array(word, { minLength: 8, maxLength: 12 }), { maxLength: 12 })
      .map((rows) => ['sl', ...rows.map((row) => ` ${row.join('  ')} 0 1 `)].join('\n'));
    const inodes = fc.uniqueArray(fc.nat(80).map(String), { maxLength: 70 });
    fc.assert(
      fc.property(fc.array(table, { maxLength: 2 }), inodes, (tables, wanted) => {
        const all = tables.flatMap((text) => text.split('\n').map((line) => line.trim().split(/ +/)));
        const there = all.filter(([, , , , , , , uid = '', , inode = '']) => /^\d+$/.test(uid) && /^\d+$/.test(inode));
        const expected = new Set(there.map((fields) => fields[9] ?? '').filter((inode) => wanted.includes(inode)));
        const found = socketsWith(tables, wanted).map(({ inode }) => inode);
        expect(found.toSorted()).toEqual([...expected].toSorted());
      }),
      { numRuns: 1000 },
    );
  });

  it('is no table, and no error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        socketsWith([text], ['1']);
        parseEndpoint(text);
        socketsBetween([text], at('::1', 1), at('::1', 2));
      }),
    );
  });
});

describe('On this machine', () => {
  it.each(families)('both ends of a connection are found, each as itself: $name', async ({ listen, connect }) => {
    const listener = await Listener.at(listen);
    const client = net.connect(listener.port, connect);
    try {
      const [source, sourcePort, destination, destinationPort] = (await listener.accept()).text.split(' ');
      const ends = [at(source ?? '', Number(sourcePort)), at(destination ?? '', Number(destinationPort))] as const;
      const self = liveHost().open(`/proc/${process.pid}`);
      try {
        const tables = readTcpTables(self);
        const held = socketInodes(self);
        for (const [local, remote] of [ends, ends.toReversed()] as const) {
          const found = socketsBetween(tables, local ?? ends[0], remote ?? ends[1]);
          expect(found).toHaveLength(1);
          expect(findSockets(self, local ?? ends[0], remote ?? ends[1])).toEqual(found);
          expect(held.has(found[0]?.inode ?? '')).toBe(true);
          const [one] = found;
          expect([parseEndpoint(one?.local ?? ''), parseEndpoint(one?.remote ?? '')]).toEqual([local, remote]);
          expect(one?.uid).toBe(process.geteuid?.());
        }
        const states = tcpSocketsOf(self).map(({ state }) => state);
        expect(states).toContain(listening);
        expect(states).toContain(established);
      } finally {
        self.close();
      }
    } finally {
      client.destroy();
      listener.close();
    }
  });

  it('a process without sockets has none', () => {
    expect(tcpSocketsOf({ names: () => [], readlink: () => '', read: () => table4, stat: () => undefined })).toEqual(
      [],
    );
  });

  it('a kernel without IPv6 has one table', () => {
    const stat = fs.lstatSync('/proc/self', { bigint: true });
    const process = { read: () => 'sl\n', stat: (name = '') => (name === 'net/tcp' ? stat : undefined) };
    expect(readTcpTables(process)).toEqual(['sl\n']);
    for (const address of ['127.0.0.1', '::1'])
      expect(findSockets(process, at(address, 1), at(address, 2))).toEqual([]);
  });
});
