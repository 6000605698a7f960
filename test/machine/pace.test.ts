import { expect, test } from 'vitest';
import { deadlineIn } from '../../src/machine/deadline.js';
import { Pace } from '../../src/machine/pace.js';

function clock() {
  let [nowMs, turns] = [0, 0];
  return {
    now: () => nowMs,
    turn: async () => void turns++,
    pass: (ms: number) => {
      nowMs += ms;
    },
    turns: () => turns,
  };
}

test('Pace is due every five milliseconds, and again five after a pause', async () => {
  const host = clock();
  const pace = new Pace(host, deadlineIn(host, 100));
  expect(pace.isDue()).toBe(false);
  host.pass(5);
  expect(pace.isDue()).toBe(true);
  await pace.pause();
  expect([pace.isDue(), host.turns()]).toEqual([false, 1]);
});

test('Pace.part() shares the clock, and has less time', async () => {
  const host = clock();
  const pace = new Pace(host, deadlineIn(host, 100));
  const part = pace.part(10);
  host.pass(10);
  expect([pace.isDue(), part.isDue(), pace.isOver(), part.isOver()]).toEqual([true, true, false, true]);
  await part.pause();
  expect(pace.isDue()).toBe(false);
  expect(pace.part(1000).deadline.leftMs()).toBe(90);
});

test('Pace.pause() rejects with the reason of the signal', async () => {
  const host = clock();
  const stopping = new AbortController();
  const pace = new Pace(host, deadlineIn(host, 100, stopping.signal));
  await pace.pause();
  stopping.abort(new Error('stop'));
  await expect(pace.pause()).rejects.toThrow('stop');
});
