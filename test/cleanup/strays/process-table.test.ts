import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import type { Membership } from '../../../src/cgroup/membership.js';
import { holdProcess } from '../../../src/cgroup/process.js';
import { knownUptimeMs, readProcessTable, readUse } from '../../../src/cleanup/strays/process-table.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { nodeWith } from '../../support/config-sandbox.js';
import { started, stateOf, until } from '../../support/stuck-processes.js';
import { rootTest } from '../../support/test-cgroups.js';

const status = (uid: number, effective = uid) => ({
  text: `Tgid:\t1\nPid:\t1\nUid:\t${uid}\t${effective}\t${effective}\t${effective}\n`,
});
const cgroup = { text: '0::/user.slice\n' };
const isPerson = (uid: number) => uid >= 1000;

describe('readProcessTable()', () => {
  const node = nodeWith({
    '/proc/10': { uid: 1001 },
    '/proc/10/status': status(1001),
    '/proc/10/cgroup': cgroup,
    '/proc/11': { uid: 0 }, // not dumpable, or setuid
    '/proc/11/status': status(1002, 0),
    '/proc/11/cgroup': cgroup,
    '/proc/12': { uid: 0 },
    '/proc/12/status': status(0),
    '/proc/13': { uid: 33 },
    '/proc/14': { uid: 1001 }, // it has ended: its files are gone
    '/proc/14/x': { text: '' },
    '/proc/self/x': { text: '' },
  });

  it('gives those of people, who started them, and where they stand', async () => {
    const asked: (readonly string[])[] = [];
    const isWantedAt = (memberships: readonly Membership[]) => asked.push(memberships.map(({ path }) => path)) > 0;
    expect(await readProcessTable(node, { isPerson, isWantedAt })).toEqual({
      rows: [
        { pid: 10, uid: 1001 },
        { pid: 11, uid: 1002 },
      ],
      hidden: 0,
      unplaced: [],
    });
    expect(asked).toEqual([['/user.slice']]); // once for both
    expect((await readProcessTable(node, { isPerson, isWantedAt: () => false })).rows).toEqual([]);
  });

  it('counts what may not be seen, and throws what is no such thing', async () => {
    const refusing = (errno: string): Host => ({
      ...node,
      read: (path) => {
        throw new SystemCallError('read', path, errno);
      },
    });
    expect(await readProcessTable(refusing('EACCES'), { isPerson })).toEqual({ rows: [], hidden: 4, unplaced: [] });
    await expect(readProcessTable(refusing('EIO'), { isPerson })).rejects.toThrow(SystemCallError);
  });

  it.each<[string, () => string]>([
    [
      'is deeper than a path may be long',
      () => {
        throw new SystemCallError('read', '/proc/10/cgroup', 'ENAMETOOLONG');
      },
    ],
    ['has a line break in its name', () => `${cgroup}1:freezer:/a\nb\n`],
  ])('counts who hides in a cgroup that %s, and gives the others', async (_, answer) => {
    const host: Host = { ...node, read: (path) => (path === '/proc/10/cgroup' ? answer() : node.read(path)) };
    const { rows, hidden, unplaced } = await readProcessTable(host, { isPerson });
    expect([rows.map(({ pid }) => pid), hidden, unplaced]).toEqual([[11], 0, [{ pid: 10, uid: expect.any(Number) }]]);
  });

  it('keeps no paths: 10,000 processes, each in cgroups of its own as deep as can be, with a heap of 128 MB', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-test-'));
    try {
      const file = path.join(folder, 'table.mjs');
      await build({
        entryPoints: [path.join(import.meta.dirname, '../../support/process-table-child.ts')],
        outfile: file,
        bundle: true,
        platform: 'node',
        format: 'esm',
        external: ['koffi'],
        logLevel: 'silent',
      });
      const child = spawnSync(process.execPath, ['--max-old-space-size=128', file], {
        encoding: 'utf8',
        timeout: 280_000,
      });
      expect([child.status, child.stdout]).toEqual([0, '{"rows":10000}']);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  }, 300_000);

  it('finds this process', async () => {
    const uid = process.getuid?.() ?? -1;
    expect(
      (await readProcessTable(liveHost(), { isPerson: (one) => one === uid })).rows.map((row) => row.pid),
    ).toContain(process.pid);
  });
});

describe('readUse()', () => {
  it('tells age, CPU and memory of a real process', async () => {
    const held = holdProcess(liveHost(), process.pid);
    try {
      const use = readUse(held, knownUptimeMs(liveHost()));
      expect(use).toMatchObject({ isZombie: false, kernelThread: false, startTime: held.startTime });
      expect(use.memoryBytes).toBeGreaterThan(10 << 20);
      expect(use.ageSeconds).toBeLessThan(3600);
      expect(use.cpuPercent).toBeGreaterThan(0);
      expect(readUse(held, undefined)).not.toHaveProperty('ageSeconds');
    } finally {
      held.close();
    }
  });

  rootTest('knows the dead, and threads of the kernel', async () => {
    const parent = await started('/bin/sh', ['-c', 'sleep 0 & exec sleep 60']);
    const childrenFile = `/proc/${parent.pid}/task/${parent.pid}/children`;
    await until('a zombie', () => {
      const pid = Number(fs.readFileSync(childrenFile, 'utf8'));
      return pid > 0 && stateOf(pid) === 'Z';
    });
    const use = (pid: number) => {
      const held = holdProcess(liveHost(), pid);
      try {
        return readUse(held, 1e12);
      } finally {
        held.close();
      }
    };
    expect(use(Number(fs.readFileSync(childrenFile, 'utf8')))).toMatchObject({ isZombie: true, memoryBytes: 0 });
    const kernel = fs.existsSync('/proc/2/stat') && fs.readFileSync('/proc/2/comm', 'utf8') === 'kthreadd\n';
    if (kernel) expect(use(2)).toMatchObject({ kernelThread: true, memoryBytes: 0 });
  });
});

it('knownUptimeMs() is unknown where it cannot be read', () => {
  expect(knownUptimeMs(liveHost())).toBeGreaterThan(0);
  expect(knownUptimeMs(nodeWith({}))).toBeUndefined();
  expect(knownUptimeMs(nodeWith({ '/proc/uptime': { text: 'x' } }))).toBeUndefined();
});
