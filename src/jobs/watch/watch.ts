// The jobs of this node as they come and go. The kernel's watches (chokidar, on directories alone) only say where
// to look again; what is there discoverJobs says. Nothing is open before the first event is asked for, nor after
// the last was given.

import type { FSWatcher } from 'chokidar';
import { deadlineIn } from '../../machine/deadline.js';
import { quote, SlurmCgroupsError, SystemCallError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { Wakeup } from '../../machine/wakeup.js';
import { type ReadNodeOptions, readNode, type SlurmNode } from '../node.js';
import type { JobChange } from './changes.js';
import {
  type Affected,
  affectedBy,
  directoriesToWatch,
  stepDirectoryOf,
  type WatchedDirectory,
} from './directories.js';
import { JobIndex } from './index-of-jobs.js';

/** One thing that happened. `time` is this machine's clock when it was noticed, in ISO 8601, UTC. */
export type JobEvent = { readonly time: string } & (
  | JobChange
  | {
      /** The jobs that were there at the start have been told. */
      readonly event: 'ready';
      readonly jobs: number;
    }
  | {
      /** For people: why events come later than they could. */
      readonly event: 'note';
      readonly note: string;
    }
);

export interface WatchJobsOptions extends ReadNodeOptions {
  /** Steps too, at one more of the kernel's watches a job. */
  readonly steps?: boolean;
  /** Ends the watch: what is open is closed at once, and the iteration is over, without an exception, as by `break`. */
  readonly signal?: AbortSignal;
  /** All is looked at again so often without any event, in case one was lost (a full queue of the kernel). Default 30,000. */
  readonly recheckMs?: number;
}

/** Looks at the start of something follow each other so closely, later ones less and less. */
const firstCheckMs = 100;
/** How often to look where the kernel has no watch left to give. */
const pollMs = 1000;
/** A watch takes at most a fifth of the time: it rests four times as long as the last look took, but answers in time. */
const restFactor = 4;
const maxRestMs = 250;
/** What comes at once is one look. */
const gatherMs = 2;
/** That many events at once, and the kernel's queue (16,384, all watches of this process) may have been full. */
const manyEvents = 4096;

/**
 * Tells every job that is here (`added`), then `ready`, then what happens: `added`, `removed`, `changed` and, with
 * `steps`, `step-added` and `step-removed`. Told over the jobs before them the events always give the jobs that
 * discoverJobs found; what came and went between two looks is not told. A directory made again under the same name
 * is another job. Slurm's directory may be missing at first, and be removed and made again.
 *
 * It ends by `break`, or by its signal. A recorded node does not change: its iteration ends after `ready`.
 *
 * @throws SlurmCgroupsError as readNode at the start and discoverJobs at any time: what cannot be read is not "none".
 * @example
 * for await (const event of watchJobs({ signal })) {
 *   if (event.event === 'added') console.log(event.jobId, event.uid);
 * }
 */
export function watchJobs(options: WatchJobsOptions = {}): AsyncIterableIterator<JobEvent> {
  const stop = new AbortController();
  const events = follow(options, stop.signal);
  // A generator alone would hear of its end only after its next event.
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () => events.next(),
    return: () => {
      stop.abort();
      return events.return();
    },
    throw: (error) => {
      stop.abort();
      return events.throw(error);
    },
  };
}

async function* follow(options: WatchJobsOptions, stopped: AbortSignal): AsyncGenerator<JobEvent, void, undefined> {
  const { signal, steps = false, recheckMs = 30_000 } = options;
  /** Nothing more is wanted. */
  const isOver = () => stopped.aborted || signal?.aborted === true;
  if (isOver()) return;
  let node = await readNode(options);
  const { host } = node;
  const bell = new Wakeup(host);
  const over = new AbortController();
  const todo = new Todo(() => bell.notify());
  const watches = new Watches(host, todo);
  const end = () => {
    over.abort();
    watches.close();
    bell.notify();
  };
  for (const one of [signal, stopped]) one?.addEventListener('abort', end, { once: true });
  try {
    if (isOver()) return;
    const index = new JobIndex(steps);
    const isLive = host.source === 'live';
    if (isLive) await watches.reach(directoriesToWatch(node, options.within));
    let [isReady, isRefusalTold, lastNote] = [false, false, ''];
    let [checkMs, byTimer, nodeReadAt] = [recheckMs, false, host.now()];
    todo.add({ what: 'all' });
    while (!isOver()) {
      const { readNodeAgain, users } = todo.take();
      if (readNodeAgain) {
        const found = await nodeNow(options);
        if (found instanceof SlurmCgroupsError) {
          if (lastNote !== found.message) yield { time: isoTime(), event: 'note', note: found.message };
          lastNote = found.message;
        } else {
          if (!haveSameTops(node, found)) [byTimer, checkMs] = [false, firstCheckMs]; // those of other hierarchies follow
          node = found;
        }
        nodeReadAt = host.now();
      }
      const begun = host.now();
      const changes = await index.look(node, users);
      const lookMs = host.now() - begun;
      for (const change of changes) {
        if (isOver()) return;
        yield { time: isoTime(), ...change };
      }
      if (isOver()) return;
      if (isLive && watches.refused === undefined) {
        const ofSteps = steps ? index.jobs.flatMap((job) => stepDirectoryOf(job) ?? []) : [];
        // What happened before a watch was there it cannot tell.
        for (const watched of await watches.reach([...directoriesToWatch(node, options.within), ...ofSteps]))
          todo.add(affectedBy(watched, undefined));
        if (isOver()) return;
      }
      if (watches.refused !== undefined && !isRefusalTold) {
        isRefusalTold = true;
        yield { time: isoTime(), event: 'note', note: watches.refused };
      }
      if (!byTimer && index.isUnsettled) checkMs = firstCheckMs;
      const rest = deadlineIn(host, Math.min(maxRestMs, restFactor * lookMs));
      if (todo.isEmpty) {
        if (!isReady) yield { time: isoTime(), event: 'ready', jobs: index.jobs.length };
        isReady = true;
        if (!isLive) return;
        const mostMs = watches.refused === undefined ? recheckMs : pollMs;
        checkMs = Math.min(checkMs, mostMs);
        byTimer = !(await bell.wait(checkMs));
        if (byTimer) {
          // Reading the configuration is no work for every second.
          const isDue = host.now() - nodeReadAt >= recheckMs || node.tops.length === 0;
          todo.add({ what: isDue || watches.refused === undefined ? 'node' : 'all' });
          checkMs = Math.min(2 * checkMs, mostMs);
        }
      }
      await rested(host, Math.max(gatherMs, rest.leftMs()), over.signal);
    }
  } finally {
    for (const one of [signal, stopped]) one?.removeEventListener('abort', end);
    watches.close();
  }
}

function isoTime(): string {
  return new Date().toISOString();
}

async function rested(host: Host, ms: number, over: AbortSignal): Promise<void> {
  try {
    await host.sleep(ms, over);
  } catch (error) {
    if (!over.aborted) throw error;
  }
}

/** A configuration that is being written, say, is no reason to end: the node is as it was. */
async function nodeNow(options: ReadNodeOptions): Promise<SlurmNode | SlurmCgroupsError> {
  try {
    return await readNode(options);
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return error;
    throw error;
  }
}

function haveSameTops(a: SlurmNode, b: SlurmNode): boolean {
  const names = (node: SlurmNode) => node.tops.map((top) => top.directory).join('\n');
  return names(a) === names(b);
}

/** What is to be looked at again. */
class Todo {
  readonly #ring: () => void;
  #node = false;
  #all = false;
  #users = new Set<number>();

  constructor(ring: () => void) {
    this.#ring = ring;
  }

  get isEmpty(): boolean {
    return !this.#node && !this.#all && this.#users.size === 0;
  }

  add(affected: Affected): void {
    if (affected === undefined) return;
    if (affected.what === 'user') this.#users.add(affected.uid);
    else if (affected.what === 'node') this.#node = true;
    else this.#all = true;
    this.#ring();
  }

  take(): { readonly readNodeAgain: boolean; readonly users: ReadonlySet<number> | 'all' } {
    const taken = { readNodeAgain: this.#node, users: this.#node || this.#all ? ('all' as const) : this.#users };
    [this.#node, this.#all, this.#users] = [false, false, new Set()];
    return taken;
  }
}

interface OpenWatch {
  readonly watcher: FSWatcher;
  /** Of the directory that is watched; the path may lead to another by now. */
  readonly inode: bigint;
}

/** The kernel's watches, one a directory. A removed cgroup says nothing by itself: inodes are compared. */
class Watches {
  readonly #host: Host;
  readonly #todo: Todo;
  /** What waits for a watch to be there. */
  readonly #opening = new Set<() => void>();
  #isClosed = false;
  readonly #open = new Map<string, OpenWatch>();
  #events = 0;
  #refused: string | undefined;

  constructor(host: Host, todo: Todo) {
    this.#host = host;
    this.#todo = todo;
  }

  /** Why no more watches can be had; all is then looked at now and then instead. */
  get refused(): string | undefined {
    return this.#refused;
  }

  /** Watches these directories and no others; gives those that were not watched until now. */
  async reach(directories: readonly WatchedDirectory[]): Promise<readonly WatchedDirectory[]> {
    this.#events = 0;
    const wanted = new Map(directories.map((watched) => [watched.directory, watched]));
    for (const [directory, { watcher, inode }] of this.#open) {
      if (wanted.has(directory) && this.#host.stat(directory)?.ino === inode) continue;
      this.#open.delete(directory);
      await closed(watcher);
    }
    const missing = [...wanted.values()].filter(({ directory }) => !this.#open.has(directory));
    if (missing.length === 0) return [];
    const { FSWatcher: Watcher } = await import('chokidar'); // 20 ms, and only a watch needs it
    await Promise.all(missing.map((watched) => this.#watch(Watcher, watched)));
    return missing;
  }

  async #watch(Watcher: typeof FSWatcher, watched: WatchedDirectory): Promise<void> {
    const { directory } = watched;
    const inode = this.#host.stat(directory)?.ino;
    if (inode === undefined || this.#isClosed) return;
    if (/[\\\p{Cs}]/u.test(directory))
      return this.#refuse(`Cannot watch ${quote(directory)}: chokidar cannot be told its name`);
    const watcher = new Watcher({
      persistent: false, // else chokidar shares one watch in the whole process, also of a directory that is gone
      ignoreInitial: true,
      depth: 0,
      followSymlinks: false,
      atomic: false,
    });
    this.#open.set(directory, { watcher, inode });
    // What is inside discoverJobs reads. chokidar would lstat every file there, at the start and at each event (100
    // directories of 10 jobs: 355 ms instead of 91), and by its names take one made again at once for the old one.
    watcher._readdirp = () => undefined;
    // Only the kernel's own words tell of a directory that went and came again at once.
    watcher.on('raw', (event, name) => {
      if (event === 'rename') this.#heard(affectedBy(watched, typeof name === 'string' ? name : undefined));
    });
    let isReady = false;
    await new Promise<void>((fulfil) => {
      const end = () => {
        this.#opening.delete(end);
        fulfil();
      };
      this.#opening.add(end);
      watcher.on('error', (error) => {
        if (isReady) this.#heard({ what: 'all' });
        else this.#refuse(whyNotWatched(directory, error));
        end();
      });
      watcher.on('ready', end);
      watcher.add(directory);
    });
    isReady = true;
    // CHOKIDAR_USEPOLLING in the environment: then it would not see what comes and goes here.
    const { usePolling } = watcher.options;
    if (usePolling) this.#refuse(`Cannot watch ${quote(directory)}: CHOKIDAR_USEPOLLING is set`);
    // Replaced between the two looks: the next call finds it missing, and watches again.
    if (this.#isClosed || usePolling || this.#host.stat(directory)?.ino !== inode) {
      this.#open.delete(directory);
      await closed(watcher);
    }
  }

  #heard(affected: Affected): void {
    this.#events += 1;
    this.#todo.add(this.#events === manyEvents ? { what: 'all' } : affected);
  }

  #refuse(why: string): void {
    this.#refused ??= `${why}: looking every ${pollMs / 1000} s instead`;
  }

  close(): void {
    this.#isClosed = true;
    for (const end of this.#opening) end();
    for (const { watcher } of this.#open.values()) void closed(watcher);
    this.#open.clear();
  }
}

/** chokidar 5.0.0 forgets timers of a second when it closes: they would keep the whole program alive. */
function closed(watcher: FSWatcher): Promise<void> {
  for (const throttled of watcher._throttled.values()) for (const one of throttled.values()) one.clear();
  return watcher.close();
}

function whyNotWatched(directory: string, error: unknown): string {
  const errno = (error as NodeJS.ErrnoException | null)?.code ?? String(error);
  switch (errno) {
    case 'ENOSPC':
      return `Cannot watch ${quote(directory)}: this user's watches are used up (fs.inotify.max_user_watches)`;
    case 'EMFILE':
      return `Cannot watch ${quote(directory)}: this user's watching programs are too many (fs.inotify.max_user_instances), or too many files are open`;
    default:
      return new SystemCallError('watch', directory, errno).message;
  }
}
