// A text that sshd or a person gives, and the sockets of a process. An sshd is played by Node under that name, as in
// test/jobs/protected.test.ts; a real one is met by the tests on real Slurm.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { connectionOfProcess, parseSshConnection } from '../../src/adopt/connection.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';
import type { TcpConnection } from '../../src/machine/tcp-table.js';
import { alice, inWorld, kernels, onKernels, until } from '../support/kernel-jobs.js';
import { playSshd } from '../support/played-sshd.js';
import { families, Listener } from '../support/tcp-listener.js';

/** As SSH_CONNECTION writes it, its addresses unmapped. */
const written = ({ source, destination }: TcpConnection): string =>
  [source, destination].map(({ address, port }) => `${address.text} ${port}`).join(' ');

const read = (text: string) => {
  const found = parseSshConnection(text);
  return 'why' in found ? found.why : written(found.connection);
};

describe('parseSshConnection()', () => {
  it.each([
    ['192.0.2.1 51234 192.0.2.2 22', '192.0.2.1 51234 192.0.2.2 22'],
    ['2001:DB8::1 51234 2001:db8:0::2 22', '2001:db8::1 51234 2001:db8::2 22'],
    ['::ffff:192.0.2.1 51234 ::ffff:192.0.2.2 22', '192.0.2.1 51234 192.0.2.2 22'],
    ['::ffff:192.0.2.1 51234 192.0.2.2 22', '192.0.2.1 51234 192.0.2.2 22'],
    ['fe80::1%eth0 51234 fe80::2%eth0 22', 'fe80::1 51234 fe80::2 22'],
    ['192.0.2.1 51234 192.0.2.2 22\n', '192.0.2.1 51234 192.0.2.2 22'],
  ])('%j is %s', (text, connection) => {
    expect(read(text)).toBe(connection);
  });

  it.each([
    ['', 'does not have the four fields of a connection'],
    ['192.0.2.1 51234 192.0.2.2', 'does not have the four fields of a connection'],
    ['192.0.2.1 51234 192.0.2.2 22 1', 'does not have the four fields of a connection'],
    ['192.0.2.1\t51234\t192.0.2.2\t22', 'does not have the four fields of a connection'],
    ['192.0.2.1 51234 192.0.2. 22', '"192.0.2." is not an IP address'],
    ['UNKNOWN 65535 UNKNOWN 65535', 'names no addresses: the connection is not over TCP'],
    ['10.0.0.1 22 UNKNOWN 65535', 'names no addresses: the connection is not over TCP'],
    ['login1.example.org 51234 192.0.2.2 22', '"login1.example.org" is not an IP address'],
    ['192.0.2.1 0 192.0.2.2 22', '"0" is not a port'],
    ['192.0.2.1 65536 192.0.2.2 22', '"65536" is not a port'],
    ['192.0.2.1 -1 192.0.2.2 22', '"-1" is not a port'],
    ['192.0.2.1 51234 2001:db8::2 22', 'is IPv4 at one end and IPv6 at the other'],
    ['192.0.2.1 5\x1b[31m 192.0.2.2 22', '"5\\u001b[31m" is not a port'],
    ['1'.repeat(1 << 16), 'it is 65536 characters long'],
    [' '.repeat(1 << 16), 'it is 65536 characters long'],
  ])('%j is none, and says why', (text, why) => {
    expect(read(text)).toContain(why);
  });

  it('is total: a value that reads back as itself, or one printable line', () => {
    const field = fc.oneof(fc.ipV4(), fc.ipV6(), fc.nat(70_000).map(String), fc.string(), fc.constant('fe80::1%eth0'));
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(field, { maxLength: 6 }).map((all) => all.join(' ')),
    );
    fc.assert(
      fc.property(text, (given) => {
        const found = parseSshConnection(given);
        if ('why' in found) expect(found.why).not.toMatch(/\p{Cc}/u);
        else expect(read(written(found.connection))).toBe(written(found.connection));
      }),
      { numRuns: 2000 },
    );
  });
});

onKernels((kernel) => {
  it('connectionOfProcess() of no process is unknown', () => {
    expect(connectionOfProcess(kernel.host, 4_194_304)).toEqual({ why: 'There is no process 4194304' });
  });

  if (kernel !== kernels[0]) return; // what follows looks at processes alone, which are the same whatever the cgroups

  const why = (pid: number, host = liveHost()) => {
    const found = connectionOfProcess(host, pid);
    return 'why' in found ? found.why : written(found.connection);
  };

  describe('connectionOfProcess()', () => {
    for (const { name, listen, connect } of families) {
      inWorld(kernel, `is the one that the monitor accepted, seen from its side: ${name}`, async (world) => {
        const file = path.join(world.folder(), 'port');
        const accept = `const server = net.createServer((socket) => { server.close(); ready(); });
          server.listen(0, '${listen}', () => require('node:fs').writeFileSync('${file}', String(server.address().port)));`;
        const started = playSshd(world, accept);
        await until('it listens', () => fs.existsSync(file) && fs.readFileSync(file, 'utf8') !== '');
        const port = Number(fs.readFileSync(file, 'utf8'));
        const client = net.connect(port, connect);
        try {
          const pid = await started;
          await until('the listener is closed', () => !why(pid).includes('listens'));
          expect(why(pid)).toBe(`${connect} ${client.localPort} ${connect} ${port}`);
          // Whatever cannot be read is a reason.
          const reads = failingHost(liveHost());
          why(pid, reads);
          for (let nth = 1; nth <= reads.calls.length; nth++) {
            const host = failingHost(liveHost(), { nth, errno: 'EIO' });
            why(pid, host);
            expect(host.openDirectories()).toBe(0);
          }
          expect(reads.openDirectories()).toBe(0);
        } finally {
          client.destroy();
        }
      });
    }

    inWorld(kernel, 'is unknown of one without a connection, with two, or that listens', async (world) => {
      const listener = await Listener.at('127.0.0.1');
      try {
        const connect = `net.connect(${listener.port}, '127.0.0.1'`;
        const none = await playSshd(world, 'ready();');
        expect(why(none)).toBe(`process ${none} holds no TCP connections`);
        const two = await playSshd(world, `${connect}, () => ${connect}, ready));`);
        expect(why(two)).toBe(`process ${two} holds 2 TCP connections`);
        const both = await playSshd(world, `net.createServer().listen(0, () => ${connect}, ready));`, { name: 'sshd' });
        expect(why(both)).toBe(`process ${both} is the listening sshd`);
      } finally {
        listener.close();
      }
    });

    inWorld(kernel, 'is unknown of what is no sshd of root’s', async (world) => {
      const listener = await Listener.at('127.0.0.1');
      try {
        const connect = `net.connect(${listener.port}, '127.0.0.1', ready);`;
        for (const of of [{ uid: alice }, { name: 'notsshd' }]) {
          const pid = await playSshd(world, connect, of);
          expect(why(pid)).toBe(`process ${pid} is not the sshd of a connection`);
        }
      } finally {
        listener.close();
      }
    });
  });
});
