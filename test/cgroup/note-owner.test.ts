import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { isOwnerRunning, ownerIn, selfAsOwner } from '../../src/cgroup/note-owner.js';
import { liveHost } from '../../src/machine/live-host.js';

const host = liveHost();

describe('The owner of a note', () => {
  const self = selfAsOwner(host);

  it('runs while this very process does', () => {
    expect(self.pid).toBe(process.pid);
    expect(isOwnerRunning(host, self)).toBe(true);
    expect(isOwnerRunning(host, { ...self, startTime: '1' })).toBe(false);
    expect(isOwnerRunning(host, { ...self, bootId: 'an earlier boot' })).toBe(false);
  });

  it('counts as running in another pid namespace, where it cannot be seen', () => {
    expect(isOwnerRunning(host, { ...self, pidNamespace: 'pid:[1]', startTime: '1' })).toBe(true);
    expect(isOwnerRunning(host, { ...self, pidNamespace: 'pid:[1]', bootId: 'an earlier boot' })).toBe(false);
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
    ])
      expect(ownerIn(value)).toBeUndefined();
  });
});
