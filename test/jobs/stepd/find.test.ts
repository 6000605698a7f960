import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SlurmNode } from '../../../src/jobs/node.js';
import { JobSockets } from '../../../src/jobs/stepd/find.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { put } from '../../support/config-sandbox.js';
import { nodeOfStepds } from '../../support/stepd-node.js';
import { type Sandbox, unixSandbox } from '../../support/unix-server.js';

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = unixSandbox();
});
afterEach(() => sandbox.close());

const names = ({ sockets }: { readonly sockets: readonly { readonly name: string }[] }) =>
  sockets.map(({ name }) => name);

async function spoolWith(files: readonly string[], changes: Partial<SlurmNode> = {}) {
  for (const file of files) {
    if (file.includes('_') && file.includes('.')) await sandbox.serve(file, () => {});
    else put(sandbox.folder, file, '');
  }
  return (await nodeOfStepds(sandbox, [], { changes })).node;
}

describe('JobSockets.of()', () => {
  it('gives those of one job of its node, the extern step first, or of all jobs', async () => {
    const node = await spoolWith(['node1_7.0', 'node1_7.4294967292', 'node1_8.4294967292', 'node2_7.4294967292']);
    const sockets = new JobSockets(node);
    const found = await sockets.of({ jobId: 7 });
    expect(names(found)).toEqual(['node1_7.4294967292', 'node1_7.0']);
    expect(found).toMatchObject({ isComplete: true, notes: [] });
    expect(names(await sockets.of({}))).toEqual(['node1_7.4294967292', 'node1_8.4294967292', 'node1_7.0']);
    expect(names(await sockets.of({ jobId: 9 }))).toEqual([]);
  });

  it('looks into every spool for the tree of a node without a name', async () => {
    const base = await spoolWith(['a_7.0', 'b_7.0']);
    const spools = new Map([
      ['a', sandbox.folder],
      ['b', sandbox.folder],
    ]);
    const node = { ...base, nodeName: undefined, spools };
    expect(names(await new JobSockets(node).of({ jobId: 7 }))).toEqual(['a_7.0', 'b_7.0']);
    expect(names(await new JobSockets(node).of({ jobId: 7, nodeName: 'b' }))).toEqual(['b_7.0']);
  });

  it('looks for who listens where no spool is known, or what is known is none', async () => {
    const node = await spoolWith(['node1_7.0', 'node2_7.0']);
    const bound = ['node1_7.0', 'node2_7.0'].map(
      (name) => `0: 00000002 00000000 00010000 0001 01 9 ${sandbox.folder}/${name}`,
    );
    const read = (path: string) =>
      path === '/proc/net/unix'
        ? `Num\n${bound.join('\n')}\n`
        : path === '/proc/self/mountinfo'
          ? `${node.host.read(path)}99 1 8:1 / / rw - ext4 /dev/sda1 rw\n`
          : node.host.read(path);
    const without = { ...node, spools: new Map(), host: { ...node.host, read } };
    expect(names(await new JobSockets(without).of({ jobId: 7 }))).toEqual(['node1_7.0']);
    expect(await new JobSockets(without).of({ jobId: 8 })).toMatchObject({ sockets: [], isComplete: false });
    put(sandbox.folder, 'empty/x', '');
    const wrong = { ...without, spools: new Map([['node1', `${sandbox.folder}/empty`]]) };
    expect(names(await new JobSockets(wrong).of({ jobId: 7 }))).toEqual(['node1_7.0']);
  });

  it('says why where nothing can be told', async () => {
    const node = { ...(await spoolWith([])), spools: new Map() };
    expect(await new JobSockets(node).of({ jobId: 7 })).toMatchObject({
      sockets: [],
      isComplete: false,
      notes: ['what listens here cannot be read'],
    });
    const base = await spoolWith([]);
    const names = (path: string): never => {
      throw new SystemCallError('list', path, 'EACCES');
    };
    const hidden = { ...base, host: { ...base.host, names } };
    expect(await new JobSockets(hidden).of({ jobId: 7 })).toMatchObject({
      sockets: [],
      notes: [expect.stringContaining('permission denied')],
    });
  });
});

describe('JobSockets.ofExtern()', () => {
  it('finds it by its name alone', async () => {
    const node = await spoolWith(['node1_7.4294967292']);
    const listed: string[] = [];
    const host = {
      ...node.host,
      names: (path: string) => {
        listed.push(path);
        return node.host.names(path);
      },
    };
    const found = await new JobSockets({ ...node, host }).ofExtern({ jobId: 7 });
    expect(names(found)).toEqual(['node1_7.4294967292']);
    expect(listed).toEqual([]);
  });

  it('knows that there is none in a spool of slurmd, by a socket or by what slurmd keeps there', async () => {
    expect(await new JobSockets(await spoolWith(['node1_8.0'])).ofExtern({ jobId: 7 })).toMatchObject({
      sockets: [],
      isComplete: true,
    });
    await sandbox.close();
    sandbox = unixSandbox();
    expect((await new JobSockets(await spoolWith([])).ofExtern({ jobId: 7 })).isComplete).toBe(false);
    const node = await spoolWith(['cred_state']);
    expect(await new JobSockets(node).ofExtern({ jobId: 7 })).toMatchObject({ sockets: [], isComplete: true });
  });

  it('says why it cannot tell', async () => {
    const node = await spoolWith([]);
    const stat = (path: string): never => {
      throw new SystemCallError('look at', path, 'EACCES');
    };
    const found = await new JobSockets({ ...node, host: { ...node.host, stat } }).ofExtern({ jobId: 7 });
    expect(found).toMatchObject({
      sockets: [],
      isComplete: false,
      notes: [expect.stringContaining('permission denied')],
    });
  });
});
