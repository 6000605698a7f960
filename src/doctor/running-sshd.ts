// The sshd that runs: with which file and options it was started, and what it says of its settings itself (sshd -T).
// Where none runs, or this is a recording, the files in /etc say what one would do.

import { hasCode, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { daemonsNamed } from './daemons.js';
import type { EtcFiles } from './etc-files.js';
import { readSshdConfig, type SshdSettings } from './sshd-config.js';

/** How a listening sshd was started. */
export interface SshdStart {
  readonly pid: number;
  readonly program: string;
  /** `-f`. Absent: the usual file. */
  readonly file?: string;
  /** `-o`, each `Name=value`: they count before the file. */
  readonly options: readonly string[];
}

/** The settings of one sshd, and how they are known. */
export interface KnownSshd extends SshdSettings {
  /** For people: `sshd 812 -f /etc/ssh/users_config`; absent where there is nothing unusual. */
  readonly named?: string;
}

/** Of each sshd that listens; of the one that the files in /etc describe where none is seen. */
export async function readSshds(host: Host, files: EtcFiles): Promise<readonly KnownSshd[]> {
  if (host.source === 'recording') {
    const recorded = recordedSshds(host);
    if (recorded !== undefined) return recorded;
  }
  const known: KnownSshd[] = [];
  for (const start of await listeningSshds(host, files)) {
    const settings = await settingsOf(files, start);
    if (settings === undefined) continue;
    const words = [...(start.file === undefined ? [] : ['-f', start.file]), ...start.options.map((one) => `-o ${one}`)];
    known.push({ ...settings, ...(words.length === 0 ? {} : { named: `sshd ${start.pid} ${words.join(' ')}` }) });
  }
  if (known.length > 0) return known;
  const settings = await readSshdConfig(files);
  return settings === undefined ? [] : [settings];
}

/** Kept in a recording under a name that is no path: command lines are not recorded, and nothing can be asked. */
const sshdAnswer = 'sshd';

/** A line of a recording: what the sshds of the node were found to say. */
export function sshdRecordingLine(sshds: readonly KnownSshd[]): string {
  return JSON.stringify({ read: sshdAnswer, text: JSON.stringify(sshds) });
}

function recordedSshds(host: Host): readonly KnownSshd[] | undefined {
  try {
    const told: unknown = JSON.parse(host.read(sshdAnswer));
    return Array.isArray(told) && told.every(isKnownSshd) ? told : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, 'ERR_NOT_RECORDED')) return undefined;
    throw error;
  }
}

function isKnownSshd(value: unknown): value is KnownSshd {
  if (typeof value !== 'object' || value === null) return false;
  const [usePam, named, service]: readonly unknown[] = ['usePam', 'named', 'pamServiceName'].map((key) =>
    Reflect.get(value, key),
  );
  const isText = (one: unknown) => one === undefined || typeof one === 'string';
  return isText(named) && isText(service) && (usePam === undefined || isSetting(usePam));
}

function isSetting(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || typeof Reflect.get(value, 'yes') !== 'boolean') return false;
  const place: unknown = Reflect.get(value, 'place');
  if (place === undefined) return true;
  if (typeof place !== 'object' || place === null) return false;
  return typeof Reflect.get(place, 'file') === 'string' && typeof Reflect.get(place, 'line') === 'number';
}

/** Command lines are read by a child: that of a process on a dead file system may never come. */
async function listeningSshds(host: Host, files: EtcFiles): Promise<readonly SshdStart[]> {
  if (host.source !== 'live') return [];
  const starts: SshdStart[] = [];
  for (const { pid, file } of daemonsNamed(host, 'sshd')) {
    if (!(await isInOurNamespace(host, pid))) continue;
    const found = await files.run('/bin/cat', ['--', `/proc/${pid}/cmdline`]);
    const start = found?.exitCode === 0 ? sshdStart(found.stdout) : undefined;
    if (start !== undefined) starts.push({ pid, program: file, ...start });
  }
  return starts;
}

/** The paths of an sshd in a container are not ours. */
async function isInOurNamespace(host: Host, pid: number): Promise<boolean> {
  try {
    return ['pid', 'mnt'].every(
      (one) => host.readlink(`/proc/${pid}/ns/${one}`) === host.readlink(`/proc/self/ns/${one}`),
    );
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return false;
    throw error;
  }
}

/** Options of sshd that take a value (OpenSSH 10 sshd.c, getopt). */
const withValue = 'CEbcfghkopu';

/**
 * What the command line of a listening sshd says. From 8.2 on it writes it over: `sshd: /usr/sbin/sshd -D [listener] 0 of
 * 10-100 startups`. `undefined`: it is the sshd of a session.
 */
export function sshdStart(commandLine: string): Omit<SshdStart, 'pid' | 'program'> | undefined {
  const title = /^sshd: (.*?)(?: \[listener\] .*)?\0*$/s.exec(commandLine);
  if (title !== null && !commandLine.includes(' [listener] ')) return undefined;
  const words = title === null ? commandLine.split('\0').slice(0, -1) : (title[1] ?? '').split(' ');
  let file: string | undefined;
  const options: string[] = [];
  for (let at = 1; at < words.length; at++) {
    const word = words[at] ?? '';
    if (!word.startsWith('-') || word === '--') break;
    for (let index = 1; index < word.length; index++) {
      const letter = word.charAt(index);
      if (letter === 'i') return undefined; // for one connection only
      if (!withValue.includes(letter)) continue;
      const value = index + 1 < word.length ? word.slice(index + 1) : words[++at];
      if (letter === 'f' && value !== undefined) file = value;
      if (letter === 'o' && value !== undefined) options.push(value);
      break;
    }
  }
  return { options, ...(file === undefined ? {} : { file }) };
}

/** `sshd -T` reads what this sshd would read now, with all that it includes. `undefined`: it does not answer. */
async function askSshd(files: EtcFiles, { program, file, options }: SshdStart): Promise<SshdSettings | undefined> {
  if (!(await isRootsAlone(files, program))) return undefined;
  const words = ['-T', ...(file === undefined ? [] : ['-f', file]), ...options.flatMap((one) => ['-o', one])];
  const result = await files.run(program, words);
  return result?.exitCode === 0 ? saidBySshd(result.stdout) : undefined;
}

/** Only a program that root alone can write is run. */
async function isRootsAlone(files: EtcFiles, program: string): Promise<boolean> {
  const found = await files.locate(program);
  return found !== undefined && found.foreign.length === 0;
}

/** Lines of `sshd -T`: `usepam yes`. `undefined`: UsePAM is not among them, as where sshd was built without PAM. */
export function saidBySshd(text: string): SshdSettings | undefined {
  const usePam = /^usepam (yes|no)$/m.exec(text)?.[1];
  const service = /^pamservicename (\S+)$/m.exec(text)?.[1];
  if (usePam === undefined) return undefined;
  return { usePam: { yes: usePam === 'yes' }, ...(service === undefined ? {} : { pamServiceName: service }) };
}

/** By its own word; the files tell where that is written, and answer for an sshd that does not. */
async function settingsOf(files: EtcFiles, start: SshdStart): Promise<SshdSettings | undefined> {
  const asked = await askSshd(files, start);
  const written = await readSshdConfig(files, start.file);
  const option = start.options.flatMap((one) => /^usepam\s*[=\s]\s*(yes|no)$/i.exec(one)?.[1] ?? [])[0];
  const read = option === undefined ? written : { ...written, usePam: { yes: option.toLowerCase() === 'yes' } };
  if (asked === undefined) return read;
  return asked.usePam?.yes === read?.usePam?.yes ? { ...asked, ...read } : asked;
}
