// A process that dies and whose pid another one gets at once, whenever a test wants it: in the very middle of
// what the product does. For guests alone: it tells the kernel which pid comes next.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { afterAll } from 'vitest';
import { identityOf, isThere, type ProcessIdentity } from '../../src/cgroup/process.js';
import { ifThere } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';

/** Forks on request, with the pid asked for where it is free, and reaps at once. */
const forking = `
  $SIG{CHLD} = 'IGNORE'; $| = 1;
  open IN, '+<', $ARGV[0]; open OUT, '+>', $ARGV[1]; select OUT; $| = 1;
  while (<IN>) {
    if ($_ > 0) { open F, '>', '/proc/sys/kernel/ns_last_pid'; print F $_ - 1; close F; }
    my $pid = fork; unless ($pid) { close IN; close OUT; sleep 300; exit } print OUT "$pid\n";
  }`;

interface Forker {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly asks: number;
  readonly answers: number;
}

let forker: Forker | undefined;

/** Asked through pipes that block: all must happen before the call that is interrupted goes on. */
function forkerOfTests(): Forker {
  if (forker !== undefined) return forker;
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-forker-');
  const pipes = ['asks', 'answers'].map((name) => `${folder}/${name}`);
  spawnSync('mkfifo', pipes);
  const [asks = -1, answers = -1] = pipes.map((pipe) => fs.openSync(pipe, 'r+'));
  const child = spawn('perl', ['-e', forking, ...pipes], { stdio: 'ignore', cwd: '/' });
  forker = { child, folder, asks, answers };
  return forker;
}

afterAll(() => {
  if (forker === undefined) return;
  forker.child.kill('SIGKILL');
  for (const fd of [forker.asks, forker.answers]) fs.closeSync(fd);
  fs.rmSync(forker.folder, { recursive: true });
  forker = undefined;
});

/** A process that is no child of ours: its pid is free as soon as it is dead. */
export function startOrphan(host: Host): ProcessIdentity {
  return identityOf(host, fork(0));
}

/** `undefined` where another has the pid. */
function startHeir(host: Host, pid: number): ProcessIdentity | undefined {
  for (let tries = 0; tries < 20; tries++) {
    const got = fork(pid);
    if (got === pid) return identityOf(host, pid);
    process.kill(got, 'SIGKILL'); // no other ends it
  }
  return undefined;
}

function fork(pid: number): number {
  const { asks, answers } = forkerOfTests();
  fs.writeSync(asks, `${pid}\n`);
  const answer = Buffer.alloc(20);
  return Number(answer.toString('latin1', 0, fs.readSync(answers, answer)));
}

export function endIfThere(host: Host, one: ProcessIdentity): void {
  ifThere(() => {
    if (isThere(host, one)) host.signal(one.pid, 'SIGKILL');
  });
}

/** Ends a process and gives its pid to one outside; `undefined` where it cannot end now (frozen on v1) or the pid is taken. */
export function swap(host: Host, victim: ProcessIdentity): ProcessIdentity | undefined {
  endIfThere(host, victim);
  for (let tries = 0; fs.existsSync(`/proc/${victim.pid}`); tries++) {
    if (tries === 100) return undefined;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2); // nothing else of ours may run meanwhile
  }
  return startHeir(host, victim.pid);
}

export interface SwapOptions {
  /** Looks and effects that concern one of these are counted; before the nth the first one is swapped. */
  readonly members: readonly ProcessIdentity[];
  readonly nth: number;
  /** Without koffi. */
  readonly withoutLibc?: boolean;
  /** Files of cgroups that the kernel seems not to have. */
  readonly hidden?: readonly string[];
  readonly swap?: (host: Host, victim: ProcessIdentity) => ProcessIdentity | undefined;
}

export interface SwappingHost {
  readonly host: Host;
  /** How many there were. */
  count(): number;
  /** Who got the pid. */
  heir(): ProcessIdentity | undefined;
}

/** This machine, on which the first of `members` dies and its pid becomes another's, before the nth call about them. */
export function swappingHost(live: Host, options: SwapOptions): SwappingHost {
  const { members, nth, withoutLibc = false, hidden = [] } = options;
  const [victim] = members;
  let count = 0;
  let heir: ProcessIdentity | undefined;
  const tick = () => {
    if (++count === nth && victim !== undefined) heir = (options.swap ?? swap)(live, victim);
  };
  const about = (pid: number) => members.some((member) => member.pid === pid);
  const concerns = (path: string) =>
    members.some((member) => path.startsWith(`/proc/${member.pid}/`)) || path.endsWith('/cgroup.procs');
  const isHidden = (path: string) => hidden.some((name) => path.endsWith(`/${name}`));
  const host: Host = {
    ...live,
    read: (path) => {
      if (concerns(path)) tick();
      return live.read(path);
    },
    stat: (path) => (isHidden(path) ? undefined : live.stat(path)),
    write: (path, text) => {
      tick();
      live.write(path, text);
    },
    libc: async () => {
      const libc = withoutLibc ? undefined : await live.libc();
      if (libc === undefined) return undefined;
      return {
        ...libc,
        holdForSignal: (pid) => {
          if (about(pid)) tick();
          const held = libc.holdForSignal(pid);
          return {
            ...held,
            send: (signal) => {
              if (about(pid)) tick();
              held.send(signal);
            },
          };
        },
      };
    },
  };
  return { host, count: () => count, heir: () => heir };
}
