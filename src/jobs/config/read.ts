// What this node's slurm.conf and cgroup.conf say, as far as it matters here: found as Slurm finds them,
// believed only as law 5 allows (trust.ts), and never waited for without end (machine/bounded-reads.ts).

import path from 'node:path';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { ConfigError, hasCode, quote } from '../../machine/errors.js';
import { type ConfigFiles, configFiles, type LocatedFile } from '../../machine/guarded-files.js';
import type { Host } from '../../machine/host.js';
import { type LoadedConfig, loadConfig, wholeBudget } from './includes.js';
import { findSlurmds, type SlurmdProcess, slurmdOf } from './slurmd.js';
import { rootOnly, strangerAt, type TrustedUids, trustAlso, uidOfUser, usualSlurmUser } from './trust.js';
import { type SlurmConfiguration, settingsOf } from './values.js';

export type { NodeEntry } from './node-names.js';
export type { SlurmdProcess } from './slurmd.js';
export type { SlurmConfiguration } from './values.js';

export interface ReadConfigurationOptions {
  /** Read this slurm.conf instead of the one Slurm would find. */
  readonly file?: string;
  /** Ask the slurmd of this node what it was started with. Looks at the name of every process. */
  readonly lookForSlurmd?: boolean;
  /** Which slurmd (`-N`), where several run on this machine. */
  readonly nodeName?: string;
  /** Root's word on who SlurmUser is: needed only where slurm.conf is not root's and SlurmUser is not called `slurm`. */
  readonly slurmUser?: string;
  /** For all that is waited for together: other machines' file systems, slurmd, getent. Default 2000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const defaultFile = '/etc/slurm/slurm.conf';
/** A configless slurmd makes /run/slurm/conf a link to `<spool>/conf-cache` (from 20.02 on). */
const configlessFile = '/run/slurm/conf/slurm.conf';

/**
 * Reads Slurm's configuration. `undefined`: there is none at any of the places.
 *
 * @throws ConfigError where one is there that cannot be trusted, read in time or understood; ParseError where it
 * is no text; SystemCallError where the kernel refuses.
 */
export async function readSlurmConfiguration(
  host: Host,
  options: ReadConfigurationOptions = {},
): Promise<SlurmConfiguration | undefined> {
  const files = configFiles(host, deadlineIn(host, options.timeoutMs ?? 2000, options.signal));
  const notes: string[] = [];
  let slurmd: SlurmdProcess | undefined;
  let slurmdNames: readonly string[] | undefined;
  if (options.lookForSlurmd === true && options.file === undefined) {
    const found = await findSlurmds(host, files);
    notes.push(...found.notes);
    slurmd = slurmdOf(found.slurmds, options.nodeName);
    const names = found.slurmds.flatMap(({ nodeName }) => nodeName ?? []);
    if (names.length > 0 && names.length === found.slurmds.length) slurmdNames = [...new Set(names)].sort();
  }
  for (const candidate of candidatesFor(options, slurmd)) {
    try {
      const main = await locateCandidate(files, candidate);
      if (main === undefined) continue;
      const { slurm, cgroup, unreadable } = await loadBoth(host, files, main, options);
      const owners = main.ownersUnknown ? [`Whose ${quote(main.path)} is, the recording does not tell`] : [];
      const said = [...notes, ...owners, ...slurm.notes, ...(cgroup?.notes ?? []), ...unreadable];
      return {
        ...settingsOf(slurm, cgroup),
        file: main.path,
        foundBy: candidate.foundBy,
        slurmd,
        ...defined({ slurmdNames }),
        notes: said,
      };
    } catch (error) {
      if (host.source !== 'recording' || !hasCode(error, 'ERR_NOT_RECORDED')) throw error;
      notes.push(error.message);
    }
  }
  return notes.length === 0
    ? undefined
    : { files: [], slurmd, ...defined({ slurmdNames }), nodes: [], places: new Map(), notes };
}

interface Candidate {
  readonly path: string;
  readonly foundBy: string;
  /** It was named: that it is missing is an error. */
  readonly named: boolean;
}

function candidatesFor(options: ReadConfigurationOptions, slurmd: SlurmdProcess | undefined): readonly Candidate[] {
  if (options.file !== undefined) return [{ path: options.file, foundBy: 'option', named: true }];
  if (slurmd?.file !== undefined) return [{ path: slurmd.file, foundBy: slurmd.toldBy ?? 'slurmd', named: true }];
  const usual = [
    { path: defaultFile, foundBy: 'default', named: false },
    { path: configlessFile, foundBy: 'configless', named: false },
  ];
  return slurmd?.configless === true ? usual.reverse() : usual;
}

async function locateCandidate(
  files: ConfigFiles,
  { path: file, foundBy, named }: Candidate,
): Promise<LocatedFile | undefined> {
  if (!file.startsWith('/')) {
    throw new ConfigError(
      `Cannot read ${quote(file)} (${foundBy}): it is relative to a folder that is not known; name it by its full path`,
      { path: file },
    );
  }
  const found = await files.locate(file);
  if (found !== undefined || !named) return found;
  throw new ConfigError(`Cannot read ${quote(file)} (${foundBy}): it does not exist`, { path: file });
}

interface Loaded {
  readonly slurm: LoadedConfig;
  readonly cgroup: LoadedConfig | undefined;
  /** Why cgroup.conf is not known. */
  readonly unreadable: readonly string[];
}

/** Whose files are believed at once, and who besides, which may have to be asked from another machine. */
interface Trust {
  readonly trusted: TrustedUids;
  readonly others: () => Promise<TrustedUids>;
}

async function loadBoth(
  host: Host,
  files: ConfigFiles,
  main: LocatedFile,
  options: ReadConfigurationOptions,
): Promise<Loaded> {
  const { slurm, trust } = await loadMain(host, files, main, options);
  // Beside the path by which slurm.conf was found, not beside where its links lead (get_extra_conf_path).
  const beside = path.join(path.dirname(main.path), 'cgroup.conf');
  try {
    const file = await files.locate(beside);
    return { slurm, cgroup: file === undefined ? undefined : await loadTrusted(files, file, trust), unreadable: [] };
  } catch (error) {
    if (host.source !== 'recording' || !hasCode(error, 'ERR_NOT_RECORDED')) throw error;
    return { slurm, cgroup: undefined, unreadable: [error.message] };
  }
}

/**
 * slurm.conf says itself who SlurmUser is, whose files are believed. So one that is root's is read first without
 * what others own, and then with it. One that is not root's is believed only for the usual account, and only if
 * it names it.
 */
async function loadMain(
  host: Host,
  files: ConfigFiles,
  main: LocatedFile,
  options: ReadConfigurationOptions,
): Promise<{ readonly slurm: LoadedConfig; readonly trust: Trust }> {
  if (options.slurmUser !== undefined) {
    const trusted = await trustAlso(host, files, options.slurmUser);
    const trust = { trusted, others: async () => trusted };
    return { slurm: await loadTrusted(files, main, trust), trust };
  }
  if (main.foreign.length > 0) {
    const trusted = await trustAlso(host, files, usualSlurmUser);
    const trust = { trusted, others: async () => trusted };
    const slurm = await loadTrusted(files, main, trust);
    await requireNamed(host, files, { main, slurm, trusted });
    return { slurm, trust };
  }
  const slurm = await loadConfig(files, main, { trusted: rootOnly, budget: wholeBudget(), leaveOut: true });
  const user = slurm.settings.get('slurmuser');
  const others = async () => (user === undefined ? rootOnly : trustAlso(host, files, user.value));
  const trust = { trusted: rootOnly, others };
  if (slurm.leftOut.length === 0) return { slurm, trust };
  return { slurm: await loadConfig(files, main, { trusted: await others(), budget: wholeBudget() }), trust };
}

/** Asks who else is believed only where a file is not root's. */
async function loadTrusted(files: ConfigFiles, file: LocatedFile, trust: Trust): Promise<LoadedConfig> {
  const { trusted } = trust;
  if (strangerAt(file, trusted) === undefined) {
    const first = await loadConfig(files, file, { trusted, budget: wholeBudget(), leaveOut: true });
    if (first.leftOut.length === 0) return first;
  }
  return loadConfig(files, file, { trusted: await trust.others(), budget: wholeBudget() });
}

interface OwnerClaim {
  readonly main: LocatedFile;
  readonly slurm: LoadedConfig;
  readonly trusted: TrustedUids;
}

/** A slurm.conf that belongs to a user must name that user as SlurmUser. */
async function requireNamed(host: Host, files: ConfigFiles, { main, slurm, trusted }: OwnerClaim): Promise<void> {
  const user = slurm.settings.get('slurmuser')?.value ?? 'root';
  if (user === usualSlurmUser) return;
  const uid = await uidOfUser(host, files, user);
  if (uid !== undefined && uid !== 0 && trusted.uids.has(BigInt(uid))) return;
  throw new ConfigError(
    `Cannot trust ${quote(main.path)}: it belongs to ${usualSlurmUser}, but names ${quote(user)} as SlurmUser; ` +
      `give it to root (chown root ${quote(main.path)})`,
    { path: main.path },
  );
}
