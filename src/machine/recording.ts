// A node in a file: every answer the machine gave, failures too, as JSON lines; played from memory it is a
// Host again that can only be read. Support bundle, input of the read-only commands and test fixture in one.
// Format: a header line, then one line an answer (see RecordedAnswer); numbers of lstat are strings, since
// nanoseconds do not fit a double. Environments and command lines of foreign processes are never recorded.
// Version 2 holds names of users too, and each answer that its commands ask for, however processes come and go;
// what a recording of version 1 lacks is not known.

import path from 'node:path';
import { defined } from './defined.js';
import { ifReadable, ParseError, SlurmCgroupsError, SystemCallError } from './errors.js';
import { withHeld } from './held.js';
import {
  type Directory,
  type Entry,
  type EntryKind,
  type FileStat,
  type Host,
  isDirectory,
  knownBelow,
  longestPath,
  type Self,
} from './host.js';

/** First line of a recording. */
export interface RecordingHeader {
  readonly recording: 'slurm-cgroups';
  readonly version: 1 | 2;
  /** What this node is, for people. */
  readonly about?: string;
  readonly self: Self;
}

/** One answer. `errno` in place of the value: the kernel refused. A stat of `null`: there was nothing. */
export type RecordedAnswer =
  | { readonly read: string; readonly text: string }
  | { readonly list: string; readonly entries: Readonly<Record<string, EntryKind>> }
  | { readonly stat: string; readonly is: RecordedStat | null }
  | { readonly link: string; readonly to: string }
  | ({ readonly [call in RecordedCall]?: string } & { readonly errno: string });

export type RecordedCall = 'read' | 'list' | 'stat' | 'link';

/** The numbers of lstat in the order of `statFields`, as decimal strings. */
export type RecordedStat = readonly string[];

const statFields = ['mode', 'uid', 'gid', 'dev', 'ino', 'nlink', 'size', 'mtimeNs', 'ctimeNs'] as const;

/** Formats one stat for a recording. */
export function recordedStat(stat: FileStat): RecordedStat {
  return statFields.map((field) => stat[field].toString());
}

/**
 * Wraps a host and hands every new answer of a read to `keep`, the header first. What is asked twice is kept
 * once, with its first answer. Writes and signals are passed on and not kept.
 */
export function recordingHost(host: Host, keep: (line: string) => void, about?: string): Host {
  const kept = new Set<string>();
  const header: RecordingHeader = {
    recording: 'slurm-cgroups',
    version: 2,
    ...defined({ about }),
    self: host.self(),
  };
  keep(JSON.stringify(header));
  const note = (call: RecordedCall, where: string, answer: Readonly<Record<string, unknown>>) => {
    // Nothing that is nested deeper than a path may be long: a user can make more of it than fits in memory.
    if (where.length > longestPath || where.includes('/… (')) return;
    const key = `${call} ${where}`;
    if (!kept.has(key) && !secret.test(where)) keep(JSON.stringify({ [call]: where, ...answer }));
    kept.add(key);
  };
  const asked = <T>(
    call: RecordedCall,
    where: string,
    act: () => T,
    answer: (value: T) => Readonly<Record<string, unknown>>,
  ): T => {
    let value: T;
    try {
      value = act();
    } catch (error) {
      if (error instanceof SystemCallError) note(call, where, { errno: error.errno });
      throw error;
    }
    note(call, where, answer(value));
    return value;
  };
  const entries = (where: string, list = () => host.entries(where)) =>
    asked('list', where, list, (list) => ({
      entries: Object.fromEntries(list.map((entry) => [entry.name, entry.kind])),
    }));
  const stat = (where: string, act: () => FileStat | undefined) =>
    asked('stat', where, act, (value) => ({ is: value === undefined ? null : recordedStat(value) }));
  /** Played, a directory opens where its listing or its lstat is known: one that is only opened is looked at too. */
  const noted = (where: string, open: () => Directory, look: () => FileStat | undefined): Directory => {
    let held: Directory;
    try {
      held = open();
    } catch (error) {
      if (error instanceof SystemCallError) stat(where, look);
      throw error;
    }
    try {
      stat(where, () => held.stat());
      return heldAt(where, held);
    } catch (error) {
      held.close();
      throw error;
    }
  };
  const heldAt = (where: string, held: Directory): Directory => {
    const inside = (name: string) => knownBelow(where, name);
    return {
      ...held,
      path: where,
      read: (name) =>
        asked(
          'read',
          inside(name),
          () => held.read(name),
          (text) => ({ text }),
        ),
      names: (name = '') => entries(inside(name), () => held.entries(name)).map((entry) => entry.name),
      entries: (name = '', most) => entries(inside(name), () => held.entries(name, most)),
      readlink: (name) =>
        asked(
          'link',
          inside(name),
          () => held.readlink(name),
          (to) => ({ to }),
        ),
      stat: (name = '') => stat(inside(name), () => held.stat(name)),
      open: (name, knownAs = inside(name)) =>
        noted(
          knownAs,
          () => held.open(name, knownAs),
          () => held.stat(name),
        ),
    };
  };
  return {
    ...host,
    read: (where) =>
      asked(
        'read',
        where,
        () => host.read(where),
        (text) => ({ text }),
      ),
    entries: (where) => entries(where),
    names: (where) => entries(where).map((entry) => entry.name),
    stat: (where) => stat(where, () => host.stat(where)),
    readlink: (where) =>
      asked(
        'link',
        where,
        () => host.readlink(where),
        (to) => ({ to }),
      ),
    open: (where) =>
      noted(
        where,
        () => host.open(where),
        () => host.stat(where),
      ),
  };
}

const secret =
  /^\/proc\/(?:\d+|self|thread-self)\/(?:task\/\d+\/)?(?:environ|cmdline|maps|smaps|smaps_rollup|numa_maps|auxv|mem)$/;

/** What a recording holds, by call and path. */
interface Recorded {
  readonly header: RecordingHeader;
  readonly answers: ReadonlyMap<string, RecordedAnswer>;
}

/**
 * A host that answers from a recording's text and refuses writes, signals and programs with
 * ERR_NOT_PERMITTED. A path the recording knows nothing of is ERR_NOT_RECORDED, unless the listing of its
 * folder is recorded and lacks it: then it is not there.
 *
 * @throws ParseError with the line where the text is no recording.
 */
export function recordedHost(text: string): Host {
  const { header, answers } = parseRecording(text);
  return playingHost(header.self, answers);
}

/**
 * Plays the answers that `lines` hold so far, and asks `host`, which records into them, for those that are missing: what
 * is read through it a recording plays in the same way, whatever has come and gone meanwhile. Like a recording it can
 * only be read.
 */
export function completingHost(host: Host, lines: readonly string[]): Host {
  const answers = new Map<string, RecordedAnswer>();
  let taken = 1; // the header
  const take = () => {
    for (; taken < lines.length; taken++) addAnswer(answers, lines[taken] ?? '', taken + 1);
  };
  const asking: Readonly<Record<RecordedCall, (where: string) => unknown>> = {
    // As a reader that holds the directory asks: of some files only that is kept.
    read: (where) => withHeld(host.open(path.dirname(where)), (held) => held.read(path.basename(where))),
    list: (where) => host.entries(where),
    stat: (where) => host.stat(where),
    link: (where) => host.readlink(where),
  };
  take();
  return playingHost(host.self(), answers, (call, where) => {
    if (!where.startsWith('/')) return; // no file: an answer that is made for the recording
    ifReadable(() => asking[call](where));
    take();
    // Where the folder could not be opened any more, that is not yet an answer to this.
    if (call === 'read' && !answers.has(`read ${where}`)) ifReadable(() => host.read(where));
    take();
  });
}

/** @param ask is told what is missing before it is called missing */
function playingHost(
  self: Self,
  answers: ReadonlyMap<string, RecordedAnswer>,
  ask: (call: RecordedCall, where: string) => void = () => {},
): Host {
  let clockMs = 0;
  const refuse = (what: string): never => {
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', `Cannot ${what}: this node is a recording`);
  };
  const answerOf = (call: RecordedCall, where: string): RecordedAnswer | undefined => {
    const key = `${call} ${where}`;
    if (!answers.has(key) && !isKnownMissing(answers, where)) ask(call, where);
    return answers.get(key);
  };
  const find = (call: RecordedCall, where: string, doing: string): RecordedAnswer => {
    const answer = answerOf(call, where);
    if (answer === undefined) {
      if (isKnownMissing(answers, where)) throw new SystemCallError(doing, where, 'ENOENT');
      throw new SlurmCgroupsError('ERR_NOT_RECORDED', `Cannot ${doing} "${where}": the recording does not hold it`, {
        path: where,
      });
    }
    if ('errno' in answer) throw new SystemCallError(doing, where, answer.errno);
    return answer;
  };
  const read = (where: string): string => {
    const answer = find('read', where, 'read');
    return 'text' in answer ? answer.text : '';
  };
  const entries = (where: string): readonly Entry[] => {
    const answer = find('list', where, 'list');
    if (!('entries' in answer)) return [];
    return Object.entries(answer.entries).map(([name, kind]) => ({ name, kind }));
  };
  const names = (where: string) => entries(where).map((entry) => entry.name);
  const stat = (where: string): FileStat | undefined => {
    if (!answers.has(`stat ${where}`) && isKnownMissing(answers, where)) return undefined;
    const answer = find('stat', where, 'look at');
    return 'is' in answer && answer.is !== null ? statOf(answer.is) : undefined;
  };
  const readlink = (where: string): string => {
    const answer = find('link', where, 'read the link');
    return 'to' in answer ? answer.to : '';
  };
  const open = (where: string): Directory => {
    const inside = (name: string) => knownBelow(where, name);
    if (!answers.has(`list ${where}`)) {
      const is = stat(where);
      if (is === undefined) throw new SystemCallError('open', where, 'ENOENT');
      if (!isDirectory(is)) throw new SystemCallError('open', where, 'ENOTDIR');
    }
    return {
      path: where,
      read: (name) => read(inside(name)),
      names: (name = '') => names(inside(name)),
      entries: (name = '', most) => entries(inside(name)).slice(0, most),
      readlink: (name) => readlink(inside(name)),
      stat: (name = '') => stat(inside(name)),
      write: (name) => refuse(`write "${inside(name)}"`),
      open: (name, knownAs = inside(name)) => open(knownAs),
      rmdir: (name) => refuse(`remove "${inside(name)}"`),
      connect: async (name) => refuse(`connect to "${inside(name)}"`),
      close: () => {},
    };
  };
  return {
    source: 'recording',
    read,
    names,
    entries,
    stat,
    readlink,
    open,
    mkdir: (where) => refuse(`create "${where}"`),
    rmdir: (where) => refuse(`remove "${where}"`),
    write: (where) => refuse(`write "${where}"`),
    create: (where) => refuse(`create "${where}"`),
    append: (where) => refuse(`append to "${where}"`),
    link: (_, where) => refuse(`create "${where}"`),
    rename: (where) => refuse(`rename "${where}"`),
    unlink: (where) => refuse(`remove "${where}"`),
    libc: async () => undefined,
    signal: (pid, signal) => refuse(`send ${signal} to process ${pid}`),
    run: async (file) => refuse(`run "${file}"`),
    start: async (file) => refuse(`start "${file}"`),
    self: () => self,
    now: () => clockMs,
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      clockMs += ms;
    },
    turn: async () => {},
  };
}

/**
 * The nearest folder above of which something is recorded decides: it was not there, or its listing has the next name,
 * or nothing below is there.
 */
function isKnownMissing(answers: ReadonlyMap<string, RecordedAnswer>, where: string): boolean {
  for (let name = where; name !== '/' && name !== '.'; name = path.dirname(name)) {
    const looked = answers.get(`stat ${name}`);
    if (looked !== undefined && 'is' in looked && looked.is === null) return true;
    const listing = answers.get(`list ${path.dirname(name)}`);
    if (listing !== undefined && 'entries' in listing) return !Object.hasOwn(listing.entries, path.basename(name));
  }
  return false;
}

function statOf(values: RecordedStat): FileStat {
  const at = (field: (typeof statFields)[number]) => BigInt(values[statFields.indexOf(field)] ?? '0');
  return {
    mode: at('mode'),
    uid: at('uid'),
    gid: at('gid'),
    dev: at('dev'),
    ino: at('ino'),
    nlink: at('nlink'),
    size: at('size'),
    mtimeNs: at('mtimeNs'),
    ctimeNs: at('ctimeNs'),
  };
}

function parseRecording(text: string): Recorded {
  const lines = text.split('\n');
  const header = parseLine(lines[0] ?? '', 1);
  if (!isHeader(header)) {
    throw new ParseError(
      'Cannot play the recording: line 1 is not the header of a slurm-cgroups recording of version 1 or 2',
      { line: 1 },
    );
  }
  const answers = new Map<string, RecordedAnswer>();
  for (const [index, line] of lines.entries()) {
    if (index === 0) continue;
    addAnswer(answers, line, index + 1);
  }
  return { header, answers };
}

function addAnswer(answers: Map<string, RecordedAnswer>, line: string, number: number): void {
  if (line === '') return;
  const value = parseLine(line, number);
  const call = calls.find((name) => typeof Reflect.get(value, name) === 'string');
  if (call === undefined || !isAnswer(value, call))
    throw new ParseError(`Cannot play the recording: line ${number} holds no answer of a host`, { line: number });
  answers.set(`${call} ${Reflect.get(value, call)}`, value);
}

const calls: readonly RecordedCall[] = ['read', 'list', 'stat', 'link'];

function parseLine(line: string, number: number): object {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  if (typeof value === 'object' && value !== null) return value;
  throw new ParseError(`Cannot play the recording: line ${number} is not a JSON object (cut off?)`, { line: number });
}

function isHeader(value: object): value is RecordingHeader {
  const self: unknown = Reflect.get(value, 'self');
  return (
    Reflect.get(value, 'recording') === 'slurm-cgroups' &&
    [1, 2].includes(Number(Reflect.get(value, 'version'))) &&
    typeof self === 'object' &&
    self !== null &&
    typeof Reflect.get(self, 'pid') === 'number' &&
    typeof Reflect.get(self, 'uid') === 'number'
  );
}

function isAnswer(value: object, call: RecordedCall): value is RecordedAnswer {
  const errno: unknown = Reflect.get(value, 'errno');
  if (typeof errno === 'string') return /^E[A-Z0-9]+$/.test(errno);
  const entries: unknown = Reflect.get(value, 'entries');
  const is: unknown = Reflect.get(value, 'is');
  switch (call) {
    case 'read':
      return typeof Reflect.get(value, 'text') === 'string';
    case 'list':
      return typeof entries === 'object' && entries !== null;
    case 'stat':
      return (
        is === null || (Array.isArray(is) && is.length === statFields.length && is.every((n) => /^-?\d+$/.test(n)))
      );
    case 'link':
      return typeof Reflect.get(value, 'to') === 'string';
  }
}
