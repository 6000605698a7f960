// The nodes that slurm.conf names: host lists with brackets, which node a host is, and the names in a path of
// slurmd. Learned from Slurm 26.05 src/common/hostlist.c, node_conf.c and read_config.c.

import { ParseError, quote } from '../../machine/errors.js';
import type { SourceLine } from './place.js';

/** A line `NodeName=…` of slurm.conf, its host lists as they are written. */
export interface NodeEntry {
  readonly nodeNames: string;
  /** NodeHostname. Absent: hosts are called as nodes are. */
  readonly nodeHostNames?: string;
  readonly place: SourceLine;
}

/** MAX_SLURM_NODES of slurm.h, which bounds a range as well. */
const maxHosts = 65_536;

/**
 * The names in a host list, `n[01-03,7]-ib,login`, in its order.
 *
 * @throws ParseError where the brackets are wrong, or they stand for more than 65,536 names.
 */
export function expandHostList(text: string): readonly string[] {
  const hosts: string[] = [];
  for (const token of tokensOf(text)) {
    for (const host of expandToken(token, text)) {
      if (hosts.length === maxHosts) throw wrong(text, `it means more than ${maxHosts} hosts`);
      hosts.push(host);
    }
  }
  return hosts;
}

/** A comma between brackets does not part. */
function tokensOf(text: string): readonly string[] {
  const tokens: string[] = [];
  let begin = 0;
  let inside = false;
  for (let at = 0; at <= text.length; at++) {
    const character = text.charAt(at);
    if (character === '[') inside = true;
    if (character === ']') inside = false;
    if (at < text.length && (inside || !/[,\s]/.test(character))) continue;
    if (at > begin) tokens.push(text.slice(begin, at));
    begin = at + 1;
  }
  return tokens;
}

function expandToken(token: string, text: string): readonly string[] {
  let hosts = [''];
  for (const [part, ranges] of token.matchAll(/\[([^\]]*)\]|[^[]+|\[/g)) {
    const endings = ranges === undefined ? [part] : ranges.split(',').flatMap((range) => expandRange(range, text));
    if (/[[\]]/.test(ranges ?? part)) throw wrong(text, 'its brackets do not match');
    if (hosts.length * endings.length > maxHosts) throw wrong(text, `it means more than ${maxHosts} hosts`);
    hosts = hosts.flatMap((host) => endings.map((ending) => host + ending));
  }
  return hosts;
}

/** `01-12`: the first number's width is that of all. */
function expandRange(range: string, text: string): readonly string[] {
  const [, first, last] = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(range) ?? [];
  if (first === undefined) throw wrong(text, `${quote(range)} is no range of numbers`);
  const [low, high] = [Number(first), Number(last ?? first)];
  if (low > high) throw wrong(text, `${quote(range)} ends before it begins`);
  if (high - low >= maxHosts) throw wrong(text, `it means more than ${maxHosts} hosts`);
  return Array.from({ length: high - low + 1 }, (_, index) => String(low + index).padStart(first.length, '0'));
}

function wrong(text: string, why: string): ParseError {
  const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
  return new ParseError(`Cannot read the host list ${quote(shown)}: ${why}`);
}

/**
 * The NodeNames of a host: of its short name, else its full name, else of `localhost`, as slurmd looks for its
 * own. Several where several slurmd share the host, none where slurm.conf does not name it (dynamic nodes).
 *
 * @throws ParseError with the place of a host list that cannot be read.
 */
export function nodeNamesOf(nodes: readonly NodeEntry[], hostName: string): readonly string[] {
  for (const name of new Set([shortHostName(hostName), hostName, 'localhost'])) {
    const found = nodes.flatMap((entry) => namesOn(entry, name));
    if (found.length > 0) return [...new Set(found)];
  }
  return [];
}

function namesOn(entry: NodeEntry, hostName: string): readonly string[] {
  try {
    const names = expandHostList(entry.nodeNames);
    const hosts = entry.nodeHostNames === undefined ? names : expandHostList(entry.nodeHostNames);
    return names.filter((_, index) => (hosts.length === 1 ? hosts[0] : hosts[index]) === hostName);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    const { file, line } = entry.place;
    throw new ParseError(`${error.message}; it stands in ${quote(file)}, line ${line}`, { path: file, line });
  }
}

/** Up to the first dot (gethostname_short). */
export function shortHostName(hostName: string): string {
  return hostName.replace(/\..*$/s, '');
}

/**
 * A path of slurmd with `%n` (NodeName) and `%h` (the host's short name) put in, each once, since Slurm
 * replaces only the first. `undefined` where one is needed that is not known.
 */
export function expandSlurmdPath(
  path: string,
  names: { readonly nodeName?: string | undefined; readonly hostName?: string | undefined },
): string | undefined {
  const host = names.hostName === undefined ? undefined : shortHostName(names.hostName);
  if (path.includes('%h') && host === undefined) return undefined;
  const withHost = path.replace('%h', () => host ?? '');
  if (withHost.includes('%n') && names.nodeName === undefined) return undefined;
  return withHost.replace('%n', () => names.nodeName ?? '');
}
