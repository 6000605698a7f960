// slurm-cgroups in the role of the PAM module: a whole login in this process, and a process of the user as its session.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { promisify } from 'node:util';
import { admitSession } from '../../../src/adopt/session.js';
import { readNode } from '../../../src/jobs/node.js';
import { SlurmCgroupsError } from '../../../src/machine/errors.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { parseOptions } from '../../../src/policy/options.js';
import { command } from '../command.js';
import { type Adopter, type Login, type Outcome, outcomeOf, patienceOn, type Site } from './adopter.js';
import { arriveFrom } from './source.js';

const host = liveHost();

export function slurmCgroups(site: Site): Adopter {
  return {
    name: 'slurm-cgroups',
    takesPid: true,
    login: (login) => loginHere(site, login),
    close: () => Promise.resolve(),
  };
}

async function loginHere(site: Site, login: Login): Promise<Outcome> {
  const account = accountOf(login.user);
  const session = login.pid === undefined ? startSession(account ?? { uid: 65534, gid: 65534 }) : undefined;
  const pid = login.pid ?? session?.pid ?? 0;
  const arrival = login.from === undefined ? undefined : await arriveFrom(login.from, login.mapped === true);
  try {
    if (account === undefined) return await loginByCommand(site, login, pid);
    const { nodeName, conf } = site.cluster;
    // What a resident process knows before the login comes.
    const node = await readNode({ host, nodeName, configFile: conf, timeoutMs: 30_000 });
    const options = parseOptions(login.options);
    const connection = arrival?.text;
    const request = {
      uid: account.uid,
      user: login.user,
      service: login.service,
      pid,
      ...(connection && { connection }),
    };
    const begunAt = performance.now();
    login.begun?.();
    const signal = AbortSignal.timeout(patienceOn(site));
    const told = await admitSession(request, { node, options, signal }).then(
      ({ action, reason }) => ({ answer: answers[action], said: reason }),
      (error: unknown) => {
        if (signal.aborted) return { answer: 'hangs' as const, said: 'it had to be told to end' };
        if (!(error instanceof SlurmCgroupsError)) throw error;
        return { answer: 'refused' as const, said: error.message };
      },
    );
    return outcomeOf(pid, { ...told, ms: performance.now() - begunAt });
  } finally {
    arrival?.close();
    session?.kill('SIGKILL');
  }
}

const answers = { allow: 'in', ignore: 'ignored', deny: 'refused' } as const;

/** Who there is no user of is told from who has no job by the command alone: a session has a uid. */
async function loginByCommand({ cluster }: Site, { user }: Login, pid: number): Promise<Outcome> {
  const begunAt = performance.now();
  const { code, stderr } = await command(cluster, 'adopt', String(pid), '--user', user);
  if (code !== 2) throw new Error(`adopt --user ${user} ended with ${code}: ${stderr}`);
  return outcomeOf(pid, { answer: 'refused', ms: performance.now() - begunAt, said: stderr.trim() });
}

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** By the file alone: the users of this test are those that every machine has. */
export function accountOf(user: string): Account | undefined {
  const line = fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((one) => one.split(':'))
    .find(([name]) => name === user);
  return line === undefined ? undefined : { uid: Number(line[2]), gid: Number(line[3]) };
}

function startSession({ uid, gid }: Account): ChildProcess {
  return spawn('/bin/sleep', ['120'], { uid, gid, cwd: '/', stdio: 'ignore' });
}

/** A pid that is free: that of a process which is gone and was waited for. */
export async function deadPid(): Promise<number> {
  const running = promisify(execFile)(process.execPath, ['--version']);
  await running;
  return running.child.pid ?? 0;
}
