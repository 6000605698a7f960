// What Slurm counts of a session whose place only slurmstepd can make (26.05 on v2): a cell with a database asks sacct.
// One job for each way of a session into it, all at the same time: what they do takes an emulated machine long.

import { describe, expect, it } from 'vitest';
import { burner, type Counted, countedOf, expectOnce, expectTwice, toldTwice, waysIn } from '../../slurm/sacct.js';
import { node, owned, run, stamp, submit, uids, until } from './slurm.js';

const twice = 'told of twice';

/** By the way in, once all the jobs have ended. */
async function countAll(): Promise<ReadonlyMap<string, Counted>> {
  const sessions = await Promise.all(
    [...waysIn, [twice, toldTwice] as const].map(async ([how, come]) => {
      return { how, come, jobId: await submit('alice', 'sleep 3606'), burner: burner(uids.alice) };
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
  // It looks for their end once a second (Slurm 26.05 src/slurmd/slurmstepd/req.c, _block_on_pid). Where the job ends
  // before, a session has what the last poll saw of it: of 3 s 2 (measured, and 2 also of one told of twice).
  await new Promise((fulfil) => setTimeout(fulfil, 5000));
  const jobIds = sessions.map(({ jobId }) => jobId);
  await run('scancel', jobIds.map(String));
  const counted = new Map<string, Counted>();
  for (const { how, jobId } of sessions)
    await until(`sacct has the end of job ${jobId}`, async () => {
      const found = await countedOf(jobId, run);
      if (found !== undefined) counted.set(how, found);
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
    for (const [how] of waysIn)
      it(`an adopted session is counted in the extern step of its job, once: adopted ${how}`, async () => {
        expectOnce(await countedAfter(how));
      });

    it('Slurm counts twice what its slurmstepd was told of twice: so it is told once', async () => {
      expectTwice(await countedAfter(twice));
    });
  });
}
