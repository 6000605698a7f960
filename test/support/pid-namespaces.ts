// Pid namespaces for tests: a real one that ends, and a machine that says in which one this process is.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import type { Host } from '../../src/machine/host.js';
import { until } from './kernel-jobs.js';

/** As /proc/self/ns/pid has it where all processes of the machine are seen. */
export const firstPidNamespace = 'pid:[4026531836]';

/** Runs `act` with the name of a pid namespace in which a process lives; gives that name, of a namespace that is over by then. */
export async function inPidNamespace(act: (name: string) => Promise<void>): Promise<string> {
  const child = spawn('/usr/bin/unshare', ['-p', '-f', '--kill-child', '/bin/sleep', '600'], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  let name = '';
  try {
    await until('a process in the namespace', () => {
      const [inside] = fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
      // Until it is sleep it has not asked yet to end with its parent.
      if (inside !== undefined && inside !== '' && fs.readFileSync(`/proc/${inside}/comm`, 'utf8') === 'sleep\n')
        name = fs.readlinkSync(`/proc/${inside}/ns/pid`);
      return name !== '';
    });
    await act(name);
    return name;
  } finally {
    child.kill('SIGKILL');
    await ended;
    await until('the namespace is empty', () => name === '' || !namespacesInUse().includes(name));
  }
}

function namespacesInUse(): readonly string[] {
  return fs.readdirSync('/proc').flatMap((pid) => {
    try {
      return /^\d+$/.test(pid) ? [fs.readlinkSync(`/proc/${pid}/ns/pid`)] : [];
    } catch {
      return []; // it has ended
    }
  });
}

/** The machine, where this process is in the namespace `own`, and all that run are in `others`. */
export function seenFrom(host: Host, own: string, others: string): Host {
  return {
    ...host,
    readlink: (path) =>
      path === '/proc/self/ns/pid' ? own : /^\/proc\/\d+\/ns\/pid$/.test(path) ? others : host.readlink(path),
  };
}
