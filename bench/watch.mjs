// Watching jobs, measured: watchJobs beside chokidar as it comes (files too) and beside plain fs.watch, on the same
// tree of real cgroups, each in a process of its own: until it is ready, in memory, and in watches of the kernel.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { loadWatch } from './load.mjs';
import { inTurn, median } from './measure.mjs';

/** What runs in the process: each resolves when it hears everything. */
const contestants = {
  async ours({ within, steps }) {
    const { watchJobs } = await loadWatch();
    return async () => {
      const events = watchJobs({ within, steps });
      for (;;) if ((await events.next()).value.event === 'ready') return;
    };
  },
  async chokidar({ tops }) {
    const { watch } = await import('chokidar');
    return () => new Promise((fulfil) => watch(tops).on('ready', fulfil));
  },
  /** Slurm's directories and those of users, as they are now. */
  async plain({ tops }) {
    return async () => {
      for (const top of tops) {
        const users = fs.readdirSync(top).filter((name) => name.startsWith('uid_'));
        for (const directory of [top, ...users.map((name) => `${top}/${name}`)]) fs.watch(directory, () => {});
      }
    };
  },
};

/** Runs one of them in this process, and prints what it took. */
async function runContestant(name, options) {
  const start = await contestants[name](options);
  const begin = performance.now();
  await start();
  const ms = performance.now() - begin;
  const { rss } = process.memoryUsage();
  console.log(JSON.stringify({ ms, megabytes: rss / 2 ** 20, watches: watchesHere() }));
  process.exit(0);
}

/** Each inotify descriptor lists its watches, one a line (proc_pid_fdinfo(5)). */
function watchesHere() {
  return fs
    .readdirSync('/proc/self/fd')
    .filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:inotify';
      } catch {
        return false; // the one that was listed through
      }
    })
    .reduce((sum, fd) => sum + fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').match(/^inotify /gm).length, 0);
}

function inOwnProcess(name, options) {
  return new Promise((fulfil, reject) => {
    const child = spawn(process.execPath, [import.meta.filename, name, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? fulfil(JSON.parse(text)) : reject(new Error(`${name} ended with ${code}`)),
    );
  });
}

/**
 * Lines of the table about a tree of `size` jobs that is there (tree.mjs). What is no time says its unit.
 */
export async function measureWatch({ tree, size, report }) {
  const options = { within: tree.within(size), tops: tree.tops(size) };
  const took = { ours: [], steps: [], chokidar: [], plain: [] };
  const contestant = (key, name, more) => async () => {
    const one = await inOwnProcess(name, { ...options, ...more });
    took[key].push(one);
    return one.ms;
  };
  await inTurn(
    [
      contestant('ours', 'ours'),
      contestant('steps', 'ours', { steps: true }),
      contestant('chokidar', 'chokidar'),
      contestant('plain', 'plain'),
    ],
    { rounds: 3, warmUp: 0 },
  );
  const of = (key, what) => median(took[key].map((one) => one[what]));
  const line = (key, what, unit, against, bound) =>
    report(
      `watch${key === 'steps' ? ' --steps' : ''}, ${size} jobs: ${unit}`,
      [of(key, what), of(against, what)],
      against === 'plain' ? 'plain fs.watch' : 'chokidar as it comes',
      bound,
    );
  line('ours', 'ms', 'start', 'chokidar', 0.1);
  line('ours', 'megabytes', 'memory, MB', 'chokidar', 0.5);
  line('ours', 'watches', 'watches, number', 'plain', 1);
  line('ours', 'watches', 'watches, number', 'chokidar');
  line('ours', 'ms', 'start', 'plain');
  line('ours', 'megabytes', 'memory, MB', 'plain');
  line('steps', 'ms', 'start', 'chokidar');
  line('steps', 'megabytes', 'memory, MB', 'chokidar');
  line('steps', 'watches', 'watches, number', 'chokidar');
}

const [name, options] = process.argv.slice(2);
if (process.argv[1] === import.meta.filename && name !== undefined) await runContestant(name, JSON.parse(options));
