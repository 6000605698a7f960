// The form of Slurm's configuration files: what stands on which line. Pure; what the keys mean is said in
// read.ts. Learned from Slurm 26.05 src/common/parse_config.c, unchanged in this since 20.11.

import { ParseError, quote } from '../../machine/errors.js';

/** `Key=Value`, the key as it is written; case does not count in it. */
export interface ConfigPair {
  readonly key: string;
  readonly value: string;
  /** `Key+=Value` and the like. */
  readonly operator?: string;
}

/** One line after continuations are joined; blank lines and comments are none. */
export interface ConfigLine {
  /** 1-based, of the first of the joined lines. */
  readonly line: number;
  /** Slurm reads the first; more of them only where the first key has attributes (`NodeName`, `PartitionName`). */
  readonly pairs: readonly ConfigPair[];
  /** The file named after `Include`. */
  readonly include?: string;
  /** What is left over, and so not read. */
  readonly rest?: string;
}

/** isspace(3) in the C locale without the line break. */
const blank = ' \\t\\v\\f\\r';
const pairPattern = new RegExp(
  `[${blank}]*([A-Za-z0-9_.]+)[${blank}]*([-*+/]?)=[${blank}]*(?:"([^"]*)"|([^${blank}]+))(?=[${blank}]|$)`,
  'y',
);
/** No blank may stand before it: such a line is an error for Slurm. */
const includePattern = new RegExp(`^include[${blank}]+([^${blank}]+)(.*)$`, 'is');
const onlyBlank = new RegExp(`^[${blank}]*$`);

/**
 * The lines of a configuration file.
 *
 * @throws ParseError with file and line where a NUL byte says that this is no text. Anything else gives a
 * line, be it one of which nothing is read.
 */
export function* configLines(text: string, file: string): Generator<ConfigLine> {
  const nul = text.indexOf('\0');
  if (nul !== -1) {
    const line = text.slice(0, nul).split('\n').length;
    throw new ParseError(`Cannot read ${quote(file)}: line ${line} holds a NUL byte, so this is no text`, {
      path: file,
      line,
    });
  }
  let line = 0;
  for (let start = 0; start < text.length; ) {
    const first = line + 1;
    let joined = '';
    let continued = true;
    while (continued && start < text.length) {
      const end = text.indexOf('\n', start);
      const stop = end === -1 ? text.length : end;
      const part = withoutComment(text.slice(start, stop));
      const kept = beforeContinuation(part);
      continued = kept !== undefined;
      joined += kept ?? part;
      start = stop + 1;
      line++;
    }
    // Only now: a backslash that was escaped must not end a line, nor an escaped # begin a comment.
    const found = parseConfigLine(joined.replace(/\\(.?)/gs, '$1'), first);
    if (found !== undefined) yield continued ? { ...found, rest: found.rest ?? '\\' } : found;
  }
}

/** Quotes do not protect a `#`, only an odd number of backslashes before it does. */
function withoutComment(line: string): string {
  for (let at = line.indexOf('#'); at !== -1; at = line.indexOf('#', at + 1)) {
    if (backslashesBefore(line, at) % 2 === 0) return line.slice(0, at);
  }
  return line;
}

/** What stands before a last backslash that continues the line; blanks may follow it. */
function beforeContinuation(line: string): string | undefined {
  let end = line.length;
  while (end > 0 && onlyBlank.test(line.charAt(end - 1))) end--;
  return backslashesBefore(line, end) % 2 === 1 ? line.slice(0, end - 1) : undefined;
}

function backslashesBefore(line: string, end: number): number {
  let count = 0;
  while (line.charAt(end - 1 - count) === '\\') count++;
  return count;
}

function parseConfigLine(text: string, line: number): ConfigLine | undefined {
  if (onlyBlank.test(text)) return undefined;
  const include = includePattern.exec(text);
  if (include?.[1] !== undefined) return { line, pairs: [], include: include[1], ...restOf(include[2] ?? '') };
  const pairs: ConfigPair[] = [];
  let end = 0;
  for (;;) {
    pairPattern.lastIndex = end;
    const [, key, operator, quoted, plain] = pairPattern.exec(text) ?? [];
    if (key === undefined) break;
    end = pairPattern.lastIndex;
    pairs.push({
      key,
      value: quoted ?? plain ?? '',
      ...(operator === undefined || operator === '' ? {} : { operator }),
    });
  }
  return { line, pairs, ...restOf(text.slice(end)) };
}

function restOf(text: string): { readonly rest?: string } {
  return onlyBlank.test(text) ? {} : { rest: text };
}
