// A host whose /run/slurm-cgroups is a folder of the test's: nothing of it is left on the machine, and no other run of
// the product sees it.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Host } from '../../src/machine/host.js';

const real = '/run/slurm-cgroups';

export interface StateElsewhere {
  readonly host: Host;
  /** Where the folder is. */
  readonly folder: string;
  /** What is in it: paths of files and, with a slash at their end, of empty folders. */
  left(): readonly string[];
  remove(): void;
}

export function stateElsewhere(live: Host): StateElsewhere {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-state-'));
  return {
    folder,
    host: inFolder(live, folder),
    left: () => filesIn(folder),
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}

function inFolder(live: Host, folder: string): Host {
  const at = (where: string) =>
    where === real || where.startsWith(`${real}/`) ? `${folder}${where.slice(real.length)}` : where;
  return {
    ...live,
    read: (where) => live.read(at(where)),
    names: (where) => live.names(at(where)),
    entries: (where) => live.entries(at(where)),
    stat: (where) => live.stat(at(where)),
    readlink: (where) => live.readlink(at(where)),
    open: (where) => live.open(at(where)),
    mkdir: (where) => live.mkdir(at(where)),
    rmdir: (where) => live.rmdir(at(where)),
    write: (where, text) => live.write(at(where), text),
    create: (where, text) => live.create(at(where), text),
    append: (where, text) => live.append(at(where), text),
    link: (where, name) => live.link(at(where), at(name)),
    rename: (from, to) => live.rename(at(from), at(to)),
    unlink: (where) => live.unlink(at(where)),
  };
}

function filesIn(folder: string, below = ''): readonly string[] {
  const entries = fs.readdirSync(path.join(folder, below), { withFileTypes: true });
  return entries
    .flatMap((entry) => {
      const name = path.join(below, entry.name);
      if (!entry.isDirectory()) return [name];
      const inside = filesIn(folder, name);
      return inside.length === 0 ? [`${name}/`] : inside;
    })
    .sort();
}
