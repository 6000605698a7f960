// One configuration file with all that it includes, as a value: each key with its value and place. The rules
// are those of Slurm's parser (syntax.ts); what the keys mean is said in read.ts.

import path from 'node:path';
import { defined } from '../../machine/defined.js';
import { ConfigError, quote } from '../../machine/errors.js';
import type { ConfigFiles, LocatedFile } from '../../machine/guarded-files.js';
import type { NodeEntry } from './node-names.js';
import type { SourceLine } from './place.js';
import { type ConfigPair, configLines } from './syntax.js';
import { requireTrusted, strangerAt, type TrustedUids } from './trust.js';

/** The value of a key. Where a key stands more than once, Slurm takes the last. */
export interface Setting {
  readonly value: string;
  readonly place: SourceLine;
}

export interface LoadedConfig {
  /** By key in lower case. */
  readonly settings: ReadonlyMap<string, Setting>;
  readonly nodes: readonly NodeEntry[];
  /** Paths of the files that were read, the first one first. */
  readonly files: readonly string[];
  /** Included files that were left out, since their owners are not trusted. */
  readonly leftOut: readonly LocatedFile[];
  readonly notes: readonly string[];
}

/** What may still be read, by all loads that share it; used up as they go. */
export interface Budget {
  bytes: number;
  files: number;
}

export const wholeBudget = (): Budget => ({ bytes: 8 << 20, files: 512 });
const maxIncludeDepth = 16;
const maxNotes = 20;
/** Keys that Slurm lets be followed by attributes on their line. */
const withAttributes: ReadonlySet<string> = new Set([
  'downnodes',
  'frontendname',
  'name',
  'nodename',
  'nodeset',
  'partitionname',
  'switchname',
]);

export interface LoadOptions {
  readonly trusted: TrustedUids;
  readonly budget: Budget;
  /** Leave out included files whose owners are not trusted, instead of giving up. */
  readonly leaveOut?: boolean;
}

/**
 * Reads a file and what it includes. Relative names mean the folder of `main`, whichever file includes them
 * (from Slurm 23.02 on; before, the folder of the including file, which is tried second).
 *
 * @throws ConfigError with file and line: an included file is missing, not trusted, includes itself, or there
 * are too many; ParseError where one is no text.
 */
export async function loadConfig(files: ConfigFiles, main: LocatedFile, options: LoadOptions): Promise<LoadedConfig> {
  const { trusted, budget } = options;
  const settings = new Map<string, Setting>();
  const nodes: NodeEntry[] = [];
  const read: string[] = [];
  const leftOut: LocatedFile[] = [];
  const notes: string[] = [];
  let unsaid = 0;
  const say = ({ file, line }: SourceLine, what: string) => {
    if (notes.length < maxNotes) notes.push(`${quote(file)}, line ${line}: ${what}`);
    else unsaid++;
  };

  const take = (pairs: readonly [ConfigPair, ...ConfigPair[]], place: SourceLine) => {
    const [{ key, value }, ...attributes] = pairs;
    const name = key.toLowerCase();
    settings.set(name, { value, place });
    if (attributes.length > 0 && !withAttributes.has(name))
      say(place, `Slurm takes one key a line here, what follows ${key} is not read`);
    if (name !== 'nodename' || /^(?:default|all)$/i.test(value)) return;
    const hosts = attributes.findLast((pair) => pair.key.toLowerCase() === 'nodehostname')?.value;
    nodes.push({ nodeNames: value, ...defined({ nodeHostNames: hosts }), place });
  };

  const include = async (name: string, place: SourceLine, chain: readonly string[]): Promise<void> => {
    if (name.includes('*')) {
      say(place, `${quote(name)} is not included: Slurm takes no patterns here`);
      return;
    }
    const expanded = withClusterName(name, settings.get('clustername')?.value, place);
    const found = await locateIncluded(files, expanded, { folder: path.dirname(main.path), place });
    if (found.note !== undefined) say(place, found.note);
    if (chain.includes(found.file.target)) throw atPlace(place, `${quote(found.file.path)} includes itself`);
    if (chain.length >= maxIncludeDepth)
      throw atPlace(place, `files include each other more than ${maxIncludeDepth} deep`);
    if (options.leaveOut === true && strangerAt(found.file, trusted) !== undefined) {
      leftOut.push(found.file);
      return;
    }
    await namingIncluder(place, () => readOne(found.file, chain));
  };

  const readOne = async (file: LocatedFile, chain: readonly string[]): Promise<void> => {
    requireTrusted(file, trusted);
    if (budget.files-- <= 0)
      throw new ConfigError(`Cannot read ${quote(file.path)}: more than ${wholeBudget().files} files are included`, {
        path: file.path,
      });
    const text = await files.read(file, budget.bytes);
    budget.bytes -= text.length;
    if (!read.includes(file.path)) read.push(file.path);
    for (const { line, pairs, include: name, rest } of configLines(text, file.path)) {
      const place = { file: file.path, line };
      const [first, ...more] = pairs;
      if (first !== undefined) take([first, ...more], place);
      // Not what it says: a file included by mistake may be secret.
      if (rest !== undefined) say(place, 'its end is not Key=Value and is not read');
      if (name !== undefined) await include(name, place, [...chain, file.target]);
    }
  };

  await readOne(main, []);
  if (unsaid > 0) notes.push(`${quote(main.path)}: ${unsaid} more lines like these`);
  return { settings, nodes, files: read, leftOut, notes };
}

/** `%c` in the name of an included file is the cluster's name in lower case, if it was set above. */
function withClusterName(name: string, cluster: string | undefined, place: SourceLine): string {
  if (!name.includes('%c')) return name;
  if (cluster === undefined) throw atPlace(place, `${quote(name)} needs ClusterName, which is not set above it`);
  return name.replaceAll('%c', () => cluster.toLowerCase());
}

async function locateIncluded(
  files: ConfigFiles,
  name: string,
  from: { readonly folder: string; readonly place: SourceLine },
): Promise<{ readonly file: LocatedFile; readonly note?: string }> {
  const { folder, place } = from;
  const wanted = name.startsWith('/') ? name : `${folder}/${name}`;
  const file = await namingIncluder(place, () => files.locate(wanted));
  if (file !== undefined) return { file };
  const older = path.dirname(place.file);
  if (!name.startsWith('/') && older !== folder) {
    const beside = await namingIncluder(place, () => files.locate(`${older}/${name}`));
    if (beside !== undefined)
      return {
        file: beside,
        note: `${quote(name)} is taken from ${quote(older)}: from 23.02 on Slurm looks in ${quote(folder)}`,
      };
  }
  throw atPlace(place, `${quote(wanted)}, which it includes, does not exist`);
}

/** Adds to an error who included the file that it is about. */
async function namingIncluder<T>({ file, line }: SourceLine, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ConfigError) || error.subject.line !== undefined) throw error;
    throw new ConfigError(`${error.message}; ${quote(file)} includes it in line ${line}`, { path: file, line }, error);
  }
}

function atPlace({ file, line }: SourceLine, why: string): ConfigError {
  return new ConfigError(`Cannot read ${quote(file)}, line ${line}: ${why}`, { path: file, line });
}
