// What Slurm counts of a session whose place only slurmstepd can make (26.05 on v2): a cell with a database asks sacct.
// One job for each way of a session into it, all at the same time: what they do takes an emulated machine long.

import { describe, expect, it } from 'vitest';
import { adopt } from '../../../src/adopt/adoption.js';
import { burner, type Counted, countedOf, type WayIn, waysIn } from '../../slurm/sacct.js';
import { node, owned, run, stamp, submit, uids, until } from './slurm.js';

const burnSeconds = 4;

/** Besides, one that has a child already: slurmstepd makes the place and moves the session, not the child. */
const ways: readonly (readonly [how: string, come: WayIn])[] = [
  ...waysIn,
  [
    'with the child that works',
    async (pid, { node, job }) => {
      const found = await adopt(pid, job, { node, descendants: true });
      expect(found).toMatchObject({ outcome: 'adopted', moved: 'stepd', descendants: [{ outcome: 'adopted' }] });
    },
  ],
];

/** By the way in, once all the jobs have ended. */
async function countAll(): Promise<ReadonlyMap<string, Counted>> {
  const sessions = await Promise.all(
    ways.map(async ([how, come]) => {
      const by = how.includes('child') ? 'its child' : 'itself';
      return { how, come, jobId: await submit('alice', 'sleep 3606'), burner: burner(uids.alice, burnSeconds, by) };
    }),
  );
  stamp('the jobs of accounting run');
  const here = await node();
  const jobs = await owned(here);
  for (const { come, jobId, burner } of sessions) {
    const job = jobs.find((one) => one.jobId === jobId) ?? expect.unreachable(`job ${jobId} is not here`);
    await come(burner.pid, { node: here, job });
  }
  await Promise.all(sessions.map(({ burner }) => burner.burn()));
  stamp('the sessions have ended');
  const jobIds = sessions.map(({ jobId }) => jobId);
  await run('scancel', jobIds.map(String));
  const counted = new Map<string, Counted>();
  for (const { how, jobId } of sessions)
    await until(`sacct has the end of job ${jobId}`, async () => {
      const found = await countedOf(jobId, run);
      if (found !== undefined) counted.set(how, found);
      if (found !== undefined) stamp(`sacct of one adopted ${how}: ${found['extern']} s of ${burnSeconds}`);
      return found !== undefined;
    });
  return counted;
}

export function describeAccounting(): void {
  let all: Promise<ReadonlyMap<string, Counted>> | undefined;
  const countedAfter = async (how: string) => {
    all ??= countAll();
    return (await all).get(how) ?? expect.unreachable();
  };

  describe('accounting', () => {
    for (const [how] of ways)
      it(`an adopted session is counted in the extern step of its job, once: adopted ${how}`, async () => {
        const { extern = 0, batch = 0 } = await countedAfter(how);
        // Whole seconds of user and of system time (26.05 src/plugins/jobacct_gather/common/common_jag.c): one may be
        // missing, twice. Told of twice it is counted once or twice, by which of two threads sees its end first.
        expect(extern).toBeGreaterThanOrEqual(burnSeconds - 1);
        expect(extern).toBeLessThan(2 * (burnSeconds - 1));
        expect(batch).toBeLessThan(1);
      });
  });
}
