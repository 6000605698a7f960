import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { parseFigure, readUsage } from '../../src/cgroup/usage.js';
import { nodeWith } from '../support/config-sandbox.js';

const mounts = {
  v2: '30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n',
  v1: ['memory', 'cpu,cpuacct', 'pids', 'freezer']
    .map((keys, at) => `${31 + at} 1 0:${27 + at} / /cg/${keys} rw - cgroup cgroup rw,${keys}\n`)
    .join(''),
};

const usage = (version: 'v1' | 'v2', files: Readonly<Record<string, string>>) => {
  const host = nodeWith({
    '/proc/self/mountinfo': { text: mounts[version] },
    ...Object.fromEntries(Object.entries(files).map(([file, text]) => [`/cg/${file}`, { text }])),
  });
  const { all } = discoverHierarchies({ host });
  return readUsage(
    host,
    all.map((hierarchy) => new Cgroup(host, hierarchy, cgroupPath('/job'))),
  );
};

describe('readUsage()', () => {
  it('gives the figures of v2, each under the name of its file', () => {
    const stat = { usage_usec: 3_000_001, user_usec: 2_000_000, system_usec: 1_000_001 };
    expect(
      usage('v2', {
        'job/memory.current': '8192\n',
        'job/memory.peak': '16384\n',
        'job/cpu.stat': 'usage_usec 3000001\nuser_usec 2000000\nsystem_usec 1000001\n',
        'job/pids.current': '4\n',
      }),
    ).toEqual({
      memoryBytes: 8192,
      memoryPeakBytes: 16_384,
      cpuUsec: 3_000_001,
      pids: 4,
      hierarchies: [
        {
          hierarchy: 'unified',
          path: '/cg/job',
          files: { 'memory.current': 8192, 'memory.peak': 16_384, 'cpu.stat': stat, 'pids.current': 4 },
        },
      ],
    });
  });

  it('gives the figures of v1, of each hierarchy that has any', () => {
    expect(
      usage('v1', {
        'memory/job/memory.usage_in_bytes': '8192\n',
        'memory/job/memory.max_usage_in_bytes': '16384\n',
        'cpu,cpuacct/job/cpuacct.usage': '3000001499\n',
        'cpu,cpuacct/job/cpuacct.stat': 'user 200\nsystem 100\n',
        'cpu,cpuacct/job/cpu.stat': 'nr_periods 0\nnr_throttled 0\nthrottled_time 0\n',
        'pids/job/pids.current': '4\n',
      }),
    ).toEqual({
      memoryBytes: 8192,
      memoryPeakBytes: 16_384,
      cpuUsec: 3_000_001,
      pids: 4,
      hierarchies: [
        {
          hierarchy: 'memory',
          path: '/cg/memory/job',
          files: { 'memory.usage_in_bytes': 8192, 'memory.max_usage_in_bytes': 16_384 },
        },
        {
          hierarchy: 'cpu,cpuacct',
          path: '/cg/cpu,cpuacct/job',
          files: { 'cpuacct.usage': 3_000_001_499, 'cpuacct.stat': { user: 200, system: 100 } },
        },
        { hierarchy: 'pids', path: '/cg/pids/job', files: { 'pids.current': 4 } },
      ],
    });
  });

  it('leaves out what no file tells: not there is not zero', () => {
    expect(usage('v1', {})).toEqual({ hierarchies: [] });
    expect(usage('v2', { 'job/cpu.stat': 'usage_usec 5\n' })).toEqual({
      cpuUsec: 5,
      hierarchies: [{ hierarchy: 'unified', path: '/cg/job', files: { 'cpu.stat': { usage_usec: 5 } } }],
    });
  });
});

describe('parseFigure()', () => {
  it.each([
    ['0\n', 0],
    ['18446744073709551615\n', 2 ** 64],
    ['a 1\nb_c 2\n', { a: 1, b_c: 2 }],
    ['a 1\ndefault\nb max\n', { a: 1 }],
    ['max\n', undefined],
    ['', undefined],
    ['-1\n', undefined],
  ])('%j', (text, figure) => {
    expect(parseFigure(text)).toEqual(figure);
  });

  it('is total', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const figure = parseFigure(text);
        if (typeof figure === 'number') expect(figure).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
