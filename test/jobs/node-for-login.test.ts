import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readNode, type SlurmNode } from '../../src/jobs/node.js';
import { nodesOnHost } from '../../src/jobs/node-facts.js';
import { writeNodeFile } from '../../src/jobs/node-file.js';
import { nodeForLogin } from '../../src/jobs/node-for-login.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';
import { isRoot, needsRoot, trustedFolder } from '../support/config-sandbox.js';
import { canUseCgroups } from '../support/may-run.js';
import { recordedHostWithState, withStateIn } from '../support/state-in-sandbox.js';

const timeoutMs = 5000;
const file = '"/run/slurm-cgroups/node.json"';

/** All that a node says, without its host and its functions. */
function told({ host, hierarchies, configuration, ...node }: SlurmNode) {
  const hostName = host.read('/proc/sys/kernel/hostname').trim();
  return {
    ...node,
    hierarchies: { mode: hierarchies.mode, all: hierarchies.all },
    configuration:
      configuration === undefined ? undefined : { ...configuration, nodes: nodesOnHost(configuration.nodes, hostName) },
  };
}

/** A host on which Slurm's configuration is not read. */
const withoutConfiguration = (host: Host): Host => ({
  ...host,
  read: (where) => (where.startsWith('/etc/slurm') ? expect.fail(`${where} is read`) : host.read(where)),
});

describe.skipIf(!isRoot)(`nodeForLogin() on recorded nodes (${needsRoot})`, () => {
  it.each(recordingNames)('%s is the node that readNode() finds, by the file and without it', async (name) => {
    const host = recordedHostWithState(loadRecording(name), trustedFolder());
    const expected = told(await readNode({ host, configurationError: 'note' }));
    const without = told(await nodeForLogin(host, { timeoutMs }));
    const [first, ...notes] = without.notes;
    expect({ ...without, notes }).toEqual(expected);
    expect(first).toBe(`${file} is not used: it does not exist; Slurm's configuration was read instead`);

    await writeNodeFile(host, await readNode({ host }));
    const by = told(await nodeForLogin(withoutConfiguration(host), { timeoutMs }));
    const [taken, ...rest] = by.notes;
    expect({ ...by, notes: rest }).toEqual(expected);
    expect(taken).toBe(`Slurm's configuration is taken from ${file}`);
  });

  it.each(['slurm-24.11-v2-two-nodes', 'slurm-26.05-v2-two-nodes'])('%s: one node by its name', async (name) => {
    const host = recordedHostWithState(loadRecording(name), trustedFolder());
    await writeNodeFile(host, await readNode({ host, nodeName: 'vm2' }));
    const node = await nodeForLogin(withoutConfiguration(host), { timeoutMs, nodeName: 'vm2' });
    expect([node.nodeName, [...node.spools]]).toEqual(['vm2', [['vm2', '/var/spool/lab/vm2']]]);
    const other = await nodeForLogin(host, { timeoutMs, nodeName: 'vm1' });
    expect([other.nodeName, other.notes[0]]).toEqual(['vm1', expect.stringContaining('it is of node "vm2"')]);
    const unknown = await nodeForLogin(host, { timeoutMs, nodeName: 'vm9' });
    expect(unknown.nodeNameError?.message).toContain('No node "vm9" is on this machine');
  });

  it('says where the node was another when the file was written', async () => {
    const text = loadRecording('slurm-26.05-v2-two-nodes');
    const host = recordedHostWithState(text, trustedFolder());
    await writeNodeFile(host, { ...(await readNode({ host })), nodeName: 'vm1' });
    expect((await nodeForLogin(host, { timeoutMs })).notes[0]).toBe(
      `Slurm's configuration is taken from ${file}, which was written as node "vm1" and is now several nodes`,
    );
  });

  it.each([
    ['ConstrainCores=yes', 'ConstrainCores=perhaps', 'perhaps'],
    ['NodeName=vm', 'NodeName=v[m', 'Cannot read the host list "v[m"'],
  ])('notes a configuration that cannot be used: %s → %s', async (from, to, why) => {
    const text = loadRecording('slurm-26.05-v2').replaceAll(from, to);
    const node = await nodeForLogin(recordedHostWithState(text, trustedFolder()), { timeoutMs });
    expect(node.configurationError?.message).toContain(why);
    expect(node.notes.slice(0, 2)).toEqual([expect.stringContaining(file), expect.stringContaining(why)]);
    expect(node.tops).toHaveLength(1);
  });

  it('reads what changed since the file was written', async () => {
    const [folder, text] = [trustedFolder(), loadRecording('slurm-26.05-v2')];
    const host = recordedHostWithState(text, folder);
    await writeNodeFile(host, await readNode({ host }));
    const stat: Host['stat'] = (where) => {
      const found = host.stat(where);
      return found === undefined || where !== '/etc/slurm/slurm.conf' ? found : { ...found, size: found.size + 1n };
    };
    const node = await nodeForLogin({ ...host, stat }, { timeoutMs });
    expect(node.notes[0]).toContain('"/etc/slurm/slurm.conf" has changed since');
    expect(node.configuration?.clusterName).toBe('lab');
  });
});

describe.skipIf(!canUseCgroups)('nodeForLogin() on this machine (needs root and cgroups)', () => {
  const live = liveHost();

  /** Slurm's configuration lies on a file system whose server does not answer, or answers by this. */
  function onNfs(state: string, run: Host['run']): Host {
    const mount = '99999 1 0:99 / /etc/slurm rw - nfs4 server:/slurm rw\n';
    const table = live.read('/proc/self/mountinfo');
    const root = /^(\d+) \S+ \S+ \S+ \/ /m.exec(table)?.[1] ?? '1';
    const isThere = (where: string) => where === '/etc/slurm' || where.startsWith('/etc/slurm/');
    return withStateIn(state, {
      ...live,
      names: (where) => (where === '/proc' ? [] : live.names(where)), // no slurmd of another test
      read: (where) =>
        where === '/proc/self/mountinfo' ? `${table}${mount.replace(' 1 ', ` ${root} `)}` : live.read(where),
      stat: (where) => (isThere(where) ? expect.fail(`${where} is touched`) : live.stat(where)),
      run,
    });
  }

  const slurm = '/etc/slurm/slurm.conf';
  /** Of the files there, by stat(1) and cat(1): slurm.conf alone. */
  const answering: Host['run'] = async (program, args) => {
    const [asked, text] = [args.slice(args.indexOf('--') + 1), 'ClusterName=far\n'];
    const said = (stdout: string) => ({ exitCode: 0, stdout, stderr: '', timedOut: false });
    if (program === '/bin/cat') return said(text);
    if (program !== '/usr/bin/stat') return expect.fail(`${program} is run`);
    const missing = asked.filter((one) => one !== slurm && one !== '/etc/slurm');
    const stderr = missing.map((one) => `stat: cannot statx '${one}': No such file or directory\n`).join('');
    const form =
      args[args.indexOf('-c') + 1] === '%f %u %s' ? (asked[0] === slurm ? '81a4 0 16' : '41ed 0 9') : undefined;
    const mark = `7 16 1700000000.000000001 1700000000.000000001 ${slurm}`;
    const stdout = asked.includes(slurm) || asked[0] === '/etc/slurm' ? `${form ?? mark}\n` : '';
    return { exitCode: missing.length > 0 ? 1 : 0, stdout, stderr, timedOut: false };
  };

  it('takes the file where the configuration lies on another machine, by one look of a child', async () => {
    const state = trustedFolder();
    const host = onNfs(state, answering);
    await writeNodeFile(host, await readNode({ host }));
    const programs: string[] = [];
    const counting: Host['run'] = (program, ...rest) => {
      programs.push(program);
      return answering(program, ...rest);
    };
    const node = await nodeForLogin(onNfs(state, counting), { timeoutMs });
    expect(node.notes[0]).toContain(`Slurm's configuration is taken from ${file}`);
    expect([node.configuration?.clusterName, programs]).toEqual(['far', ['/usr/bin/stat']]);
  });

  it('ends in the time that is given where it does not answer, with what can be seen', async () => {
    const state = trustedFolder();
    const host = onNfs(state, answering);
    await writeNodeFile(host, await readNode({ host }));
    expect(fs.readdirSync(state)).toEqual(['node.json']);
    const begin = live.now();
    const node = await nodeForLogin(
      onNfs(state, () => new Promise(() => {})),
      { timeoutMs: 400 },
    );
    const tookMs = live.now() - begin;
    expect(node.notes[0]).toContain('does not answer within 200 ms');
    expect(node.configurationError?.message).toMatch(/does not answer within \d+ ms/);
    expect(node.hierarchies.all.length).toBeGreaterThan(0);
    // Both killMs of bounded-reads.ts, for a host whose run() never ends, and a busy machine.
    expect(tookMs).toBeGreaterThan(350);
    expect(tookMs).toBeLessThan(5000);
  });
});
