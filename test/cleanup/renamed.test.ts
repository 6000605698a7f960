// A job whose directory gets another name while it is ended. Found by the search of every interleaving
// (test/interleavings): `v1 clean alone 129 job-renamed`.

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isThere, parseProcStat } from '../../src/cgroup/process.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';

const uid = 64_746;
const live = liveHost();

describe.skipIf(!canUseCgroups && mayBeSkipped)('renamedCgroups() (needs root and cgroups)', () => {
  it('says where a job is that was renamed between the plan and the kill, and that what is in it lives', async (context) => {
    const sandbox = await Sandbox.create(live, 'slurm-cgroups-test');
    try {
      if (sandbox.version === 2) return context.skip('v2 renames no cgroup');
      const sleeper = await sandbox.startSleeper(uid, await sandbox.addJob({ jobId: 1, uid }));
      const { startTime } = parseProcStat(live.read(`/proc/${sleeper.pid}/stat`));
      const node = await sandbox.node();
      const directories = node.tops.map(({ directory }) => `${directory}/uid_${uid}/job_1`).filter(fs.existsSync);
      // What the kill asks for before it looks.
      const libc = async () => {
        for (const directory of directories) if (fs.existsSync(directory)) fs.renameSync(directory, `${directory}.old`);
        return live.libc();
      };
      const host = { ...live, libc };
      const report = await cleanJob({ jobId: 1 }, { node: { ...node, host }, graceMs: 0, timeoutMs: 5000 });
      expect(report).toMatchObject({ ended: [], survivors: [], removed: [] });
      expect(report.left.map(({ path }) => path).sort()).toEqual(directories.map((one) => `${one}.old`).sort());
      expect(report.left[0]?.why).toContain('was renamed meanwhile: what is in it was not ended');
      expect(isThere(live, { pid: sleeper.pid, startTime })).toBe(true);
    } finally {
      await sandbox.remove();
    }
  });
});
