import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  formatSocketName,
  listeningSockets,
  parseSocketName,
  socketOf,
  socketsInSpool,
  whyStrange,
} from '../../../src/jobs/stepd/sockets.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recordedHost } from '../../../src/testing.js';
import { recordedStepds } from '../../support/stepd-server.js';
import { spoolUser, trustedInTests, unixSandbox } from '../../support/unix-server.js';

const host = liveHost();

describe('parseSocketName(), formatSocketName()', () => {
  it.each([
    ['vm_1.0', 'vm', 1, '0'],
    ['vm_1.4294967292', 'vm', 1, 'extern'],
    ['vm_1.4294967291', 'vm', 1, 'batch'],
    ['vm_5.4294967290', 'vm', 5, 'interactive'],
    ['vm1_4.0.1', 'vm1', 4, '0+1'],
    ['a_b.c_12.3_4294967293.7', 'a_b.c_12.3', 4_294_967_293, '7'],
    ['n_1.4294967280', 'n', 1, '4294967280'],
  ])('read and write %s', (name, nodeName, jobId, stepId) => {
    expect(parseSocketName(name)).toEqual({ nodeName, jobId, stepId });
    expect(formatSocketName({ nodeName, jobId, stepId })).toBe(name);
    expect(socketOf('/spool', { nodeName, jobId, stepId })).toEqual({
      folder: '/spool',
      name,
      nodeName,
      jobId,
      stepId,
    });
  });

  it('read the numbers of 20.02 and before', () => {
    expect(parseSocketName('n_1.4294967295')?.stepId).toBe('extern');
    expect(parseSocketName('n_1.4294967294')?.stepId).toBe('batch');
  });

  it.each([
    '',
    '_1.0',
    'vm_0.0',
    'vm_01.0',
    'vm_4294967294.0',
    'vm_4294967296.0',
    'vm_99999999999.0',
    'vm_1',
    'vm_1.',
    'vm_1.00',
    'vm_1.4294967289',
    'vm_1.4294967293',
    'vm_1.4294967296',
    'vm_1.0.',
    'vm_1.0.01',
    'vm_1.0.1.2',
    'vm_1.-1',
    'a/vm_1.0',
    'vm_1.0\n',
    'cred_state',
    'hwloc_topo_1.0.xml',
    'job00001',
  ])('read no step in %j', (name) => {
    expect(parseSocketName(name)).toBeUndefined();
  });

  it.each([
    { nodeName: 'vm', jobId: 0, stepId: '0' },
    { nodeName: 'vm', jobId: 4_294_967_294, stepId: '0' },
    { nodeName: 'vm', jobId: 2 ** 32, stepId: '0' },
    { nodeName: 'vm', jobId: 1.5, stepId: '0' },
    { nodeName: '', jobId: 1, stepId: '0' },
    { nodeName: '../vm', jobId: 1, stepId: '0' },
    { nodeName: 'vm', jobId: 1, stepId: '4294967292' },
    { nodeName: 'vm', jobId: 1, stepId: 'constructor' },
    { nodeName: 'vm', jobId: 1, stepId: '0+' },
    { nodeName: 'vm', jobId: 1, stepId: '0+1+2' },
  ])('write no name for %o', (name) => {
    expect(() => formatSocketName(name)).toThrow(RangeError);
  });

  it('are the reverse of each other for any text that names a step', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z_.0-9-]{1,12}$/),
        fc.integer({ min: 1, max: 0xffff_fffd }),
        fc.oneof(fc.constantFrom('extern', 'batch', 'interactive', '0+3'), fc.integer({ min: 0, max: 99 }).map(String)),
        (nodeName, jobId, stepId) => {
          expect(parseSocketName(formatSocketName({ nodeName, jobId, stepId }))).toEqual({ nodeName, jobId, stepId });
        },
      ),
    );
    fc.assert(fc.property(fc.string(), (name) => void parseSocketName(name)));
  });

  it.each(recordedStepds())('read the socket of %s', (_name, { socket }) => {
    const read = parseSocketName(socket) ?? expect.unreachable();
    expect(formatSocketName(read)).toBe(socket);
  });
});

describe('socketsInSpool()', () => {
  it('lists a spool with 10,000 names quickly, by job, filtered', () => {
    const sandbox = unixSandbox();
    try {
      for (let job = 1; job <= 3000; job++) {
        for (const name of [`vm_${job}.4294967292`, `vm_${job}.4294967291`, `hwloc_topo_${job}.0.xml`])
          fs.writeFileSync(path.join(sandbox.folder, name), '');
        if (job % 3 === 0) fs.writeFileSync(path.join(sandbox.folder, `other_${job}.0`), '');
      }
      const begun = host.now();
      const all = socketsInSpool(host, sandbox.folder);
      expect(host.now() - begun).toBeLessThan(30_000);
      expect(all.length).toBe(7000);
      expect(all.slice(0, 2).map(({ name }) => name)).toEqual(['vm_1.4294967291', 'vm_1.4294967292']);
      expect(socketsInSpool(host, sandbox.folder, { nodeName: 'other' }).length).toBe(1000);
      expect(socketsInSpool(host, sandbox.folder, { jobId: 3 }).map(({ name }) => name)).toEqual([
        'other_3.0',
        'vm_3.4294967291',
        'vm_3.4294967292',
      ]);
      expect(socketsInSpool(host, sandbox.folder, { jobId: 3, stepId: 'extern' })).toEqual([
        socketOf(sandbox.folder, { nodeName: 'vm', jobId: 3, stepId: 'extern' }),
      ]);
    } finally {
      fs.rmSync(sandbox.folder, { recursive: true });
    }
  });

  it('finds none where there is no spool, and says where it cannot be read', () => {
    expect(socketsInSpool(host, '/nonexistent/spool')).toEqual([]);
    const refused = {
      ...host,
      names: () => recordedHost('{"recording":"slurm-cgroups","version":1,"self":{"pid":2,"uid":0}}').names('/spool'),
    };
    expect(() => socketsInSpool(refused, '/spool')).toThrow(expect.objectContaining({ code: 'ERR_NOT_RECORDED' }));
  });
});

describe('listeningSockets()', () => {
  const sandbox = unixSandbox();
  const trusted = trustedInTests;
  beforeAll(async () => {
    for (const name of ['vm_1.4294967292', 'vm_1.0', 'gone_2.0', 'named-otherwise'])
      await sandbox.serve(name, () => {});
    fs.rmSync(path.join(sandbox.folder, 'gone_2.0'));
    fs.mkdirSync(path.join(sandbox.folder, 'anybody'));
    fs.chmodSync(path.join(sandbox.folder, 'anybody'), 0o1777);
    await sandbox.serve('anybody/vm_3.0', () => {});
  });
  afterAll(() => sandbox.close());

  it('finds what listens in a folder that only those trusted can write in, without configuration', () => {
    const { sockets, notes } = listeningSockets(host, { trusted });
    const ours = sockets.filter(({ folder }) => folder.startsWith(sandbox.folder));
    expect(ours.map(({ name }) => name)).toEqual(['vm_1.0', 'vm_1.4294967292']);
    expect(notes).toContainEqual(expect.stringMatching(/anybody" is not asked: others can write in it \(mode 1777\)/));
    expect(
      listeningSockets(host, { trusted, jobId: 1, stepId: 'extern' }).sockets.filter(
        ({ folder }) => folder === sandbox.folder,
      ).length,
    ).toBe(1);
  });

  it('believes no other', () => {
    const { sockets, notes } = listeningSockets(host, { trusted: new Set([4_242_424n]) });
    expect(sockets).toEqual([]);
    expect(notes).toContainEqual(expect.stringContaining(`it belongs to uid ${spoolUser}, not to root`));
  });

  it('touches no folder on a file system that may not answer, and none that a forged line names', () => {
    const line = (bound: string) => `0000000000000000: 00000002 00000000 00010000 0001 01 1 ${bound}\n`;
    const touched: string[] = [];
    const { sockets, notes } = listeningSockets({
      ...host,
      read: (file) =>
        file === '/proc/net/unix'
          ? line('/nfs/spool/vm_1.0') + line('/proc/vm_2.0') + line('/nonexistent/vm_3.0')
          : '1 0 0:1 / / rw - ext4 none rw\n2 1 0:2 / /nfs rw - nfs4 server:/ rw\n3 1 0:3 / /proc rw - proc proc rw\n',
      stat: (where) => {
        touched.push(where);
        return host.stat(where);
      },
    });
    expect(sockets).toEqual([]);
    expect(touched.filter((where) => where.startsWith('/nfs'))).toEqual([]);
    expect(notes).toEqual([
      expect.stringContaining('"/nfs/spool" is not asked: it is on a file system that may not answer'),
      expect.stringContaining('"/proc" is not asked: '),
      expect.stringContaining('"/nonexistent" is not asked: it is not there'),
    ]);
  });
});

it('whyStrange() believes a folder of those trusted that no other user can write in', () => {
  const stat = host.stat('/') ?? expect.unreachable();
  const folder = { ...stat, uid: 0n, mode: 0o040755n };
  const root = new Set([0n]);
  expect(whyStrange(folder, root)).toBeUndefined();
  expect(whyStrange({ ...folder, mode: 0o040700n }, root)).toBeUndefined();
  for (const mode of [0o040775n, 0o040757n, 0o041777n]) expect(whyStrange({ ...folder, mode }, root)).toMatch(/others/);
  expect(whyStrange({ ...folder, uid: 1000n }, root)).toMatch(/belongs to uid 1000/);
  expect(whyStrange({ ...folder, uid: 64030n }, new Set([0n, 64030n]))).toBeUndefined();
  expect(whyStrange({ ...folder, mode: 0o120777n }, root)).toMatch(/not a folder/);
});
