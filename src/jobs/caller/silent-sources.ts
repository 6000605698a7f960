// Sources of connections whose slurmd did not answer: for a minute they are not asked again, so that a machine which
// drops packets costs its users one wait, not one a login.
//
// A source is an address, and everybody's who comes from there (a shared login node, a node with jobs of several users,
// a network behind NAT). Dropping packets is root's, but a slurmd that serves all the connections that it serves at once
// (256: Slurm src/slurmd/slurmd/slurmd.c, MAX_THREADS) accepts no more, and anybody can open them and say nothing; and
// a node too busy to run scontrol in time takes its sources for silent. So one user can take caller ID from the others:
// while he does it, and by this memory a minute longer. Then the next rule applies to them, as it does without a Slurm
// at the source; into a job that is not their own nobody comes by it.

import { SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import type { IpAddress } from '../../machine/ip-address.js';
import { makeStateFolder, requireRootsFolder, stateFolder } from '../../machine/state-folder.js';

const folder = stateFolder('silent');

const rememberedSeconds = 60;

/** Whoever comes from more addresses than this at once is not remembered with all of them. */
const mostSources = 1024;

/** How many seconds more the source is not to be asked; 0: it may be. What cannot be read says nothing. */
export function silentFor(host: Host, source: IpAddress): number {
  try {
    if (host.stat(folder) === undefined) return 0;
    requireRootsFolder(host, folder);
    return secondsLeft(host, fileOf(source), bootSeconds(host));
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return 0;
    throw error;
  }
}

/** Remembers that the source was silent. Where that cannot be written down, it is asked again: no reason to refuse a login. */
export function rememberSilent(host: Host, source: IpAddress): void {
  try {
    if (host.self().uid !== 0) return;
    makeStateFolder(host, folder);
    const now = bootSeconds(host);
    if (forgetOthers(host, now) >= mostSources) return;
    removeFile(host, fileOf(source));
    host.create(fileOf(source), `${(now + rememberedSeconds).toFixed(2)}\n`);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // another login was first, or the file system is full
  }
}

/** The canonical text of an address has digits, dots and colons alone: a file name, and one for each source. */
function fileOf({ text }: IpAddress): string {
  return `${folder}/${text}`;
}

/** CLOCK_BOOTTIME: nobody sets it, and it goes on in a suspended machine. */
function bootSeconds(host: Host): number {
  return Number(/^\d+\.\d+/.exec(host.read('/proc/uptime'))?.[0] ?? Number.NaN);
}

/** 0 for what is over, or cannot be: an expiry from an earlier boot lies too far ahead, or is over. */
function secondsLeft(host: Host, file: string, now: number): number {
  if (host.stat(file) === undefined) return 0;
  const left = Number(host.read(file)) - now;
  return left > 0 && left <= rememberedSeconds ? left : 0;
}

/** Removes what is over, and counts the rest. */
function forgetOthers(host: Host, now: number): number {
  const names = host.names(folder);
  const over = names.filter((name) => secondsLeft(host, `${folder}/${name}`, now) === 0);
  for (const name of over) removeFile(host, `${folder}/${name}`);
  return names.length - over.length;
}

function removeFile(host: Host, file: string): void {
  try {
    host.unlink(file);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error; // it is not there (any more)
  }
}
