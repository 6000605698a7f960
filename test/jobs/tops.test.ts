import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../src/cgroup/path.js';
import { readNode } from '../../src/jobs/node.js';
import { nodeWith } from '../support/config-sandbox.js';

const mount = '34 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
const pod = '/kubepods.slice/kubepods-pod0.slice';

async function topsOf(first: string, directories: readonly string[], more: { conf?: string; within?: string } = {}) {
  const host = nodeWith({
    '/proc/self/mountinfo': { text: mount },
    '/proc/1/cgroup': { text: `0::${first}\n` },
    '/proc/sys/kernel/hostname': { text: 'n1\n' },
    '/etc/slurm/slurm.conf': { text: 'NodeName=n1\n' },
    '/etc/slurm/cgroup.conf': { text: more.conf ?? '' },
    '/var/spool/slurmd': {},
    ...Object.fromEntries(directories.map((path) => [`/sys/fs/cgroup${path}`, {}])),
  });
  const within = more.within === undefined ? {} : { within: cgroupPath(more.within), readConfiguration: true };
  const { tops, configuration, spools } = await readNode({ host, ...within });
  return { paths: tops.map(({ path }) => path), configuration, spools };
}

describe('findTops() on v2', () => {
  const scope = 'system.slice/slurmstepd.scope';
  it.each([
    ['a host', '/init.scope', [`/${scope}`], [`/${scope}`]],
    ['a pod that sees its host', `${pod}/cri-4567.scope`, [`${pod}/${scope}`], [`${pod}/${scope}`]],
    [
      "a pod whose host has Slurm too: the pod's",
      `${pod}/cri-4567.scope`,
      [`/${scope}`, `${pod}/${scope}`],
      [`${pod}/${scope}`],
    ],
    ['a release before 23.02 in a pod', `${pod}/cri-4567.scope`, [`/${scope}`], [`/${scope}`]],
    ['a slurmd that is pid 1 and has moved itself', `${pod}/${scope}/slurmd`, [`${pod}/${scope}`], [`${pod}/${scope}`]],
    [
      'nspawn',
      '/machine.slice/systemd-nspawn@c1.service/payload/init.scope',
      [`/machine.slice/systemd-nspawn@c1.service/payload/${scope}`],
      [`/machine.slice/systemd-nspawn@c1.service/payload/${scope}`],
    ],
    ['LXD', '/lxc.payload.c1/init.scope', [`/lxc.payload.c1/${scope}`], [`/lxc.payload.c1/${scope}`]],
    ['a cgroup namespace of its own', '/', [`/${scope}`], [`/${scope}`]],
    ['pid 1 outside of the namespace', '/../../init.scope', [`/${scope}`], [`/${scope}`]],
  ])('%s', async (_, first, directories, paths) => {
    expect((await topsOf(first, directories)).paths).toEqual(paths);
  });

  it('looks in CgroupSlice, below the folder of pid 1', async () => {
    const path = `${pod}/hpc.slice/slurmstepd.scope`;
    const found = await topsOf(`${pod}/c.scope`, [path, `${pod}/${scope}`], { conf: 'CgroupSlice=hpc.slice\n' });
    expect(found.paths).toEqual([path]);
  });

  it('looks within another place, and keeps configuration and spool', async () => {
    const found = await topsOf('/init.scope', [`/${scope}`, `/box/${scope}`], { within: '/box' });
    expect(found.paths).toEqual([`/box/${scope}`]);
    expect(found.configuration?.file).toBe('/etc/slurm/slurm.conf');
    expect([...found.spools]).toEqual([['n1', '/var/spool/slurmd']]);
  });
});
