import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { boundedReads } from '../../src/machine/bounded-reads.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { liveHost } from '../../src/machine/live-host.js';
import {
  hangingMount,
  hostWithMount,
  isRoot,
  needsRoot,
  nodeWith,
  put,
  trustedFolder,
} from '../support/config-sandbox.js';

describe.skipIf(!isRoot)(`boundedReads() on another machine's file system (${needsRoot})`, () => {
  test('asks a child, and never touches the path itself', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'a.conf', 'ClusterName=ä\n', { uid: 1234, mode: 0o640 });
    fs.symlinkSync('a.conf', path.join(folder, 'link'));
    const reads = boundedReads(hostWithMount(folder, 'nfs4'), deadlineIn(liveHost(), 5000));
    expect(await reads.stat(file)).toEqual({ mode: 0o100640n, uid: 1234n, size: 15n });
    expect(await reads.stat(path.join(folder, 'link'))).toMatchObject({ mode: 0o120777n });
    expect(await reads.stat(path.join(folder, 'missing'))).toBeUndefined();
    expect(await reads.stat(path.join(file, 'below'))).toBeUndefined();
    expect(await reads.readlink(path.join(folder, 'link'))).toBe('a.conf');
    expect(await reads.text(file, 15)).toBe('ClusterName=ä\n');
    expect(await reads.text(file, 14)).toBeUndefined();
  });

  test('says what a child complains of', async () => {
    const folder = trustedFolder();
    const reads = boundedReads(hostWithMount(folder, 'lustre'), deadlineIn(liveHost(), 5000));
    const error = { code: 'ERR_CONFIG', message: `Cannot read "${folder}": "Is a directory"` };
    await expect(reads.text(folder, 100)).rejects.toMatchObject(error);
    await expect(reads.readlink(folder)).rejects.toMatchObject({ code: 'ERR_CONFIG' });
  });

  test('gives up on a child that cannot be killed, within the one budget of all', async () => {
    const host = hostWithMount('/nfs', 'nfs', { run: () => new Promise(() => {}) });
    const reads = boundedReads(host, deadlineIn(host, 50));
    const error = {
      code: 'ERR_CONFIG',
      message: 'Cannot look at "/nfs/slurm.conf": its file system (type nfs) does not answer within 50 ms',
      subject: { path: '/nfs/slurm.conf' },
    };
    const begin = performance.now();
    await expect(reads.stat('/nfs/slurm.conf')).rejects.toMatchObject(error);
    await expect(reads.stat('/nfs/slurm.conf')).rejects.toMatchObject(error);
    expect(performance.now() - begin).toBeLessThan(30_000);
  });

  test('stops at a signal', async () => {
    const host = hostWithMount('/nfs', 'nfs', { run: () => new Promise(() => {}) });
    const controller = new AbortController();
    const reads = boundedReads(host, deadlineIn(host, 60_000, controller.signal));
    const look = reads.stat('/nfs/slurm.conf');
    controller.abort(new Error('enough'));
    await expect(look).rejects.toThrow('enough');
    await expect(reads.stat('/')).rejects.toThrow('enough');
  });

  test('asks a child for everything where there is no mount table', async () => {
    const live = liveHost();
    let asked = 0;
    const run: typeof live.run = (...args) => {
      asked++;
      return live.run(...args);
    };
    const read = (file: string) => live.read(file === '/proc/self/mountinfo' ? '/proc/none' : file);
    const reads = boundedReads({ ...live, run, read }, deadlineIn(liveHost(), 5000));
    expect(await reads.stat('/')).toMatchObject({ uid: 0n });
    expect(asked).toBe(1);
  });
});

test('boundedReads() reads what is local itself', async () => {
  const run = () => Promise.reject(new Error('no child'));
  const reads = boundedReads({ ...hostWithMount('/nfs', 'nfs'), run }, deadlineIn(liveHost(), 1000));
  expect(await reads.stat('/')).toMatchObject({ uid: 0n });
  expect(await reads.text('/etc/passwd', 1 << 20)).toContain('root:');
});

test('boundedReads() reads a recording from memory, whatever was mounted', async () => {
  const reads = boundedReads(nodeWith({ '/a': { text: 'b' } }), deadlineIn(liveHost(), 0));
  expect(await reads.text('/a', 1)).toBe('b');
});

test.skipIf(!isRoot)(`boundedReads() ends on a real mount that hangs (needs root and /dev/fuse)`, async ({ skip }) => {
  const folder = trustedFolder();
  if (!fs.existsSync('/dev/fuse') || !hangingMount(folder)) skip('no FUSE here');
  const begin = performance.now();
  const message = `Cannot look at "${folder}": its file system (type fuse) does not answer within 300 ms`;
  await expect(boundedReads(liveHost(), deadlineIn(liveHost(), 300)).stat(folder)).rejects.toMatchObject({ message });
  expect(performance.now() - begin).toBeLessThan(30_000);
});
