import { describe, expect, it } from 'vitest';
import { parseProcCgroup } from '../../src/cgroup/membership.js';
import { rootPath } from '../../src/cgroup/path.js';
import { jobPlaceOf, placeOf } from '../../src/jobs/membership-in-job.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { treeText } from '../support/small-trees.js';

describe('placeOf()', () => {
  const tree = { hierarchies: ['memory', 'freezer'], directories: ['memory/slurm/uid_1001/job_4'] };
  it.each([
    ['5:memory:/slurm/uid_1001/job_4/step_extern/task_0\n', { job: { jobId: 4 }, uid: 1001, stepId: 'extern' }],
    ['5:memory:/slurm/uid_1001\n', { uid: 1001 }],
    ['5:memory:/user.slice\n', undefined],
    ['4:freezer:/slurm/uid_1001/job_4\n', undefined], // no tree of Slurm's there
  ])('of %j is %j', async (text, expected) => {
    const node = await readNode({ host: recordedHost(treeText(tree)), within: rootPath });
    const [place] = parseProcCgroup(text).map((membership) => placeOf(node, membership));
    if (expected === undefined) expect(place).toBeUndefined();
    else expect(place).toMatchObject(expected);
  });
});

describe('jobPlaceOf()', () => {
  const job = 'slurm/uid_1001/job_4';
  it.each([
    [`5:memory:/${job}/step_0\n4:freezer:/${job}\n`, { job: { jobId: 4 }, uid: 1001 }],
    [`5:memory:/${job}/step_0\n4:freezer:/\n`, { job: { jobId: 4 } }],
    [`5:memory:/${job}/step_0\n4:freezer:/slurm/uid_1001/job_5\n`, 'several'],
    [`5:memory:/${job}/step_0\n4:freezer:/slurm/uid_1002/job_4\n`, 'several'],
    ['5:memory:/user.slice\n4:freezer:/\n', undefined],
  ])('of %j is %j', async (text, place) => {
    const tree = { hierarchies: ['memory', 'freezer'], directories: [`memory/${job}`, `freezer/${job}`] };
    const node = await readNode({ host: recordedHost(treeText(tree)), within: rootPath });
    const found = jobPlaceOf(node, parseProcCgroup(text));
    if (typeof place === 'object') expect(found).toMatchObject(place);
    else expect(found).toBe(place);
  });
});
