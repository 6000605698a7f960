// Sources of connections whose slurmd did not answer: they are not asked again for a minute, so that a machine which
// drops packets costs its users one wait, not one at each login.
//
// A source is an address, and many users may share it: a login node, a node with jobs of several users, a network
// behind NAT. One user can make it look silent for all of them: slurmd serves at most 256 connections at once (Slurm
// src/slurmd/slurmd/slurmd.c, MAX_THREADS) and any user can hold that many open; and a node too busy to run scontrol in
// time takes its sources for silent. Caller ID then fails for the others while that lasts, and for a minute longer. The
// next rule decides for them, as it does where the source has no Slurm; it puts no session into another user's job.

import { uptimeMs } from '../../machine/clock.js';
import { ifReadable, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import type { IpAddress } from '../../machine/ip-address.js';
import { makeStateFolder, removeStateFile, requireRootsFolder, stateFolder } from '../../machine/state-folder.js';

const folder = stateFolder('silent');

const rememberedMs = 60_000;

/** No more are remembered, so that a user with many addresses cannot fill the folder. */
const mostSources = 1024;

/** How many ms more the source is not to be asked; 0: ask it. A file that cannot be read counts as none. */
export function silentForMs(host: Host, source: IpAddress): number {
  const left = ifReadable(() => {
    if (host.stat(folder) === undefined) return 0;
    requireRootsFolder(host, folder);
    return leftMs(host, fileOf(source), uptimeMs(host));
  });
  return left ?? 0;
}

/** Remembers that the source was silent. If that cannot be written, it is asked again: no reason to refuse a login. */
export function rememberSilent(host: Host, source: IpAddress): void {
  try {
    if (host.self().uid !== 0) return;
    makeStateFolder(host, folder);
    const now = uptimeMs(host);
    if (forgetOthers(host, now) >= mostSources) return;
    removeStateFile(host, fileOf(source));
    host.create(fileOf(source), `${now + rememberedMs}\n`);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // another login was first, or the file system is full
  }
}

/** The canonical text of an address has digits, dots and colons alone: a file name, and one for each source. */
function fileOf({ text }: IpAddress): string {
  return `${folder}/${text}`;
}

/** A file holds the uptime in ms until which the source is not asked. 0: it is over, or the file is of an earlier boot. */
function leftMs(host: Host, file: string, now: number): number {
  if (host.stat(file) === undefined) return 0;
  const [, untilMs] = /^(\d{1,15})\n$/.exec(host.read(file)) ?? [];
  const left = Number(untilMs ?? 0) - now;
  return left > 0 && left <= rememberedMs ? left : 0;
}

/** Removes the files that are over, and counts the rest. */
function forgetOthers(host: Host, now: number): number {
  const names = host.names(folder);
  const over = names.filter((name) => leftMs(host, `${folder}/${name}`, now) === 0);
  for (const name of over) removeStateFile(host, `${folder}/${name}`);
  return names.length - over.length;
}
