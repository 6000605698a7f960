import fs from 'node:fs';
import net from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  listeningPorts,
  readOpenLinks,
  scarceDevices,
  socketInodesAmong,
  withoutDeleted,
} from '../../../src/cleanup/survivors/open-files.js';
import { liveHost } from '../../../src/machine/live-host.js';

const open = (...links: readonly string[]) => ({ links: new Map(links.entries()), left: 0 });

describe('scarceDevices()', () => {
  it('names GPUs and InfiniBand, each once', () => {
    const links = [
      '/dev/null',
      '/dev/nvidia0',
      '/dev/nvidia0',
      '/dev/nvidiactl',
      '/dev/dri/renderD128',
      '/dev/kfd (deleted)',
      '/dev/infiniband/uverbs0',
      '/home/dev/nvidia0',
      'socket:[5]',
    ];
    expect(scarceDevices(open(...links))).toEqual([
      '/dev/dri/renderD128',
      '/dev/infiniband/uverbs0',
      '/dev/kfd',
      '/dev/nvidia0',
      '/dev/nvidiactl',
    ]);
  });
});

describe('listeningPorts()', () => {
  const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const row = (local: string, state: string, inode: number) =>
    `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 100 0 0 10 0\n`;

  // The words are in the host's order: these are of a little-endian machine.
  it.runIf(new Uint8Array(Uint32Array.of(1).buffer)[0] === 1)('gives the addresses of those that listen', () => {
    const table = `${head}${row('0100007F:1F90', '0A', 7)}${row('00000000:0016', '0A', 8)}${row('0100007F:1F91', '01', 6)}${row('B80D0120000000000000000001000000:1F90', '0A', 9)}${row(`${'0'.repeat(32)}:0050`, '0A', 10)}${row('0000000000000000FFFF00000100007F:0051', '0A', 11)}${row('bad', '0A', 12)}`;
    expect(listeningPorts(table, new Set(['6', '7', '12']))).toEqual(['127.0.0.1:8080']);
    expect(listeningPorts(table, new Set(['9', '10', '12']))).toEqual(['[2001:db8::1]:8080', '[::]:80']);
    expect(listeningPorts(table, new Set(['11']))).toEqual(['127.0.0.1:81']);
    expect(listeningPorts('', new Set(['7']))).toEqual([]);
  });

  it('finds a real one, by the links of its process', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await new Promise((fulfil) => server.once('listening', fulfil));
    const held = liveHost().open(`/proc/${process.pid}`);
    try {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      const links = readOpenLinks(held);
      expect(listeningPorts(fs.readFileSync('/proc/self/net/tcp', 'utf8'), socketInodesAmong(links))).toContain(
        `127.0.0.1:${port}`,
      );
      expect(links.left).toBe(0);
    } finally {
      held.close();
      server.close();
    }
  });
});

it('withoutDeleted() takes the kernel’s mark away', () => {
  expect(withoutDeleted('/a/b (deleted)')).toBe('/a/b');
});
