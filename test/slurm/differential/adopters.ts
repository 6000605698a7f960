// Who is held against whom: pam_slurm_adopt, slurm-cgroups, and whichever adopter SLURM_ADOPTER names.

import path from 'node:path';
import process from 'node:process';
import type { Adopter, Site } from './adopter.js';
import { pamSlurmAdopt, pamSlurmCgroups } from './pam-login.js';
import { locate, moduleFolders, programFolders } from './pam-stack.js';
import type { Row } from './rows.js';
import { slurmAdd } from './slurm-add.js';
import { slurmCgroups } from './slurm-cgroups.js';
import { pamSlurmAdoptBySsh, slurmCgroupsBySsh } from './ssh-login.js';

/** Another module's file of which the adopter is tried instead of slurm-cgroups. */
export const other: string | undefined = process.env['SLURM_ADOPTER'];

export interface Sides {
  readonly there: Adopter;
  readonly here: Adopter;
}

export type SidesFor = (row: Row, uid: number) => Sides;

export async function sidesOn(site: Site): Promise<SidesFor> {
  const module = other === undefined ? undefined : ((await import(path.resolve(other))) as AdopterModule);
  const direct = { there: pamSlurmAdopt(site), here: module?.makeAdopter(site) ?? oursOn(site) };
  const bySsh = { there: pamSlurmAdoptBySsh(site), here: module === undefined ? slurmCgroupsBySsh(site) : direct.here };
  // Neither module adopts another process than its own.
  const named = { here: module === undefined ? slurmCgroups(site) : direct.here };
  return ({ by, process: its }, uid) => {
    if (by === 'ssh') return bySsh;
    return its === undefined ? direct : { ...named, there: slurmAdd(site, uid) };
  };
}

function oursOn(site: Site): Adopter {
  return site.module === undefined ? slurmCgroups(site) : pamSlurmCgroups(site);
}

interface AdopterModule {
  makeAdopter(site: Site): Adopter;
}

/** What is not installed here, with the packages of Debian that have it. */
export function missingHere(): readonly string[] {
  const needed = [
    ['pamtester', programFolders, 'pamtester'],
    ['pam_slurm_adopt.so', moduleFolders, 'libpam-slurm-adopt'],
    ['sshd', programFolders, 'openssh-server'],
    ['ssh', programFolders, 'openssh-client'],
    ['ip', programFolders, 'iproute2'],
    ['unshare', programFolders, 'util-linux'],
  ] as const;
  return needed.flatMap(([name, folders, from]) =>
    locate(name, folders) === undefined ? [`${name} (Debian: ${from})`] : [],
  );
}
