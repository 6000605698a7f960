// The session phase of the PAM module: only what this login's account phase recorded, and what the kernel says.

import fs from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import type { Cgroup } from '../../src/cgroup/cgroup.js';
import { file, folders, here, type Login, line, longestMs, Programs, recorded, reply } from './programs.js';

const programs = new Programs(['module', 'login']);
const rootTest = (name: string, act: () => Promise<void>) => programs.test(name, true, act);
const unchanged = (login: Login) => expect(login.changed).toEqual([]);

const ours = 'process @PID@ @START@';
const inJob = () => ['action allow', 'message You are in job 5', ours, 'job 5', ...here()];
const elsewhere = ['action allow', 'message You are in job 5', ours, 'job 5', 'cgroup - /nowhere'];

describe('without a record of its own', () => {
  const rows: readonly (readonly [name: string, ...steps: string[]])[] = [
    ['there is no folder'],
    ['the folder is empty', ...folders],
    [
      'only another process has one',
      ...folders,
      `file=/run/slurm-cgroups/logins/@PID@-1=${reply('action allow', ours)}`,
    ],
  ];
  for (const [name, ...steps] of rows)
    rootTest(`${name}: ignored, and nothing is started`, async () => {
      const login = await programs.login(
        line('action_generic_failure=deny'),
        'part=crashes',
        ...steps,
        'call=open',
        'call=close',
        'helper',
      );
      expect([login.answers, login.log, login.user, login.environment]).toEqual([['ignored', 'ignored'], [], [], []]);
      expect(login.has('helper did not start')).toBe(true);
      unchanged(login);
    });

  rootTest('root is let through, whatever is there', async () => {
    const login = await programs.login(line(), 'user=root', ...folders, `file=${file}=garbage`, 'call=open');
    expect([login.answers, login.log]).toEqual([['ignored'], []]);
  });
});

describe('a record that cannot be believed is a generic failure', () => {
  const good = reply('action allow', ours);
  const rows: readonly (readonly [name: string, says: RegExp, ...steps: string[]])[] = [
    ['it is garbage', /begins with no header/, ...folders, `file=${file}=garbage`],
    ['it is empty', /begins with no header/, ...folders, `file=${file}=`],
    ['it is not whole', /ends in the middle/, ...folders, `file=${file}=slurm-cgroups-answer 1|action allow|${ours}|`],
    ['something follows it', /something follows its end/, ...folders, `file=${file}=${good}x`],
    [
      'it is another process’s',
      /another process's/,
      ...folders,
      `file=${file}=${reply('action allow', 'process 1 @START@')}`,
    ],
    ['it names no process', /another process's/, ...folders, `file=${file}=${reply('action allow')}`],
    ['it is a user’s', /not a file of root's alone/, ...folders, `file=${file}=${good}`, `chown=1=${file}`],
    ['others can write it', /not a file of root's alone/, ...folders, `file=${file}=${good}`, `chmod=0620=${file}`],
    ['it is a link', /cannot be opened/, ...folders, `file=/run/test/record=${good}`, `link=/run/test/record=${file}`],
    ['it is a folder', /not a file of root's alone/, ...folders, `mkdir=${file}`],
    [
      'its folder is a user’s',
      /folder is not root's alone/,
      ...folders,
      `file=${file}=${good}`,
      'chown=1=/run/slurm-cgroups/logins',
    ],
    [
      'others can write its folder',
      /folder is not root's alone/,
      ...folders,
      `file=${file}=${good}`,
      'chmod=0777=/run/slurm-cgroups/logins',
    ],
    [
      'others can write the folder above',
      /folder is not root's alone/,
      ...folders,
      `file=${file}=${good}`,
      'chmod=1777=/run/slurm-cgroups',
    ],
    [
      'the folder above is a link',
      /folder cannot be opened/,
      'mkdir=/run/test/x',
      'mkdir=/run/test/x/logins',
      'link=/run/test/x=/run/slurm-cgroups',
      `file=${file}=${good}`,
    ],
    [
      'it is too long',
      /too long/,
      ...folders,
      `file=${file}=slurm-cgroups-answer 1|${'x aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|'.repeat(1100)}`,
    ],
  ];
  for (const [name, says, ...steps] of rows)
    rootTest(name, async () => {
      const login = await programs.login(
        line('action_generic_failure=deny'),
        'part=crashes',
        ...steps,
        'call=open',
        'helper',
      );
      expect([login.answers, login.has('helper did not start')]).toEqual([['session error'], true]);
      expect(login.log[0]).toMatch(says);
      unchanged(login);
    });
});

describe('a record of its own', () => {
  rootTest('and the process is where it says: success, its messages, no helper; close removes it', async () => {
    const steps = [...recorded(...inJob()), 'call=open', `has=${file}`, 'call=close', `has=${file}`, 'helper'];
    const login = await programs.login(line(), 'part=crashes', ...steps);
    expect([login.answers, login.log, login.user]).toEqual([['success', 'success'], [], ['info You are in job 5']]);
    expect(login.environment).toEqual(['SLURM_JOB_ID=5']);
    expect([login.has(`has ${file}: yes`), login.has(`has ${file}: no`), login.has('helper did not start')]).toEqual([
      true,
      true,
      true,
    ]);
    unchanged(login);
  });

  rootTest('with PAM_SILENT says nothing; SLURM_JOB_ID of another module is not believed', async () => {
    const login = await programs.login(line(), ...recorded(...inJob()), 'pamenv=SLURM_JOB_ID=7', 'silent', 'call=open');
    expect([login.answers, login.user, login.environment]).toEqual([['success'], [], ['SLURM_JOB_ID=5']]);
  });

  rootTest('in a job whose id is not known: success, its messages, and no SLURM_JOB_ID', async () => {
    const lines = ['action allow', 'message You are in a job', ours, ...here()];
    for (const steps of [[], ['pamenv=SLURM_JOB_ID=7']]) {
      const login = await programs.login(
        line(),
        ...recorded(...lines),
        'part=crashes',
        ...steps,
        'call=open',
        'helper',
      );
      expect([login.answers, login.user, login.environment, login.log]).toEqual([
        ['success'],
        ['info You are in a job'],
        [],
        [],
      ]);
      expect(login.has('helper did not start')).toBe(true);
    }
  });

  rootTest('without a job: its messages and its answer', async () => {
    const allow = await programs.login(
      line(),
      ...recorded('action allow', 'message You are in no job', ours),
      'call=open',
    );
    expect([allow.answers, allow.user, allow.environment]).toEqual([['success'], ['info You are in no job'], []]);
    const ignore = await programs.login(line(), ...recorded('action ignore', ours), 'call=open');
    expect(ignore.answers).toEqual(['ignored']);
  });

  rootTest('in another phase’s folder close removes nothing', async () => {
    const steps = [
      ...recorded('action allow', ours),
      'chmod=0777=/run/slurm-cgroups/logins',
      'call=close',
      `has=${file}`,
    ];
    const login = await programs.login(line(), ...steps);
    expect([login.answers, login.has(`has ${file}: yes`)]).toEqual([['ignored'], true]);
  });
});

describe('a session that another module moved', () => {
  rootTest(
    'the helper is asked, told the job and that it is counted; refused: session error, and the user hears why',
    async () => {
      const text = reply('action deny', 'reason job 5 is suspended', 'message Job 5 is suspended');
      const login = await programs.login(
        line(),
        ...recorded(...elsewhere, 'counted 1'),
        `part=look ${text}`,
        'call=open',
        'saw',
      );
      expect(login.answers).toEqual(['session error']);
      expect(login.saw('request')).toEqual(expect.arrayContaining(['phase session', 'job 5', 'counted 1']));
      expect([login.user, login.log]).toEqual([
        ['error Job 5 is suspended'],
        ['5 Access denied for user daemon (uid=1): job 5 is suspended'],
      ]);
      unchanged(login);
    },
  );

  rootTest('the helper is not told SSH_CONNECTION, which is the user’s by then (pam_env)', async () => {
    const steps = ['pamenv=SSH_CONNECTION=192.0.2.7 50312 192.0.2.1 22', 'rhost=host.example', 'call=open', 'saw'];
    const login = await programs.login(
      line(),
      ...recorded(...elsewhere),
      `part=look ${reply('action ignore')}`,
      ...steps,
    );
    expect(login.saw('request').filter((text) => /^(?:rhost|connection) /.test(text))).toEqual(['rhost host.example']);
  });

  rootTest(
    'the helper says it is back, the kernel does not: no word of it, SLURM_JOB_ID is taken away, not its action',
    async () => {
      const text = reply('action allow', 'job 5', 'reason adopted', 'message You are in job 5');
      const login = await programs.login(
        line(),
        ...recorded(...elsewhere),
        `part=look ${text}`,
        'pamenv=SLURM_JOB_ID=5',
        'call=open',
        'saw',
      );
      expect([login.answers, login.user, login.environment]).toEqual([['ignored'], [], []]);
      expect(login.log).toEqual([
        expect.stringMatching(
          /^3 No decision for .*: the helper says that it is in job 5, but \/proc\/self\/cgroup does not \(adopted\); action_generic_failure=ignore: /,
        ),
      ]);
      expect(login.saw('request')).not.toContain('counted 1');
    },
  );

  describe('and is not put back: `failure` decides, not action_generic_failure', () => {
    const isBack = ['action allow', 'job 5', 'message You are in job 5'];
    const isBackUnnamed = ['action allow', 'cgroup - /nowhere', 'message You are in a job'];
    interface Row {
      readonly part: string;
      readonly words?: readonly string[];
      readonly steps?: readonly string[];
      readonly record?: 'allow' | 'deny';
      readonly decides: 'allow' | 'deny';
      readonly says?: RegExp;
    }
    const rows: readonly Row[] = (['allow', 'deny'] as const).flatMap((failure) => {
      const other = failure === 'allow' ? 'deny' : 'allow';
      const row = { record: failure, decides: failure };
      return [
        { ...row, part: 'crashes', says: /ended without a whole answer/ },
        { ...row, part: 'hangs', words: ['budget=300ms'], says: /no answer within 300 ms/ },
        { ...row, part: 'answer garbage|end|', says: /cannot be used/ },
        { ...row, part: 'crashes', words: ['profile=x'], says: /"profile=x" on the PAM line/ },
        { ...row, part: 'crashes', words: ['service=*'], steps: [`renamed=${'%'.repeat(1400)}`], says: /too long/ },
        { ...row, part: `answer ${reply(...isBack)}`, says: /the helper says that it is in job 5/ },
        { ...row, part: `answer ${reply(...isBackUnnamed)}`, says: /the helper says that it is in job 5/ },
        { record: other, part: `answer ${reply(...isBack, `failure ${failure}`)}`, decides: failure },
        { part: `answer ${reply(...isBack, `failure ${failure}`)}`, decides: failure },
      ];
    });
    for (const { part, words = [], steps: more = [], record, decides, says = /./ } of rows) {
      const how = `${part.slice(0, 40)} ${words.join(' ')}`;
      rootTest(`${how}, recorded ${record}: ${decides}`, async () => {
        const generic = `action_generic_failure=${decides === 'deny' ? 'allow' : 'deny'}`;
        const failure = record === undefined ? [] : [`failure ${record}`];
        const steps = [
          ...recorded(...elsewhere, ...failure),
          `part=${part}`,
          ...more,
          'pamenv=SLURM_JOB_ID=5',
          'call=open',
        ];
        const login = await programs.login(line('budget=60s', generic, ...words), ...steps);
        const denied = decides === 'deny';
        expect([login.answers, login.environment]).toEqual([[denied ? 'session error' : 'success'], []]);
        expect(login.log[0]).toMatch(/^3 The session of user daemon \(uid=1\) is not in job 5: .*To do: /);
        expect(login.log[0]).toMatch(says);
        expect(login.log[0]).toContain(`; action_adopt_failure=${decides}: `);
        expect(login.log.slice(1)).toEqual(
          denied
            ? ['5 Access denied for user daemon (uid=1): the session is not in job 5 (action_adopt_failure=deny)']
            : [],
        );
        expect(login.user).toEqual(denied ? [expect.stringMatching(/^error Access denied: this session /)] : []);
        unchanged(login);
      });
    }

    rootTest('the helper’s own answer about a session outside its job stands', async () => {
      for (const [action, answer] of [
        ['allow', 'success'],
        ['ignore', 'ignored'],
        ['deny', 'session error'],
      ]) {
        const text = reply(`action ${action}`);
        const steps = [...recorded(...elsewhere, `failure ${action === 'deny' ? 'allow' : 'deny'}`), 'call=open'];
        const login = await programs.login(line(), `part=answer ${text}`, ...steps);
        expect(login.answers).toEqual([answer]);
      }
    });
  });

  rootTest('out of a job whose id is not known: asked about, put back, judged as others', async () => {
    const lines = ['action allow', 'message You are in a job', ours, 'cgroup - /nowhere', 'failure deny'];
    const back = reply('action allow', 'message You are in a job again', ...here());
    const steps = [...recorded(...lines), 'pamenv=SLURM_JOB_ID=7', 'call=open', 'saw'];
    const login = await programs.login(line(), `part=look ${back}`, ...steps);
    expect([login.answers, login.user, login.environment]).toEqual([['success'], ['info You are in a job again'], []]);
    expect(login.saw('request').filter((text) => text.startsWith('job '))).toEqual([]);

    const crashed = await programs.login(line(), 'part=crashes', ...steps);
    expect([crashed.answers, crashed.environment]).toEqual([['session error'], []]);
    expect(crashed.log).toEqual([
      expect.stringMatching(/^3 The session of user daemon \(uid=1\) is not in its job: .*action_adopt_failure=deny/),
      '5 Access denied for user daemon (uid=1): the session is not in its job (action_adopt_failure=deny)',
    ]);
    const ignored = await programs.login(line(), `part=answer ${reply('action ignore')}`, ...steps);
    expect(ignored.log).toEqual([expect.stringContaining('was moved out of its job by another module')]);
  });

  rootTest('let in without it: the answer’s own messages', async () => {
    const text = reply('action ignore', 'message You are in no job');
    const login = await programs.login(line(), ...recorded(...elsewhere), `part=answer ${text}`, 'call=open');
    expect([login.answers, login.user, login.environment]).toEqual([['ignored'], ['info You are in no job'], []]);
  });

  rootTest('the helper fails: generic failure, with a refusal that the session phase has', async () => {
    const steps = [...recorded(...elsewhere), 'part=hangs', 'call=open', 'helper'];
    const login = await programs.login(line('action_generic_failure=deny', 'budget=500ms'), ...steps);
    expect([login.answers, login.has('helper is gone'), login.environment]).toEqual([['session error'], true, []]);
    expect(login.tookMs).toBeLessThan(longestMs);
    unchanged(login);
  });

  rootTest('and is in the job again when the helper fails: success', async () => {
    // The record names a place where it is not; the answer another, where it is.
    const text = reply('action allow', 'job 5', 'message You are in job 5 again', ...here());
    const login = await programs.login(line(), ...recorded(...elsewhere), `part=code ${text}`, 'call=open');
    expect([login.answers, login.user, login.environment]).toEqual([
      ['success'],
      ['info You are in job 5 again'],
      ['SLURM_JOB_ID=5'],
    ]);
  });

  rootTest('a word of the line that is not allowed: generic failure', async () => {
    const login = await programs.login(
      line('budget=x', 'action_generic_failure=deny'),
      ...recorded(...elsewhere),
      'part=crashes',
      'call=open',
      'helper',
    );
    expect([login.answers, login.has('helper did not start')]).toEqual([['session error'], true]);
    expect(login.environment).toEqual([]);
  });

  const path = (cgroup: Cgroup) => cgroup.path;
  programs.kernelTest(
    'the helper starts where the login was before, and moves it back: success',
    ['freezer'],
    async (area) => {
      const top = area.at('freezer');
      const [job, before] = [area.mkdir(top, 'job'), area.mkdir(top, 'before')];
      const lines = ['action allow', 'message You are in job 5', ours, 'job 5', `cgroup freezer ${path(job)}`];
      const from = [`from ${before.directory}`, 'from /sys/fs/cgroup/gone/with/it'];
      const steps = [
        ...recorded(...lines, ...from),
        `part=adopts ${job.directory} ${reply('action allow', 'job 5')}`,
        'call=open',
        'helper',
      ];
      const login = await programs.login(line('budget=60s'), ...steps);
      expect([login.answers, login.user, login.environment]).toEqual([
        ['success'],
        ['info You are in job 5'],
        ['SLURM_JOB_ID=5'],
      ]);

      const look = [
        ...recorded(...lines, ...from),
        `part=look ${reply('action allow')}`,
        `cgroup=${top.directory}`,
        'call=open',
        'saw',
      ];
      const looked = await programs.login(line('budget=60s'), ...look);
      const where = looked.lines.filter((text) => /^saw cgroup \d+:freezer:/.test(text));
      expect(where).toEqual([expect.stringMatching(`:${path(before)}$`)]);
      unchanged(login);
    },
  );

  programs.kernelTest('moved back by a helper that then fails: the kernel’s word counts', ['freezer'], async (area) => {
    const job = area.mkdir(area.at('freezer'), 'job');
    const lines = ['action allow', 'message You are in job 5', ours, 'job 5', `cgroup freezer ${path(job)}`];
    const login = await programs.login(
      line('budget=60s'),
      ...recorded(...lines),
      `part=adopts ${job.directory} garbage`,
      'call=open',
    );
    expect([login.answers, login.user]).toEqual([['success'], ['info You are in job 5']]);
    expect(login.log).toEqual([
      expect.stringMatching(/^4 The session of user daemon is in job 5 again, but the helper ended without/),
    ]);
  });

  programs.kernelTest(
    'a helper that SIGKILL cannot end (frozen on v1) is left alone, and the log says so',
    ['freezer'],
    async (area) => {
      const frozen = area.mkdir(area.at('freezer'), 'frozen');
      fs.writeFileSync(`${frozen.directory}/freezer.state`, 'FROZEN');
      try {
        const steps = [
          ...recorded(...elsewhere, `from ${frozen.directory}`),
          'part=hangs',
          'sigchld=handler',
          'call=open',
        ];
        const login = await programs.login(line('budget=300ms'), ...steps);
        expect(login.answers).toEqual(['ignored']);
        expect(login.log[0]).toMatch(/^4 Helper process \d+ was killed but has not ended/);
        expect(login.log[1]).toMatch(/no answer within 300 ms/);
        expect(login.tookMs).toBeLessThan(longestMs);
        expect(login.changed).toEqual(['children: 0 before, 1 after']);
      } finally {
        fs.writeFileSync(`${frozen.directory}/freezer.state`, 'THAWED');
        for (let i = 0; i < 500 && frozen.procs().length > 0; i++) await pause(20);
      }
    },
  );
});

describe('the audit session of a session that is in its job', () => {
  const adoptions = '/run/slurm-cgroups/adoptions';
  const note = `${adoptions}/5/@PID@-@START@.audit`;
  const folderOfJob = [`mkdir=${adoptions}`, `mkdir=${adoptions}/5`];
  const made = [...folderOfJob, `file=${adoptions}/5/@PID@-@START@={}`];
  const withAudit = (audit: string) =>
    recorded('action allow', 'message You are in job 5', ours, 'job 5', ...here(), `audit ${audit}`);
  const sessionOf = ({ lines }: Login) =>
    /^session (\d+)$/.exec(lines.find((text) => text.startsWith('session ')) ?? '')?.[1];
  const shown = ({ lines }: Login) => /^show (\d+)$/.exec(lines.find((text) => text.startsWith('show ')) ?? '')?.[1];

  rootTest('is noted beside the record of its adoption', async () => {
    const steps = [...withAudit('4294967295 5'), ...made, 'loginuid=1', 'session', 'call=open', `show=${note}`];
    const login = await programs.login(line(), ...steps);
    expect([login.answers, login.log, shown(login)]).toEqual([['success'], [], sessionOf(login)]);
    unchanged(login);
    // Again, when the process has another: what is there stays.
    const again = await programs.login(line(), ...steps, 'loginuid=1', 'session', 'call=open', `show=${note}`);
    const [first, second] = again.lines.filter((text) => text.startsWith('session '));
    expect([again.answers, again.log, first === second]).toEqual([['success', 'success'], [], false]);
    expect(again.lines.filter((text) => text.startsWith('show ')).map((text) => text.slice(5))).toEqual(
      [first, first].map((text) => text?.slice(8)),
    );
  });

  for (const [name, audit, steps] of [
    ['none is set', '4294967295 5', made],
    ['it is another user’s', '4294967295 5', [...made, 'loginuid=2']],
    ['nothing is recorded of the job any more', '4294967295 5', ['loginuid=1']],
    ['its adoption has no record, for want of room', '4294967295 5', [...folderOfJob, 'loginuid=1']],
  ] as const)
    rootTest(`is not noted where ${name}`, async () => {
      const login = await programs.login(line(), ...withAudit(audit), ...steps, 'call=open', `has=${note}`);
      expect([login.answers, login.log, login.has(`has ${note}: no`)]).toEqual([['success'], [], true]);
    });

  rootTest('is not noted where it is sshd’s own', async () => {
    const steps = ['loginuid=1', ...withAudit('@SESSION@ 5'), ...made, 'call=open', `has=${note}`];
    const login = await programs.login(line(), ...steps);
    expect([login.answers, login.log, login.has(`has ${note}: no`)]).toEqual([['success'], [], true]);
  });

  rootTest('is not noted in a folder that is not root’s alone, and the log says so', async () => {
    const steps = [...made, `chmod=777=${adoptions}/5`, 'loginuid=1', 'call=open', `has=${note}`];
    const login = await programs.login(line(), ...withAudit('4294967295 5'), ...steps);
    expect([login.answers, login.has(`has ${note}: no`)]).toEqual([['success'], true]);
    expect(login.log).toEqual([
      "4 The audit session of user daemon is not recorded with the adoption into 5: its folder is not root's alone",
    ]);
  });
});
