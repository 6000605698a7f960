import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../src/cgroup/path.js';
import { type ReadNodeOptions, readNode } from '../../src/jobs/node.js';
import { namesOfNodes } from '../../src/jobs/own-names.js';
import { type NodeFile, nodeWith } from '../support/config-sandbox.js';

const mounts = ['memory', 'freezer']
  .map((name, at) => `${40 + at} 31 0:${40 + at} / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}\n`)
  .join('');
const memory = '/sys/fs/cgroup/memory';
const unix = (...paths: readonly string[]) => ({
  '/proc/net/unix': {
    text: `Num\n${paths.map((path) => `0000: 00000002 00000000 00010000 0001 01 9 ${path}\n`).join('')}`,
  },
});
const conf = (lines: string) => ({ '/etc/slurm/slurm.conf': { text: lines } });

async function nodeNameOf(files: Readonly<Record<string, NodeFile>>, hostName = 'node1') {
  const host = nodeWith({
    '/proc/self/mountinfo': { text: mounts },
    '/proc/sys/kernel/hostname': { text: `${hostName}\n` },
    '/sys/fs/cgroup/freezer/x': {},
    ...files,
  });
  return (await readNode({ host })).nodeName;
}

const job = (top: string, procs = '') => ({ [`${memory}/${top}/uid_1000/job_7/cgroup.procs`]: { text: procs } });
const configured = conf('NodeName=node[1-4]\n');

describe('namesOfNodes()', () => {
  it.each<readonly [string, Readonly<Record<string, NodeFile>>, string | undefined]>([
    ['slurm.conf alone', configured, 'node1'],
    [
      'an empty directory of yesterday beside it',
      { ...configured, ...job('slurm_node1'), [`${memory}/slurm_old/x`]: {} },
      'node1',
    ],
    ['a left job of yesterday beside it', { ...configured, ...job('slurm_node1'), ...job('slurm_old') }, 'node1'],
    ['only a directory of yesterday', { ...configured, [`${memory}/slurm_old/x`]: {} }, 'node1'],
    ['no slurm.conf, one directory', job('slurm_n9'), 'n9'],
    ['no slurm.conf, one of two holds a job', { ...job('slurm_n9'), [`${memory}/slurm_old/x`]: {} }, 'n9'],
    ['no slurm.conf, one of two jobs has processes', { ...job('slurm_n9', '77\n'), ...job('slurm_old') }, 'n9'],
    ['no slurm.conf, two that live', { ...job('slurm_n9', '77\n'), ...job('slurm_n8', '78\n') }, undefined],
    ['nothing', {}, 'node1'],
    [
      'two nodes on this host',
      { ...conf('NodeName=n[1-2] NodeHostname=node1\n'), ...job('slurm_n1'), ...job('slurm_n2') },
      undefined,
    ],
  ])('%s', async (_, files, name) => {
    expect(await nodeNameOf(files)).toBe(name);
  });

  it("believes slurmd's own -N before all", async () => {
    const node = await readNode({
      host: nodeWith({
        '/proc/self/mountinfo': { text: mounts },
        [`${memory}/slurm_old/x`]: {},
        '/sys/fs/cgroup/freezer/x': {},
        '/proc/sys/kernel/hostname': { text: 'node1\n' },
        ...configured,
      }),
    });
    const configuration = { files: [], nodes: [], places: new Map(), notes: [], slurmdNames: ['n7'] };
    expect(namesOfNodes(node.host, node.tops, { configuration, hostName: 'node1', asksSockets: true })).toEqual(['n7']);
  });

  it('believes a socket that listens in the spool before slurm.conf: the host was renamed', async () => {
    const socket = '/var/spool/slurmd/node1_7.4294967292';
    const files = { ...configured, ...job('slurm_node1'), [socket]: { text: '', mode: 0o777 }, ...unix(socket) };
    expect(await nodeNameOf(files, 'node2')).toBe('node1');
  });

  it('lets no line of /proc/net/unix alone name the node: a socket must lie there', async () => {
    const files = { ...configured, ...job('slurm_node1'), ...job('slurm_evil'), ...unix('/tmp/evil_7.4294967292') };
    expect(await nodeNameOf(files)).toBe('node1');
  });

  it('is named by no slurmstepd of this machine in a tree of its own', async () => {
    const sockets = ['/spool/n1_7.4294967292', '/spool/n2_8.4294967292'] as const;
    const host = nodeWith({
      '/proc/self/mountinfo': { text: mounts },
      '/proc/sys/kernel/hostname': { text: 'node1\n' },
      '/sys/fs/cgroup/freezer/x': {},
      ...Object.fromEntries(sockets.map((socket) => [socket, { text: '', mode: 0o777 }])),
      ...unix(...sockets),
    });
    const nameIn = async (options: ReadNodeOptions) => (await readNode({ host, ...options })).nodeName;
    expect(await nameIn({})).toBeUndefined();
    expect(await nameIn({ within: cgroupPath('/demo') })).toBe('node1');
  });
});
