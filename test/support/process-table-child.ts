// Reads the table of 10,000 processes, each in a cgroup of its own with a path as long as a path may be, in each of five
// hierarchies. Run by test/cleanup/strays/process-table.test.ts with a small heap.

import process from 'node:process';
import { readProcessTable } from '../../src/cleanup/strays/process-table.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';

const host = liveHost();
const stat = host.stat('/');
const name = 'n'.repeat(200);
const deep: Host = {
  ...host,
  names: () => Array.from({ length: 10_000 }, (_, at) => String(at + 2)),
  stat: () => stat && { ...stat, uid: 1001n },
  read: (path) => {
    // As if it came from the kernel: one text of its own each time.
    const lines = ['memory', 'cpuset', 'freezer', 'cpu,cpuacct', 'devices'].map(
      (one, at) => `${at + 1}:${one}:/${path.replace(/\D/g, '')}/${Array.from({ length: 20 }, () => name).join('/')}\n`,
    );
    return Buffer.from(lines.join('')).toString('latin1');
  },
};
const { rows } = await readProcessTable(deep, { isPerson: () => true, timeoutMs: 600_000 });
process.stdout.write(JSON.stringify({ rows: rows.length }));
