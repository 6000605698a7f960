// What takes long to make (roots, kernels) is made once and kept outside the repository, under a name that says
// by which recipe. It appears under that name by one rename, when it is complete: half of one is never used.

import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';

export function labFolder(): string {
  return path.join(process.env['XDG_CACHE_HOME'] || '/var/cache', 'slurm-cgroups/lab');
}

export interface Recipe {
  /** The first part of the name, for people. */
  readonly name: string;
  /** Everything that decides what comes out: versions, lists of packages, scripts. */
  readonly ingredients: readonly string[];
  /** Makes it in an empty folder. */
  make(folder: string): Promise<void>;
}

/** Gives the folder of what the recipe makes; makes it when there is none. */
export async function kept(
  recipe: Recipe,
  { folder = labFolder() }: { readonly folder?: string } = {},
): Promise<string> {
  const key = createHash('sha256').update(JSON.stringify(recipe.ingredients)).digest('hex').slice(0, 12);
  const done = path.join(folder, `${recipe.name}-${key}`);
  if (fs.existsSync(done)) return done;
  fs.mkdirSync(folder, { recursive: true });
  removeAbandoned(folder);
  const unfinished = path.join(
    folder,
    `.unfinished-${process.pid}-${startTimeOf(process.pid)}-${randomBytes(4).toString('hex')}`,
  );
  fs.mkdirSync(unfinished);
  try {
    await recipe.make(unfinished);
    fs.renameSync(unfinished, done);
  } catch (error) {
    removeTree(unfinished);
    // Another was faster with the same recipe: theirs is as good.
    if (!hasCode(error, 'ENOTEMPTY', 'EEXIST') || !fs.existsSync(done)) throw error;
  }
  return done;
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** A folder that no living process owns: `PREFIX-<pid>-<start time>-<random>`, also those of guests. */
export function removeAbandoned(folder: string): void {
  for (const name of fs.readdirSync(folder)) {
    const [, pid, startTime] = /^\.[a-z]+-(\d+)-(\d+)-[0-9a-f]+$/.exec(name) ?? [];
    if (pid !== undefined && startTimeOf(Number(pid)) !== startTime) removeTree(path.join(folder, name));
  }
}

/** Field 22 of /proc/PID/stat: with the pid it names one process for ever. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined; // no such process
  }
}

/** Never through a mount: a root being made can have /proc or /dev in it. */
export function removeTree(folder: string): void {
  if (hasMountBelow(folder, fs.readFileSync('/proc/self/mountinfo', 'utf8'))) {
    throw new Error(`Cannot remove "${folder}": something is mounted below it`);
  }
  fs.rmSync(folder, { recursive: true, force: true });
}

export function hasMountBelow(folder: string, mountinfo: string): boolean {
  return mountinfo.split('\n').some((line) => line.split(' ')[4]?.startsWith(`${folder}/`));
}
