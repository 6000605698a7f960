// Processes that do not end, for real: blocked on a file system whose program never answers, traced, frozen,
// dead with a parent that does not look. Each is undone after the test, the last first.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, test } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { type Member, MemberReader } from '../../src/cgroup/killing.js';
import { rootPath } from '../../src/cgroup/path.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';

const undo: (() => void | Promise<void>)[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  // All are killed before any is waited for: one may keep another from ending.
  const ending = children.splice(0).filter((child) => child.exitCode === null && child.signalCode === null);
  const exits = ending.map((child) => once(child, 'exit'));
  for (const child of ending) child.kill('SIGKILL');
  for (const act of undo.splice(0).reverse()) await act();
  await Promise.all(exits);
});

export function afterwards(act: () => void | Promise<void>): void {
  undo.push(act);
}

/** A process of the test's, killed and reaped afterwards. */
export async function started(
  file: string,
  args: readonly string[],
  options: { readonly uid?: number } = {},
): Promise<ChildProcess & { readonly pid: number }> {
  const who = options.uid === undefined ? {} : { uid: options.uid, gid: options.uid };
  const child = spawn(file, [...args], { stdio: ['ignore', 'pipe', 'inherit'], cwd: '/', ...who });
  await once(child, 'spawn');
  const { pid } = child;
  if (pid === undefined) throw new Error(`${file} did not start`);
  children.push(child);
  return Object.assign(child, { pid });
}

/** The first line a process prints. */
export async function lineFrom(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('It has no output');
  const [text] = await once(child.stdout, 'data');
  return String(text).split('\n')[0] ?? '';
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries === 3000) throw new Error(`It did not come to this: ${what}`);
    await pause(10);
  }
}

export function stateOf(pid: number): string {
  return /\) (\S)/.exec(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '';
}

/** The process as the killing would hand it over. */
export function memberFor(pid: number, host: Host = liveHost()): Member {
  const [hierarchy] = discoverHierarchies().all;
  if (hierarchy === undefined) throw new Error('There are no cgroups');
  const member = new MemberReader(host).read(pid, new Cgroup(host, hierarchy, rootPath));
  if (member === undefined) throw new Error(`There is no process ${pid}`);
  return member;
}

/** A test that mounts a file system of its own. In CI only a kernel without FUSE is a reason to skip it. */
export function fuseTest(name: string, act: () => Promise<void>): void {
  test(name, async (context) => {
    const isRoot = process.geteuid?.() === 0;
    if (!isRoot && process.env['CI'] === 'true') throw new Error('Skipped, which CI does not allow: needs root');
    if (!isRoot) context.skip('needs root');
    if (!fs.existsSync('/dev/fuse')) context.skip('this kernel has no FUSE');
    await act();
  });
}

/**
 * The program behind a FUSE file system with one file in which it never answers a read (include/uapi/linux/fuse.h).
 * The file is opened for direct I/O: who waits for such an answer cannot be killed once the request was taken.
 */
const fuseProgram = `
  const fs = require('fs'), { spawn } = require('child_process');
  const fd = fs.openSync('/dev/fuse', 'r+');
  const [folder, source] = process.argv.slice(1);
  spawn('mount', ['-i', '-t', 'fuse', '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other', source, folder], { stdio: ['ignore', 'inherit', 'inherit', fd] })
    .on('exit', (code) => { if (code !== 0) process.exit(1); console.log('mounted'); setImmediate(serve); });
  const attributes = (node) => { const b = Buffer.alloc(88); b.writeBigUInt64LE(node, 0); b.writeUInt32LE(node === 1n ? 0o40755 : 0o100644, 60); b.writeUInt32LE(1, 64); b.writeBigUInt64LE(4096n, 8); return b; };
  const valid = () => { const b = Buffer.alloc(40); b.writeBigUInt64LE(2n, 0); b.writeBigUInt64LE(3600n, 16); b.writeBigUInt64LE(3600n, 24); return b; };
  const init = () => { const b = Buffer.alloc(64); b.writeUInt32LE(7, 0); b.writeUInt32LE(31, 4); b.writeUInt32LE(4096, 20); return b; };
  const opened = () => { const b = Buffer.alloc(16); b.writeUInt32LE(1, 8); return b; };
  const attr = (node) => { const b = Buffer.alloc(16); b.writeBigUInt64LE(3600n, 0); return Buffer.concat([b, attributes(node)]); };
  function serve() {
    const request = Buffer.alloc(1 << 17);
    for (;;) {
      let length;
      try { length = fs.readSync(fd, request, 0, request.length, null); } catch (error) { if (error.code === 'ENODEV') process.exit(0); if (error.code === 'EINTR' || error.code === 'ENOENT') continue; throw error; }
      const opcode = request.readUInt32LE(4), unique = request.readBigUInt64LE(8), node = request.readBigUInt64LE(16);
      const silent = [2, 15, 36, 42];
      if (opcode === 15) fs.writeSync(1, 'read\\n');
      if (silent.includes(opcode)) continue;
      const answers = { 1: () => Buffer.concat([valid(), attributes(2n)]), 3: () => attr(node), 14: opened, 27: opened, 26: init };
      const body = answers[opcode]?.();
      const head = Buffer.alloc(16);
      head.writeUInt32LE(16 + (body?.length ?? 0), 0); head.writeInt32LE(body === undefined ? -38 : 0, 4); head.writeBigUInt64LE(unique, 8);
      try { fs.writeSync(fd, body === undefined ? head : Buffer.concat([head, body])); } catch (error) { if (error.code !== 'ENOENT') throw error; }
    }
  }
`;

export interface SilentFuse {
  readonly folder: string;
  readonly file: string;
  /** Waits until the program has taken a read: from then on who waits for it cannot be killed. */
  taken(): Promise<void>;
}

/** Mounts it on a folder of its own. Ending the program frees what waits. */
export async function mountSilentFuse(source: string): Promise<SilentFuse> {
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-fuse-');
  afterwards(() => fs.rmdirSync(folder));
  afterwards(() => void spawnSync('umount', ['-l', folder]));
  const program = await started(process.execPath, ['-e', fuseProgram, folder, source]);
  if ((await lineFrom(program)) !== 'mounted') throw new Error('It was not mounted');
  return { folder, file: `${folder}/file`, taken: async () => void (await lineFrom(program)) };
}
