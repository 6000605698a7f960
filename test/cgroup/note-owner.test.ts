import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { isOwnerRunning, isSameOwner, type NoteOwner, ownerIn, selfAsOwner } from '../../src/cgroup/note-owner.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { Pace } from '../../src/machine/pace.js';
import { firstPidNamespace, inPidNamespace, seenFrom } from '../support/pid-namespaces.js';
import { rootTest } from '../support/test-cgroups.js';

const host = liveHost();

describe('The owner of a note', () => {
  const self = selfAsOwner(host);

  const isRunning = (owner: NoteOwner, on: Host = host, ms = 60_000) =>
    isOwnerRunning(on, owner, new Pace(on, deadlineIn(on, ms)));

  it('runs while this very process does', async () => {
    expect(self.pid).toBe(process.pid);
    expect(await isRunning(self)).toBe(true);
    expect(await isRunning({ ...self, startTime: '1' })).toBe(false);
    expect(await isRunning({ ...self, bootId: 'an earlier boot' })).toBe(false);
  });

  it('of a note that names no pid namespace (0.1.0) is in this one', async () => {
    const { pidNamespace: _, ...without } = self;
    expect(await isRunning(without)).toBe(true);
    expect(await isRunning({ ...without, startTime: '1' })).toBe(false);
  });

  describe('in another pid namespace', () => {
    const other = { ...self, pidNamespace: 'pid:[9]', startTime: '1' };
    const first = seenFrom(host, firstPidNamespace, 'pid:[5]');

    it('has ended where no process is in it, as the first namespace sees', async () => {
      expect(await isRunning(other, first)).toBe(false);
      expect(await isRunning(other, seenFrom(host, firstPidNamespace, 'pid:[9]'))).toBe(true);
    });

    it('may run, for all that is seen from a namespace that does not see all', async () => {
      expect(await isRunning(other, seenFrom(host, 'pid:[7]', 'pid:[5]'))).toBe(true);
      expect(await isRunning({ ...other, bootId: 'an earlier boot' }, seenFrom(host, 'pid:[7]', 'pid:[5]'))).toBe(
        false,
      );
    });

    it('may run where a process cannot be looked at, unless that is of the first namespace or has ended', async () => {
      const failing = (errno: string, nsPid = ''): Host => ({
        ...first,
        read: (path) => (path === `/proc/${process.pid}/status` ? `Name:\tnode\n${nsPid}` : first.read(path)),
        readlink: (path) => {
          if (path === `/proc/${process.pid}/ns/pid`) throw new SystemCallError('read the link', path, errno);
          return first.readlink(path);
        },
      });
      for (const nsPid of ['', 'NSpid:\t4711\t1\n'])
        expect(await isRunning(other, failing('EACCES', nsPid))).toBe(true);
      expect(await isRunning(other, failing('EACCES', 'NSpid:\t4711\n'))).toBe(false);
      expect(await isRunning(other, failing('ENOENT'))).toBe(false);
    });

    it('may run where the time is over before all processes were looked at', async () => {
      let clockMs = 0;
      const slow: Host = {
        ...first,
        now: () => clockMs,
        readlink: (path) => {
          clockMs += 10;
          return first.readlink(path);
        },
      };
      expect(await isRunning(other, slow, 15)).toBe(true);
      expect(await isRunning(other, slow, 1e9)).toBe(false);
    });

    rootTest('is really found while it lives', async () => {
      const gone = await inPidNamespace(async (name) => {
        expect(await isRunning({ ...other, pidNamespace: name })).toBe(true);
      });
      const seesAll = host.readlink('/proc/self/ns/pid') === firstPidNamespace;
      expect(await isRunning({ ...other, pidNamespace: gone })).toBe(!seesAll);
    });
  });

  it('is read from a note, whole or not at all', () => {
    expect(ownerIn(JSON.parse(JSON.stringify(self)))).toEqual(self);
    for (const value of [
      null,
      1,
      'x',
      [],
      {},
      { ...self, pid: '1' },
      { ...self, startTime: 5 },
      { ...self, bootId: 1 },
      { ...self, pidNamespace: 1 },
    ])
      expect(ownerIn(value)).toBeUndefined();
    const { pidNamespace: _, ...without } = self;
    expect(ownerIn(without)).toEqual(without);
    expect(ownerIn({ ...self, pidNamespace: '4026531836' })).toEqual({ ...self, pidNamespace: 'pid:[4026531836]' });
  });

  it('is the same where all that names it is', () => {
    expect(isSameOwner(self, { ...self })).toBe(true);
    for (const change of [{ bootId: 'x' }, { pidNamespace: 'pid:[1]' }, { pid: 1 }, { startTime: '1' }])
      expect(isSameOwner(self, { ...self, ...change })).toBe(false);
  });
});
