import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openContext, recordedOptions, requireSlurm, slurmdLine } from '../../src/cli/context.js';
import { readNode } from '../../src/jobs/node.js';
import { recordedHost } from '../../src/machine/recording.js';
import { recording } from '../recordings/recordings.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-context-'));
afterAll(() => fs.rmSync(folder, { recursive: true }));
const words = (flags: Readonly<Record<string, string>>) => ({ operands: [], flags: new Map(Object.entries(flags)) });
const file = (name: string, text: string) => {
  fs.writeFileSync(path.join(folder, name), text);
  return path.join(folder, name);
};

describe('openContext()', () => {
  it('plays a recorded node', async () => {
    const { node, host } = await openContext('list', words({ from: recording('slurm-22.05-v1') }));
    expect([host.source, node.nodeName, node.tops.length]).toEqual(['recording', 'vm', 5]);
  });

  it.each([
    ['not-json', 'hello\n', 'ERR_PARSE'],
    ['empty', '', 'ERR_PARSE'],
    ['cut', '{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n{"read":"/proc/se', 'ERR_PARSE'],
    ['other', '{"recording":"other"}\n', 'ERR_PARSE'],
    [
      'no-mounts',
      '{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n{"read":"/proc/self/mountinfo","text":"1 2 0:1 / / rw - ext4 x rw\\n"}\n',
      'ERR_NO_CGROUPS',
    ],
    [
      'bad-mounts',
      '{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n{"read":"/proc/self/mountinfo","text":"1 2 0:1 / /sys cgr"}\n',
      'ERR_PARSE',
    ],
  ])('refuses the recording %s with %s', async (name, text, code) => {
    await expect(openContext('list', words({ from: file(name, text) }))).rejects.toMatchObject({
      code: expect.stringMatching(code === 'ERR_NO_CGROUPS' ? /NO_CGROUPS/ : code),
    });
  });

  it.each(['relative', '/a//b', '/a/./b'])('refuses --within %j', async (within) => {
    await expect(openContext('list', words({ within }))).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });

  it('reads the slurm.conf that slurmd told the recorder of, and knows which node it is', async () => {
    const text = fs
      .readFileSync(recording('slurm-24.11-v2-two-nodes'), 'utf8')
      .replace(/^\{"list":"\/",.*\n/m, '') // which knows no /opt
      .replaceAll('/etc/slurm/slurm.conf', '/opt/site/slurm.conf')
      .replaceAll('/etc/slurm/cgroup.conf', '/opt/site/cgroup.conf');
    const before = await openContext('list', words({ from: file('before', text) }));
    expect([before.node.configuration?.file, before.node.nodeName]).toEqual([undefined, undefined]);
    const line = slurmdLine({
      ...before.node,
      configuration: { file: '/opt/site/slurm.conf', files: [], nodes: [], places: new Map(), notes: [] },
      nodeName: 'vm2',
    });
    const { node } = await openContext('list', words({ from: file('told', `${text}${line}\n`) }));
    expect([node.configuration?.file, node.nodeName, node.tops.length]).toEqual(['/opt/site/slurm.conf', 'vm2', 1]);
    const other = await openContext('list', words({ from: file('told', `${text}${line}\n`), node: 'vm1' }));
    expect(other.node.nodeName).toBe('vm1');
  });

  it.each(['3', 'null', '{"file":3}', 'nonsense'])('takes %s for nothing that slurmd told', (told) => {
    const header = JSON.stringify({ recording: 'slurm-cgroups', version: 1, self: { pid: 1, uid: 0 } });
    const host = recordedHost(`${header}\n${JSON.stringify({ read: 'slurmd', text: told })}\n`);
    expect(recordedOptions(host)).toEqual({});
  });

  it('says which file is missing', async () => {
    await expect(openContext('list', words({ from: '/nonexistent/file' }))).rejects.toThrow('"/nonexistent/file"');
  });
});

describe('requireSlurm()', () => {
  it('refuses a node without any sign of Slurm', async () => {
    const host = recordedHost(
      [
        { recording: 'slurm-cgroups', version: 1, self: { pid: 1, uid: 0 } },
        { read: '/proc/self/mountinfo', text: '30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n' },
        {
          list: '/',
          entries: { proc: 'directory', sys: 'directory', etc: 'directory', run: 'directory', var: 'directory' },
        },
        { list: '/etc', entries: {} },
        { list: '/run', entries: {} },
        { list: '/var', entries: {} },
        { list: '/sys/fs/cgroup', entries: {} },
        { list: '/proc', entries: { self: 'directory', sys: 'directory' } },
        { read: '/proc/sys/kernel/hostname', text: 'login1\n' },
      ]
        .map((line) => `${JSON.stringify(line)}\n`)
        .join(''),
    );
    const node = await readNode({ host });
    await expect(requireSlurm(node)).rejects.toMatchObject({ code: 'ERR_NOT_SLURM' });
  });

  it('accepts a node with Slurm’s cgroups', async () => {
    const { node } = await openContext('list', words({ from: recording('slurm-26.05-v2') }));
    await expect(requireSlurm(node)).resolves.toBeUndefined();
  });
});
