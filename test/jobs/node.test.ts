import { describe, expect, it } from 'vitest';
import { cgroupPath, rootPath } from '../../src/cgroup/path.js';
import { mountpointElsewhere, readNode } from '../../src/jobs/node.js';
import { hasCode } from '../../src/machine/errors.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording } from '../recordings/recordings.js';
import { mountPoint, type Tree, treeHost } from '../support/small-trees.js';

const read = (tree: Tree, within = rootPath) => readNode({ host: treeHost(tree), within });

describe('readNode()', () => {
  it('finds Slurm’s tree in each hierarchy that has one, with the name of the node', async () => {
    const node = await read({
      hierarchies: ['memory', 'cpu,cpuacct', 'freezer', 'unified'],
      directories: ['memory/slurm_a', 'cpu,cpuacct/slurm_a', 'freezer/init', 'unified/system.slice'],
    });
    expect(node.tops.map(({ version, directory, nodeName }) => ({ version, directory, nodeName }))).toEqual([
      { version: 1, directory: `${mountPoint}/memory/slurm_a`, nodeName: 'a' },
      { version: 1, directory: `${mountPoint}/cpu,cpuacct/slurm_a`, nodeName: 'a' },
    ]);
    expect(node).toMatchObject({ nodeName: 'a', evidence: `Slurm's cgroup "${mountPoint}/memory/slurm_a"`, notes: [] });
  });

  it('takes no directory of another owner than root, and says so', async () => {
    const node = await read({
      hierarchies: ['memory', 'unified'],
      directories: ['memory/slurm/uid_1/job_1/step_extern', 'unified/system.slice/slurmstepd.scope/job_1/step_extern'],
      owners: { 'memory/slurm': 1001, 'unified/system.slice/slurmstepd.scope': 1001 },
    });
    expect(node.tops).toEqual([]);
    expect(node.evidence).toBeUndefined();
    expect(node.notes).toEqual([
      `"${mountPoint}/memory/slurm" belongs to uid 1001, not to root: it is not Slurm's`,
      `"${mountPoint}/unified/system.slice/slurmstepd.scope" belongs to uid 1001, not to root: it is not Slurm's`,
    ]);
  });

  it('takes a file, a link and the same name elsewhere for nothing', async () => {
    const users = 'unified/user.slice/user-1001.slice/user@1001.service';
    const node = await read({
      hierarchies: ['memory', 'freezer', 'unified'],
      directories: [
        'memory/user/slurm/uid_1/job_1/step_extern',
        'unified/slurmstepd.scope/job_1/step_extern',
        `${users}/slurmstepd.scope/job_1/step_extern`,
        `${users}/system.slice/slurmstepd.scope/job_1/step_extern`,
        'unified/system.slice/x.service/slurmstepd.scope/job_1',
      ],
      others: { 'freezer/slurm': 'symlink', 'freezer/slurm_a': 'file' },
      owners: { [users]: 1001 },
    });
    expect(node.tops).toEqual([]);
  });

  it('does not take the layout of one version in a hierarchy of the other', async () => {
    const node = await read({
      hierarchies: ['memory', 'unified'],
      directories: ['memory/system.slice/slurmstepd.scope/job_1', 'unified/slurm/uid_1/job_1'],
    });
    expect(node.tops).toEqual([]);
  });

  it('looks below `within` and nowhere else', async () => {
    const tree: Tree = {
      hierarchies: ['memory', 'unified'],
      directories: ['memory/slurm', 'memory/box/slurm_b', 'unified/box/system.slice/b_slurmstepd.scope'],
    };
    const node = await read(tree, cgroupPath('/box'));
    expect(node.tops.map(({ directory }) => directory)).toEqual([
      `${mountPoint}/memory/box/slurm_b`,
      `${mountPoint}/unified/box/system.slice/b_slurmstepd.scope`,
    ]);
    expect((await read(tree, cgroupPath('/nothing'))).tops).toEqual([]);
  });

  it('tells no name where several nodes share the machine, and one of them where it is asked for', async () => {
    const tree: Tree = { hierarchies: ['memory'], directories: ['memory/slurm_a', 'memory/slurm_b'] };
    expect((await read(tree)).nodeName).toBeUndefined();
    const node = await readNode({ host: treeHost(tree), within: rootPath, nodeName: 'b' });
    expect(node.nodeName).toBe('b');
    expect(node.tops.map(({ nodeName }) => nodeName)).toEqual(['b']);
  });

  it('is the host’s short name where nothing else names the node', async () => {
    const tree: Tree = { hierarchies: ['memory'], directories: ['memory/slurm'] };
    expect((await read(tree)).nodeName).toBe('node1');
  });

  it.each([
    [undefined, false],
    ['/', false],
    [mountPoint, false],
    [`${mountPoint}/memory`, false],
    [`${mountPoint}/mem`, true],
  ])('says so where no cgroups are mounted at CgroupMountpoint=%s: %s', async (named, isNoted) => {
    const { hierarchies } = await read({ hierarchies: ['memory'], directories: [] });
    const places = new Map([['cgroupMountpoint', { file: '/etc/slurm/cgroup.conf', line: 3 }]]);
    const said = mountpointElsewhere(
      { files: [], slurmd: undefined, nodes: [], places, notes: [], cgroupMountpoint: named },
      hierarchies,
    );
    expect(said).toBe(
      !isNoted
        ? undefined
        : `No cgroup file system is mounted at CgroupMountpoint="${named}" (/etc/slurm/cgroup.conf:3): those that the mount table of the kernel shows are used`,
    );
  });

  it('refuses a machine without cgroups', async () => {
    await expect(read({ hierarchies: [], directories: [] })).rejects.toSatisfy((error) =>
      hasCode(error, 'ERR_NO_CGROUPS'),
    );
  });

  it.each([
    ['CgroupSlice', 'CgroupSlice=batch.slice', 'unified', 'batch.slice/slurmstepd.scope'],
    ['CgroupPrepend', 'CgroupPrepend=/hpc/jobs_%n', 'memory', 'hpc/jobs_a'],
    ['CgroupPrepend', 'CgroupPrepend=/hpc.x', 'memory', 'hpc.x'],
    ['CgroupPrepend with two %n', 'CgroupPrepend=/slurm_%n/%n_%n', 'memory', 'slurm_a/%n_%n'],
    ['CgroupPrepend with two %n', 'CgroupPrepend=/slurm_%n/%n_%n', 'memory', 'slurm_a/a_a'],
    ['CgroupPrepend with two %n in its last name', 'CgroupPrepend=/%n_%n', 'memory', 'a_a'],
    ['CgroupPrepend with two %n in its last name', 'CgroupPrepend=/%n_%n', 'memory', 'a_%n'],
    ['CgroupPrepend of a build for one slurmd', 'CgroupPrepend=/hpc_%n', 'memory', 'hpc_%n'],
    ['CgroupPrepend that is no pattern', 'CgroupPrepend=/a(b[c.*+?^$|{%n', 'memory', 'a(b[c.*+?^$|{$&'],
    ['CgroupPrepend', 'CgroupPrepend=/./hpc//x', 'memory', 'hpc/x'],
    ['CgroupSlice', 'CgroupSlice=./a.slice/b.slice/', 'unified', 'a.slice/b.slice/slurmstepd.scope'],
  ])('goes where %s says', async (_key, line, hierarchy, place) => {
    const decoys = ['memory/hpc/jobs_', 'memory/hpcxx', 'memory/slurm', 'unified/system.slice/slurmstepd.scope'];
    const host = treeHost({ hierarchies: ['memory', 'unified'], directories: [...decoys, `${hierarchy}/${place}`] });
    const etc = recordedHost(loadRecording('slurm-22.05-v1'));
    const isEtc = (path: string) => path === '/' || path.startsWith('/etc') || path.startsWith('/var');
    const node = await readNode({
      host: {
        ...host,
        read: (path) =>
          path === '/etc/slurm/cgroup.conf' ? `${line}\n` : isEtc(path) ? etc.read(path) : host.read(path),
        stat: (path) => (isEtc(path) ? etc.stat(path) : host.stat(path)),
        names: (path) => (isEtc(path) ? etc.names(path) : host.names(path)),
        entries: (path) => (isEtc(path) ? etc.entries(path) : host.entries(path)),
      },
    });
    const found = node.tops.filter((top) => top.hierarchy.key === hierarchy).map(({ directory }) => directory);
    expect(found).toEqual([`${mountPoint}/${hierarchy}/${place}`]);
  });
});
