// Logins through the PAM module that are not like others: logind takes the session out of its job, sshd counts refusals
// against the address that they came from, the clock is set while a login is going on. Each in a cell that has it.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { expect, it } from 'vitest';
import { readAdoptions } from '../../../src/jobs/adoptions.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { liveHost } from '../../../src/machine/live-host.js';
import type { Cluster } from '../../slurm/cluster.js';
import { landingIn, landingOf } from '../../slurm/differential/adopter.js';
import { moduleWords } from '../../slurm/differential/pam-module.js';
import { SshServer, type SshServerOptions } from '../../slurm/ssh-server.js';
import { moduleFolder, moduleHere } from './module.js';
import { cell, commandHere, directoryNameOf, isAlive, listPids, readOr, run, submit, until } from './slurm.js';

const budgetMs = 50_000;

interface Served extends Partial<SshServerOptions> {
  /** Modules before ours in the session stack. */
  readonly session?: readonly string[];
  readonly helper?: string;
}

/** With a stack as of a site, and a log of logins of its own. */
async function serve(cluster: Cluster, { session = [], helper, ...more }: Served): Promise<SshServer> {
  const options = [`budget=${budgetMs}ms`, 'action_adopt_failure=deny', 'action_generic_failure=deny'];
  const words = moduleWords({ cluster, folder: moduleFolder, module: moduleHere() }, options);
  const ours = helper === undefined ? words : words.replace(/ helper=\S+/, ` helper=${helper}`);
  const pam = [
    ...['auth required pam_permit.so', 'account required pam_permit.so', `account required ${ours}`],
    ...['session required pam_permit.so', ...session, `session required ${ours}`],
  ];
  const users = ['alice', 'bob', 'carol'];
  return SshServer.start({ folder: moduleFolder, users, isApart: true, sessionMs: 200_000, pam, ...more });
}

const ofExtern = async (jobId: number) => (await listPids(jobId)).filter(({ stepId }) => stepId === 'extern');

/** Of a session that only its own end, or that of its job, ends. */
const stay = 'exec cat';

/** In a cell with systemd: a logind that runs makes a session of each login, and moves it. */
export function describeLogind(cluster: () => Promise<Cluster>): void {
  it('a real pam_systemd moves the session: it is logind’s, in its job again, counted once, and ends with the job', async () => {
    const jobId = await submit('carol', 'sleep 3618');
    const server = await serve(await cluster(), { session: ['session optional pam_systemd.so'] });
    try {
      const { stdout, close } = await server.open('carol', [`echo $$ $XDG_SESSION_ID $XDG_RUNTIME_DIR; ${stay}`]);
      const [pid = 0, id = '', runtime = ''] = stdout.trim().split(' ');
      expect(runtime, `${stdout}\n${server.log}\n${server.syslog.join('\n')}`).toBe('/run/user/1003');
      // Between the phases it was where logind puts a session; it is back, and slurmstepd was told of it once.
      const [account, session, ...others] = server.records;
      expect(others).toEqual([]);
      expect(account?.adoption?.accounting).toBe('stepd');
      expect(session?.trace).toEqual(
        expect.arrayContaining([
          // On v1 in some hierarchies alone.
          expect.stringMatching(new RegExp(`^process \\d+ came from .*/user-1003\\.slice/session-${id}\\.scope`)),
          'slurmstepd is not told again: it would count the process twice',
        ]),
      );
      expect(landingOf(Number(pid))).toMatchObject({ place: 'job', job: directoryNameOf(jobId) });
      const listed = (await ofExtern(jobId)).filter((one) => one.pid === Number(pid));
      expect(listed).toHaveLength(1);
      // logind has it still, though its scope is empty and gone.
      const shown = await run('loginctl', ['show-session', id, '-p', 'Name', '-p', 'State', '-p', 'Leader']);
      expect(shown.trim().split('\n')).toEqual(
        expect.arrayContaining(['Name=carol', `Leader=${account?.process.pid}`]),
      );
      const isListed = async () =>
        new RegExp(`^ *${id} +1003 carol `, 'm').test(await run('loginctl', ['list-sessions', '--no-legend']));
      expect(await isListed()).toBe(true);

      await run('scancel', [String(jobId)]);
      await until('the session ends with its job', () => !isAlive(Number(pid)));
      await until('logind has no such session any more', async () => !(await isListed()));
      await close();
    } finally {
      await server.close();
    }
  });
}

/** From OpenSSH 9.8 on sshd keeps out an address from which too many logins failed: our refusals count. */
export function describePenalties(cluster: () => Promise<Cluster>, bobs: () => number): void {
  it('PerSourcePenaltyExemptList: after refusals from an address others get in from it; without it sshd keeps all out', async () => {
    const [exempt, blocked, other] = ['127.0.0.2', '127.0.0.4', '127.0.0.3'];
    // Not its default of 5 s a refusal, of which four together block: on a slow machine one is over before the next.
    const config = [`PerSourcePenaltyExemptList ${exempt}`, 'PerSourcePenalties authfail:600'];
    const server = await serve(await cluster(), { config });
    const from = (address: string) => ['-b', address];
    const isRefused = async (address: string) => {
      const { code, stderr } = await server.ssh('carol', ['true'], from(address));
      expect(code, `${stderr}\n${server.log}`).toBe(255);
      return stderr.includes('you have no active jobs on this node');
    };
    const expectBothIn = async (address: string) => {
      const [bob, root] = await Promise.all([
        server.ssh('bob', ['cat /proc/self/cgroup'], from(address)),
        server.ssh('root', ['true'], from(address)),
      ]);
      expect([bob.code, landingIn(bob.stdout)], `${bob.stderr}\n${server.log}`).toEqual([
        0,
        expect.objectContaining({ place: 'job', job: directoryNameOf(bobs()) }),
      ]);
      expect(root.code, `${root.stderr}\n${server.log}`).toBe(0);
    };
    try {
      for (let left = cell.full ? 20 : 2; left > 0; left--) expect(await isRefused(exempt), server.log).toBe(true);
      await expectBothIn(exempt);
      // sshd itself does it, and does not ask PAM: root, too.
      await until('the address is blocked', async () => {
        await isRefused(blocked);
        return dropsOf(server, blocked) > 0;
      });
      const root = await server.ssh('root', ['true'], from(blocked));
      expect([root.code, dropsOf(server, blocked)], `${root.stderr}\n${server.log}`).toEqual([255, 2]);
      await expectBothIn(other);
    } finally {
      await server.close();
    }
  });
}

/** `drop connection #0 from [127.0.0.4]:49885 on [127.0.0.1]:43389 penalty: failed authentication` */
function dropsOf(server: SshServer, address: string): number {
  const isDrop = (line: string) => line.startsWith('drop connection #') && line.includes(` from [${address}]:`);
  return server.log.split('\n').filter((line) => isDrop(line) && line.includes(' penalty: ')).length;
}

/** Where ours writes the session's place itself, the first write of each phase sets the clock: back, then forward. */
export function describeClock(cluster: () => Promise<Cluster>, newest: () => number): void {
  it('a clock that is set back by an hour in one phase, and forward in the other: in time, in the right job, and proven', async () => {
    const drift = Date.now() - performance.now();
    moduleHere(); // and its folder
    const setter = path.join(moduleFolder, 'helper-at-clock');
    const away = path.join(moduleFolder, 'away');
    fs.writeFileSync(setter, settingClock(`${setter}.set`), { mode: 0o755 });
    // As pam_systemd: so the second phase has something to do.
    fs.writeFileSync(away, '#!/bin/sh\necho $PPID >/sys/fs/cgroup/cgroup.procs\n', { mode: 0o755 });
    const server = await serve(await cluster(), {
      helper: setter,
      session: [`session required pam_exec.so quiet ${away}`],
      isApart: false, // the records of the adoption are this node's
    });
    try {
      const before = server.records.length;
      const { stdout, close } = await server.open('alice', [`echo $$; ${stay}`]);
      expect(readOr(`${setter}.set`), server.log).toBe('-3600\n3600\n');
      const pid = Number(stdout);
      const records = server.records.slice(before);
      // Each phase in its budget: else the module would have refused her.
      expect(records.map(({ action, target }) => [action, target?.jobId])).toEqual([
        ['allow', newest()],
        ['allow', newest()],
      ]);
      expect(landingOf(pid)).toMatchObject({ place: 'job', job: directoryNameOf(newest()) });
      expect((await ofExtern(newest())).filter((one) => one.pid === pid)).toHaveLength(1);
      const { code, text } = await commandHere('verify', String(pid), '--job', String(newest()));
      expect(code, text).toBe(0);
      const { sessions, notes, unknown } = await readAdoptions(
        liveHost(),
        { jobId: newest() },
        deadlineIn(liveHost(), budgetMs),
      );
      expect([notes, unknown]).toEqual([[], undefined]);
      expect(sessions).toContainEqual(expect.objectContaining({ pid: records[0]?.process.pid, state: 'adopted' }));
      await close();
      await until('the session has ended', () => !isAlive(pid));
    } finally {
      const wrong = Math.round((Date.now() - performance.now() - drift) / 1000);
      if (wrong !== 0) await run('date', ['-s', `@${Math.round(Date.now() / 1000) - wrong}`]);
      await server.close();
    }
  });
}

/** A helper that sets the clock in the middle of its work, as soon as it is about to move a process. */
function settingClock(note: string): string {
  return `#!${process.execPath}
const fs = require('node:fs');
const { execFileSync } = require('node:child_process');
const open = fs.openSync;
let isSet = false;
fs.openSync = (file, flags, ...more) => {
  if (!isSet && String(file).endsWith('/cgroup.procs') && (flags & fs.constants.O_WRONLY) !== 0) {
    isSet = true;
    const seconds = fs.existsSync(${JSON.stringify(note)}) ? 3600 : -3600;
    execFileSync('/bin/date', ['-s', '@' + (Math.round(Date.now() / 1000) + seconds)], { stdio: 'ignore' });
    fs.appendFileSync(${JSON.stringify(note)}, seconds + '\\n');
  }
  return open(file, flags, ...more);
};
require(${JSON.stringify(path.resolve(import.meta.dirname, '../../../dist/bin/slurm-cgroups.js'))});
`;
}
