import { describe, expect, it } from 'vitest';
import { trustedOwners, uidsOfSlurm } from '../../../src/jobs/stepd/trusted-users.js';
import { nodeWith } from '../../support/config-sandbox.js';

const passwd = { text: 'root:x:0:0::/:/bin/sh\nslurm:x:64030:64030::/:/bin/false\nd:x:1500:1500::/:/bin/sh\n' };
const plain = { files: [], nodes: [], places: new Map(), notes: [] };
const node = (users: object, files: Parameters<typeof nodeWith>[0] = { '/etc/passwd': passwd }) => ({
  host: nodeWith(files),
  configuration: { ...plain, ...users },
});

describe('uidsOfSlurm()', () => {
  it('gives those that are asked for, without root', async () => {
    const both = node({ slurmUser: 'slurm', slurmdUser: 'd' });
    expect(await uidsOfSlurm(both, ['slurmUser', 'slurmdUser'])).toEqual({
      uids: new Set([64_030, 1500]),
      unknown: [],
    });
    expect(await uidsOfSlurm(both, ['slurmUser'])).toEqual({ uids: new Set([64_030]), unknown: [] });
    expect(await uidsOfSlurm(node({ slurmUser: 'root' }), ['slurmUser'])).toEqual({ uids: new Set(), unknown: [] });
    expect(await uidsOfSlurm({ host: nodeWith({}), configuration: undefined }, ['slurmUser'])).toEqual({
      uids: new Set(),
      unknown: [],
    });
  });

  it('says whose uid is not known', async () => {
    expect((await uidsOfSlurm(node({ slurmUser: 'slurm' }, {}), ['slurmUser'])).unknown).toEqual([{ user: 'slurm' }]);
    const { unknown } = await uidsOfSlurm(node({ slurmUser: 'slurm' }, { '/etc/passwd': { ...passwd, mode: 0o666 } }), [
      'slurmUser',
    ]);
    expect(unknown).toEqual([{ user: 'slurm', why: expect.stringMatching(/^Cannot /) }]);
  });
});

it('trustedOwners() are root and SlurmUser, not SlurmdUser', async () => {
  expect(await trustedOwners(node({ slurmUser: 'slurm', slurmdUser: 'd' }))).toEqual(new Set([0n, 64_030n]));
  expect(await trustedOwners(node({ slurmUser: 'slurm' }, {}))).toEqual(new Set([0n]));
});
