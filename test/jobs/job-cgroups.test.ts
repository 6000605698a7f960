import { describe, expect, it } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { cgroupOf } from '../../src/jobs/job-cgroups.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording } from '../recordings/recordings.js';

describe('cgroupOf()', () => {
  it.each(['slurm-22.05-v1', 'slurm-24.11-v2'])(
    'leads from each directory of a job to its cgroup (%s)',
    async (name) => {
      const node = await readNode({ host: recordedHost(loadRecording(name)) });
      const all = discoverJobs(node).flatMap((job) => [...job.cgroups, ...job.steps.flatMap((step) => step.cgroups)]);
      expect(all.length).toBeGreaterThan(10);
      for (const one of all) {
        const cgroup = cgroupOf(node, one);
        expect([cgroup?.directory, cgroup?.hierarchy.key]).toEqual([one.path, one.hierarchy]);
      }
    },
  );

  it('knows none in a hierarchy that is not mounted', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
    expect(cgroupOf(node, { hierarchy: 'rdma', controllers: ['rdma'], path: '/sys/fs/cgroup/rdma/x' })).toBeUndefined();
  });
});
