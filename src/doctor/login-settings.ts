// Two settings besides PAM's that decide what becomes of a session: logind's RemoveIPC and sshd's UsePAM.

import type { SourceLine } from '../jobs/config/place.js';
import type { Host } from '../machine/host.js';
import { type EtcFiles, linesOf } from './etc-files.js';

/** A yes or no, and where it is said; without a place it is the program's default. */
export interface YesNo {
  readonly yes: boolean;
  readonly place?: SourceLine;
}

/** logind.conf(5): a file of the same name in a folder before hides the later one. */
const logindFolders: readonly string[] = ['/etc/systemd', '/run/systemd', '/usr/local/lib/systemd', '/usr/lib/systemd'];
const logindPrograms: readonly string[] = ['/usr/lib/systemd/systemd-logind', '/lib/systemd/systemd-logind'];

/** RemoveIPC of logind.conf and its drop-ins; `undefined`: there is no logind here. */
export async function readRemoveIpc(host: Host, files: EtcFiles): Promise<YesNo | undefined> {
  if (!logindPrograms.some((program) => host.stat(program) !== undefined)) return undefined;
  let found: YesNo = { yes: true };
  for (const folder of logindFolders) {
    const file = `${folder}/logind.conf`;
    const text = await files.text(file);
    if (text === undefined) continue;
    // A commented line shows what was compiled in (Red Hat's is "no"): that is how systemd ships the file.
    const compiled = /^#RemoveIPC=(\S+)/m.exec(text)?.[1];
    if (compiled !== undefined) found = { yes: isYes(compiled) ?? true };
    found = removeIpcIn(text, file) ?? found;
    break;
  }
  const dropIns = new Map<string, string>();
  for (const folder of logindFolders)
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
  for (const { line, text: written } of linesOf(text)) {
    section = /^\[(.*)\]$/.exec(written)?.[1] ?? section;
    const value = section === 'Login' ? /^RemoveIPC\s*=\s*(\S+)/.exec(written)?.[1] : undefined;
    const yes = value === undefined ? undefined : isYes(value);
    if (yes !== undefined) found = { yes, place: { file, line } };
  }
  return found;
}

/** parse_boolean of systemd; another word is ignored with a warning. */
function isYes(value: string): boolean | undefined {
  if (/^(?:1|yes|y|true|t|on)$/i.test(value)) return true;
  return /^(?:0|no|n|false|f|off)$/i.test(value) ? false : undefined;
}

const sshdFolder = '/etc/ssh';
const maxDepth = 16; // SERVCONF_MAX_DEPTH of OpenSSH

/** UsePAM of sshd_config and what it includes: the first one counts, default no. `undefined`: no sshd is configured here. */
export async function readUsePam(files: EtcFiles): Promise<YesNo | undefined> {
  const file = `${sshdFolder}/sshd_config`;
  const text = await files.text(file);
  if (text === undefined) return undefined;
  return (await usePamIn(files, { file, text }, 0)) ?? { yes: false };
}

async function usePamIn(
  files: EtcFiles,
  { file, text }: { readonly file: string; readonly text: string },
  depth: number,
): Promise<YesNo | undefined> {
  for (const { line, text: written } of linesOf(text)) {
    const [, key = '', value = ''] = /^([A-Za-z]+)(?:\s*=\s*|\s+)(.*)$/.exec(written) ?? [];
    const word = key.toLowerCase();
    if (word === 'match') return undefined; // UsePAM is not allowed in what follows
    if (word === 'usepam') return { yes: /^"?yes\b/i.test(value), place: { file, line } };
    if (word !== 'include' || depth === maxDepth) continue;
    for (const pattern of value.split(/\s+/).map((one) => one.replaceAll('"', ''))) {
      for (const one of matching(files, pattern)) {
        const found = await usePamIn(files, { file: one, text: (await files.text(one)) ?? '' }, depth + 1);
        if (found !== undefined) return found;
      }
    }
  }
  return undefined;
}

/** glob(7) in the last name only, which is how sshd_config.d is included; relative to /etc/ssh. */
function matching(files: EtcFiles, pattern: string): readonly string[] {
  const whole = pattern.startsWith('/') ? pattern : `${sshdFolder}/${pattern}`;
  const slash = whole.lastIndexOf('/');
  const [folder, last] = [whole.slice(0, slash), whole.slice(slash + 1)];
  if (!/[*?]/.test(last)) return [whole];
  const parts = last.split(/([*?])/).map((part) => (part === '*' ? '.*' : part === '?' ? '.' : escaped(part)));
  const shape = new RegExp(`^(?!\\.)${parts.join('')}$`);
  return files
    .names(folder)
    .filter((name) => shape.test(name))
    .map((name) => `${folder}/${name}`);
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
