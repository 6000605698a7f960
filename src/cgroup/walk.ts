// One way through directories that users can make: as deep, as wide and as restless as they like. It holds directories
// instead of paths, lets others run, keeps to its limits and its deadline, and says when it could not see everything.
// What a directory means, and what is done with it, is left to the one who walks.

import { isGone, quote, SystemCallError } from '../machine/errors.js';
import {
  type Directory,
  type FileStat,
  type Host,
  isDirectory,
  knownBelow,
  longestPath,
  shortened,
} from '../machine/host.js';
import type { Pace } from '../machine/pace.js';

export interface WalkLimits {
  /** Levels below the top. */
  readonly levels: number;
  /** Directories in all. */
  readonly directories: number;
  /** Directories held at once. */
  readonly held: number;
  /** How often one directory is listed anew, since its entries changed their names meanwhile. */
  readonly listings: number;
}

/** A user's own directories do not need more: what is beyond is not looked at, and said. */
export const walkLimits: WalkLimits = { levels: 16_384, directories: 100_000, held: 64, listings: 32 };

/** What the visitor wants: go on, not below this one, or no further at all. */
export type Onward = 'skip' | 'stop' | undefined;

/** At once, or where it took its time, later: nothing is awaited for each of thousands of directories. */
export type Visit<V> = (at: Walked<V>) => Onward | Promise<Onward>;

export interface WalkOptions<V> {
  readonly pace: Pace;
  /** What is kept of a directory: asked for once, where `at.value` is read. */
  readonly make: (at: Walked<V>) => V;
  /** Parents before children. */
  readonly enter: Visit<V>;
  /** Children before parents. */
  readonly leave?: Visit<V> | undefined;
  /** The top, where it is held already; the caller closes it. */
  readonly held?: Directory | undefined;
  /** Names of children that are looked for first: where no others are, the directory need not be listed. */
  readonly likely?: readonly string[] | undefined;
  readonly limits?: WalkLimits;
}

export interface WalkEnd {
  /** Why not everything was seen. What was seen is no less true. */
  readonly unknown?: string;
}

/** How the files of a directory are come by: in one that is held, or by their paths. */
interface Reach {
  readonly by: Pick<Directory, 'read' | 'write' | 'stat' | 'open'>;
  /** What stands before the names of its files. */
  readonly prefix: string;
  readonly remove?: () => void;
}

/** A directory of a walk. Its files can be read while it is visited; what it is stays. */
export class Walked<V> {
  readonly name: string;
  /** 0: the top. */
  readonly depth: number;
  readonly inode: bigint;
  readonly parent: Walked<V> | undefined;
  /** Where the walk began. */
  readonly top: Walked<V>;
  /** Some below could not be seen, since they changed their names faster than they were listed. Known when it is left. */
  restless = false;
  /** While it is visited. */
  reach: Reach | undefined = undefined;
  readonly #make: (at: Walked<V>) => V;
  #value: V | undefined = undefined;

  constructor(name: string, inode: bigint, parent: Walked<V> | undefined, make: (at: Walked<V>) => V) {
    this.name = name;
    this.depth = parent === undefined ? 0 : parent.depth + 1;
    this.inode = inode;
    this.parent = parent;
    this.top = parent === undefined ? this : parent.top;
    this.#make = make;
  }

  get value(): V {
    if (this.#value !== undefined) return this.#value;
    // From above to here, one by one: there may be more levels than calls can be nested.
    const without: Walked<V>[] = [];
    for (let one = this.parent; one !== undefined && one.#value === undefined; one = one.parent) without.push(one);
    for (const one of without.reverse()) one.#value = one.#make(one);
    this.#value = this.#make(this);
    return this.#value;
  }

  read(file: string): string {
    const { by, prefix } = this.#at();
    return by.read(prefix + file);
  }

  write(file: string, text: string): void {
    const { by, prefix } = this.#at();
    by.write(prefix + file, text);
  }

  stat(file = ''): FileStat | undefined {
    const { by, prefix } = this.#at();
    return by.stat(file === '' ? prefix.slice(0, -1) : prefix + file);
  }

  /** Holds it for longer than the visit. The caller closes it. */
  hold(): Directory {
    const { by, prefix } = this.#at();
    return by.open(prefix === '' ? '.' : prefix.slice(0, -1));
  }

  /** Removes it, when it is left: before that others may be below. */
  remove(): void {
    const { remove } = this.#at();
    if (remove === undefined) throw new TypeError(`${quote(this.name)} can only be removed when it is left`);
    remove();
  }

  #at(): Reach {
    if (this.reach === undefined) throw new TypeError(`${quote(this.name)} can only be read while it is visited`);
    return this.reach;
  }
}

/** While the visitor is at work, and until what it promises is there, the files of the directory can be read. */
function visited<V>(at: Walked<V>, reach: Reach, visit: Visit<V>): Onward | Promise<Onward> {
  at.reach = reach;
  let isLater = false;
  try {
    const onward = visit(at);
    if (!(onward instanceof Promise)) return onward;
    isLater = true;
    return onward.finally(() => {
      at.reach = undefined;
    });
  } finally {
    if (!isLater) at.reach = undefined;
  }
}

/** A directory on the way from the top to where the walk is. */
interface Level<V> {
  readonly at: Walked<V>;
  /** Of its path. */
  readonly length: number;
  /** `undefined`: let go, since too many were held. */
  directory: Directory | undefined;
  links: bigint;
  /** Names to look at still, the next one last; `undefined`: not listed yet. */
  names: string[] | undefined;
  /** Inodes of the children that were found. */
  readonly found: Set<bigint>;
  listings: number;
  /** A child was gone from its name, or fewer were listed than there are. */
  changed: boolean;
}

/**
 * Walks through a directory and all below, parents before children, and in the order in which they are listed. Without
 * a promise where nothing was waited for: most of the walks of a list are over within microseconds.
 *
 * @throws SystemCallError of the top, when it is not there; what a visitor throws, unless it says that a directory
 * below is gone.
 */
export function walk<V>(host: Host, top: string, options: WalkOptions<V>): WalkEnd | Promise<WalkEnd> {
  return new Walking(host, top, options).run();
}

class Walking<V> {
  readonly #host: Host;
  readonly #top: string;
  readonly #options: WalkOptions<V>;
  readonly #limits: WalkLimits;
  readonly #levels: Level<V>[] = [];
  /** Inodes that were visited by their paths, before it turned out that directories must be held. */
  #visited: Set<bigint> | undefined;
  #skipped: Set<Walked<V>> | undefined;
  #held = 0;
  /** All levels above this one have been let go of. */
  #heldFrom = 0;
  #count = 0;
  #unknown: string | undefined;

  constructor(host: Host, top: string, options: WalkOptions<V>) {
    this.#host = host;
    this.#top = top;
    this.#options = options;
    this.#limits = options.limits ?? walkLimits;
  }

  #end(): WalkEnd {
    return this.#unknown === undefined ? {} : { unknown: this.#unknown };
  }

  run(): WalkEnd | Promise<WalkEnd> {
    const { held, leave } = this.#options;
    const plan = held === undefined ? this.#plan() : undefined;
    if (plan === undefined || (leave !== undefined && plan.length > 1)) return this.#byHandles();
    const seen = this.#visitFrom(plan, 0);
    if (seen instanceof Promise) return seen.then((isSeen) => (isSeen ? this.#end() : this.#byHandles()));
    return seen ? this.#end() : this.#byHandles();
  }

  async #byHandles(): Promise<WalkEnd> {
    try {
      await this.#fromTop();
      return this.#end();
    } finally {
      for (const level of this.#levels) this.#letGo(level);
    }
  }

  async #fromTop(): Promise<void> {
    const { held } = this.#options;
    const directory = held ?? this.#host.open(this.#top);
    try {
      const stat = directory.stat();
      if (stat === undefined) throw new SystemCallError('look at', this.#top, 'ENOENT');
      this.#push(new Walked('', stat.ino, undefined, this.#options.make), directory, stat.nlink);
    } catch (error) {
      if (held === undefined) directory.close();
      throw error;
    }
    if (held !== undefined) this.#held--; // not ours to let go
    this.#count++;
    if ((await this.#enter(this.#levels[0])) !== 'stop') await this.#through();
  }

  /**
   * The top and children that were likely, by their paths, where there are no others: most of Slurm's own directories
   * look so, and need neither be opened nor listed. kernfs counts the children in nlink, and one lstat costs a quarter of
   * listing the forty control files beside them.
   */
  #plan(): readonly Planned<V>[] | undefined {
    const { likely = [], make } = this.#options;
    const stat = this.#host.stat(this.#top);
    if (stat === undefined) throw new SystemCallError('look at', this.#top, 'ENOENT');
    const plan: Planned<V>[] = [{ at: new Walked('', stat.ino, undefined, make), path: this.#top, links: stat.nlink }];
    for (let next = 0; next < plan.length; next++) {
      const parent = plan[next];
      if (parent === undefined || parent.links === 2n) continue;
      let left = parent.links - 2n;
      for (const name of parent.links < 2n ? [] : likely) {
        if (left <= 0n) break;
        const path = `${parent.path}/${name}`;
        const child = this.#host.stat(path);
        if (child === undefined) continue;
        plan.push({ at: new Walked(name, child.ino, parent.at, make), path, links: child.nlink });
        left--;
      }
      if (left !== 0n || plan.length > mostByPath) return undefined;
    }
    return plan;
  }

  /**
   * Visits them one after the other, without a promise where the visitor makes none. `false`: a directory was not there
   * any more; it may only be called otherwise now.
   */
  #visitFrom(plan: readonly Planned<V>[], first: number): boolean | Promise<boolean> {
    const { pace } = this.#options;
    for (let next = first; next < plan.length; next++) {
      const planned = plan[next];
      if (planned === undefined) break;
      if (pace.isDue())
        return this.#visitLater(
          plan,
          next,
          this.#isStopped().then((isOver) => isOver || undefined),
        );
      const end = this.#visitByPath(planned);
      if (end instanceof Promise) return this.#visitLater(plan, next + 1, end);
      if (end !== undefined) return end;
    }
    return true;
  }

  async #visitLater(plan: readonly Planned<V>[], next: number, before: Promise<End>): Promise<boolean> {
    return (await before) ?? this.#visitFrom(plan, next);
  }

  #visitByPath({ at, path }: Planned<V>): End | Promise<End> {
    const { enter, leave } = this.#options;
    if (at.parent !== undefined && this.#skipped?.has(at.parent)) {
      this.#skipped.add(at);
      return undefined;
    }
    const reach: Reach = { by: this.#host, prefix: `${path}/` };
    if (leave !== undefined) return this.#visitAlone(at, { ...reach, remove: () => this.#host.rmdir(path) }, leave);
    let onward: Onward | Promise<Onward>;
    try {
      onward = visited(at, reach, enter);
    } catch (error) {
      return endAt(at, error);
    }
    return onward instanceof Promise
      ? onward.then(
          (wish) => this.#wished(at, wish),
          (error: unknown) => endAt(at, error),
        )
      : this.#wished(at, onward);
  }

  /** A top without children. */
  async #visitAlone(at: Walked<V>, reach: Reach, leave: Visit<V>): Promise<End> {
    const wish = await visited(at, reach, this.#options.enter);
    if (wish !== 'stop') await visited(at, reach, leave);
    return true;
  }

  #wished(at: Walked<V>, wish: Onward): End {
    this.#visited ??= new Set();
    this.#visited.add(at.inode);
    if (wish === 'skip') {
      this.#skipped ??= new Set();
      this.#skipped.add(at);
    }
    return wish === 'stop' ? true : undefined;
  }

  /** What errors call it. It is not kept: of ten thousand levels that would be a hundred megabytes. */
  #known({ at, length }: Level<V>): string {
    return this.#knownOf(at, length);
  }

  #knownOf(at: Walked<V>, length: number): string {
    if (length > longestPath) return shortened(this.#top, at.depth, at.name);
    const names: string[] = [];
    for (let one: Walked<V> | undefined = at; one?.parent !== undefined; one = one.parent) names.push(one.name);
    return names.reduceRight(knownBelow, this.#top);
  }

  async #isStopped(): Promise<boolean> {
    const { pace } = this.#options;
    await pace.pause();
    if (!pace.isOver()) return false;
    this.#unknown ??= `the time was over before all below ${quote(this.#top)} was looked at`;
    return true;
  }

  async #through(): Promise<void> {
    const { pace } = this.#options;
    for (let level = this.#levels.at(-1); level !== undefined; level = this.#levels.at(-1)) {
      if (pace.isDue() && (await this.#isStopped())) return;
      const name = level.names?.pop();
      if (name !== undefined) {
        if ((await this.#child(level, name)) === 'stop') return;
      } else if (level.names === undefined || (level.changed && this.#mayListAgain(level))) {
        if (!this.#list(level)) this.#drop();
      } else if ((await this.#leave(level)) === 'stop') return;
    }
  }

  #mayListAgain(level: Level<V>): boolean {
    if (level.listings < this.#limits.listings) return true;
    this.#unknown ??= `what is below ${quote(this.#known(level))} is renamed or made faster than it can be listed`;
    level.at.restless = true;
    return false;
  }

  /** `false`: it is gone. */
  #list(level: Level<V>): boolean {
    const { likely = [] } = this.#options;
    const { directory } = level;
    if (directory === undefined) throw new TypeError(`${quote(level.at.name)} is not held`);
    try {
      if (level.listings++ > 0) level.links = directory.stat()?.nlink ?? 2n;
      level.changed = false;
      level.names = [];
      if (level.links === 2n) return true;
      if (likely.length > 0 && level.listings === 1) {
        level.names = likely.filter((name) => directory.stat(name) !== undefined);
        if (level.links === 2n + BigInt(level.names.length)) return true;
      }
      const children = level.links > 2n ? Number(level.links - 2n) : undefined;
      const most = this.#limits.directories + manyFiles;
      const entries = children !== undefined && children <= most ? directory.entries() : directory.entries('', most);
      level.names = entries.flatMap(({ name, kind }) => (kind === 'directory' ? [name] : [])).reverse();
      if (children !== undefined && level.names.length !== children && this.#host.source === 'live')
        level.changed = directory.stat()?.nlink !== 2n + BigInt(level.names.length);
      return true;
    } catch (error) {
      if (level.at.depth === 0 || !isGone(error)) throw error;
      return false;
    }
  }

  /** Looks at one child and goes into it. */
  async #child(level: Level<V>, name: string): Promise<Onward> {
    const { directory } = level;
    if (directory === undefined) throw new TypeError(`${quote(level.at.name)} is not held`);
    if (this.#host.source === 'recording' && level.length + 1 + name.length > longestPath) {
      this.#unknown ??= `a recording holds nothing that is deeper than a path may be long (below ${quote(this.#top)})`;
      return undefined;
    }
    const stat = directory.stat(name);
    if (stat === undefined) {
      level.changed = true;
      return undefined;
    }
    if (!isDirectory(stat) || level.found.has(stat.ino)) return undefined;
    if (this.#count >= this.#limits.directories) {
      this.#unknown ??= `there are more than ${this.#limits.directories} directories below ${quote(this.#top)}`;
      return 'stop';
    }
    if (level.at.depth >= this.#limits.levels) {
      level.found.add(stat.ino);
      this.#unknown ??= `directories are nested more than ${this.#limits.levels} levels deep below ${quote(this.#top)}`;
      return undefined;
    }
    const at = new Walked(name, stat.ino, level.at, this.#options.make);
    return stat.nlink === 2n ? this.#leaf(level, directory, at) : this.#open(level, directory, at);
  }

  /** One without children is not opened: its files are read by its name. */
  async #leaf(level: Level<V>, directory: Directory, at: Walked<V>): Promise<Onward> {
    const { enter, leave } = this.#options;
    const reach: Reach = { by: directory, prefix: `${at.name}/`, remove: () => directory.rmdir(at.name) };
    try {
      if (this.#visited?.has(at.inode) !== true) {
        const entered = visited(at, reach, enter);
        const onward = entered instanceof Promise ? await entered : entered;
        if (onward === 'stop') return onward;
      }
      this.#count++;
      level.found.add(at.inode);
      if (leave === undefined) return undefined;
      const left = visited(at, reach, leave);
      return (left instanceof Promise ? await left : left) === 'stop' ? 'stop' : undefined;
    } catch (error) {
      if (!isGone(error)) throw error;
      level.changed = true; // removed, or renamed: then it is in the next list
      level.found.delete(at.inode);
      return undefined;
    }
  }

  async #open(level: Level<V>, parent: Directory, at: Walked<V>): Promise<Onward> {
    let directory: Directory;
    try {
      directory = parent.open(at.name, this.#knownOf(at, level.length + 1 + at.name.length));
    } catch (error) {
      if (!isGone(error)) throw error;
      level.changed = true;
      return undefined;
    }
    let stat: FileStat | undefined;
    try {
      stat = directory.stat();
    } catch (error) {
      directory.close();
      throw error;
    }
    if (stat === undefined || stat.ino !== at.inode) {
      directory.close();
      level.changed = true; // another by now
      return undefined;
    }
    level.found.add(at.inode);
    this.#count++;
    return this.#enter(this.#push(at, directory, stat.nlink));
  }

  #push(at: Walked<V>, directory: Directory, links: bigint): Level<V> {
    const above = this.#levels.at(-1);
    const level: Level<V> = {
      at,
      length: above === undefined ? this.#top.length : above.length + 1 + at.name.length,
      directory,
      links,
      names: undefined,
      found: new Set(),
      listings: 0,
      changed: false,
    };
    this.#levels.push(level);
    this.#held++;
    // One is kept free for the way up.
    for (; this.#held >= this.#limits.held && this.#heldFrom < this.#levels.length - 1; this.#heldFrom++) {
      const highest = this.#levels[this.#heldFrom];
      if (highest !== undefined) this.#letGo(highest);
    }
    return level;
  }

  #letGo(level: Level<V>): void {
    if (level.directory === undefined || level.directory === this.#options.held) return;
    level.directory.close();
    level.directory = undefined;
    this.#held--;
  }

  /** Not below one that is gone by now, or that the visitor skips. */
  async #enter(level: Level<V> | undefined): Promise<Onward> {
    if (level?.directory === undefined || this.#visited?.has(level.at.inode) === true) return undefined;
    const { directory, at } = level;
    try {
      const entered = visited(at, { by: directory, prefix: '' }, this.#options.enter);
      const onward = entered instanceof Promise ? await entered : entered;
      if (onward !== 'skip') return onward;
      level.names = [];
    } catch (error) {
      // It is held: whatever it is called now, this says that it was removed.
      if (at.depth === 0 || !isGone(error)) throw error;
      this.#drop();
    }
    return undefined;
  }

  async #leave(level: Level<V>): Promise<Onward> {
    const { leave } = this.#options;
    const { at, directory } = level;
    const parent = this.#levels.at(-2);
    if (parent !== undefined && !this.#holdAgain(parent, level)) return 'stop';
    if (leave !== undefined && directory !== undefined) {
      try {
        const remove = () => (parent === undefined ? this.#host.rmdir(this.#top) : parent.directory?.rmdir(at.name));
        const left = visited(at, { by: directory, prefix: '', remove }, leave);
        if ((left instanceof Promise ? await left : left) === 'stop') return 'stop';
      } catch (error) {
        if (!isGone(error)) throw error;
        if (parent !== undefined) {
          parent.changed = true;
          parent.found.delete(at.inode);
        }
      }
    }
    this.#drop();
    return undefined;
  }

  /** Back from the level that the walk is in, without leaving it properly. */
  #drop(): void {
    const level = this.#levels.at(-1);
    const parent = this.#levels.at(-2);
    if (level === undefined) return;
    if (parent !== undefined && !this.#holdAgain(parent, level)) {
      for (const one of this.#levels) this.#letGo(one);
      this.#levels.length = 0;
      return;
    }
    this.#letGo(level);
    this.#levels.pop();
    this.#heldFrom = Math.min(this.#heldFrom, Math.max(0, this.#levels.length - 1));
  }

  /** The way back from a child, where its parent had to be let go. `false`: it is not there any more. */
  #holdAgain(parent: Level<V>, child: Level<V>): boolean {
    if (parent.directory !== undefined) return true;
    let above: Directory | undefined;
    try {
      above = child.directory?.open('..', this.#known(parent));
      if (above !== undefined && above.stat()?.ino === parent.at.inode) {
        parent.directory = above;
        above = undefined;
        this.#held++;
        return true;
      }
    } catch (error) {
      if (!isGone(error)) throw error;
    } finally {
      above?.close();
    }
    this.#unknown ??= `${quote(this.#known(child))} was moved elsewhere while it was looked through`;
    return false;
  }
}

/** `true`: nothing else is to be visited; `false`: begin anew with directories held; `undefined`: go on. */
type End = boolean | undefined;

/** Of the top it is an error when it is gone. */
function endAt<V>(at: Walked<V>, error: unknown): End {
  if (at.depth === 0 || !isGone(error)) throw error;
  return false;
}

interface Planned<V> {
  readonly at: Walked<V>;
  readonly path: string;
  readonly links: bigint;
}

/** A user can nest directories with likely names, too. */
const mostByPath = 32;

/** More files than a cgroup has beside its children. */
const manyFiles = 1000;
