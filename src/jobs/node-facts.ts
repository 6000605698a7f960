// What a login needs of Slurm on this node, found out before: the configuration as a value, and by what to tell that it
// still holds. As text for a file, and back, with every field looked at: what is read there is acted upon.

import { defined } from '../machine/defined.js';
import { ParseError, quote } from '../machine/errors.js';
import type { FileMark } from '../machine/file-marks.js';
import { nodeNamesOf, shortHostName } from './config/node-names.js';
import type { SourceLine } from './config/place.js';
import type { NodeEntry, SlurmConfiguration, SlurmdProcess } from './config/read.js';

export interface NodeFacts {
  /** Of what boot. */
  readonly bootId: string;
  /** What the kernel called the host. `undefined`: it did not tell. */
  readonly hostName: string | undefined;
  /** What readNode() found, for people: both are looked up again at each login. */
  readonly nodeName: string | undefined;
  readonly spools: ReadonlyMap<string, string>;
  /** `undefined`: there is none at any of the places. Of its nodes only those that this host is. */
  readonly configuration: SlurmConfiguration | undefined;
  /** Of `configuration.slurmd`, in clock ticks since the boot. Absent: none ran. */
  readonly slurmdStartTime?: bigint;
  /** Each file that was read, by the path that led to it. */
  readonly files: ReadonlyMap<string, FileMark>;
  /** Where Slurm looks before or beside those: there was nothing. */
  readonly absent: readonly string[];
}

/** Of another form than this, it is of another release. */
const version = 1;

/** The facts as text that parseNodeFacts() reads. */
export function formatNodeFacts(facts: NodeFacts): string {
  const { configuration, files, spools, slurmdStartTime } = facts;
  return `${JSON.stringify({
    version,
    bootId: facts.bootId,
    hostName: facts.hostName,
    nodeName: facts.nodeName,
    spools: Object.fromEntries(spools),
    slurmdStartTime: slurmdStartTime?.toString(),
    configuration:
      configuration === undefined
        ? undefined
        : { ...configuration, places: Object.fromEntries(configuration.places.entries()) },
    files: [...files].map(([path, mark]) => ({
      path,
      ...Object.fromEntries(Object.entries(mark).map(([key, value]) => [key, String(value)])),
    })),
    absent: facts.absent,
  })}\n`;
}

/**
 * The nodes that a host is, one an entry: a slurm.conf can name thousands, and a login would read them all again.
 *
 * @throws ParseError where a host list cannot be read.
 */
export function nodesOnHost(nodes: readonly NodeEntry[], hostName: string | undefined): readonly NodeEntry[] {
  if (hostName === undefined) return []; // then none is looked for
  const names = nodeNamesOf(nodes, hostName);
  const short = shortHostName(hostName);
  // A host of another name than slurm.conf can hold was found by `localhost`.
  const nodeHostNames = /^[\w.-]+$/.test(short) ? short : 'localhost';
  return nodes.flatMap((entry) => {
    const own = nodeNamesOf([entry], hostName).filter((name) => names.includes(name));
    return own.map((nodeNames) => ({ nodeNames, nodeHostNames, place: entry.place }));
  });
}

/** @throws ParseError that names the field that is missing or not as formatNodeFacts() writes it. */
export function parseNodeFacts(text: string): NodeFacts {
  const read = new Reader(objectIn(text), '');
  if (read.optional('version', numberOf) !== version)
    throw new ParseError(`its version is not ${version}, so another release wrote it`);
  const configuration = read.optional('configuration', configurationOf);
  const files = new Map(read.required('files', listOf(fileOf)));
  const unmarked = configuration?.files.find((file) => !files.has(file));
  if (unmarked !== undefined) throw new ParseError(`its "files" lack ${quote(unmarked)}`);
  return {
    bootId: read.required('bootId', textOf),
    hostName: read.optional('hostName', textOf),
    nodeName: read.optional('nodeName', textOf),
    spools: read.required('spools', (value) => mapOf(value, absoluteOf)),
    configuration,
    ...defined({ slurmdStartTime: read.optional('slurmdStartTime', countOf) }),
    files,
    absent: read.required('absent', listOf(absoluteOf)),
  };
}

function objectIn(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new ParseError('it is not a JSON object');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What a value means; `undefined`: it is none of these. */
type Meaning<T> = (value: unknown) => T | undefined;

/** Reads the fields of one object. */
class Reader {
  readonly #object: object;
  readonly #where: string;

  constructor(object: object, where: string) {
    this.#object = object;
    this.#where = where;
  }

  required<T>(field: string, meaning: Meaning<T>): T {
    const value = this.optional(field, meaning);
    if (value === undefined) throw new ParseError(`it has no ${quote(this.#where + field)}`);
    return value;
  }

  optional<T>(field: string, meaning: Meaning<T>): T | undefined {
    if (!Object.hasOwn(this.#object, field)) return undefined;
    const read = meaning(Reflect.get(this.#object, field));
    if (read === undefined) throw new ParseError(`its ${quote(this.#where + field)} is not as this command writes it`);
    return read;
  }
}

const numberOf: Meaning<number> = (value) => (typeof value === 'number' ? value : undefined);
const yesOrNoOf: Meaning<boolean> = (value) => (typeof value === 'boolean' ? value : undefined);
/** Any: a name in a note can hold bytes that are no text. */
const wordsOf: Meaning<string> = (value) => (typeof value === 'string' ? value : undefined);
/** As config/values.ts takes it from the configuration. */
const textOf: Meaning<string> = (value) =>
  typeof value === 'string' && value !== '' && !/[\p{Cc}\p{Cs}]/u.test(value) ? value : undefined;
const settingOf: Meaning<string> = (value) => (value === '' ? '' : textOf(value));
const pathInsideOf: Meaning<string> = (value) => {
  const text = settingOf(value);
  return text?.split('/').includes('..') === true ? undefined : text;
};
/** Of a file: its name may hold any bytes but NUL. */
const absoluteOf: Meaning<string> = (value) =>
  typeof value === 'string' && value.startsWith('/') && !value.includes('\0') ? value : undefined;
const absoluteSettingOf: Meaning<string> = (value) => (absoluteOf(value) === undefined ? undefined : textOf(value));
const lineOf: Meaning<number> = (value) =>
  Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : undefined;
const pidOf: Meaning<number> = (value) =>
  Number.isSafeInteger(value) && Number(value) > 1 ? Number(value) : undefined;
const countOf: Meaning<bigint> = (value) =>
  typeof value === 'string' && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;

function listOf<T>(meaning: Meaning<T>): Meaning<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value)) return undefined;
    const all = value.flatMap((one: unknown) => {
      const read = meaning(one);
      return read === undefined ? [] : [read];
    });
    return all.length === value.length ? all : undefined;
  };
}

function mapOf<T>(value: unknown, meaning: Meaning<T>): ReadonlyMap<string, T> | undefined {
  if (!isObject(value)) return undefined;
  const read = listOf<readonly [string, T]>((entry) => {
    const [key, one]: readonly unknown[] = Array.isArray(entry) ? entry : [];
    const meant = meaning(one);
    return typeof key === 'string' && meant !== undefined ? [key, meant] : undefined;
  })(Object.entries(value));
  return read === undefined ? undefined : new Map(read);
}

function fileOf(value: unknown): readonly [string, FileMark] | undefined {
  if (!isObject(value)) return undefined;
  const read = new Reader(value, 'files: ');
  const device = read.optional('device', countOf);
  const mark = {
    ...defined({ device }),
    inode: read.required('inode', countOf),
    size: read.required('size', countOf),
    mtimeNs: read.required('mtimeNs', countOf),
    ctimeNs: read.required('ctimeNs', countOf),
  };
  return [read.required('path', absoluteOf), mark];
}

function placeOf(value: unknown): SourceLine | undefined {
  if (!isObject(value)) return undefined;
  const read = new Reader(value, 'place: ');
  return { file: read.required('file', absoluteOf), line: read.required('line', lineOf) };
}

function nodeOf(value: unknown): NodeEntry | undefined {
  if (!isObject(value)) return undefined;
  const read = new Reader(value, 'nodes: ');
  return {
    nodeNames: read.required('nodeNames', wordsOf),
    ...defined({ nodeHostNames: read.optional('nodeHostNames', wordsOf) }),
    place: read.required('place', placeOf),
  };
}

function slurmdOf(value: unknown): SlurmdProcess | undefined {
  if (!isObject(value)) return undefined;
  const read = new Reader(value, 'slurmd: ');
  return {
    pid: read.required('pid', pidOf),
    configless: read.required('configless', yesOrNoOf),
    ...defined({
      nodeName: read.optional('nodeName', wordsOf),
      file: read.optional('file', wordsOf),
      toldBy: read.optional('toldBy', wordsOf),
    }),
  };
}

function configurationOf(value: unknown): SlurmConfiguration | undefined {
  if (!isObject(value)) return undefined;
  const read = new Reader(value, 'configuration: ');
  // Each of its keys: a new one must not be lost here.
  const all: { readonly [K in keyof Required<SlurmConfiguration>]: SlurmConfiguration[K] } = {
    file: read.optional('file', absoluteOf),
    foundBy: read.optional('foundBy', wordsOf),
    cgroupFile: read.optional('cgroupFile', absoluteOf),
    files: read.required('files', listOf(absoluteOf)),
    slurmd: read.optional('slurmd', slurmdOf),
    slurmdNames: read.optional('slurmdNames', listOf(wordsOf)),
    clusterName: read.optional('clusterName', settingOf),
    slurmUser: read.optional('slurmUser', settingOf),
    slurmdUser: read.optional('slurmdUser', settingOf),
    slurmdSpoolDir: read.optional('slurmdSpoolDir', absoluteSettingOf),
    prologFlags: read.optional('prologFlags', listOf(textOf)),
    proctrackType: read.optional('proctrackType', settingOf),
    taskPlugin: read.optional('taskPlugin', listOf(textOf)),
    jobAcctGatherType: read.optional('jobAcctGatherType', settingOf),
    jobContainerType: read.optional('jobContainerType', settingOf),
    namespaceType: read.optional('namespaceType', settingOf),
    launchParameters: read.optional('launchParameters', listOf(textOf)),
    nodes: read.required('nodes', listOf(nodeOf)),
    cgroupMountpoint: read.optional('cgroupMountpoint', absoluteSettingOf),
    cgroupPlugin: read.optional('cgroupPlugin', settingOf),
    cgroupPrepend: read.optional('cgroupPrepend', pathInsideOf),
    cgroupSlice: read.optional('cgroupSlice', pathInsideOf),
    cgroupJobIdPaths: read.optional('cgroupJobIdPaths', yesOrNoOf),
    ignoreSystemd: read.optional('ignoreSystemd', yesOrNoOf),
    constrainCores: read.optional('constrainCores', yesOrNoOf),
    constrainRamSpace: read.optional('constrainRamSpace', yesOrNoOf),
    constrainSwapSpace: read.optional('constrainSwapSpace', yesOrNoOf),
    constrainDevices: read.optional('constrainDevices', yesOrNoOf),
    places: read.required('places', (places) => mapOf(places, placeOf)),
    notes: read.required('notes', listOf(wordsOf)),
  };
  return all;
}
