// Trees of plain directories as cgroups, for what no cgroup file system of this machine should hold: the hierarchy is
// made up, the directories are real.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import type { Hierarchy } from '../../src/cgroup/hierarchies.js';
import { rootPath } from '../../src/cgroup/path.js';
import type { Host } from '../../src/machine/host.js';

/** Memory, where this machine has such a file system: thousands of directories cost nothing there. */
const folder = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();

/** A new directory, removed with all below when `act` is through. */
export async function withTree<T>(act: (top: string) => Promise<T> | T): Promise<T> {
  const top = fs.mkdtempSync(`${folder}/slurm-cgroups-test-tree-`);
  try {
    return await act(top);
  } finally {
    spawnSync('rm', ['-rf', top]); // fs.rmSync does not get below PATH_MAX
  }
}

/** The directory as the root of a hierarchy that has no control files. */
export function asCgroup(host: Host, top: string): Cgroup {
  const hierarchy: Hierarchy = {
    version: 1,
    mountPoint: top,
    root: rootPath,
    controllers: ['test'],
    readOnly: false,
    key: 'test',
  };
  return new Cgroup(host, hierarchy, rootPath);
}

/** A chain of directories, each in the one before, deeper than a path may be long. */
export function makeChain(top: string, levels: number, name: string): void {
  let fd = fs.openSync(top, 'r');
  for (let level = 0; level < levels; level++) {
    fs.mkdirSync(`/proc/self/fd/${fd}/${name}`);
    const next = fs.openSync(`/proc/self/fd/${fd}/${name}`, 'r');
    fs.closeSync(fd);
    fd = next;
  }
  fs.closeSync(fd);
}
