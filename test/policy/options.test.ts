import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/machine/errors.js';
import {
  checkOptions,
  defaultOptions,
  formatOptions,
  optionByName,
  optionTable,
  parseOptions,
  readOption,
} from '../../src/policy/options.js';
import { anyOptions } from '../support/any-options.js';

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error instanceof Error ? error.message : '';
  }
  return 'nothing thrown';
}

describe('optionTable', () => {
  it.each([
    ['action_no_jobs', 'deny', 'deny, ignore'],
    ['action_unknown', 'newest', 'newest, allow, deny, user'],
    ['action_adopt_failure', 'allow', 'allow, deny'],
    ['action_generic_failure', 'ignore', 'ignore, allow, deny'],
    ['ignore_root', '1', '1, 0'],
    ['single_job_skip_rpc', '1', '1, 0'],
    ['log_level', 'info', 'quiet, fatal, error, info, verbose, debug, debug2, debug3, debug4, debug5, or 0 to 9'],
    ['disable_x11', '0', '1, 0'],
    ['service', 'sshd', 'the name of a PAM service, or *'],
    ['join_container', 'true', 'true, false, account'],
    ['action_suspended', 'deny', 'deny, allow, next'],
    ['callerid_timeout', '2s', 'a time from 0 to 120 s, such as 2, 2s or 500ms'],
    ['budget', '5s', 'a time above 0 to 120 s, such as 2, 2s or 500ms'],
    ['wait_for_job', '3s', 'a time from 0 to 120 s, such as 2, 2s or 500ms'],
    [
      'rank',
      'newest',
      'newest, step-extern-mtime, pam_slurm_adopt-15.08, pam_slurm_adopt-20.02, pam_slurm_adopt-26.05',
    ],
    ['prefer', '0', '1, 0'],
    ['mode', 'enforce', 'enforce, observe'],
  ])('%s is %s by default, and takes %s', (name, value, allowed) => {
    expect(optionByName(name)).toMatchObject({ default: value, allowed });
  });

  it('says where the node name comes from without the option nodename', () => {
    expect(optionByName('nodename')?.default).toBe('SLURMD_NODENAME, else the short host name');
    expect(defaultOptions).not.toHaveProperty('nodename');
  });

  it('leaves the oom_score_adj of sessions as it is by default', () => {
    expect(optionByName('session_oom_adj')).toMatchObject({
      default: 'it is left as it is',
      allowed: 'a whole number from -1000 to 1000',
    });
    expect(defaultOptions).not.toHaveProperty('sessionOomAdj');
    expect(parseOptions(['session_oom_adj=500']).sessionOomAdj).toBe(500);
    expect(Object.is(parseOptions(['session_oom_adj=-0']).sessionOomAdj, 0)).toBe(true);
    for (const text of ['1001', '-1001', '+5', '5.5', '', '0x10', '9999'])
      expect(() => parseOptions([`session_oom_adj=${text}`])).toThrow(ConfigError);
  });

  it('has each option once, and every value it lists is taken', () => {
    expect(new Set(optionTable.map(({ name }) => name)).size).toBe(19);
    for (const option of optionTable) {
      for (const value of option.values) {
        expect(option.write(readOption(option, value, defaultOptions))).toBe(value);
      }
    }
  });
});

describe('parseOptions()', () => {
  it('gives the defaults for no words', () => {
    expect(parseOptions([])).toEqual(defaultOptions);
  });

  it('reads the PAM line that Slurm recommends', () => {
    const words = ['action_adopt_failure=deny', 'action_generic_failure=deny', 'nodename=vm', 'log_level=debug5'];
    expect(parseOptions(words)).toEqual({
      ...defaultOptions,
      actionAdoptFailure: 'deny',
      actionGenericFailure: 'deny',
      nodename: 'vm',
      logLevel: 'debug5',
    });
  });

  it('takes names and values in any case, as pam_slurm_adopt does, and names as they are', () => {
    const words = [
      'Action_Unknown=DENY',
      'join_container=False',
      'LOG_LEVEL=Debug2',
      'service=MyLogin',
      'nodename=Node-1',
    ];
    expect(parseOptions(words)).toMatchObject({
      actionUnknown: 'deny',
      joinContainer: false,
      logLevel: 'debug2',
      service: 'MyLogin',
      nodename: 'Node-1',
    });
  });

  it('lets the later of two words win, and any word win over its base', () => {
    const base = parseOptions(['action_unknown=user', 'prefer=1']);
    expect(parseOptions(['action_unknown=allow', 'action_unknown=deny'], base)).toMatchObject({
      actionUnknown: 'deny',
      prefer: true,
    });
  });

  it.each([
    ['2', 2000],
    ['2s', 2000],
    ['2S', 2000],
    ['500ms', 500],
    ['0', 0],
    ['120', 120_000],
    ['120000ms', 120_000],
  ])('reads the time %s as %i ms', (text, ms) => {
    expect(parseOptions([`callerid_timeout=${text}`]).callerIdTimeoutMs).toBe(ms);
  });

  it.each(['', '-1', '1.5', '2 s', '2m', '121', '121s', '120001ms', '1e3', '9999999', 'two', '2s '])(
    'refuses the time %j and says what a time is',
    (text) => {
      expect(messageOf(() => parseOptions([`wait_for_job=${text}`]))).toMatch(
        /for wait_for_job: allowed are a time from 0 to 120 s, such as 2, 2s or 500ms$/,
      );
    },
  );

  it('refuses a budget of nothing', () => {
    expect(messageOf(() => parseOptions(['budget=0']))).toContain('a time above 0');
  });

  it.each([
    ['0', 'quiet'],
    ['3', 'info'],
    ['9', 'debug5'],
  ])("reads Slurm's log level %s as %s", (text, level) => {
    expect(parseOptions([`log_level=${text}`]).logLevel).toBe(level);
  });

  it.each(['any', 'ignore', 'newestest', '', ' newest', 'İGNORE'])(
    'refuses action_unknown=%s with the list',
    (value) => {
      expect(messageOf(() => parseOptions([`action_unknown=${value}`]))).toBe(
        `Cannot take ${JSON.stringify(value)} for action_unknown: allowed are newest, allow, deny, user`,
      );
    },
  );

  it.each([
    'action_no_jobs=allow',
    'action_adopt_failure=ignore',
    'ignore_root=true',
    'ignore_root=01',
    'join_container=1',
    'log_level=10',
    'log_level=0x3',
    'log_level=debug1',
    'rank=oldest',
    'nodename=',
    'nodename=../etc',
    'nodename=a b',
    'nodename=.',
    'service=',
    'service=a/b',
    'service=sshd\n',
  ])('refuses %j', (word) => {
    expect(messageOf(() => parseOptions([word]))).toContain(': allowed are ');
  });

  it.each(['action_unknow=deny', '=deny', 'debug=1', 'action-unknown=deny', '__proto__=1', ' prefer=1'])(
    'refuses the unknown option %j and lists all options',
    (word) => {
      const message = messageOf(() => parseOptions([word]));
      for (const { name } of optionTable) expect(message).toContain(name);
    },
  );

  it.each(['', 'debug', 'action_unknown'])('refuses the word %j, which is not name=value', (word) => {
    expect(messageOf(() => parseOptions([word]))).toBe(
      `Cannot read the option ${JSON.stringify(word)}: it is not of the form name=value`,
    );
  });

  it('shows what was written in one line without control characters', () => {
    const message = messageOf(() => parseOptions(['action_unknown=\u001b[31m\nroot\u202e']));
    expect(message).not.toMatch(/[\p{Cc}\u202e]/u);
  });

  it('never throws anything but a ConfigError, whatever the words are', () => {
    const name = fc.oneof(fc.constantFrom(...optionTable.map((option) => option.name)), fc.string());
    const word = fc.oneof(
      fc.string(),
      fc.tuple(name, fc.string({ unit: 'binary' })).map((pair) => pair.join('=')),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 3 }), (words) => {
        try {
          parseOptions(words);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
    );
  });

  it('reads back what formatOptions() writes', () => {
    fc.assert(
      fc.property(anyOptions, (options) => {
        expect(parseOptions(formatOptions(options))).toStrictEqual(options);
      }),
    );
  });
});

describe('readOption()', () => {
  it('calls the option in its message as it was called', () => {
    const option = optionByName('mode');
    expect(messageOf(() => option && readOption(option, 'test', defaultOptions, '--mode'))).toBe(
      'Cannot take "test" for --mode: allowed are enforce, observe',
    );
  });
});

describe('checkOptions()', () => {
  const user = parseOptions(['action_unknown=user']);

  it('refuses action_unknown=user on cgroup v2 and lists what is left', () => {
    expect(messageOf(() => checkOptions(user, { cgroupVersion: 2 }))).toMatch(/allowed are newest, allow, deny$/);
  });

  it('has nothing against it on v1, nor against anything else on v2', () => {
    expect(() => checkOptions(user, { cgroupVersion: 1 })).not.toThrow();
    expect(() => checkOptions(defaultOptions, { cgroupVersion: 2 })).not.toThrow();
  });
});
