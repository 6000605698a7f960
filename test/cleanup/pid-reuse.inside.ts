// A whole clean-up in two steps, SIGTERM and SIGKILL, in which pids change hands.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isThere, type ProcessIdentity } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { endIfThere, type SwapOptions, startOrphan, swap, swappingHost } from '../support/swapped-pid.js';
import { put } from '../support/test-cgroups.js';

const live = liveHost();
const uid = 64_746;
const started: ProcessIdentity[] = [];
/** How many points of a clean-up are tried. */
const parts = 7;
let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = await Sandbox.create(live, 'slurm-cgroups-test-reuse');
});
afterEach(async () => {
  for (const one of started.splice(0)) endIfThere(live, one);
  await sandbox.remove();
});

async function clean(jobId: number, options: Omit<SwapOptions, 'members' | 'swap'> & { readonly inside?: boolean }) {
  const job = await sandbox.addJob({ jobId, uid });
  const member = () => {
    const one = startOrphan(live);
    started.push(one);
    for (const cgroup of job.cgroups) put(one.pid, cgroup);
    return one;
  };
  const [victim, other] = [member(), member()];
  const intoJob: NonNullable<SwapOptions['swap']> = (host, who) => {
    const heir = swap(host, who);
    if (heir !== undefined) for (const cgroup of job.cgroups) put(heir.pid, cgroup);
    return heir;
  };
  const { inside = false, ...rest } = options;
  const swapping = swappingHost(live, { members: [victim, other], ...rest, ...(inside ? { swap: intoJob } : {}) });
  const report = await cleanJob(
    { jobId },
    { node: { ...(await sandbox.node()), host: swapping.host }, graceMs: 100, timeoutMs: 10_000 },
  );
  const heir = swapping.heir();
  if (heir !== undefined) started.push(heir);
  return { victim, other, report, heir, count: swapping.count() };
}

const named = (one: ProcessIdentity) => `${one.pid} ${one.startTime}`;

describe('cleanJob() in which a pid becomes another’s', () => {
  it.each([
    ['with pidfds', false],
    ['without', true],
  ] as const)('never ends a stranger, and names who was ended by pid and start time, %s', async (_, withoutLibc) => {
    const { count } = await clean(1, { nth: 0, withoutLibc });
    let swaps = 0;
    // Some points of each step: at every one it is tried with killMembers() alone.
    for (let part = 0; part < parts; part++) {
      const nth = 1 + Math.floor((count * part) / parts);
      const { victim, other, report, heir } = await clean(2 + part, { nth, withoutLibc });
      if (heir !== undefined) {
        swaps++;
        await live.sleep(20); // a signal takes effect
        expect(isThere(live, heir), `swapped before call ${nth} of ${count}`).toBe(true);
      }
      const ended = report.ended.map((one) => `${one.pid} ${one.startTime}`);
      expect(ended).toContain(named(other));
      for (const one of ended) expect([named(victim), named(other)]).toContain(one);
      const left = report.left.filter(({ path }) => !/\/uid_\d+$/.test(path)); // kept without Slurm's lock
      expect([report.survivors, left]).toEqual([[], []]);
    }
    expect(swaps).toBeGreaterThan(2);
  });

  it('ends the process that got it, if that is of the job too, and names it by its own start time', async () => {
    const { count } = await clean(1, { nth: 0 });
    for (let part = 0; part < 3; part++) {
      const nth = 1 + Math.floor((count * part) / 8);
      let ran = await clean(2 + part, { nth, inside: true });
      // Another thread may have the pid by then: the same once more, with another.
      for (let again = 1; ran.heir === undefined && again < 4; again++)
        ran = await clean(2 + part + 10 * again, { nth, inside: true });
      const { other, report, heir } = ran;
      if (heir === undefined) throw new Error(`no process got the pid before call ${nth} of ${count}`);
      expect(isThere(live, heir), `swapped before call ${nth} of ${count}`).toBe(false);
      const ended = report.ended.map((one) => `${one.pid} ${one.startTime}`);
      expect(ended).toEqual(expect.arrayContaining([named(other), named(heir)]));
      expect([report.survivors, new Set(ended).size]).toEqual([[], ended.length]);
    }
  });
});
