// The package as its users import it: the public names, and the example of the README.

import { describe, expect, it } from 'vitest';
import * as library from '../src/index.js';
import { recordedHost } from '../src/testing.js';
import { loadRecording } from './recordings/recordings.js';

describe('slurm-cgroups', () => {
  it('exports the public names, and no others', () => {
    expect(Object.keys(library).sort()).toMatchInlineSnapshot(`
      [
        "Cgroup",
        "CgroupSet",
        "ConfigError",
        "ParseError",
        "SlurmCgroupsError",
        "SystemCallError",
        "admitSession",
        "adopt",
        "afterWaiting",
        "cgroupPath",
        "checkOptions",
        "cleanJob",
        "decideAdoption",
        "decideAfterAdoption",
        "decideSession",
        "defaultOptions",
        "discoverHierarchies",
        "discoverJobs",
        "findOutside",
        "findOwners",
        "findStrays",
        "formatJobPath",
        "formatOptions",
        "hasCode",
        "limitsOf",
        "liveHost",
        "newestJob",
        "optionTable",
        "parseJobPath",
        "parseMountInfo",
        "parseOptions",
        "parseProcCgroup",
        "processesOf",
        "rankJobs",
        "rankNames",
        "readNode",
        "usageOf",
        "verify",
        "watchJobs",
        "withEnding",
        "withExcluded",
      ]
    `);
  });

  it('the example of the README: whose jobs are here, where a session goes, and what a process belongs to', async () => {
    const { decideSession, discoverJobs, findOwners, readNode, verify } = library;
    const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
    const jobs = await findOwners(discoverJobs(node), { node });
    expect(jobs.filter(({ uid }) => uid === 1001).map(({ jobId }) => jobId)).toEqual([4, 5]);
    const { decision } = await decideSession({ uid: 1001 }, { node }); // admitSession without its effect
    expect(decision).toMatchObject({ action: 'adopt', target: { job: { jobId: 5 } } });
    const { verdict, job } = await verify(6516, { node });
    expect([verdict, job?.jobId, job?.stepId]).toEqual(['contained', 5, 'batch']);
  });
});
