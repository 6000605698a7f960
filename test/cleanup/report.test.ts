import { describe, expect, it } from 'vitest';
import { cleanJob } from '../../src/cleanup/ending.js';
import type { CleanReport } from '../../src/cleanup/report.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording } from '../recordings/recordings.js';

describe('CleanReport', () => {
  it('has the documented keys, and survives JSON', async () => {
    const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
    const report: CleanReport = await cleanJob({ jobId: 5 }, { node, dryRun: true, force: true });
    expect(Object.keys(report)).toEqual(
      expect.arrayContaining(['jobId', 'dryRun', 'ended', 'survivors', 'spared', 'removed', 'left']),
    );
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    expect(Object.keys(report.ended[0] ?? {})).toEqual([
      'pid',
      'startTime',
      'uid',
      'comm',
      'cgroup',
      'signal',
      'proof',
    ]);
  });
});
