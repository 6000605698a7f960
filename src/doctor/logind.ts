// logind: whether it runs here at all, and what its RemoveIPC says. Only a logind that runs removes anything, and
// pam_systemd does nothing without one (it looks for /run/systemd/seats).

import type { SourceLine } from '../jobs/config/place.js';
import { hasCode, SlurmCgroupsError } from '../machine/errors.js';
import { type FileStat, type Host, isRegularFile } from '../machine/host.js';
import { daemonsNamed, hasAnswer, seesAllProcesses } from './daemons.js';
import { type EtcFiles, leadsToNull } from './etc-files.js';
import { systemdLines } from './etc-lines.js';

/** A yes or no, and where it is said; without a place it is the program's default. */
export interface YesNo {
  readonly yes: boolean;
  readonly place?: SourceLine;
}

/** `stopped`: it is installed and could be started. */
export type LogindState = 'runs' | 'missing' | 'masked' | 'stopped';

/** By priority: the first that has a unit decides (systemd.unit(5)). */
const unitFolders: readonly string[] = [
  '/etc/systemd/system.control',
  '/run/systemd/system.control',
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
];
const programs: readonly string[] = ['/usr/lib/systemd/systemd-logind', '/lib/systemd/systemd-logind'];

/** A recording that holds only some processes does not show that it is stopped: what is installed counts as running. */
export function logindState(host: Host): LogindState {
  if (daemonsNamed(host, 'systemd-logind').length > 0) return 'runs';
  if (!programs.some((program) => statIfKnown(host, program) !== undefined)) return 'missing';
  if (isMasked(host)) return 'masked';
  return seesAllProcesses(host) || !isSystemdFirst(host) ? 'stopped' : 'runs';
}

/** A masked unit is a link to /dev/null, or an empty file. */
function isMasked(host: Host): boolean {
  for (const folder of unitFolders) {
    const unit = `${folder}/systemd-logind.service`;
    const stat = statIfKnown(host, unit);
    if (stat !== undefined) return leadsToNull(host, unit) || (isRegularFile(stat) && isEmpty(host, unit));
  }
  return false;
}

function isEmpty(host: Host, file: string): boolean {
  try {
    return host.read(file) === '';
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return false;
    throw error;
  }
}

/** Where systemd is not the first process (containers, other inits) nothing starts logind. */
function isSystemdFirst(host: Host): boolean {
  if (!hasAnswer(host, '/proc/1/comm')) return true;
  return /^(?:systemd|init)\n$/.test(host.read('/proc/1/comm'));
}

function statIfKnown(host: Host, file: string): FileStat | undefined {
  try {
    return host.stat(file);
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_RECORDED')) return undefined;
    throw error;
  }
}

/** logind.conf(5): a file of the same name in a folder before hides the later one. */
const configFolders: readonly string[] = ['/etc/systemd', '/run/systemd', '/usr/local/lib/systemd', '/usr/lib/systemd'];

/** RemoveIPC of logind.conf and its drop-ins. */
export async function readRemoveIpc(files: EtcFiles): Promise<YesNo> {
  let found: YesNo = { yes: true };
  for (const folder of configFolders) {
    const file = `${folder}/logind.conf`;
    const text = await files.text(file);
    if (text === undefined) continue;
    // A commented line shows what was compiled in (Red Hat's is "no"): that is how systemd ships the file.
    const compiled = /^#RemoveIPC=(\S+)[ \t]*$/m.exec(text)?.[1];
    if (compiled !== undefined) found = { yes: isYes(compiled) ?? true };
    found = removeIpcIn(text, file) ?? found;
    break;
  }
  const dropIns = new Map<string, string>();
  for (const folder of configFolders)
    for (const name of files.names(`${folder}/logind.conf.d`))
      if (name.endsWith('.conf') && !dropIns.has(name)) dropIns.set(name, `${folder}/logind.conf.d/${name}`);
  for (const [, file] of [...dropIns].sort(([a], [b]) => (a < b ? -1 : 1)))
    found = removeIpcIn((await files.text(file)) ?? '', file) ?? found;
  return found;
}

/** The last one in section [Login] counts. */
function removeIpcIn(text: string, file: string): YesNo | undefined {
  let section = '';
  let found: YesNo | undefined;
  for (const { line, text: written } of systemdLines(text)) {
    section = /^\[(.*)\]$/.exec(written)?.[1] ?? section;
    const value = section === 'Login' ? /^RemoveIPC\s*=\s*(.*)$/.exec(written)?.[1] : undefined;
    const yes = value === undefined ? undefined : isYes(value);
    if (yes !== undefined) found = { yes, place: { file, line } };
  }
  return found;
}

/** parse_boolean of systemd; another word, also one with a comment behind it, is ignored with a warning. */
function isYes(value: string): boolean | undefined {
  if (/^(?:1|yes|y|true|t|on)$/i.test(value)) return true;
  return /^(?:0|no|n|false|f|off)$/i.test(value) ? false : undefined;
}
