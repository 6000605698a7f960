// What a session takes over from its job beside the cgroups: its X11 display, and its namespaces.

import os from 'node:os';
import { describe, expect } from 'vitest';
import { here, type Login, line, Programs, recorded, reply } from './programs.js';

const programs = new Programs(['module', 'login']);
const rootTest = (name: string, act: () => Promise<void>) => programs.test(name, true, act);

const inJob = (...more: readonly string[]) =>
  ['action allow', 'message You are in job 5', 'process @PID@ @START@', 'job 5', ...here(), ...more] as const;

describe('the X11 display of the job', () => {
  const ofJob = ['display localhost:52.0', 'xauthority /tmp/x'];
  const withIt = ['DISPLAY=localhost:52.0', 'XAUTHORITY=/tmp/x'];
  const account = [`part=answer ${reply(...inJob(...ofJob))}`, 'call=account'];

  for (const phases of [account, [...account, ...recorded(...inJob(...ofJob)), 'call=open']])
    rootTest(`is the session’s, phases: ${phases.length === 2 ? 'account' : 'both'}`, async () => {
      const login = await programs.login(line(), ...phases, 'child');
      expect(login.environmentOfChild).toEqual(expect.arrayContaining(withIt));
      expect(login.changed).toEqual([]);
    });

  rootTest('gives way where sshd listens for X11 itself (ssh -X), in the session’s process alone', async () => {
    const steps = [...recorded(...inJob(...ofJob)), 'call=open', 'child', 'listen=6017', 'child', 'call=open'];
    const login = await programs.login(line(), ...account, ...steps);
    expect(login.environmentOfChild).toEqual([
      ...['SLURM_JOB_ID=5', ...withIt], // before
      'SLURM_JOB_ID=5',
    ]);
    expect(login.environment).toEqual(expect.arrayContaining(withIt));
  });

  rootTest('another listening socket is no display, and another module’s DISPLAY is left alone', async () => {
    const other = await programs.login(line(), ...account, 'listen=8080', 'child');
    expect(other.environmentOfChild).toEqual(expect.arrayContaining(withIt));
    const foreign = await programs.login(line(), ...account, 'pamenv=DISPLAY=:0', 'listen=6018', 'child');
    expect(foreign.environmentOfChild).toContain('DISPLAY=:0');
  });
});

describe('the namespaces of the job', () => {
  const socket = '/run/test/spool/n_5.4294967292';
  const inside = 'has /run/test/inside/yes: yes';
  const outside = 'has /run/test/inside/yes: no';
  const look = ['has=/run/test/inside/yes', 'hostname', 'folder'];
  const stepd = (version: number, part: string) => `stepd=${programs.path('stepd')}=${version}=${part}`;
  const opened = (version: number, part: string, ...more: readonly string[]) => [
    ...recorded(...inJob(`stepd ${version << 8} ${socket}`, ...more)),
    stepd(version, part),
    'call=open',
    ...look,
  ];
  const isOutside = (login: Login) =>
    expect([login.has(outside), login.has(`hostname ${os.hostname()}`), login.changed]).toEqual([true, true, []]);

  rootTest('up to 25.05 that of mounts is joined', async () => {
    const login = await programs.login(line(), 'cwd=/run/test', ...opened(43, 'namespaces'));
    expect([login.answers, login.log, login.user]).toEqual([['success'], [], ['info You are in job 5']]);
    expect([login.has(inside), login.has(`hostname ${os.hostname()}`)]).toEqual([true, true]);
    expect([login.has('folder /run/test'), login.changed]).toEqual([true, []]);
  });

  rootTest('from 25.11 on all of them, and the end of the session is found from there', async () => {
    const login = await programs.login(line(), ...opened(44, 'namespaces'), 'call=close');
    expect([login.answers, login.has(inside), login.has('hostname of-the-job')]).toEqual([
      ['success', 'success'],
      true,
      true,
    ]);
  });

  rootTest('a job without namespaces is no failure', async () => {
    for (const version of [38, 45]) {
      const login = await programs.login(line(), ...opened(version, 'none', 'failure deny'));
      expect([login.answers, login.log]).toEqual([['success'], []]);
      isOutside(login);
    }
  });

  interface Row {
    readonly part: string;
    readonly says: RegExp;
    readonly versions?: readonly number[];
    readonly words?: readonly string[];
    readonly before?: readonly string[];
  }
  const rows: readonly Row[] = [
    { part: 'error', says: /cannot open the job's namespaces/ },
    { part: 'many', says: /cannot open the job's namespaces/, versions: [44] },
    { part: 'ends', says: /closed without an answer/ },
    { part: 'file', says: /not that namespace/ },
    { part: 'two', says: /sent no descriptor/ },
    { part: 'early', says: /not asked for/ },
    { part: 'user', says: /is not root/, versions: [38] },
    { part: 'silent', says: /did not answer in time/, words: ['budget=400ms'] },
    // A change of mounts is refused to a process with threads: what was joined before is left again.
    { part: 'namespaces', says: /namespace "mnt" cannot be joined: Invalid argument/, before: ['threads=1'] },
  ];
  for (const { part, says, versions = [38, 44], words = ['budget=60s'], before = [] } of rows)
    for (const version of versions)
      for (const failure of ['allow', 'deny'])
        rootTest(`${part}, release ${version}: nothing is joined, and \`failure ${failure}\` decides`, async () => {
          const login = await programs.login(line(...words), ...before, ...opened(version, part, `failure ${failure}`));
          expect(login.answers).toEqual([failure === 'deny' ? 'session error' : 'success']);
          expect(login.log[0]).toMatch(/^3 The session of user daemon \(uid=1\) is not in the namespaces of job 5: /);
          expect(login.log[0]).toMatch(says);
          expect(login.user.some((text) => text.startsWith('error Access denied'))).toBe(failure === 'deny');
          isOutside(login);
        });

  rootTest('where slurmstepd is gone, or is not known: the same', async () => {
    const gone = [...recorded(...inJob(`stepd 9728 ${socket}`, 'failure deny')), 'call=open', ...look];
    const unknown = [...recorded(...inJob('namespaces unknown', 'failure deny')), 'call=open', ...look];
    for (const [says, steps] of [
      [/slurmstepd cannot be reached/, gone],
      [/its slurmstepd could not be asked/, unknown],
    ] as const) {
      const login = await programs.login(line(), ...steps);
      expect(login.answers).toEqual(['session error']);
      expect(login.log[0]).toMatch(says);
      isOutside(login);
    }
  });

  rootTest('the account phase joins only where it is told to, then that of mounts alone', async () => {
    const answer = (...more: readonly string[]) => `part=answer ${reply(...inJob(`stepd 11264 ${socket}`, ...more))}`;
    const later = await programs.login(line(), stepd(44, 'namespaces'), answer(), 'call=account', ...look);
    expect(later.answers).toEqual(['success']);
    isOutside(later);

    const steps = [stepd(44, 'namespaces'), answer('namespaces account'), 'call=account', ...look];
    const now = await programs.login(line(), ...steps);
    expect([now.answers, now.has(inside), now.has(`hostname ${os.hostname()}`)]).toEqual([['success'], true, true]);

    // As the process of keyboard-interactive would: it is not the session.
    const other = answer('namespaces account').replace('@PID@', '1');
    const fork = await programs.login(line(), stepd(44, 'namespaces'), other, 'call=account', ...look);
    expect(fork.answers).toEqual(['success']);
    isOutside(fork);
  });
});
