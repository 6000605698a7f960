// sshd_config as sshd reads it, for the settings that decide whether PAM is asked. Written after OpenSSH 10 servconf.c
// (process_server_config_line_depth), misc.c (strdelim, argv_split).

import type { SourceLine } from '../jobs/config/place.js';
import { ParseError, quote } from '../machine/errors.js';
import type { EtcFiles } from './etc-files.js';
import { sshdLines } from './etc-lines.js';

/** Of several the first counts. */
export interface SshdSettings {
  /** Not set: no. */
  readonly usePam?: { readonly yes: boolean; readonly place?: SourceLine };
  /** Not set: `sshd`. From 9.9 on. */
  readonly pamServiceName?: string;
}

/** SUSE's sshd reads the second where the first does not exist. */
const usualFiles: readonly string[] = ['/etc/ssh/sshd_config', '/usr/etc/ssh/sshd_config'];
const includeFolder = '/etc/ssh';
const maxDepth = 16; // SERVCONF_MAX_DEPTH

/** @throws ParseError where sshd would refuse the file. `undefined`: there is none. */
export async function readSshdConfig(files: EtcFiles, named?: string): Promise<SshdSettings | undefined> {
  for (const file of named === undefined ? usualFiles : [named]) {
    const text = await files.text(file);
    if (text !== undefined) return settingsIn(files, { file, text }, 0);
  }
  return undefined;
}

interface ConfigText {
  readonly file: string;
  readonly text: string;
}

async function settingsIn(files: EtcFiles, { file, text }: ConfigText, depth: number): Promise<SshdSettings> {
  let found: SshdSettings = {};
  for (const { line, text: written } of sshdLines(text)) {
    const place = { file, line };
    const { keyword, args } = sshdWords(written, place);
    const [first] = args;
    if (keyword === 'match') break; // neither setting is allowed in what follows
    if (keyword === 'usepam') found = { usePam: { yes: yesOrNo(first, place), place }, ...found };
    if (keyword === 'pamservicename' && first !== undefined) found = { pamServiceName: first, ...found };
    if (keyword !== 'include') continue;
    if (depth === maxDepth) throw wrong(place, `files include each other more than ${maxDepth} deep`);
    for (const pattern of args)
      for (const one of matchingFiles(files, pattern)) {
        const inner = await files.text(one);
        if (inner !== undefined)
          found = { ...(await settingsIn(files, { file: one, text: inner }, depth + 1)), ...found };
      }
  }
  return found;
}

function yesOrNo(value: string | undefined, place: SourceLine): boolean {
  const word = value?.toLowerCase();
  if (word === 'yes' || word === 'no') return word === 'yes';
  throw wrong(place, `${quote(value ?? '')} is neither yes nor no, so sshd does not start with it`);
}

function wrong({ file, line }: SourceLine, why: string): ParseError {
  return new ParseError(`Cannot read ${quote(file)}, line ${line}: ${why}`, { path: file, line });
}

/** The keyword ends at a blank or one `=`, and may be quoted. Behind a blank, `#` begins a comment. */
function sshdWords(text: string, place: SourceLine): { readonly keyword: string; readonly args: readonly string[] } {
  const [, quoted, plain = '', rest = ''] = /^(?:"([^"]*)"\s*|([^\s="]*)\s*=?\s*)(.*)$/s.exec(text) ?? [];
  const args: string[] = [];
  const words = /([ \t]+)|#.*|((?:\\["'\\ ]|"(?:\\["'\\]|[^"])*"|'(?:\\["'\\]|[^'])*'|[^ \t"'])+)|(["'])/gsy;
  for (const [, , word, open] of rest.matchAll(words)) {
    if (open !== undefined) throw wrong(place, 'a quote is not closed, so sshd does not start with it');
    if (word !== undefined) args.push(unquoted(word));
  }
  return { keyword: (quoted ?? plain).toLowerCase(), args };
}

function unquoted(word: string): string {
  return word.replace(/\\(["'\\ ])|"((?:\\["'\\]|[^"])*)"|'((?:\\["'\\]|[^'])*)'/gs, (_, escaped, double, single) => {
    if (typeof escaped === 'string') return escaped;
    return String(double ?? single ?? '').replace(/\\(["'\\])/g, '$1');
  });
}

/** glob(7) in every name of the path, which is relative to /etc/ssh; a dot at the begin is matched by a dot only. */
function matchingFiles(files: EtcFiles, pattern: string): readonly string[] {
  const whole = /^[/~]/.test(pattern) ? pattern : `${includeFolder}/${pattern}`;
  let found: readonly string[] = [''];
  for (const part of whole.split('/').filter((name) => name !== '')) {
    if (!/[*?[\\]/.test(part)) found = found.map((folder) => `${folder}/${part}`);
    else {
      const shape = globShape(part);
      found = found.flatMap((folder) =>
        files
          .names(folder === '' ? '/' : folder)
          .filter((name) => shape.test(name))
          .map((name) => `${folder}/${name}`),
      );
    }
  }
  return found;
}

function globShape(part: string): RegExp {
  const shape = part.replace(/\\(.)|(\*)|(\?)|\[([!^]?)([^\]]+)\]|([.+^${}()|[\]\\])/gs, (...groups) => {
    const [, escaped, star, one, not, set, special] = groups.map((group) =>
      typeof group === 'string' ? group : undefined,
    );
    if (escaped !== undefined) return escaped.replace(/[^\w]/, '\\$&');
    if (star !== undefined) return '.*';
    if (one !== undefined) return '.';
    if (set !== undefined) return `[${not === '' ? '' : '^'}${set.replace(/[\\\]]/g, '\\$&')}]`;
    return `\\${special ?? ''}`;
  });
  return new RegExp(`^${part.startsWith('.') ? '' : '(?!\\.)'}${shape}$`, 's');
}
