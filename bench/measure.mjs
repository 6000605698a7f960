// Side by side: the contestants take turns (A B A B …), so that a machine that slows down slows both, and
// what is told is the median of each and the ratio of the medians.

import { spawn } from 'node:child_process';
import os from 'node:os';
import readline from 'node:readline';

/** Times contestants in turn. Each gives its time in ms, or nothing: then the call itself is timed. */
export async function inTurn(contestants, { rounds, warmUp = 2 }) {
  const times = contestants.map(() => []);
  for (let round = -warmUp; round < rounds; round++) {
    for (const [at, run] of contestants.entries()) {
      const begin = performance.now();
      const own = await run();
      const ms = typeof own === 'number' ? own : performance.now() - begin;
      if (round >= 0) times[at].push(ms);
      await new Promise(setImmediate); // a moment in which Ctrl-C is heard
    }
  }
  return times.map(median);
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A whole process from its start to its end, its output thrown away (/dev/null, the same for all). */
export function wholeProcess(file, args, { answers = [0], priority, stderr = 'inherit' } = {}) {
  return () =>
    new Promise((fulfil, reject) => {
      const begin = performance.now();
      const child = spawn(file, args, { stdio: ['ignore', 'ignore', stderr] });
      if (priority !== undefined) os.setPriority(child.pid, priority);
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        const ms = performance.now() - begin;
        if (answers.includes(code)) fulfil(ms);
        else reject(new Error(`${file} ${args.join(' ')} ended with ${code ?? signal}`));
      });
    });
}

/** The C walk, kept running and walking once a call: both sides are warm. `last` holds what it counted. */
export function cWalk(program, version, tops) {
  const child = spawn(program, [String(version), ...tops], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const walk = async () => {
    child.stdin.write('\n');
    const { value } = await lines.next();
    const [ns, jobs, steps, newest, pids] = value.split(' ').map(Number);
    walk.last = { jobs, steps, newest, pids };
    return ns / 1e6;
  };
  walk.end = () => child.stdin.end();
  return walk;
}
