// What pam_slurm_adopt asks of slurmstepd, for a process of which the caller says the pid: pam_slurm_adopt itself only
// ever names its own.

import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { findOwners } from '../../../src/jobs/owners/find.js';
import { openStepd } from '../../../src/jobs/stepd/ask.js';
import { socketOf } from '../../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { type Adopter, outcomeOf, patienceOn, type Site } from './adopter.js';

const host = liveHost();

/** Into the job of that uid, which has one only. */
export function slurmAdd(site: Site, uid: number): Adopter {
  const timeoutMs = patienceOn(site);
  return {
    name: "pam_slurm_adopt's request",
    takesPid: true,
    login: async ({ pid = 0 }) => {
      const { nodeName, conf: configFile, spool } = site.cluster;
      const node = await readNode({ host, nodeName, configFile, timeoutMs });
      const job = (await findOwners(discoverJobs(node, { uid }), { node })).find((one) => one.uid === uid);
      if (job?.jobId === undefined) throw new Error(`uid ${uid} has no job`);
      const begunAt = performance.now();
      const opened = await openStepd(socketOf(spool, { nodeName, jobId: job.jobId, stepId: 'extern' }), {
        host,
        deadline: deadlineIn(host, timeoutMs),
      });
      if (opened.outcome !== 'answered') throw opened.error;
      try {
        const added = await opened.value.addPid(pid, deadlineIn(host, timeoutMs));
        const answer = added.outcome === 'answered' ? 'in' : added.outcome === 'silent' ? 'hangs' : 'refused';
        return outcomeOf(pid, { answer, ms: performance.now() - begunAt, said: `slurmstepd: ${added.outcome}` });
      } finally {
        opened.value.close();
      }
    },
    close: () => Promise.resolve(),
  };
}
