// For the tests of the configuration: folders on the real machine that only root could have made, and nodes in
// memory. /tmp would not do: all users can write there, and so nothing in it is believed.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterEach } from 'vitest';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';

export const isRoot: boolean = process.geteuid?.() === 0;
export const needsRoot = 'needs root: files of other owners, and folders that only root can write';

const made: string[] = [];
const undo: (() => void)[] = [];

/** Undoes something after the test, the last first. */
export function afterwards(act: () => void): void {
  undo.push(act);
}

afterEach(() => {
  for (const act of undo.splice(0).reverse()) act();
  for (const folder of made.splice(0)) fs.rmSync(folder, { recursive: true, force: true });
});

/** A folder of root's in a folder of root's, removed after the test. */
export function trustedFolder(): string {
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-');
  fs.chmodSync(folder, 0o755);
  made.push(folder);
  return folder;
}

export interface FileOptions {
  readonly uid?: number;
  readonly mode?: number;
}

/** Writes a file into `folder` and gives its path; folders in its name are made. */
export function put(folder: string, name: string, text: string | Buffer, options: FileOptions = {}): string {
  const file = path.join(folder, name);
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o755 });
  fs.writeFileSync(file, text);
  fs.chmodSync(file, options.mode ?? 0o644);
  if (options.uid !== undefined) fs.lchownSync(file, options.uid, 0);
  return file;
}

/** The real machine, on which what lies below `folder` is on a file system of another type. */
export function hostWithMount(folder: string, type: string, changes: Partial<Host> = {}): Host {
  const live = liveHost();
  const table = `1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / ${folder} rw - ${type} server:/export rw\n`;
  return {
    ...live,
    read: (file) => (file === '/proc/self/mountinfo' ? table : live.read(file)),
    stat: (file) => (isInside(file, folder) ? neverTouched(file) : live.stat(file)),
    ...changes,
  };
}

function isInside(file: string, folder: string): boolean {
  return file === folder || file.startsWith(`${folder}/`);
}

function neverTouched(file: string): never {
  throw new Error(`${file} is touched by this process, which would hang`);
}

/** A FUSE file system whose program never answers: what a dead NFS server looks like. */
export function hangingMount(folder: string): boolean {
  const script =
    'exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 test "$1" && echo up && read x';
  const child = spawn('/bin/bash', ['-c', script, 'bash', folder], { stdio: ['pipe', 'pipe', 'ignore'] });
  afterwards(() => {
    spawnSync('umount', ['-l', folder]);
    child.kill('SIGKILL');
  });
  for (let tries = 0; tries < 100; tries++) {
    if (fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${folder} `)) return true;
    spawnSync('sleep', ['0.02']);
  }
  return false;
}

export interface NodeFile {
  readonly text?: string;
  readonly link?: string;
  readonly uid?: number;
  readonly mode?: number;
}

/** A node in memory: these files, the folders above them root's unless they are given too, and nothing else. */
export function nodeWith(files: Readonly<Record<string, NodeFile>>): Host {
  return recordedHost(recordingOf(files));
}

/** The same as the text of a recording. */
export function recordingOf(files: Readonly<Record<string, NodeFile>>): string {
  const lines: object[] = [{ recording: 'slurm-cgroups', version: 1, self: { pid: 4711, uid: 0 } }];
  const listings = new Map<string, Record<string, string>>([['/', {}]]);
  const add = (where: string, kind: string) => {
    if (where === '/') return;
    const parent = path.dirname(where);
    add(parent, 'directory');
    const listing = listings.get(parent) ?? {};
    listings.set(parent, { ...listing, [path.basename(where)]: listing[path.basename(where)] ?? kind });
  };
  const stat = (where: string, mode: number, uid: number) => {
    lines.push({ stat: where, is: [mode, uid, 0, 1, 1, 1, 0, 0, 0].map(String) });
  };
  for (const [where, file] of Object.entries(files)) {
    const kind = file.link !== undefined ? 'symlink' : file.text !== undefined ? 'file' : 'directory';
    add(where, kind);
    const types = {
      symlink: 0o120777,
      file: 0o100000 | (file.mode ?? 0o644),
      directory: 0o040000 | (file.mode ?? 0o755),
    };
    stat(where, types[kind], file.uid ?? 0);
    if (file.text !== undefined) lines.push({ read: where, text: file.text });
    if (file.link !== undefined) lines.push({ link: where, to: file.link });
  }
  for (const [where, entries] of listings) {
    lines.push({ list: where, entries });
    if (files[where] === undefined) stat(where, 0o040755, 0);
  }
  return lines.map((line) => JSON.stringify(line)).join('\n');
}
