import { describe, expect, it } from 'vitest';
import { endingFile, isEndingHere } from '../../src/jobs/ending-job.js';
import type { FileStat } from '../../src/machine/host.js';

const file: FileStat = {
  ...{ mode: 0o100600n, uid: 0n, gid: 0n, dev: 1n, ino: 2n, nlink: 1n, size: 0n },
  ...{ mtimeNs: 0n, ctimeNs: 0n },
};
const hostWith = (...files: readonly string[]) => ({
  stat: (path: string) => (files.includes(path) ? file : undefined),
});

describe('isEndingHere()', () => {
  it('is told by a file of the job’s id', () => {
    const host = hostWith('/run/slurm-cgroups/ending/5');
    expect(isEndingHere(host, { jobId: 5 })).toBe(true);
    expect(isEndingHere(host, { jobId: 55 })).toBe(false);
    expect(endingFile(5)).toBe('/run/slurm-cgroups/ending/5');
  });

  it('is not told of a job without an id', () => {
    expect(isEndingHere(hostWith('/run/slurm-cgroups/ending/undefined'), {})).toBe(false);
  });
});
