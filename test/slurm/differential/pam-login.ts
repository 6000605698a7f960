// Logins through real PAM: pamtester in the role of sshd, with a connection at hand where the login has one.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Adopter, type Login, type Outcome, outcomeOf, patienceOn, type Site } from './adopter.js';
import { moduleWords } from './pam-module.js';
import { PamStack, shellOnlyWith } from './pam-stack.js';
import { arriveFrom } from './source.js';

/** The real pam_slurm_adopt. It adopts the process that it runs in. */
export function pamSlurmAdopt(site: Site): Adopter {
  return byPamtester('pam_slurm_adopt', site, ({ options }) => wordsFor(site, options));
}

/** The module of slurm-cgroups, in the same place. */
export function pamSlurmCgroups(site: Site): Adopter {
  const { module = '' } = site;
  return byPamtester('pam_slurm_cgroups', site, ({ options }) => moduleWords({ ...site, module }, options));
}

function byPamtester(name: string, site: Site, moduleFor: (login: Login) => string): Adopter {
  const left = new Set<ChildProcess>();
  return {
    name,
    login: (login) => loginByPamtester({ site, module: moduleFor(login) }, login, left),
    close: async () => {
      for (const child of left) if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}

/** The words that make pam_slurm_adopt know this node; ours (which it would complain about) left out. */
export function wordsFor({ cluster }: Site, options: readonly string[]): string {
  const theirs = options.filter(
    (word) => !/^(?:wait_for_job|rank|budget|callerid_timeout|action_suspended)=/.test(word),
  );
  return ['pam_slurm_adopt.so', `nodename=${cluster.nodeName}`, ...theirs].join(' ');
}

async function loginByPamtester(
  { site, module }: { readonly site: Site; readonly module: string },
  login: Login,
  left: Set<ChildProcess>,
): Promise<Outcome> {
  const stack = new PamStack(site.folder, login.service, module);
  const arrival = login.from === undefined ? undefined : await arriveFrom(login.from, login.mapped === true);
  const begunAt = performance.now();
  // sshd says so in the environment of PAM.
  const said = arrival === undefined ? [] : [`-ESSH_CONNECTION=${arrival.text}`];
  const child = stack.spawn(['pamtester', ...said, login.service, login.user, 'acct_mgmt'], {
    cwd: '/',
    env: shellOnlyWith({ SLURM_CONF: site.cluster.conf }),
    stdio: ['ignore', 'pipe', 'pipe', arrival === undefined ? 'ignore' : arrival.socket],
  });
  left.add(child);
  child.once('exit', () => left.delete(child));
  login.begun?.();
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
  try {
    const answer = await answered(stack, child, begunAt + patienceOn(site));
    const ms = performance.now() - begunAt;
    const pid = child.pid ?? 0;
    if (answer === undefined) return await killed(child, ms);
    const outcome = outcomeOf(pid, { answer, ms, said: '' });
    stack.release();
    await ended(child, 10_000);
    return { ...outcome, said: output.trim() };
  } finally {
    arrival?.close();
    stack.remove();
  }
}

async function answered(stack: PamStack, child: ChildProcess, endMs: number) {
  while (performance.now() < endMs) {
    const read = stack.read();
    if (read !== undefined) return read.answer;
    if (child.exitCode !== null) throw new Error(`pamtester ended with ${child.exitCode} before its module answered`);
    await sleep(5);
  }
  return undefined;
}

async function killed(child: ChildProcess, ms: number): Promise<Outcome> {
  const outcome = outcomeOf(child.pid ?? 0, { answer: 'hangs', ms, said: '' });
  child.kill('SIGKILL');
  const unkillable = !(await ended(child, 1000));
  return { ...outcome, unkillable, said: unkillable ? 'not even SIGKILL ended it' : 'it had to be killed' };
}

/** Whether the process has ended within that time. */
async function ended(child: ChildProcess, timeoutMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  const waiting = new AbortController();
  const inTime = once(child, 'exit', { signal: waiting.signal }).then(
    () => true,
    () => false,
  );
  const isOver = await Promise.race([inTime, sleep(timeoutMs, false, { signal: waiting.signal })]);
  waiting.abort();
  return isOver;
}
