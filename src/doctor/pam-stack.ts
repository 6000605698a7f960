// The stacks that PAM builds for a service: its file with all that it includes, line by line in PAM's order. Written
// after Linux-PAM 1.7 libpam/pam_handlers.c; what a stack does is in pam-control.ts and pam-reach.ts.

import type { SourceLine } from '../jobs/config/place.js';
import { ParseError, quote } from '../machine/errors.js';
import type { EtcFiles } from './etc-files.js';
import { pamLines } from './etc-lines.js';
import { type PamControl, type PamStep, parsePamControl } from './pam-control.js';

/** account, auth, password, session. */
export type PamType = 'account' | 'auth' | 'password' | 'session';

export interface PamLine extends PamStep {
  readonly type: PamType;
  /** The control as written, without brackets: `required`, `success=1 default=ignore`; lower case where it is a word. */
  readonly said: string;
  /** Without folder and `.so`: `pam_systemd`. Of a substack its file. */
  readonly module: string;
  /** The module as written. */
  readonly file: string;
  readonly args: readonly string[];
  readonly place: SourceLine;
  /** Why a broken line always fails. */
  readonly why?: string;
}

/** The first folder that has a service counts (vendors' files: Linux-PAM 1.3 on; /usr/etc: SUSE). */
const folders: readonly string[] = ['/etc/pam.d', '/usr/lib/pam.d', '/usr/etc/pam.d'];
const maxDepth = 16; // PAM_SUBSTACK_MAX_LEVEL
const maxLines = 4096;
const pamTypes: readonly PamType[] = ['auth', 'account', 'password', 'session'];

/**
 * The lines of a service. Types that it says nothing of are those of the service `other`, as in PAM. `undefined`: there
 * is no such service here.
 *
 * @throws SlurmCgroupsError where a file cannot be read; ParseError where files include each other without end.
 */
export async function readPamStack(files: EtcFiles, service: string): Promise<readonly PamLine[] | undefined> {
  const own = await readService(files, service);
  if (own === undefined || pamTypes.every((type) => own.some((line) => line.type === type))) return own;
  const other = (await readService(files, 'other')) ?? [];
  return [...own, ...other.filter(({ type }) => !own.some((line) => line.type === type))];
}

async function readService(files: EtcFiles, service: string): Promise<readonly PamLine[] | undefined> {
  const found = await locate(files, service);
  if (found === undefined) return undefined;
  const stack: PamLine[] = [];
  await readFile(found, { files, stack, only: undefined, depth: 0, level: 0 });
  return stack;
}

interface Reading {
  readonly files: EtcFiles;
  readonly stack: PamLine[];
  /** Lines of one type, where `session include common` asks for them; a service and `@include` ask for all. */
  readonly only: PamType | undefined;
  readonly depth: number;
  readonly level: number;
}

interface PamFile {
  readonly file: string;
  readonly text: string;
}

/** `false`: PAM could not read it to its end. */
async function readFile({ file, text }: PamFile, reading: Reading): Promise<boolean> {
  const { lines, openEnd } = pamLines(text);
  for (const { line, text: written } of lines) {
    if (reading.stack.length > maxLines)
      throw new ParseError(`Cannot read ${quote(file)}: with what it includes it has more than ${maxLines} lines`, {
        path: file,
      });
    await readLine(written, { file, line }, reading);
  }
  if (openEnd === undefined) return true;
  if (reading.depth === 0)
    for (const type of pamTypes)
      addBroken(reading, { type, place: { file, line: openEnd }, why: 'the last line ends in a backslash' });
  return false;
}

async function readLine(written: string, place: SourceLine, reading: Reading): Promise<void> {
  const [first = '', said, what, ...args] = pamTokens(written);
  // Debian's own directive: all types of a file.
  if (first === '@include') return include(said, { place, reading, type: reading.only, isSub: false });
  const word = first.replace(/^-/, '').toLowerCase(); // a dash keeps PAM from logging that the module is missing
  const known = pamTypes.find((one) => one === word);
  const type = known ?? reading.only ?? 'auth';
  if (reading.only !== undefined && type !== reading.only) return;
  const broken = (why: string) => addBroken(reading, { type, place, why, ...(said === undefined ? {} : { said }) });
  if (known === undefined) return broken(`${quote(first)} is no type of PAM`);
  if (said === undefined) return broken('it has no control');
  const control = said.toLowerCase();
  if (control === 'include' || control === 'substack')
    return include(what, { place, reading, type, isSub: control === 'substack' });
  if (what === undefined) return broken('it names no module');
  reading.stack.push({
    kind: 'module',
    type,
    said,
    control: parsePamControl(said),
    level: reading.level,
    module: moduleName(what),
    file: what,
    args,
    place,
  });
}

interface Inclusion {
  readonly place: SourceLine;
  readonly reading: Reading;
  /** `undefined`: all types. */
  readonly type: PamType | undefined;
  readonly isSub: boolean;
}

/** A file that cannot be included is a line that always fails. */
async function include(service: string | undefined, { place, reading, type, isSub }: Inclusion): Promise<void> {
  const { files, stack, depth, level } = reading;
  if (isSub && type !== undefined && service !== undefined)
    stack.push({
      kind: 'substack',
      type,
      said: 'substack',
      control: neverAsked,
      level,
      module: service,
      file: service,
      args: [],
      place,
    });
  const found = service === undefined || depth + 1 >= maxDepth ? undefined : await locate(files, service);
  const inner = { files, stack, only: type, depth: depth + 1, level: isSub ? level + 1 : level };
  if (found !== undefined && (await readFile(found, inner))) return;
  const why =
    service === undefined
      ? 'it names no file'
      : depth + 1 >= maxDepth
        ? `files include each other more than ${maxDepth} deep`
        : found === undefined
          ? `it includes ${quote(service)}, which does not exist`
          : `it includes ${quote(found.file)}, whose last line ends in a backslash`;
  for (const one of type === undefined ? pamTypes : [type]) addBroken(reading, { type: one, place, why });
}

const neverAsked: PamControl = { by: new Map(), otherwise: 'ignore' };

interface BrokenLine {
  readonly type: PamType;
  readonly place: SourceLine;
  readonly why: string;
  readonly said?: string;
}

function addBroken({ stack, level }: Reading, { said = 'required', ...line }: BrokenLine): void {
  stack.push({ kind: 'broken', said, control: parsePamControl(said), level, module: '', file: '', args: [], ...line });
}

async function locate(files: EtcFiles, service: string): Promise<PamFile | undefined> {
  const paths = service.startsWith('/') ? [service] : folders.map((folder) => `${folder}/${service}`);
  for (const file of paths) {
    const text = await files.text(file);
    if (text !== undefined) return { file, text };
  }
  return undefined;
}

/** Words parted by blanks; brackets hold blanks, and are not part of their word (_pam_tokenize). */
function pamTokens(text: string): readonly string[] {
  return [...text.matchAll(/\[((?:\\\]|[^\]])*)\]?|[^ \t]+/g)].map(([word, inside]) =>
    inside === undefined ? word : inside.replaceAll('\\]', ']'),
  );
}

function moduleName(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1).replace(/\.[^.]*$/, '');
}
