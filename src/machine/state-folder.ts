// Folders below /run/slurm-cgroups, where one run leaves a word for the next. What is read there is acted upon, so
// it must be root's alone: no link, no other owner, no other writer.

import { ifThere, SlurmCgroupsError, SystemCallError } from './errors.js';
import type { Host } from './host.js';
import { isFolderOf } from './ownership.js';

const parent = '/run/slurm-cgroups';

/** Where the folder of that name is; gone after a boot. */
export function stateFolder(name: string): string {
  return `${parent}/${name}`;
}

/**
 * Makes a folder of `stateFolder`, unless it is there.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED where others than root can write to it.
 */
export function makeStateFolder(host: Host, folder: string): void {
  for (const path of [parent, folder]) {
    if (host.stat(path) === undefined) {
      try {
        host.mkdir(path);
      } catch (error) {
        if (!(error instanceof SystemCallError && error.errno === 'EEXIST')) throw error; // another run was first
      }
    }
    requireRootsFolder(host, path);
  }
}

/** Removes a file of such a folder. Where it is gone already, another run was first. */
export function removeStateFile(host: Pick<Host, 'unlink'>, file: string): void {
  ifThere(() => host.unlink(file));
}

/** @throws SlurmCgroupsError ERR_NOT_PERMITTED unless it is a folder of the user who runs this, which no other user can write. */
export function requireRootsFolder(host: Host, path: string): void {
  const stat = host.stat(path);
  if (stat === undefined || !isFolderOf(stat, BigInt(host.self().uid))) {
    throw new SlurmCgroupsError(
      'ERR_NOT_PERMITTED',
      `Cannot use "${path}": it must be a folder that only root can write`,
      { path },
    );
  }
}
