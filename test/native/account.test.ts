// The account phase of the PAM module, in a real libpam, with puppets as helpers (puppet.c, login.c).

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { describe, expect } from 'vitest';
import type { Cgroup } from '../../src/cgroup/cgroup.js';
import type { TestCgroups } from '../support/test-cgroups.js';
import { allowed, type Login, line, longestMs, Programs, recorded, reply } from './programs.js';

const programs = new Programs(['module', 'login']);
const rootTest = (name: string, act: () => Promise<void>) => programs.test(name, true, act);
const unchanged = (login: Login) => expect(login.changed).toEqual([]);

/** CAP_SYS_NICE: a nice value can be lowered. */
function hasSysNice(): boolean {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8')) ?? [];
  return (BigInt(`0x${effective}`) & (1n << 23n)) !== 0n;
}

describe('the file', () => {
  programs.test('needs no symbol of glibc above 2.28, and libpam and libc alone: it runs on RHEL 8', false, () => {
    const symbols = execFileSync('objdump', ['-T', programs.module], { encoding: 'utf8' });
    const versions = [...symbols.matchAll(/\(?GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [
      Number(major),
      Number(minor),
    ]);
    expect(versions.length).toBeGreaterThan(10);
    expect(versions.filter(([major = 0, minor = 0]) => major > 2 || minor > 28)).toEqual([]);
    const dynamic = execFileSync('readelf', ['-d', programs.module], { encoding: 'utf8' });
    const needed = [...dynamic.matchAll(/NEEDED.*\[(.*)\]/g)].map(([, name]) => name);
    expect(needed.filter((name) => name !== 'libpam.so.0' && name !== 'libc.so.6')).toEqual([]);
    expect(dynamic).toMatch(/BIND_NOW|NOW/);
  });

  programs.test(
    'shows the six functions of a PAM module and nothing else, and has no writable data but what display.c says to its own forks',
    false,
    () => {
      const symbols = execFileSync('objdump', ['-T', programs.module], { encoding: 'utf8' });
      const shown = symbols.split('\n').filter((text) => /^[0-9a-f]+ g/.test(text));
      expect(shown.map((text) => text.split(/\s+/).at(-1)).sort()).toEqual([
        'pam_sm_acct_mgmt',
        'pam_sm_authenticate',
        'pam_sm_chauthtok',
        'pam_sm_close_session',
        'pam_sm_open_session',
        'pam_sm_setcred',
      ]);
      const own = execFileSync('objdump', ['-t', programs.module], { encoding: 'utf8' });
      // The compiler's own: completed.0, __dso_handle and the like.
      const data = own.split('\n').filter((text) => /\sO \.(?:data|bss)\s/.test(text));
      const names = data.map((text) =>
        text
          .split(/\s+/)
          .at(-1)
          ?.replace(/\.\d+$/, ''),
      );
      expect(names.filter((text) => !/completed|__dso_handle|__TMC_END__/.test(text ?? '')).sort()).toEqual([
        'of_job',
        'registered',
        'session',
      ]);
    },
  );
});

describe('answers', () => {
  rootTest('allow: success, the job in the PAM environment, the log, and no word to the user', async () => {
    const login = await programs.login(line(), `part=answer ${allowed}`, 'call=account');
    expect(login.answers).toEqual(['success']);
    expect(login.environment).toEqual(['SLURM_JOB_ID=5', 'DISPLAY=localhost:52.0', 'XAUTHORITY=/tmp/x']);
    expect(login.log).toEqual([expect.stringMatching(/^6 Process \d+ adopted into job 5$/)]);
    expect(login.user).toEqual([]);
    unchanged(login);
  });

  rootTest('allow without a job: success, and no environment', async () => {
    const login = await programs.login(line(), `part=answer ${reply('action allow', 'display x:1')}`, 'call=account');
    expect([login.answers, login.environment]).toEqual([['success'], []]);
  });

  rootTest(
    'SLURM_JOB_ID of another module: ours where the answer is a job, none where it is another answer',
    async () => {
      const environments: Record<string, readonly string[]> = {};
      for (const part of [
        `answer ${reply('action allow', 'job 5')}`,
        `answer ${reply('action allow')}`,
        `answer ${reply('action allow', 'cgroup - /x')}`,
        `answer ${reply('action ignore', 'job 5')}`,
        `refused ${reply('action deny', 'job 5')}`,
        'crashes',
      ]) {
        const login = await programs.login(line(), `part=${part}`, 'pamenv=SLURM_JOB_ID=7', 'call=account');
        environments[part] = login.environment;
      }
      expect(Object.values(environments)).toEqual([
        ['SLURM_JOB_ID=5'],
        [],
        [],
        ['SLURM_JOB_ID=7'], // ignored: as if we were not there
        [],
        ['SLURM_JOB_ID=7'],
      ]);
      const wrong = await programs.login(line('budget=x'), 'pamenv=SLURM_JOB_ID=7', 'call=account');
      expect(wrong.environment).toEqual(['SLURM_JOB_ID=7']);
      // Who is none of ours keeps it.
      for (const step of ['user=root', 'service=login']) {
        const login = await programs.login(line(), step, 'pamenv=SLURM_JOB_ID=7', 'call=account');
        expect([login.answers, login.environment]).toEqual([['ignored'], ['SLURM_JOB_ID=7']]);
      }
    },
  );

  rootTest('ignore: PAM_IGNORE, and no environment', async () => {
    const login = await programs.login(line(), `part=answer ${reply('action ignore', 'job 5')}`, 'call=account');
    expect([login.answers, login.environment, login.log]).toEqual([['ignored'], [], []]);
  });

  rootTest(
    'deny: refused, the reason in the log, the messages to the user with nothing that acts on a terminal',
    async () => {
      const text = reply(
        'action deny',
        'reason no job of uid 1 here',
        'message No active job',
        'message %1B[2J',
        'log 5 %0Ax',
      );
      const login = await programs.login(line(), `part=refused ${text}`, 'call=account');
      expect(login.answers).toEqual(['refused']);
      expect(login.log).toEqual(['5 ?x', '5 Access denied for user daemon (uid=1): no job of uid 1 here']);
      expect(login.user).toEqual(['error No active job', 'error ?[2J']);
      unchanged(login);
    },
  );

  rootTest('deny with PAM_SILENT says nothing to the user', async () => {
    const text = reply('action deny', 'message No active job');
    const login = await programs.login(line(), `part=refused ${text}`, 'silent', 'call=account');
    expect([login.answers, login.user]).toEqual([['refused'], []]);
  });

  rootTest('auth and password are not ours', async () => {
    const login = await programs.login(line(), 'part=hangs', 'call=auth', 'call=setcred', 'call=chauthtok');
    expect(login.answers).toEqual(['ignored', 'ignored', 'ignored']);
  });
});

describe('who is asked about', () => {
  const silent = 'part=crashes';
  const deny = 'action_generic_failure=deny';

  rootTest('root is let through before anything is read, whatever stands on the line', async () => {
    const login = await programs.login(line(deny, 'budget=nonsense'), silent, 'user=root', 'call=account', 'helper');
    expect([login.answers, login.log]).toEqual([['ignored'], []]);
    expect(login.has('helper did not start')).toBe(true);
  });

  rootTest('ignore_root=0: root is asked about like others', async () => {
    const login = await programs.login(
      line('ignore_root=0'),
      `part=look ${allowed}`,
      'user=root',
      'call=account',
      'saw',
    );
    expect(login.answers).toEqual(['success']);
    expect(login.saw('request')).toEqual(expect.arrayContaining(['uid 0', 'option ignore_root=0']));
  });

  rootTest('another service is ignored; service=* takes every one', async () => {
    const other = await programs.login(line(deny), silent, 'service=login', 'call=account', 'helper');
    expect([other.answers, other.has('helper did not start')]).toEqual([['ignored'], true]);
    const every = await programs.login(line('service=*'), `part=answer ${allowed}`, 'service=login', 'call=account');
    expect(every.answers).toEqual(['success']);
    const named = await programs.login(
      line('Service=LOGIN'),
      `part=answer ${allowed}`,
      'service=login',
      'call=account',
    );
    expect(named.answers).toEqual(['success']);
  });

  rootTest('a user without an entry: session error', async () => {
    const login = await programs.login(line(), silent, 'user=no-such-user-here', 'call=account', 'helper');
    expect([login.answers, login.has('helper did not start')]).toEqual([['session error'], true]);
  });

  rootTest('a word that is not allowed: generic failure, and the log names it and what is allowed', async () => {
    const login = await programs.login(line(deny, 'budget=500s'), silent, 'call=account', 'helper');
    expect(login.answers).toEqual(['refused']);
    expect(login.log[0]).toMatch(/^3 .*"budget=500s" on the PAM line is not allowed, it takes a time above 0 to 120 s/);
    expect(login.has('helper did not start')).toBe(true);
  });

  rootTest('a profile that is none: the same, by the action_generic_failure on the line', async () => {
    for (const [words, answer] of [
      [['profile=stict'], 'ignored'],
      [['profile=stict', deny], 'refused'],
    ] as const) {
      const login = await programs.login(line(...words), silent, 'call=account', 'helper');
      expect([login.answers, login.has('helper did not start')]).toEqual([[answer], true]);
      expect(login.log[0]).toMatch(/^3 .*"profile=stict" on the PAM line is not allowed, it takes strict, lenient;/);
    }
  });
});

describe('the request', () => {
  rootTest('holds the facts of the login and the words of the line, escaped', async () => {
    const login = await programs.login(
      line(
        ...['action_unknown=deny', '[prefer=a 50%]', 'Budget=20s', 'Service=SSHD', 'profile=Strict', 'ignore_root=1'],
        ...['socket=/run/x', 'action_generic_failure=Deny', 'service=*', 'debug'],
      ),
      `part=look ${allowed}`,
      'pamenv=SSH_CONNECTION=192.0.2.7 50312 192.0.2.1 22',
      'rhost=host\n.example',
      'threads=2',
      'call=account',
      'saw',
    );
    const request = login.saw('request');
    const known = request.filter((text) => !/^(?:deadline|pid|start) /.test(text));
    expect(known).toEqual([
      'slurm-cgroups-login 1',
      'phase account',
      'user daemon',
      'uid 1',
      'threads 3',
      'service sshd',
      'rhost host%0A.example',
      'connection 192.0.2.7 50312 192.0.2.1 22',
      'option action_unknown=deny',
      'option prefer=a 50%25',
      'option Service=SSHD',
      'option profile=Strict',
      'option ignore_root=1',
      'option action_generic_failure=Deny',
      'option service=*',
      'option debug',
      'end',
    ]);
    unchanged(login);
  });

  rootTest('leaves out an empty rhost and connection', async () => {
    const steps = ['pamenv=SSH_CONNECTION=', 'rhost=', 'call=account', 'saw'];
    const login = await programs.login(line(), `part=look ${allowed}`, ...steps);
    expect(login.saw('request').filter((text) => /^(?:rhost|connection)/.test(text))).toEqual([]);
  });

  rootTest('holds no word that is not on the line: it would undo what the site has chosen', async () => {
    const login = await programs.login(line(), `part=look ${allowed}`, 'call=account', 'saw');
    expect(login.saw('request').filter((text) => text.startsWith('option '))).toEqual([]);
  });

  rootTest('leaves out an rhost and a connection that are too long, and is sent', async () => {
    for (const [length, count] of [
      [1024, 2],
      [1025, 0],
      [5000, 0],
    ] as const) {
      const long = '%'.repeat(length);
      const steps = [`pamenv=SSH_CONNECTION=${long}`, `rhost=${long}`, 'call=account', 'saw'];
      const login = await programs.login(line(), `part=look ${allowed}`, ...steps);
      expect(login.answers).toEqual(['success']);
      expect(login.saw('request').filter((text) => /^(?:rhost|connection)/.test(text)).length).toBe(count);
    }
  });

  rootTest('that would be too long is a generic failure', async () => {
    const renamed = `renamed=${'%'.repeat(1400)}`; // libpam cuts a longer line
    const login = await programs.login(line('service=*'), 'part=hangs', renamed, 'call=account', 'helper');
    expect([login.answers, login.has('helper did not start')]).toEqual([['ignored'], true]);
    expect(login.log[0]).toContain('too long');
  });
});

describe('the helper is started', () => {
  rootTest('with nothing of its caller: descriptors, environment, signals, limits, ids, folder', async () => {
    const login = await programs.login(
      line(),
      `part=look ${allowed}`,
      ...[
        'handlers',
        'sigchld=ignore',
        'open=100',
        'limits',
        'nofile=800',
        'as=128',
        'env=LD_PRELOAD=/x',
        'env=NODE_OPTIONS=x',
      ],
      ...['cwd=/run/test', 'real=1', 'call=account', 'saw'],
    );
    expect(login.answers).toEqual(['success']);
    expect(login.saw('fd')).toEqual(['0', '1', '2']);
    expect(login.saw('word')).toEqual(['/run/test/helper', 'pam']);
    expect(login.saw('variable')).toEqual(['LC_ALL=C']);
    expect([login.saw('umask'), login.saw('cwd'), login.saw('pgrp')]).toEqual([['077'], ['/'], ["parent's"]]);
    expect(login.saw('ids')).toEqual(['0 0 0 0 0 0 groups 0']);
    expect(login.saw('pdeathsig')).toEqual(['9']);
    for (const set of ['SigBlk', 'SigIgn', 'SigCgt'])
      expect(
        login.saw(`${set}:\t0000000000000000`).concat(login.lines.filter((text) => text.startsWith(`saw ${set}`))),
      ).toEqual([`saw ${set}:\t0000000000000000`]);
    const limits = Object.fromEntries(login.saw('limit').map((text) => text.split(' ')));
    const least = (name: string, value: number) => Number(limits[name]) === -1 || Number(limits[name]) >= value;
    expect({ as: least('as', 2 ** 33), data: least('data', 2 ** 33), fsize: least('fsize', 2 ** 33) }).toEqual({
      as: true,
      data: true,
      fsize: true,
    });
    expect([limits['core'], least('nofile', 1024), least('stack', 8 << 20)]).toEqual(['0', true, true]);
    unchanged(login);
  });

  rootTest('where the caller gives way to others: at its usual turn', async () => {
    const turnsAfter = async (...steps: readonly string[]) =>
      (await programs.login(line('budget=60s'), `part=look ${allowed}`, ...steps, 'call=account', 'saw')).saw('turn');
    expect(await turnsAfter('policy=batch')).toEqual([expect.stringMatching(/ policy 0$/)]);
    if (!hasSysNice()) return; // root in a container: the kernel allows it no more
    for (const steps of [['nice=7'], ['nice=0', 'policy=batch'], ['nice=19', 'policy=idle', 'real=1']])
      expect(await turnsAfter(...steps)).toEqual(['nice 0 policy 0']);
    expect(await turnsAfter('nice=-3')).toEqual(['nice -3 policy 0']);
  });

  rootTest('where the caller has a small RLIMIT_AS: it gets its memory', async () => {
    const login = await programs.login(line(), `part=memory ${allowed}`, 'as=100', 'call=account');
    expect(login.answers).toEqual(['success']);
    unchanged(login);
  });

  rootTest('where the caller closed descriptors 0 to 2', async () => {
    const login = await programs.login(line(), `part=look ${allowed}`, 'closed', 'call=account', 'saw');
    expect([login.answers, login.saw('fd')]).toEqual([['success'], ['0', '1', '2']]);
    unchanged(login);
  });

  for (const call of ['close_range', 'pidfd_open'])
    rootTest(`on a kernel without ${call}`, async () => {
      const steps = ['open=100', `without=${call}`, 'call=account', 'saw'];
      const login = await programs.login(line(), `part=look ${allowed}`, ...steps);
      expect([login.answers, login.saw('fd')]).toEqual([['success'], ['0', '1', '2']]);
      unchanged(login);
    });

  rootTest('by a thread, and by several at once', async () => {
    const one = await programs.login(line('budget=60s'), `part=answer ${allowed}`, 'sigchld=handler', 'thread=account');
    expect(one.answers).toEqual(['success']);
    for (const kind of ['ignore', 'handler', 'nowait']) {
      const many = await programs.login(line('budget=60s'), `part=answer ${allowed}`, `sigchld=${kind}`, 'crowd=6');
      expect(many.has('at once 6 good, 0 children')).toBe(true);
      unchanged(many);
    }
  });

  rootTest('and dies with its caller', async () => {
    const login = await programs.login(line('budget=120s'), 'part=ignores', 'die');
    expect(login.has('helper ended with its caller')).toBe(true);
  });

  for (const kind of ['ignore', 'handler', 'nowait'])
    rootTest(`where the caller has SIGCHLD at ${kind}, which it has again afterwards`, async () => {
      for (const part of [`answer ${allowed}`, 'crashes', 'closes']) {
        const login = await programs.login(line(), `part=${part}`, `sigchld=${kind}`, 'call=account', 'helper');
        expect([login.answers, login.has('helper is gone')]).toEqual([
          [part.startsWith('answer') ? 'success' : 'ignored'],
          true,
        ]);
        unchanged(login);
      }
    });
});

describe('another child of the caller that ends while the helper runs', () => {
  // 300 ms of an answer, byte by byte.
  const part = `part=slow ${reply('action allow', `reason ${'x'.repeat(300)}`)}`;

  rootTest('is told to the caller’s handler for SIGCHLD', async () => {
    const login = await programs.login(
      line('budget=60s'),
      part,
      'sigchld=handler',
      'leaves=50',
      'call=account',
      'ended',
    );
    expect([login.answers, login.has('ended 1')]).toEqual([['success'], true]);
  });

  rootTest('and nothing is, where none has ended', async () => {
    const login = await programs.login(line('budget=60s'), part, 'sigchld=handler', 'call=account', 'ended');
    expect([login.answers, login.has('ended 0')]).toEqual([['success'], true]);
    unchanged(login);
  });
});

describe('a helper that fails', () => {
  interface Row {
    readonly part: string;
    readonly says: RegExp;
    readonly answer?: string;
  }
  const rows: readonly Row[] = [
    { part: 'silent', says: /ended without a whole answer \(exit code 0\)/ },
    { part: 'crashes', says: /ended without a whole answer \(signal 11\)/ },
    { part: 'closes', says: /closed its stream without a whole answer/ },
    { part: 'complains', says: /\(exit code 2\); it said: Cannot \?\[31mread\? it;/ },
    { part: 'much', says: /answer is too long/ },
    { part: 'answer garbage|end|', says: /begins with no header/ },
    { part: 'answer slurm-cgroups-answer 9|action allow|end|', says: /begins with no header/ },
    { part: `answer ${reply('action perhaps')}`, says: /a value is not allowed/ },
    { part: `answer ${reply('action allow', 'job 5', 'job 6')}`, says: /a key comes twice/ },
    { part: `answer ${reply()}`, says: /has no action/ },
    { part: 'answer slurm-cgroups-answer 1|action allow|job 5', says: /ended without a whole answer/ },
    { part: 'grandchild ', says: /ended without a whole answer/ },
  ];
  for (const { part, says } of rows)
    rootTest(`${part.slice(0, 60)}: generic failure, at once, with one line that says why`, async () => {
      const login = await programs.login(
        line('budget=100s'),
        `part=${part}`,
        'sigpipe',
        'call=account',
        'helper',
        'grandchild',
      );
      expect(login.answers).toEqual(['ignored']);
      expect(login.log).toEqual([expect.stringMatching(says)]);
      expect(login.log[0]).toMatch(
        /^3 No decision for user daemon \(uid=1\): .*action_generic_failure=ignore: .*To do: /,
      );
      expect([login.environment, login.user]).toEqual([[], []]);
      expect(login.has('helper is gone')).toBe(true);
      expect(login.tookMs).toBeLessThan(longestMs);
      unchanged(login);
    });

  for (const part of ['hangs', 'ignores', 'half slurm-cgroups-answer 1|action allow|'])
    rootTest(`${part.slice(0, 20)}: killed at the deadline and waited for, while alarms interrupt`, async () => {
      for (const without of [[], ['without=pidfd_open']]) {
        const steps = ['alarm=7', 'sigchld=handler', ...without, 'call=account', 'alarms', 'helper'];
        const login = await programs.login(line('budget=700ms'), `part=${part}`, ...steps);
        expect([login.answers, login.log]).toEqual([
          ['ignored'],
          [expect.stringContaining('no answer within 700 ms and was killed')],
        ]);
        expect(login.has('helper is gone') && login.has('alarms came')).toBe(true);
        expect(login.tookMs).toBeGreaterThanOrEqual(690);
        expect(login.tookMs).toBeLessThan(longestMs);
        unchanged(login);
      }
    });

  rootTest('action_generic_failure decides; profile=strict means deny', async () => {
    const answers: string[] = [];
    for (const words of [
      'action_generic_failure=allow',
      'action_generic_failure=deny',
      'profile=strict',
      'profile=lenient',
    ]) {
      const login = await programs.login(line(words), 'part=silent', 'call=account');
      answers.push(...login.answers);
      expect(login.log.some((text) => text.startsWith('5 Access denied for user daemon (uid=1): '))).toBe(
        login.answers[0] === 'refused',
      );
      expect(login.user.length).toBe(login.answers[0] === 'refused' ? 1 : 0);
    }
    expect(answers).toEqual(['success', 'refused', 'refused', 'ignored']);
  });

  rootTest('no process can be made: generic failure', async () => {
    const login = await programs.login(line(), `part=answer ${allowed}`, 'without=clone', 'call=account');
    expect([login.answers, login.log]).toEqual([
      ['ignored'],
      [expect.stringContaining('no process could be made for the helper')],
    ]);
    unchanged(login);
  });

  rootTest('a budget of 1 ms is over before an answer: generic failure', async () => {
    const login = await programs.login(line('budget=1ms'), 'part=hangs', 'call=account');
    expect(login.answers).toEqual(['ignored']);
    unchanged(login);
  });
});

describe('an odd helper whose answer counts', () => {
  for (const [part, log] of [
    ['unread', []],
    ['slow', []],
    ['loud', []],
    ['grandchild', []],
    ['code', [expect.stringContaining('7 The helper answered, then ended with exit code 7')]],
  ] as const)
    rootTest(part, async () => {
      const text = reply('action allow', 'job 5');
      const login = await programs.login(
        line('budget=60s'),
        `part=${part} ${text}`,
        'call=account',
        'helper',
        'grandchild',
      );
      expect([login.answers, login.environment, login.log]).toEqual([['success'], ['SLURM_JOB_ID=5'], log]);
      expect(login.has('helper is gone')).toBe(true);
      expect(login.has(`grandchild ${part === 'grandchild' ? 'lives' : 'is gone'}`)).toBe(true);
      expect(login.tookMs).toBeLessThan(longestMs);
      unchanged(login);
    });

  rootTest('that does not end after its answer: killed at the deadline, and the log says so', async () => {
    const login = await programs.login(
      line('budget=2s'),
      `part=stays ${reply('action allow', 'job 5')}`,
      'call=account',
      'helper',
    );
    expect(login.answers).toEqual(['success']);
    expect(login.log).toEqual(['4 The helper answered, but did not end in time and was killed']);
    expect(login.has('helper is gone')).toBe(true);
    unchanged(login);
  });
});

describe("a helper that is not root's alone is not run", () => {
  const rows: readonly (readonly [name: string, says: string, ...steps: string[]])[] = [
    ['it is missing', '/run/test/helper is not there', 'unlink=/run/test/helper'],
    ['it is a user’s', "/run/test/helper is not root's", 'chown=1=/run/test/helper'],
    ['its group can write it', '/run/test/helper can be written by others than root', 'chmod=0775=/run/test/helper'],
    ['it is not executable', '/run/test/helper is not executable', 'chmod=0644=/run/test/helper'],
    ['its folder is a user’s', "/run/test is not root's", 'chown=1=/run/test'],
    [
      'everybody can write its folder, even a sticky one',
      '/run/test can be written by others than root',
      'chmod=1777=/run/test',
    ],
    ['a folder further up can be written', '/run can be written by others than root', 'chmod=0777=/run'],
    ['it is a folder', '/run/test/helper is no regular file', 'unlink=/run/test/helper', 'mkdir=/run/test/helper'],
    [
      'it is a link that a user made',
      "/run/test/helper is not root's",
      'unlink=/run/test/helper',
      'link=/bin/true=/run/test/helper',
      'chown=1=/run/test/helper',
    ],
    ['it is a link in a circle', 'has too many links', 'unlink=/run/test/helper', 'link=helper=/run/test/helper'],
    [
      'it is a link to what others can write',
      '/tmp can be written by others than root',
      'unlink=/run/test/helper',
      'link=../../tmp/x=/run/test/helper',
    ],
    ['it is no program', 'is no program', 'file=/run/test/helper=x', 'chmod=0755=/run/test/helper'],
    [
      'its interpreter is missing',
      'has an interpreter that is not there',
      'file=/run/test/helper=#!/nowhere/node|',
      'chmod=0755=/run/test/helper',
    ],
  ];
  for (const [name, says, ...steps] of rows)
    rootTest(name, async () => {
      const login = await programs.login(
        line('budget=60s'),
        `part=answer ${allowed}`,
        ...steps,
        'call=account',
        'helper',
      );
      expect(login.answers).toEqual(['ignored']);
      expect(login.log).toEqual([
        expect.stringContaining(`the helper /run/test/helper could not be started; it said: `),
      ]);
      expect(login.log[0]).toContain(says);
      expect(login.has('helper did not start')).toBe(true);
      unchanged(login);
    });

  rootTest('root’s links to a program of root’s are followed', async () => {
    const steps = [
      'mkdir=/run/test/lib',
      'link=../helper=/run/test/lib/one',
      'link=/run/test/lib/one=/run/test/two',
      'call=account',
    ];
    const login = await programs.login('words=helper=/run/test/two', `part=answer ${allowed}`, ...steps);
    // The puppet finds its folder by its name.
    expect(login.answers).toEqual(['success']);
  });
});

rootTest('a hundred logins of one process leave nothing behind', async () => {
  const calls = Array.from({ length: 100 }, () => 'call=account');
  const login = await programs.login(line('budget=60s'), `part=answer ${reply('action ignore')}`, ...calls);
  expect(new Set(login.answers)).toEqual(new Set(['ignored']));
  expect(login.answers.length).toBe(100);
  unchanged(login);
});

describe('a helper that had begun to move the session', () => {
  const said = (...from: readonly Cgroup[]) =>
    ['slurm-cgroups-answer 1', 'process @PID@ @START@', ...from.map(({ directory }) => `from ${directory}`), ''].join(
      '|',
    );
  const places = (login: Login) => login.lines.filter((text) => /^\d+:freezer:/.test(text));
  /** In two cgroups of one hierarchy: where it was, and the job. */
  const around = (area: TestCgroups) => {
    const top = area.at('freezer');
    return [area.mkdir(top, 'before'), area.mkdir(top, 'job')] as const;
  };

  for (const [part, words, why] of [
    ['begins', ['budget=60s'], 'ended without a whole answer (signal 9)'],
    ['lingers', ['budget=4s'], 'no answer within 4000 ms and was killed'],
  ] as const)
    programs.kernelTest(
      `and then ${part === 'begins' ? 'died' : 'hung'}: it is put back`,
      ['freezer'],
      async (area) => {
        const [before, job] = around(area);
        for (const call of ['account', 'open']) {
          const record =
            call === 'open' ? recorded('action allow', 'process @PID@ @START@', 'job 5', 'cgroup freezer /5') : [];
          const steps = [`cgroup=${before.directory}`, ...record, `part=${part} ${job.directory} ${said(before)}`];
          const login = await programs.login(line(...words), ...steps, `call=${call}`, 'helper', 'places');
          expect([login.answers, places(login)]).toEqual([['ignored'], [expect.stringMatching(`:${before.path}$`)]]);
          expect(login.log).toEqual([
            expect.stringMatching(
              /^4 The helper had begun to move process \d+ into a job: it is back in the cgroups it came from \(/,
            ),
            expect.stringContaining(why),
          ]);
          expect(login.has('helper is gone')).toBe(true);
          unchanged(login);
        }
      },
    );

  programs.kernelTest('where a cgroup that it came from is gone: the log names it', ['freezer'], async (area) => {
    const [before, job] = around(area);
    const gone = `${said(before)}from ${before.directory}/gone|`;
    const login = await programs.login(line(), `part=begins ${job.directory} ${gone}`, 'call=account', 'places');
    expect(places(login)).toEqual([expect.stringMatching(`:${before.path}$`)]);
    expect(login.log[0]).toMatch(
      /^3 The helper had begun to move process \d+ into a job, and 1 of the cgroups it came from cannot be entered again \(.*\/gone: No such file or directory\)$/,
    );
  });

  programs.kernelTest(
    'another process than this one is not touched, and nothing after a line that is wrong',
    ['freezer'],
    async (area) => {
      const [before, job] = around(area);
      for (const text of ['process 1 @START@', 'process @PID@ @START@|action perhaps']) {
        const begun = `slurm-cgroups-answer 1|${text}|from ${before.directory}|`;
        const login = await programs.login(line(), `part=begins ${job.directory} ${begun}`, 'call=account', 'places');
        expect(places(login)).toEqual([expect.stringMatching(`:${job.path}$`)]);
        const said = text.startsWith('process 1 ')
          ? [expect.stringMatching(/^3 .* move process 1 .*look at \/proc\/1\//)]
          : [];
        expect(login.log).toEqual([...said, expect.stringMatching(/^3 No decision /)]);
      }
    },
  );

  rootTest('and that answers in the end: the begin is a part of its answer', async () => {
    const login = await programs.login(line(), `part=answer ${allowed}`, 'call=account');
    expect([login.answers, login.environment]).toEqual([['success'], expect.arrayContaining(['SLURM_JOB_ID=5'])]);
  });
});
