// Folders below /run/slurm-cgroups, where one run leaves a word for the next. What is read there is acted upon, so
// it must be root's alone: no link, no other owner, no other writer.

import { ifThere, SlurmCgroupsError, SystemCallError } from './errors.js';
import type { FileStat, Host } from './host.js';
import { isFolderOf } from './ownership.js';

const parent = '/run/slurm-cgroups';

/** Where the folder of that name is, or the one that holds them all; gone after a boot. */
export function stateFolder(name?: string): string {
  return name === undefined ? parent : `${parent}/${name}`;
}

/**
 * Makes a folder of `stateFolder`, or one nested in such a folder, unless it is there, and those above it.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED where others than root can write to it; ERR_NOT_FOUND where another run
 * removes it at that moment.
 */
export function makeStateFolder(host: Host, folder: string): void {
  for (const path of pathsTo(folder)) {
    let stat = host.stat(path);
    if (stat === undefined) {
      try {
        host.mkdir(path);
      } catch (error) {
        if (!(error instanceof SystemCallError && error.errno === 'EEXIST')) throw error; // another run was first
      }
      stat = host.stat(path);
      if (stat === undefined) throw new SystemCallError('look at', path, 'ENOENT'); // and removed meanwhile
    }
    requireRoots(host, path, stat);
  }
}

/**
 * That a folder of `stateFolder`, or a nested one, is there and can be believed. `false`: it is not there.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED where others than root can write to it, or to one above it.
 */
export function requireStateFolder(host: Host, folder: string): boolean {
  for (const path of pathsTo(folder)) {
    const stat = host.stat(path);
    if (stat === undefined) return false;
    requireRoots(host, path, stat);
  }
  return true;
}

/** Removes a file of such a folder. Where it is gone already, another run was first. */
export function removeStateFile(host: Pick<Host, 'unlink'>, file: string): void {
  ifThere(() => host.unlink(file));
}

/** @throws SlurmCgroupsError ERR_NOT_PERMITTED unless it is a folder of the user who runs this, which no other user can write. */
export function requireRootsFolder(host: Host, path: string): void {
  requireRoots(host, path, host.stat(path));
}

function requireRoots(host: Host, path: string, stat: FileStat | undefined): void {
  if (stat === undefined || !isFolderOf(stat, BigInt(host.self().uid))) {
    throw new SlurmCgroupsError(
      'ERR_NOT_PERMITTED',
      `Cannot use "${path}": it must be a folder that only root can write`,
      { path },
    );
  }
}

/** From the folder that holds them all down to this one. */
function pathsTo(folder: string): readonly string[] {
  const names = folder
    .slice(parent.length)
    .split('/')
    .filter((name) => name !== '');
  if ((folder !== parent && !folder.startsWith(`${parent}/`)) || names.some((name) => name === '.' || name === '..'))
    throw new TypeError(`${folder} is no folder below ${parent}`);
  return [parent, ...names.map((_, at) => [parent, ...names.slice(0, at + 1)].join('/'))];
}
