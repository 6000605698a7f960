import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type LoadOptions, loadConfig, wholeBudget } from '../../../src/jobs/config/includes.js';
import { rootOnly, type TrustedUids } from '../../../src/jobs/config/trust.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { configFiles } from '../../../src/machine/guarded-files.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { isRoot, type NodeFile, needsRoot, nodeWith, put, trustedFolder } from '../../support/config-sandbox.js';

const main = '/etc/slurm/slurm.conf';
const load = async (host: Host, file = main, options: Partial<LoadOptions> = {}) => {
  const files = configFiles(host, deadlineIn(host, 2000));
  const found = await files.locate(file);
  if (found === undefined) throw new Error(`${file} is not there`);
  return loadConfig(files, found, { trusted: rootOnly, budget: wholeBudget(), ...options });
};
/** A node whose /etc/slurm holds these texts. */
const slurm = (texts: Readonly<Record<string, string | NodeFile>>) =>
  nodeWith(
    Object.fromEntries(
      Object.entries(texts).map(([name, file]) => [
        `/etc/slurm/${name}`,
        typeof file === 'string' ? { text: file } : file,
      ]),
    ),
  );
const failure = (line: number, message: string, file = main) => ({
  code: 'ERR_CONFIG',
  subject: { path: file, line },
  message: expect.stringContaining(message),
});

describe('loadConfig()', () => {
  test('gives each key its last value and its place, whatever its case', async () => {
    const config = await load(slurm({ 'slurm.conf': 'ClusterName=a\nSlurmUser=x\nCLUSTERNAME=b\n' }));
    expect(config.settings.get('clustername')).toEqual({ value: 'b', place: { file: main, line: 3 } });
    expect(config.settings.get('slurmuser')?.value).toBe('x');
    expect(config.notes).toEqual([]);
  });

  test('reads included files in place, relative to slurm.conf, also from folders below', async () => {
    const host = slurm({
      'slurm.conf': 'A=1\nInclude conf.d/a.conf\nB=3\n',
      'conf.d/a.conf': 'A=2\nB=2\nInclude conf.d/b.conf\n',
      'conf.d/b.conf': 'C=4',
    });
    const config = await load(host);
    expect([...config.settings].map(([key, { value, place }]) => [key, value, place.file, place.line])).toEqual([
      ['a', '2', '/etc/slurm/conf.d/a.conf', 1],
      ['b', '3', main, 3],
      ['c', '4', '/etc/slurm/conf.d/b.conf', 1],
    ]);
    expect(config.files).toEqual([main, '/etc/slurm/conf.d/a.conf', '/etc/slurm/conf.d/b.conf']);
  });

  test('falls back to the folder of the including file, as Slurm up to 22.05, and says so', async () => {
    const host = slurm({ 'slurm.conf': 'Include d/a.conf\n', 'd/a.conf': '\nInclude b.conf', 'd/b.conf': 'C=4' });
    const config = await load(host);
    expect(config.settings.get('c')?.value).toBe('4');
    expect(config.notes).toEqual([
      '"/etc/slurm/d/a.conf", line 2: "b.conf" is taken from "/etc/slurm/d": from 23.02 on Slurm looks in "/etc/slurm"',
    ]);
  });

  test('puts the name of the cluster for %c, in lower case', async () => {
    const config = await load(slurm({ 'slurm.conf': 'ClusterName=LAB\nInclude %c-%c.conf\n', 'lab-lab.conf': 'A=1' }));
    expect(config.settings.get('a')?.value).toBe('1');
    await expect(load(slurm({ 'slurm.conf': 'Include %c.conf\nClusterName=LAB\n' }))).rejects.toMatchObject(
      failure(1, 'needs ClusterName'),
    );
  });

  test('reads a file that is included twice twice', async () => {
    const config = await load(slurm({ 'slurm.conf': 'Include a\nA=2\nInclude a\n', a: 'A=1' }));
    expect(config.settings.get('a')?.value).toBe('1');
    expect(config.files).toEqual([main, '/etc/slurm/a']);
  });

  test('does not include patterns, as Slurm does not', async () => {
    const config = await load(slurm({ 'slurm.conf': 'Include *.conf\nA=1\n' }));
    expect(config.settings.get('a')?.value).toBe('1');
    expect(config.notes).toEqual([`"${main}", line 1: "*.conf" is not included: Slurm takes no patterns here`]);
  });

  test.each([
    ['itself', { 'slurm.conf': 'A=1\nInclude slurm.conf\n' }, main, 2],
    ['itself by another name', { 'slurm.conf': 'Include ../slurm/./slurm.conf\n' }, main, 1],
    ['itself by a link', { 'slurm.conf': 'Include b\n', b: { link: 'slurm.conf' } }, main, 1],
    ['each other', { 'slurm.conf': 'Include b\n', b: '\nInclude c', c: 'Include b' }, '/etc/slurm/c', 1],
  ])('refuses files that include %s', async (_, texts, file, line) => {
    await expect(load(slurm(texts))).rejects.toMatchObject(failure(line, 'includes itself', file));
  });

  test('names file and line of a missing file', async () => {
    await expect(load(slurm({ 'slurm.conf': '\nInclude none.conf' }))).rejects.toMatchObject(
      failure(2, '"/etc/slurm/none.conf", which it includes, does not exist'),
    );
  });

  test('names file and line of an included file that is no text', async () => {
    await expect(load(slurm({ 'slurm.conf': 'Include a', a: 'A=1\nB=\0' }))).rejects.toMatchObject({
      code: 'ERR_PARSE',
      subject: { path: '/etc/slurm/a', line: 2 },
    });
  });

  test('bounds how deep, how many and how much', async () => {
    const deep = Object.fromEntries(Array.from({ length: 30 }, (_, at) => [`f${at}`, `Include f${at + 1}`]));
    await expect(load(slurm({ 'slurm.conf': 'Include f0', ...deep }))).rejects.toThrow('more than 16 deep');
    const wide = { 'slurm.conf': 'Include a\n'.repeat(600), a: '' };
    await expect(load(slurm(wide))).rejects.toThrow('more than 512 files are included');
    const doubling = Object.fromEntries(
      Array.from({ length: 14 }, (_, at) => [`f${at}`, `Include f${at + 1}\n`.repeat(2)]),
    );
    await expect(load(slurm({ 'slurm.conf': 'Include f0', ...doubling, f14: 'A=1' }))).rejects.toThrow(
      'more than 512 files',
    );
    const large = { 'slurm.conf': 'Include a\n'.repeat(9), a: `A=${'b'.repeat(1 << 20)}` };
    await expect(load(slurm(large))).rejects.toThrow('bytes left for all files together');
  });

  test('says what is not read, and not without end', async () => {
    const config = await load(slurm({ 'slurm.conf': `A=1 B=2\n${'secret\n'.repeat(30)}` }));
    expect(config.settings.get('a')?.value).toBe('1');
    expect(config.settings.has('b')).toBe(false);
    expect(config.notes[0]).toBe(`"${main}", line 1: Slurm takes one key a line here, what follows A is not read`);
    expect(config.notes[1]).toBe(`"${main}", line 2: its end is not Key=Value and is not read`);
    expect(config.notes).toHaveLength(21);
    expect(config.notes.at(-1)).toBe(`"${main}": 11 more lines like these`);
    expect(config.notes.join()).not.toContain('secret');
  });

  test('keeps the nodes, and not the defaults for them', async () => {
    const text = [
      'NodeName=DEFAULT CPUs=2',
      'nodename=n[1-2] \\',
      '  NODEHOSTNAME=h[1-2] CPUs=2',
      'NodeName=vm NodeAddr=127.0.0.1',
      'PartitionName=main Nodes=ALL Default=YES',
    ].join('\n');
    const config = await load(slurm({ 'slurm.conf': text }));
    expect(config.nodes).toEqual([
      { nodeNames: 'n[1-2]', nodeHostNames: 'h[1-2]', place: { file: main, line: 2 } },
      { nodeNames: 'vm', place: { file: main, line: 4 } },
    ]);
    expect(config.notes).toEqual([]);
  });

  test("checks who owns included files, and leaves a stranger's out where that is asked", async () => {
    const host = slurm({ 'slurm.conf': 'A=1\nInclude a\n', a: { text: 'A=2', uid: 64030 } });
    await expect(load(host)).rejects.toMatchObject(failure(2, 'belongs to uid 64030'));
    const left = await load(host, main, { leaveOut: true });
    expect(left.settings.get('a')?.value).toBe('1');
    expect(left.leftOut.map(({ path: where }) => where)).toEqual(['/etc/slurm/a']);
    const trusted: TrustedUids = { uids: new Set([0n, 64030n]), named: 'slurm', anyOwner: false };
    const config = await load(host, main, { trusted });
    expect(config.settings.get('a')).toMatchObject({ value: '2' });
  });

  test.skipIf(!isRoot)(`checks included files on the machine (${needsRoot})`, async () => {
    const folder = trustedFolder();
    const file = put(folder, 'slurm.conf', 'Include a.conf\n');
    put(folder, 'a.conf', 'A=1', { mode: 0o666 });
    await expect(load(liveHost(), file)).rejects.toMatchObject(failure(1, 'mode 0666', file));
    fs.rmSync(path.join(folder, 'a.conf'));
    fs.symlinkSync('/tmp/slurm-cgroups-none', path.join(folder, 'a.conf'));
    await expect(load(liveHost(), file)).rejects.toMatchObject(failure(1, 'does not exist', file));
    fs.rmSync(path.join(folder, 'a.conf'));
    fs.mkdirSync(path.join(folder, 'a.conf'));
    await expect(load(liveHost(), file)).rejects.toMatchObject(failure(1, 'it is a folder', file));
  });
});
