import { expect, it } from 'vitest';
import { liveHost } from '../../src/machine/live-host.js';
import { Slots } from '../../src/machine/slots.js';

const host = liveHost();
const patient = { timeoutMs: 20_000 };

it('Slots lets so many in, and the others in their order as places come free', async () => {
  const places = new Slots(2);
  const first = await places.acquire(host, patient);
  const second = await places.acquire(host, patient);
  const came: string[] = [];
  const come = async (name: string) => {
    const leave = await places.acquire(host, patient);
    came.push(name);
    return leave;
  };
  const [third, fourth] = [come('third'), come('fourth')];
  await host.sleep(20);
  expect(came).toEqual([]);
  first?.();
  first?.(); // leaving twice frees one place
  (await third)?.();
  second?.();
  (await fourth)?.();
  expect(came).toEqual(['third', 'fourth']);
  for (const leave of [await places.acquire(host, patient), await places.acquire(host, patient)]) leave?.();
});

it('Slots gives up in time, and passes on the place of who gave up', async () => {
  const places = new Slots(1);
  const leave = await places.acquire(host, patient);
  expect(await places.acquire(host, { timeoutMs: 10 })).toBeUndefined();
  const stop = new AbortController();
  const aborted = places.acquire(host, { ...patient, signal: stop.signal });
  const last = places.acquire(host, patient);
  stop.abort(new Error('nobody wants it'));
  await expect(aborted).rejects.toThrow('nobody wants it');
  leave?.();
  (await last)?.();
  expect(await places.acquire(host, { timeoutMs: 0 })).toBeDefined();
  await expect(places.acquire(host, { ...patient, signal: stop.signal })).rejects.toThrow('nobody wants it');
});
