import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import { Slots } from '../../src/machine/slots.js';

const host = liveHost();
const within = (ms = 20_000, signal?: AbortSignal) => deadlineIn(host, ms, signal);

describe('Slots.acquire()', () => {
  it('lets so many in, and the others in their order as slots come free', async () => {
    const slots = new Slots(host, 2);
    const first = await slots.acquire(within());
    const second = await slots.acquire(within());
    const came: string[] = [];
    const come = async (name: string) => {
      const release = await slots.acquire(within());
      came.push(name);
      return release;
    };
    const [third, fourth] = [come('third'), come('fourth')];
    await host.sleep(20);
    expect(came).toEqual([]);
    first?.();
    first?.(); // releasing twice frees one slot
    (await third)?.();
    second?.();
    (await fourth)?.();
    expect(came).toEqual(['third', 'fourth']);
    for (const release of [await slots.acquire(within()), await slots.acquire(within())]) release?.();
  });

  it('gives up in time, and passes on the slot that comes too late', async () => {
    const slots = new Slots(host, 1);
    const release = await slots.acquire(within());
    expect(await slots.acquire(within(10))).toBeUndefined();
    const stop = new AbortController();
    const aborted = slots.acquire(within(20_000, stop.signal));
    const last = slots.acquire(within());
    stop.abort(new Error('not wanted any more'));
    await expect(aborted).rejects.toThrow('not wanted any more');
    release?.();
    (await last)?.();
    expect(await slots.acquire(within(0))).toBeDefined();
    await expect(slots.acquire(within(20_000, stop.signal))).rejects.toThrow('not wanted any more');
  });
});

/** Whether all slots are free. */
async function areFree(slots: Slots, count: number): Promise<boolean> {
  const releases = [];
  for (let at = 0; at < count; at++) releases.push(await slots.acquire(within(0)));
  for (const release of releases) release?.();
  return !releases.includes(undefined);
}

describe('Slots.each()', () => {
  it('does all, never more than there are slots at once, and gives the results in the order of the items', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 20 }), fc.integer({ min: 1, max: 5 }), async (steps, count) => {
        const slots = new Slots(host, count);
        let [now, most] = [0, 0];
        const results = await slots.each(steps, within(), async (turns, deadline) => {
          most = Math.max(most, ++now);
          for (let at = 0; at <= turns; at++) await new Promise(setImmediate);
          now--;
          expect(deadline.isOver()).toBe(false);
          return turns * 2;
        });
        expect(results).toEqual(steps.map((turns) => turns * 2));
        expect(most).toBe(Math.min(count, steps.length));
        expect(await areFree(slots, count)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('shares its slots with others who use them', async () => {
    const slots = new Slots(host, 3);
    let [now, most] = [0, 0];
    const act = async () => {
      most = Math.max(most, ++now);
      await host.sleep(2);
      now--;
    };
    await Promise.all([slots.each([1, 2, 3, 4], within(), act), slots.each([5, 6, 7, 8], within(), act)]);
    expect([now, most]).toEqual([0, 3]);
  });

  it('calls what is left with a deadline that is over when no slot came free in time', async () => {
    const slots = new Slots(host, 1);
    const release = await slots.acquire(within());
    const late = await slots.each(['a', 'b'], within(10), async (item, deadline) => [
      item,
      deadline.isOver(),
      deadline.leftMs(),
    ]);
    expect(late).toEqual([
      ['a', true, 0],
      ['b', true, 0],
    ]);
    release?.();
    expect(await areFree(slots, 1)).toBe(true);
  });

  it('throws the first failure once what was begun has ended, and begins nothing after it', async () => {
    const slots = new Slots(host, 2);
    const [begun, ended]: [number[], number[]] = [[], []];
    const doing = slots.each([0, 1, 2, 3], within(), async (item) => {
      begun.push(item);
      if (item === 1) throw new Error(`number ${item}`);
      await host.sleep(20);
      ended.push(item);
    });
    await expect(doing).rejects.toThrow('number 1');
    expect([begun, ended]).toEqual([[0, 1], [0]]);
    expect(await areFree(slots, 2)).toBe(true);
  });

  it('throws the reason of an abort while it waits', async () => {
    const slots = new Slots(host, 1);
    const release = await slots.acquire(within());
    const stop = new AbortController();
    const doing = slots.each([1], within(20_000, stop.signal), () => expect.unreachable());
    stop.abort(new Error('not wanted any more'));
    await expect(doing).rejects.toThrow('not wanted any more');
    release?.();
    expect(await areFree(slots, 1)).toBe(true);
  });
});
