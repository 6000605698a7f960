// Checks of what pam_slurm_cgroups needs around it, where it stands in the stack of sshd: the site's file, what proves later
// that a process came from a login, and the namespaces of jobs.

import { at } from '../jobs/config/place.js';
import type { SlurmConfiguration } from '../jobs/config/read.js';
import { namespacePlugin } from '../jobs/config/values.js';
import { ConfigError, hasCode, SlurmCgroupsError } from '../machine/errors.js';
import { requireRoots } from '../machine/guarded-files.js';
import {
  configurationFile,
  longestConfiguration,
  parseConfigFile,
  type SiteConfiguration,
} from '../policy/config-file.js';
import { type AdoptionOptions, defaultOptions } from '../policy/options.js';
import { parsePamLine } from '../policy/pam-line.js';
import { type Finding, fail, ok, unknown, warn } from './check.js';
import type { EtcFiles } from './etc-files.js';
import { isInOwnFile, linesRunIn, ownStack, type PamService, wordsForHelper } from './pam-check.js';
import type { PamLine, PamType } from './pam-stack.js';

/** The lines of our module that are run, and those of the stack before them. */
export interface ModuleLines {
  readonly account: PamLine | undefined;
  /** Absent: the module acts in the account phase alone. */
  readonly session: PamLine | undefined;
  /** By phase: whether pam_loginuid is run before the module. */
  readonly setsLoginuid: Readonly<Record<'account' | 'session', boolean>>;
}

/** `undefined`: the module is not in the stack of sshd, or not reached. */
export function moduleLines(service: PamService | undefined): ModuleLines | undefined {
  if (service === undefined) return undefined;
  const [account, session] = (['account', 'session'] as const).map((type) => found(service, type));
  if (account?.line === undefined && session?.line === undefined) return undefined;
  return {
    account: account?.line,
    session: session?.line,
    setsLoginuid: { account: account?.setsLoginuid === true, session: session?.setsLoginuid === true },
  };
}

function found(service: PamService, type: PamType): { readonly line?: PamLine; readonly setsLoginuid: boolean } {
  const run = linesRunIn(service, type);
  const lines = service.lines.filter((line) => run.has(line));
  const line = lines.find(({ module }) => module === 'pam_slurm_cgroups');
  if (line === undefined) return { setsLoginuid: false };
  return {
    line,
    setsLoginuid: lines.slice(0, lines.indexOf(line)).some(({ module }) => module === 'pam_loginuid'),
  };
}

/** A mistake in it, or somebody else who can change it, is a generic failure at each login. */
export async function siteFile(files: EtcFiles): Promise<Finding> {
  try {
    const text = await siteText(files);
    if (text === undefined) return ok(`no ${configurationFile}: the words of the PAM line and the defaults hold`);
    parseConfigFile(text);
    return ok(configurationFile);
  } catch (error) {
    if (!hasCode(error, 'ERR_CONFIG', 'ERR_PARSE')) throw error;
    return fail(
      `${configurationFile}: ${error.message}: each login is answered by action_generic_failure`,
      `correct ${configurationFile}, or remove it`,
    );
  }
}

/** As a login reads it. */
async function siteText(files: EtcFiles): Promise<string | undefined> {
  const located = await files.locate(configurationFile);
  if (located === undefined) return undefined;
  requireRoots(located);
  if (located.size > longestConfiguration)
    throw new ConfigError(`it is larger than ${longestConfiguration} bytes`, { path: configurationFile });
  return files.text(configurationFile);
}

/** What a login starts can be told from the user's other processes by its audit session, where the login has one of its own. */
export function auditSession({ account, session, setsLoginuid }: ModuleLines): Finding {
  if (setsLoginuid.account || setsLoginuid.session) return ok('each login has one of its own (pam_loginuid)');
  const line = account ?? session;
  const type = session === undefined ? 'account' : 'session';
  const place = type === 'account' ? line : session;
  const wanted = `"${type} required pam_loginuid.so"`;
  return warn(
    `pam_loginuid is not run before pam_slurm_cgroups${at(line?.place)}: of what leaves its job's cgroups nothing proves that a login started it`,
    place === undefined || isInOwnFile(place)
      ? `put ${wanted} before the line of pam_slurm_cgroups${at(place?.place)}`
      : ownStack(place.place.file, `with ${wanted} before pam_slurm_cgroups`),
  );
}

/** Without a session line of ours only the namespace of mounts can be joined, and only where that is asked for. */
export function namespaces(
  { account, session }: ModuleLines,
  { configuration, site }: { readonly configuration: SlurmConfiguration | undefined; readonly site: AdoptionOptions },
): Finding {
  if (configuration === undefined)
    return unknown(
      'whether jobs have some is not known: slurm.conf was not read',
      'see the check of the configuration',
    );
  const plugin = namespacePlugin(configuration);
  if (plugin === undefined) return ok('jobs have none of their own');
  const where = at(configuration.places.get('namespaceType') ?? configuration.places.get('jobContainerType'));
  const joins = joinOf(account ?? session, site);
  if (joins === false) return ok(`${plugin}${where}: sessions do not join them (join_container=false)`);
  if (joins === 'account') return ok(`${plugin}${where}: sessions join the namespace of mounts, and no other`);
  if (session !== undefined) return ok(`${plugin}${where}: sessions join them in the session phase`);
  return warn(
    `${plugin}${where}: sessions do not join the namespaces of their job, since pam_slurm_cgroups stands in account alone${at(account?.place)}`,
    'put "session required pam_slurm_cgroups.so" as the last session line of /etc/pam.d/sshd; or join_container=account on its account line',
  );
}

function joinOf(line: PamLine | undefined, site: AdoptionOptions): AdoptionOptions['joinContainer'] {
  try {
    return parsePamLine(wordsForHelper(line?.args ?? []), site).joinContainer;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return site.joinContainer; // the check of PAM says what is wrong
    throw error;
  }
}

/** What the site's file says; the defaults, where it cannot be used: the check of it says why. */
export async function siteOptions(files: EtcFiles): Promise<SiteConfiguration['options']> {
  try {
    const text = await siteText(files);
    return text === undefined ? defaultOptions : parseConfigFile(text).options;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return defaultOptions;
    throw error;
  }
}
