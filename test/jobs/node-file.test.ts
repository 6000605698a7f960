import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { readSlurmConfiguration } from '../../src/jobs/config/read.js';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { formatNodeFacts, nodesOnHost, parseNodeFacts } from '../../src/jobs/node-facts.js';
import { type ReadNodeFileOptions, readNodeFile, removeNodeFile, writeNodeFile } from '../../src/jobs/node-file.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { ConfigError, hasCode } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';
import {
  afterwards,
  hangingMount,
  hostWithMount,
  isRoot,
  needsRoot,
  put,
  recordingOf,
  trustedFolder,
} from '../support/config-sandbox.js';
import { treeText } from '../support/small-trees.js';
import { recordedHostWithState, withStateIn } from '../support/state-in-sandbox.js';

const live = liveHost();

/** This machine, on which no process runs but these: other tests play slurmds, which come and go. */
const withProcesses = (...pids: readonly (number | undefined)[]): Host => ({
  ...live,
  names: (where) => (where === '/proc' ? pids.flatMap((pid) => pid ?? []).map(String) : live.names(where)),
});
const alone = withProcesses();

const read = (host: Host, options?: ReadNodeFileOptions) => readNodeFile(host, deadlineIn(live, 5000), options);

/** Why the file is not used; `current`: it is. */
async function verdict(host: Host, options?: ReadNodeFileOptions): Promise<string> {
  const answer = await read(host, options);
  return answer.outcome === 'current' ? 'current' : answer.why;
}

type Written = Pick<SlurmNode, 'nodeName' | 'spools' | 'configuration'>;

/** A node that reads this slurm.conf and has no cgroups: what is written does not depend on them. */
async function nodeReading(file: string, host: Host = alone): Promise<Written> {
  const configuration = await readSlurmConfiguration(host, { file });
  return { nodeName: 'n1', spools: new Map([['n1', '/var/spool/slurmd']]), configuration };
}

const slurmText = 'ClusterName=c\nSlurmdSpoolDir=/var/spool/%n\nInclude nodes.conf\n';
const cgroupText = 'CgroupSlice=x.slice\n';

/** A slurm.conf with an included file and a cgroup.conf, and the file of the node, current. */
async function written() {
  const folder = trustedFolder();
  const state = trustedFolder();
  const slurm = put(folder, 'slurm.conf', slurmText);
  put(folder, 'nodes.conf', 'NodeName=n[1-9]\n');
  put(folder, 'cgroup.conf', cgroupText);
  const on = (host: Host) => withStateIn(state, host);
  await writeNodeFile(on(alone), await nodeReading(slurm));
  expect(await verdict(on(alone))).toBe('current');
  return { folder, slurm, state, on, file: `${state}/node.json` };
}

describe.skipIf(!isRoot)(`writeNodeFile() of recorded nodes (${needsRoot})`, () => {
  it.each(recordingNames)('%s is read back', async (name) => {
    const host = recordedHostWithState(loadRecording(name), trustedFolder());
    const node = await readNode({ host });
    const facts = await writeNodeFile(host, node);
    const answer = await readNodeFile(host, deadlineIn(host, 0));
    if (answer.outcome === 'unusable') expect.fail(answer.why);
    expect(answer.facts).toEqual(facts);
    const hostName = host.read('/proc/sys/kernel/hostname').trim();
    const nodes = nodesOnHost(node.configuration?.nodes ?? [], hostName);
    const { slurmd: _none, ...configuration } = { ...node.configuration, nodes };
    expect(answer.facts).toMatchObject({ hostName, nodeName: node.nodeName, spools: node.spools, configuration });
    expect([...answer.facts.files.keys()]).toEqual(['/etc/slurm/slurm.conf', '/etc/slurm/cgroup.conf']);
  });

  it('of another boot is not used', async () => {
    const [folder, text] = [trustedFolder(), loadRecording('slurm-26.05-v2')];
    const host = recordedHostWithState(text, folder);
    await writeNodeFile(host, await readNode({ host }));
    expect(await verdict(recordedHostWithState(text, folder, 'another'))).toBe('it was written before the last boot');
  });

  it('of a host that is called otherwise now is not used', async () => {
    const [folder, text] = [trustedFolder(), loadRecording('slurm-26.05-v2')];
    const host = recordedHostWithState(text, folder);
    await writeNodeFile(host, await readNode({ host }));
    const line = '{"read":"/proc/sys/kernel/hostname","text":"other\\n"}';
    const renamed = recordedHostWithState(`${text}${line}\n`, folder);
    expect(await verdict(renamed)).toBe('the host has another name since');
  });

  it('of another node than the one that is wanted is not used', async () => {
    const host = recordedHostWithState(loadRecording('slurm-26.05-v2-two-nodes'), trustedFolder());
    await writeNodeFile(host, await readNode({ host }));
    expect(await verdict(host)).toBe('current');
    expect(await verdict(host, { nodeName: 'vm1' })).toBe('it is of several nodes');
    await writeNodeFile(host, await readNode({ host, nodeName: 'vm2' }));
    expect(await verdict(host, { nodeName: 'vm2' })).toBe('current');
    expect(await verdict(host, { nodeName: 'vm1' })).toBe('it is of node "vm2"');
  });
});

describe.skipIf(!isRoot)(`readNodeFile() and files that come (${needsRoot})`, () => {
  const tree = treeText({ hierarchies: ['unified'], directories: ['unified/system.slice/slurmstepd.scope'] });
  /** A node in memory with these files; its own first line counts. */
  const nodeOf = (files: Parameters<typeof recordingOf>[0], folder: string) =>
    recordedHostWithState(`${tree}${recordingOf(files).split('\n').slice(1).join('\n')}`, folder);

  const [usual, configless] = ['/etc/slurm/slurm.conf', '/run/slurm/conf/slurm.conf'];
  const conf = { text: 'ClusterName=c\n' };

  it.each<[string, Parameters<typeof recordingOf>[0], string, readonly string[]]>([
    ['no slurm.conf', {}, usual, [usual, configless]],
    ['no slurm.conf', {}, configless, [usual, configless]],
    ['no cgroup.conf', { [usual]: conf }, '/etc/slurm/cgroup.conf', ['/etc/slurm/cgroup.conf']],
    ['a configless one', { [configless]: conf }, usual, [usual, '/run/slurm/conf/cgroup.conf']],
  ])('that had %s is not current any more once %3$s has come', async (_what, files, come, absent) => {
    const folder = trustedFolder();
    const host = nodeOf(files, folder);
    const facts = await writeNodeFile(host, await readNode({ host }));
    expect(facts.absent).toEqual(absent);
    expect(await verdict(host)).toBe('current');
    expect(await verdict(nodeOf({ ...files, [come]: conf }, folder))).toBe(`"${come}" has come since`);
  });

  it('tells no configuration from an empty one', async () => {
    const host = nodeOf({}, trustedFolder());
    await writeNodeFile(host, await readNode({ host }));
    const answer = await read(host);
    expect(answer).toMatchObject({ outcome: 'current', facts: { files: new Map() } });
    expect(answer.outcome === 'current' && answer.facts.configuration).toBeUndefined();
  });

  it('notices a file that releases from 23.02 on would take instead of the one beside its includer', async () => {
    const folder = trustedFolder();
    const files = {
      [usual]: { text: 'Include sub/a.conf\n' },
      '/etc/slurm/sub/a.conf': { text: 'Include b.conf\n' },
      '/etc/slurm/sub/b.conf': { text: 'SlurmUser=root\n' },
    };
    const host = nodeOf(files, folder);
    await writeNodeFile(host, await readNode({ host }));
    expect(await verdict(host)).toBe('current');
    const then = nodeOf({ ...files, '/etc/slurm/b.conf': conf }, folder);
    expect(await verdict(then)).toBe('"/etc/slurm/b.conf" has come since');
  });
});

describe.skipIf(!isRoot)(`readNodeFile() and the file itself (${needsRoot})`, () => {
  it.each<[string, (file: string) => void, string]>([
    ['is not there', (file) => fs.rmSync(file), 'it does not exist'],
    ['is in no folder', (file) => fs.rmSync(path.dirname(file), { recursive: true }), 'it does not exist'],
    ['belongs to another user', (file) => fs.chownSync(file, 64_702, 0), 'it is not a file that only root can write'],
    ['can be written by its group', (file) => fs.chmodSync(file, 0o660), 'it is not a file that only root can write'],
    ['can be written by all', (file) => fs.chmodSync(file, 0o602), 'it is not a file that only root can write'],
    [
      'is a link',
      (file) => {
        fs.renameSync(file, `${file}.real`);
        fs.symlinkSync(`${file}.real`, file);
      },
      'it is not a file that only root can write',
    ],
    [
      'is a folder',
      (file) => {
        fs.rmSync(file);
        fs.mkdirSync(file);
      },
      'it is not a file that only root can write',
    ],
    [
      'is in a folder of another user',
      (file) => fs.chownSync(path.dirname(file), 64_702, 0),
      'Cannot use "/run/slurm-cgroups": it must be a folder that only root can write',
    ],
    [
      'is in a folder that others can write',
      (file) => fs.chmodSync(path.dirname(file), 0o1777),
      'Cannot use "/run/slurm-cgroups": it must be a folder that only root can write',
    ],
    ['is too large', (file) => fs.appendFileSync(file, ' '.repeat(1 << 20)), 'it is larger than 1048576 bytes'],
    ['is cut off', (file) => fs.truncateSync(file, fs.statSync(file).size - 3), 'it is not a JSON object'],
    ['is empty', (file) => fs.truncateSync(file, 0), 'it is not a JSON object'],
    ['is no text', (file) => fs.writeFileSync(file, Buffer.from([0xff, 0, 0xfe])), 'it is not a JSON object'],
    [
      'lacks a field',
      (file) => fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"bootId"', '"boot"')),
      'it has no "bootId"',
    ],
  ])('is not used where it %s', async (_what, change, why) => {
    const { file, on } = await written();
    change(file);
    expect(await verdict(on(alone))).toBe(why);
  });

  it('is not used where its folder is a link', async () => {
    const { state } = await written();
    const link = `${trustedFolder()}/link`;
    fs.symlinkSync(state, link);
    expect(await verdict(withStateIn(link, alone))).toBe(
      'Cannot use "/run/slurm-cgroups": it must be a folder that only root can write',
    );
  });
});

describe.skipIf(!isRoot)(`readNodeFile() and the configuration (${needsRoot})`, () => {
  const names = ['slurm.conf', 'nodes.conf', 'cgroup.conf'];
  const changes: readonly (readonly [string, (file: string) => void, string])[] = [
    ['is longer', (file) => fs.appendFileSync(file, '\n'), 'has changed since'],
    [
      'was replaced by one of the same size and times',
      (file) => {
        const { atime, mtime } = fs.statSync(file);
        fs.copyFileSync(file, `${file}.next`);
        fs.utimesSync(`${file}.next`, atime, mtime);
        fs.renameSync(`${file}.next`, file);
      },
      'has changed since',
    ],
    ['has another time', (file) => fs.utimesSync(file, 1, 1), 'has changed since'],
    ['was removed', (file) => fs.rmSync(file), 'is not there any more'],
    [
      'is a link now',
      (file) => {
        fs.copyFileSync(file, `${file}.real`);
        fs.rmSync(file);
        fs.symlinkSync(`${file}.real`, file);
      },
      'has changed since',
    ],
  ];

  it.each(names.flatMap((name) => changes.map(([what, change, why]) => [name, what, change, why] as const)))(
    'is not current where %s %s',
    async (name, _what, change, why) => {
      const { folder, on } = await written();
      change(`${folder}/${name}`);
      expect(await verdict(on(alone))).toBe(`"${folder}/${name}" ${why}`);
      // The same where a child looks.
      expect(await verdict(on({ ...hostWithMount(folder, 'nfs4'), names: alone.names }))).toBe(
        `"${folder}/${name}" ${why}`,
      );
    },
  );

  it('is current where a child looks, and when that was so as it was written', async () => {
    const { folder, slurm, on } = await written();
    const nfs = { ...hostWithMount(folder, 'nfs4'), names: alone.names };
    expect(await verdict(on(nfs))).toBe('current');
    const facts = await writeNodeFile(on(nfs), await nodeReading(slurm, nfs));
    expect([...facts.files.values()].map(({ device }) => device)).toEqual([undefined, undefined, undefined]);
    expect([await verdict(on(nfs)), await verdict(on(alone))]).toEqual(['current', 'current']);
  });

  it('is not used where its file system does not answer, and ends in time', async () => {
    const { folder, on } = await written();
    const hung = { ...hostWithMount(folder, 'nfs4', { run: () => new Promise(() => {}) }), names: alone.names };
    const begin = live.now();
    const answer = await readNodeFile(on(hung), deadlineIn(live, 100));
    expect(answer).toMatchObject({
      outcome: 'unusable',
      why: expect.stringContaining('does not answer within 100 ms'),
    });
    expect(live.now() - begin).toBeLessThan(5000);
  });

  it('ends in time on a real mount that hangs', async ({ skip }) => {
    const { folder, on } = await written();
    if (!fs.existsSync('/dev/fuse') || !hangingMount(folder)) skip('no FUSE here');
    const begin = live.now();
    const answer = await readNodeFile(on(alone), deadlineIn(live, 300));
    expect(answer).toMatchObject({
      outcome: 'unusable',
      why: expect.stringContaining('does not answer within 300 ms'),
    });
    expect(live.now() - begin).toBeLessThan(30_000);
  });

  it('is a reason and no error, whichever call the kernel refuses', async () => {
    const { on } = await written();
    const counted = failingHost(on(alone));
    expect(await verdict(counted)).toBe('current');
    expect(counted.calls.length).toBeGreaterThan(10);
    for (let nth = 1; nth <= counted.calls.length; nth++)
      expect(['current', 'unusable']).toContain((await read(failingHost(on(alone), { nth }))).outcome);
  });
});

describe.skipIf(!isRoot)(`writeNodeFile() on the machine (${needsRoot})`, () => {
  it('writes one file with mode 0600, whole, in the place of another', async () => {
    const { slurm, state, on, file } = await written();
    const first = fs.statSync(file);
    expect([first.mode & 0o7777, first.uid, fs.readdirSync(state)]).toEqual([0o600, 0, ['node.json']]);
    const held = fs.openSync(file, 'r');
    await writeNodeFile(on(alone), await nodeReading(slurm));
    expect(fs.statSync(file).ino).not.toBe(first.ino);
    expect(parseNodeFacts(fs.readFileSync(held, 'utf8')).nodeName).toBe('n1');
    fs.closeSync(held);
  });

  it('leaves the old file whole and nothing else, whichever call the kernel refuses', async () => {
    const { slurm, state, on, file } = await written();
    const node = await nodeReading(slurm);
    const counted = failingHost(on(alone));
    await writeNodeFile(counted, node);
    for (let nth = 1; nth <= counted.calls.length; nth++) {
      try {
        await writeNodeFile(failingHost(on(alone), { nth, errno: 'ENOSPC' }), node);
      } catch (error) {
        expect(hasCode(error, 'ERR_CGROUP_REFUSED'), String(error)).toBe(true);
      }
      // A name that could not be removed is removed by the next.
      expect(fs.readdirSync(state)).toContain('node.json');
      expect(parseNodeFacts(fs.readFileSync(file, 'utf8')).nodeName).toBe('n1');
    }
    await writeNodeFile(on(alone), node);
    expect(fs.readdirSync(state)).toEqual(['node.json']);
  });

  it.each<[string, (folder: string) => void]>([
    ['was changed', (folder) => fs.appendFileSync(`${folder}/nodes.conf`, 'NodeName=m1\n')],
    ['has a cgroup.conf now', (folder) => fs.writeFileSync(`${folder}/cgroup.conf`, cgroupText)],
    ['lacks a file now', (folder) => fs.rmSync(`${folder}/nodes.conf`)],
    ['is gone', (folder) => fs.rmSync(`${folder}/slurm.conf`)],
  ])('writes nothing where the configuration %s since the node was read', async (_what, change) => {
    const [folder, state] = [trustedFolder(), trustedFolder()];
    const slurm = put(folder, 'slurm.conf', slurmText);
    put(folder, 'nodes.conf', 'NodeName=n[1-9]\n');
    const node = await nodeReading(slurm);
    change(folder);
    await expect(writeNodeFile(withStateIn(state, alone), node)).rejects.toThrow(ConfigError);
    expect(fs.readdirSync(state)).toEqual([]);
  });

  it('writes nothing where a file changes while it is marked', async () => {
    const { folder, slurm } = await written();
    const state = trustedFolder();
    const node = await nodeReading(slurm);
    let looks = 0;
    const stat: Host['stat'] = (where) => {
      // The last look of all at it.
      if (where === `${folder}/cgroup.conf` && ++looks === 3) fs.utimesSync(where, 1, 1);
      return live.stat(where);
    };
    await expect(writeNodeFile(withStateIn(state, { ...alone, stat }), node)).rejects.toThrow(
      `Cannot use "${folder}/cgroup.conf": it changed while it was read; run it again`,
    );
    expect(looks).toBe(3);
  });

  it('writes nothing of a configuration that cannot be used', async () => {
    const state = trustedFolder();
    const configurationError = new ConfigError('broken');
    const node = { nodeName: 'n1', spools: new Map(), configuration: undefined, configurationError };
    await expect(writeNodeFile(withStateIn(state, alone), node)).rejects.toBe(configurationError);
    expect(fs.readdirSync(state)).toEqual([]);
  });

  it('writes no file that would not be read', async () => {
    const { slurm, on, file } = await written();
    const node = await nodeReading(slurm);
    const before = fs.readFileSync(file, 'utf8');
    const nodeName = 'n'.repeat(1 << 20);
    await expect(writeNodeFile(on(alone), { ...node, nodeName })).rejects.toThrow('larger than 1048576 bytes');
    expect(fs.readFileSync(file, 'utf8')).toBe(before);
  });

  it('keeps the file small, and so a login fast, where slurm.conf names thousands of nodes', async () => {
    const [folder, state] = [trustedFolder(), trustedFolder()];
    const host = live.read('/proc/sys/kernel/hostname').trim().replace(/\..*/, '');
    const nodes = Array.from({ length: 20_000 }, (_, at) => `NodeName=n${at} NodeAddr=10.0.0.1\n`).join('');
    const slurm = put(folder, 'slurm.conf', `${nodes}NodeName=me NodeHostname=${host}\n`);
    const { configuration } = await writeNodeFile(withStateIn(state, alone), await nodeReading(slurm));
    expect(configuration?.nodes.map(({ nodeNames }) => nodeNames)).toEqual(['me']);
    expect(fs.statSync(`${state}/node.json`).size).toBeLessThan(4096);
  });

  it('refuses a folder that others can write', async () => {
    const { slurm, state, on } = await written();
    fs.chmodSync(state, 0o777);
    await expect(writeNodeFile(on(alone), await nodeReading(slurm))).rejects.toSatisfy((error) =>
      hasCode(error, 'ERR_NOT_PERMITTED'),
    );
  });

  it('removeNodeFile() says whether there was one', async () => {
    const { on } = await written();
    expect([removeNodeFile(on(alone)), removeNodeFile(on(alone))]).toEqual([true, false]);
    expect(await verdict(on(alone))).toBe('it does not exist');
  });
});

describe.skipIf(!isRoot)(`readNodeFile() and slurmd (${needsRoot})`, () => {
  /** A program called slurmd that waits. */
  async function startSlurmd(folder: string, ...args: readonly string[]): Promise<ChildProcess> {
    const program = path.join(folder, 'slurmd');
    if (!fs.existsSync(program)) fs.copyFileSync('/bin/bash', program);
    const child = spawn(program, ['-c', 'echo up; read x', ...args], { stdio: ['pipe', 'pipe', 'ignore'], env: {} });
    afterwards(() => child.kill('SIGKILL'));
    await once(child.stdout ?? child, 'data');
    return child;
  }

  async function end(child: ChildProcess): Promise<void> {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async function started(...args: readonly string[]) {
    const [folder, state] = [trustedFolder(), trustedFolder()];
    const slurm = put(folder, 'slurm.conf', 'ClusterName=c\n');
    const words = args.length > 0 ? args : ['-f', slurm];
    const child = await startSlurmd(folder, ...words);
    const host = withProcesses(child.pid);
    const configuration = await readSlurmConfiguration(host, { lookForSlurmd: true, timeoutMs: 5000 });
    const on = (one: Host) => withStateIn(state, one);
    await writeNodeFile(on(host), { nodeName: 'n1', spools: new Map(), configuration });
    return { folder, slurm, child, words, state, on };
  }

  const pidIn = async (host: Host) => {
    const answer = await read(host);
    return answer.outcome === 'current' ? answer.facts.configuration?.slurmd?.pid : answer.why;
  };

  test('the one that was noted is known without a look at all processes', async () => {
    const { child, on } = await started();
    const names: Host['names'] = (where) => (where === '/proc' ? expect.fail('/proc is listed') : live.names(where));
    const run: Host['run'] = (file) => expect.fail(`${file} is run`);
    expect(await pidIn(on({ ...live, names, run }))).toBe(child.pid);
  });

  test('one that was started anew in the same way takes its place', async () => {
    const { folder, child, words, on } = await started();
    await end(child);
    const next = await startSlurmd(folder, ...words);
    expect(await pidIn(on(withProcesses(next.pid)))).toBe(next.pid);
  });

  test.each<[string, readonly string[]]>([
    ['with another file', ['-f', '/etc/other.conf']],
    ['with a node of its own', ['-N', 'n2']],
    ['without a file', []],
    ['configless', ['--conf-server', 'ctl']],
  ])('one that was started anew %s reads other files', async (_how, args) => {
    const { folder, child, on } = await started();
    await end(child);
    const next = await startSlurmd(folder, ...args);
    expect(await pidIn(on(withProcesses(next.pid)))).toBe('slurmd was started in another way since');
  });

  test('where it has ended and none runs, the file holds, and its pid is nobody', async () => {
    const { child, on } = await started();
    await end(child);
    expect(await verdict(on(alone))).toBe('current');
    expect(await pidIn(on(alone))).toBeUndefined();
  });

  test('a process that has its pid now is not taken for it', async () => {
    const { child, state, on } = await started();
    const file = `${state}/node.json`;
    const facts = parseNodeFacts(fs.readFileSync(file, 'utf8'));
    fs.writeFileSync(file, formatNodeFacts({ ...facts, slurmdStartTime: 1n }));
    expect(await pidIn(on(alone))).toBeUndefined();
    expect(await pidIn(on(withProcesses(child.pid)))).toBe(child.pid);
  });

  test('one that was started after the file was written, without a word, changes nothing', async () => {
    const { folder, on } = await written();
    const told = await startSlurmd(folder, '-f', `${folder}/slurm.conf`);
    expect(await verdict(on(withProcesses(told.pid)))).toBe('slurmd was started in another way since');
    const plain = await startSlurmd(folder);
    expect(await verdict(on(withProcesses(plain.pid)))).toBe('current');
    expect(await verdict(on(withProcesses(told.pid, plain.pid)))).toContain('Cannot tell which configuration');
  });
});
