import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/machine/errors.js';
import { configSchema, optionsOfFile, optionsOfModule, parseConfigFile } from '../../src/policy/config-file.js';
import { defaultOptions, formatOptions } from '../../src/policy/options.js';
import { parsePamLine } from '../../src/policy/pam-line.js';

const denies = {
  actionNoJobs: 'deny',
  actionUnknown: 'deny',
  actionAdoptFailure: 'deny',
  actionGenericFailure: 'deny',
  actionSuspended: 'deny',
};

describe('parsePamLine()', () => {
  it('takes a profile, and an action of its own counts more wherever it stands', () => {
    expect(parsePamLine(['profile=STRICT'])).toEqual({ ...defaultOptions, ...denies });
    expect(parsePamLine(['profile=strict', 'action_unknown=newest']).actionUnknown).toBe('newest');
    expect(parsePamLine(['action_unknown=allow', 'profile=strict'])).toEqual({
      ...defaultOptions,
      ...denies,
      actionUnknown: 'allow',
    });
    expect(parsePamLine(['profile=strict', 'profile=lenient'])).toEqual(defaultOptions);
    expect(parsePamLine(['profile=lenient'], parsePamLine(['profile=strict']))).toEqual(defaultOptions);
  });

  it.each(['profile=hard', 'profile=', 'action_unknown=maybe', 'denyall', 'helper=/x'])('refuses %s', (word) => {
    expect(() => parsePamLine([word])).toThrow(ConfigError);
  });
});

describe('parseConfigFile()', () => {
  it('is empty in an empty object', () => {
    expect(parseConfigFile('{}')).toEqual({ options: defaultOptions, messages: {} });
  });

  it('reads texts, numbers and truth values', () => {
    const text = JSON.stringify({
      $schema: './config.schema.json',
      callerid_timeout: '500ms',
      wait_for_job: 1,
      prefer: true,
      join_container: false,
      single_job_skip_rpc: 0,
      log_level: 5,
      nodename: 'n1',
    });
    expect(parseConfigFile(text).options).toEqual({
      ...defaultOptions,
      callerIdTimeoutMs: 500,
      waitForJobMs: 1000,
      prefer: true,
      joinContainer: false,
      singleJobSkipRpc: false,
      logLevel: 'debug',
      nodename: 'n1',
    });
  });

  it('takes a profile first, wherever it stands', () => {
    const text = '{ "action_no_jobs": "ignore", "profile": "strict" }';
    expect(parseConfigFile(text).options).toEqual({ ...defaultOptions, ...denies, actionNoJobs: 'ignore' });
  });

  it('reads the words for refused users', () => {
    const text = '{ "messages": { "no-jobs": "Get a job first: https://hpc.example.org" } }';
    expect(parseConfigFile(text).messages).toEqual({ 'no-jobs': 'Get a job first: https://hpc.example.org' });
  });

  it('lists every mistake in one line', () => {
    const text = JSON.stringify({
      profile: 'hard',
      budget: '2s',
      action_unknwon: 'deny',
      action_no_jobs: ['deny'],
      rank: null,
      messages: { newest: 'x', 'no-jobs': 5 },
    });
    const message = messageOf(() => parseConfigFile(text));
    for (const part of [
      'Cannot take "hard" for profile',
      'budget is read from the PAM line alone',
      'there is no option "action_unknwon"',
      'for action_no_jobs: allowed are deny, ignore',
      'for rank: allowed are',
      'no login is refused by "newest"',
      'the message of no-jobs must be a text',
    ])
      expect(message).toContain(part);
    expect(message).not.toContain('\n');
  });

  it.each(optionsOfModule)('refuses %s, which the module reads itself', (name) => {
    expect(messageOf(() => parseConfigFile(JSON.stringify({ [name]: '1' })))).toContain('PAM line alone');
  });

  it.each(['', '[]', '5', 'null', '"x"', '{', '{} x'])('refuses %j', (text) => {
    expect(() => parseConfigFile(text)).toThrow(ConfigError);
  });

  it('never fails otherwise than by a ConfigError', () => {
    const keys = fc.constantFrom(
      'profile',
      'messages',
      '__proto__',
      'constructor',
      ...optionsOfFile.map(({ name }) => name),
    );
    fc.assert(
      fc.property(fc.dictionary(keys, fc.jsonValue(), { maxKeys: 6 }), (object) => {
        try {
          parseConfigFile(JSON.stringify(object));
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          expect(String(error)).not.toContain('\n');
        }
      }),
    );
  });

  it('reads back what the options are written as', () => {
    const words = formatOptions(defaultOptions).map((word) => word.split('=') as [string, string]);
    const object = Object.fromEntries(words.filter(([name]) => !optionsOfModule.includes(name)));
    expect(parseConfigFile(JSON.stringify(object)).options).toEqual(defaultOptions);
  });
});

describe('configSchema()', () => {
  it('is the file that is shipped', () => {
    const file = path.resolve(import.meta.dirname, '../../docs/config.schema.json');
    expect(JSON.parse(fs.readFileSync(file, 'utf8'))).toEqual(JSON.parse(JSON.stringify(configSchema())));
  });

  it('allows no value that the file may not have', () => {
    const { properties } = JSON.parse(JSON.stringify(configSchema())) as {
      properties: Record<string, { enum?: readonly unknown[] }>;
    };
    for (const { name } of optionsOfFile) {
      for (const value of properties[name]?.enum ?? [])
        expect(() => parseConfigFile(JSON.stringify({ [name]: value }))).not.toThrow();
    }
  });
});

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error('it was taken');
}
