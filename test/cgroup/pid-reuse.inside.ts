// Between being listed and being signalled a process can end, and its pid can be a stranger's. Here that happens
// at every point in turn; the stranger must never be hit. (Without a pidfd and without a freezer one point is
// left, between the last look and the signal: no kernel without pidfds has anything better.)

import { describe, expect } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { killMembers, signalMembers } from '../../src/cgroup/killing.js';
import { OwnMove } from '../../src/cgroup/move.js';
import { isThere, type ProcessIdentity, withProcess } from '../../src/cgroup/process.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { endIfThere, startOrphan, swap, swappingHost } from '../support/swapped-pid.js';
import { kernelTest, put, type TestCgroups } from '../support/test-cgroups.js';

const live = liveHost();
const started: ProcessIdentity[] = [];

/** They must be gone before their cgroups are. */
function endAll(): void {
  for (const one of started.splice(0)) endIfThere(live, one);
}

function orphan(...where: readonly Cgroup[]): ProcessIdentity {
  const one = startOrphan(live);
  started.push(one);
  for (const cgroup of where) put(one.pid, cgroup);
  return one;
}

interface Way {
  readonly name: string;
  /** Hierarchy to work in. */
  readonly key: string;
  readonly hidden?: readonly string[];
  readonly withoutLibc?: boolean;
}

const hierarchies = discoverHierarchies();

/** Those of this machine. */
const ways: readonly Way[] = [
  { name: 'by pidfd, v1', key: 'memory' },
  { name: 'by pid, v1', key: 'memory', withoutLibc: true },
  { name: 'through the v1 freezer', key: 'freezer', withoutLibc: true },
  { name: 'by cgroup.kill', key: 'unified' },
  { name: 'through the v2 freezer', key: 'unified', hidden: ['cgroup.kill'] },
  { name: 'by pidfd, v2', key: 'unified', hidden: ['cgroup.kill', 'cgroup.freeze'] },
  { name: 'by pid, v2', key: 'unified', hidden: ['cgroup.kill', 'cgroup.freeze'], withoutLibc: true },
].filter(({ key }) => hierarchies.all.some((hierarchy) => hierarchy.key === key));

type Act = (host: Host, cgroup: Cgroup) => Promise<readonly ProcessIdentity[]>;

/** Does it again and again, with the swap one call later each time, until the swap came too late. */
async function everywhere(area: TestCgroups, way: Way, act: Act): Promise<number> {
  let swaps = 0;
  for (let nth = 1; ; nth++) {
    const cgroup = area.at(way.key).create(`job-${nth}`);
    const [victim, other] = [orphan(cgroup), orphan(cgroup)];
    const { host, count, heir } = swappingHost(live, { members: [victim, other], nth, ...way });
    try {
      const reported = await act(host, new Cgroup(host, cgroup.hierarchy, cgroup.path));
      const stranger = heir();
      if (stranger !== undefined) {
        started.push(stranger);
        swaps++;
        await live.sleep(20); // a signal takes effect
        expect(isThere(live, stranger), `swapped before call ${nth}`).toBe(true);
        expect(stranger.startTime).not.toBe(victim.startTime);
      }
      for (const { pid, startTime } of reported) expect([victim, other]).toContainEqual({ pid, startTime });
      expect(reported.some((one) => one.pid === other.pid)).toBe(true);
      if (count() < nth) return swaps;
    } finally {
      endAll();
    }
  }
}

describe('a pid that becomes a stranger’s', () => {
  for (const way of ways) {
    kernelTest(`killMembers() ${way.name} does not hit it`, [way.key], async (area) => {
      const swaps = await everywhere(area, way, async (host, cgroup) => {
        const report = await killMembers(host, [cgroup], { timeoutMs: 10_000 });
        expect([report.remaining, cgroup.procs()]).toEqual([[], []]);
        return report.ended;
      });
      expect(swaps).toBeGreaterThan(5);
    });
  }

  for (const way of ways.filter(({ name }) => name.startsWith('by pid'))) {
    kernelTest(`signalMembers() ${way.name} does not hit it`, [way.key], async (area) => {
      const swaps = await everywhere(area, way, async (host, cgroup) => signalMembers(host, [cgroup], 'SIGTERM'));
      expect(swaps).toBeGreaterThan(5);
    });
  }

  kernelTest(
    'is put back, and reported, where its number was written into a cgroup in the place of one that ended',
    ['memory', 'freezer'],
    async (area) => {
      const targets = ['memory', 'freezer'].map((key) => area.at(key).create('job'));
      const victim = orphan(area.at('memory'), area.at('freezer'));
      let heir: ProcessIdentity | undefined;
      const host: Host = {
        ...live,
        open: (path) => {
          const directory = live.open(path);
          return {
            ...directory,
            // In the middle of the write: the kernel looks the number up only after it has waited.
            write: (name, text) => {
              if (heir === undefined && path.endsWith('/job')) {
                heir = swap(live, victim);
                if (heir !== undefined) started.push(heir);
              }
              directory.write(name, text);
            },
          };
        },
      };
      const before = live.read('/proc/self/cgroup');
      await withProcess(host, victim.pid, async (held) => {
        const opened = targets.map((cgroup) => ({ cgroup, directory: host.open(cgroup.directory) }));
        const move = OwnMove.plan(host, held, opened);
        await move.run(false);
        expect(move.stranger?.message).toMatch(
          /has ended, and its pid is that of perl \(uid 0\) now, which was moved .*: put back into /,
        );
        move.close();
        for (const { directory } of opened) directory.close();
      });
      expect(targets.flatMap((cgroup) => cgroup.procs())).toEqual([]);
      expect(heir === undefined ? '' : live.read(`/proc/${heir.pid}/cgroup`)).toBe(before);
      endAll();
    },
  );
});
