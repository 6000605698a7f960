// What PAM runs for a service, in its order: its file with all that it includes (pam.conf(5)), as Linux-PAM reads it.

import type { SourceLine } from '../jobs/config/place.js';
import { ParseError, quote } from '../machine/errors.js';
import { type EtcFiles, linesOf } from './etc-files.js';

/** account, auth, password, session. */
export type PamType = 'account' | 'auth' | 'password' | 'session';

export interface PamLine {
  readonly type: PamType;
  /** `required`, `[success=1 default=ignore]` … */
  readonly control: string;
  /** Without folder and `.so`: `pam_systemd`. */
  readonly module: string;
  readonly args: readonly string[];
  readonly place: SourceLine;
}

/** Where services are described; the first that has one counts (vendors' files: Linux-PAM 1.3 on). */
const folders: readonly string[] = ['/etc/pam.d', '/usr/lib/pam.d', '/usr/etc/pam.d'];
const maxDepth = 16;

/** `undefined`: there is no such service here. */
export async function readPamStack(files: EtcFiles, service: string): Promise<readonly PamLine[] | undefined> {
  return readService(files, { service, only: undefined, above: [] });
}

interface Wanted {
  readonly service: string;
  /** Lines of one type, where `session include common` asks for them; `@include` asks for all. */
  readonly only: PamType | undefined;
  /** The files that led here. */
  readonly above: readonly string[];
}

async function readService(files: EtcFiles, wanted: Wanted): Promise<readonly PamLine[] | undefined> {
  const found = await locate(files, wanted.service);
  if (found === undefined) return undefined;
  const { file, text } = found;
  if (wanted.above.includes(file) || wanted.above.length === maxDepth)
    throw new ParseError(`Cannot read ${quote(file)}: it includes itself, or too many files are nested`, {
      path: file,
    });
  const above = [...wanted.above, file];
  const stack: PamLine[] = [];
  for (const { line, text: written } of linesOf(text)) {
    const place = { file, line };
    const whole = /^@include\s+(\S+)/.exec(written)?.[1];
    if (whole !== undefined) {
      stack.push(...(await included(files, { service: whole, only: wanted.only, above }, place)));
      continue;
    }
    const read = readLine(written);
    if (read === undefined || (wanted.only !== undefined && read.type !== wanted.only)) continue;
    const { type, control, what, args } = read;
    if (control === 'include' || control === 'substack')
      stack.push(...(await included(files, { service: what, only: type, above }, place)));
    else stack.push({ type, control, module: moduleName(what), args, place });
  }
  return stack;
}

async function included(files: EtcFiles, wanted: Wanted, { file, line }: SourceLine): Promise<readonly PamLine[]> {
  const stack = await readService(files, wanted);
  if (stack !== undefined) return stack;
  throw new ParseError(`${quote(file)}, line ${line}: it includes ${quote(wanted.service)}, which is not there`, {
    path: file,
    line,
  });
}

async function locate(
  files: EtcFiles,
  service: string,
): Promise<{ readonly file: string; readonly text: string } | undefined> {
  const paths = service.startsWith('/') ? [service] : folders.map((folder) => `${folder}/${service}`);
  for (const file of paths) {
    const text = await files.text(file);
    if (text !== undefined) return { file, text };
  }
  return undefined;
}

/** `[-]type control module args`; a control in brackets holds blanks. A line of another form is none for PAM either. */
function readLine(text: string) {
  const [, type, control = '', what = '', rest = ''] =
    /^-?(account|auth|password|session)\s+(\[[^\]]*\]|\S+)\s+(\S+)(.*)$/i.exec(text) ?? [];
  const known = pamTypes.find((one) => one === type?.toLowerCase());
  if (known === undefined) return undefined;
  return { type: known, control: control.toLowerCase(), what, args: rest.split(/\s+/).filter((word) => word !== '') };
}

const pamTypes: readonly PamType[] = ['account', 'auth', 'password', 'session'];

function moduleName(what: string): string {
  return what.slice(what.lastIndexOf('/') + 1).replace(/\.so$/, '');
}
