// The site's configuration of logins (/etc/slurm-cgroups/config.json): the options of the PAM line, a profile, and the
// words that a refused user reads. Text in, values out; all mistakes at once, since one at a time costs a login each.

import { ConfigError, quote } from '../machine/errors.js';
import type { Rule } from './answer.js';
import { type AdoptionOptions, type OptionSpec, optionTable } from './options.js';
import { mistakeIn, parsePamLine, profileNames } from './pam-line.js';

/** What a site says beside the options. */
export interface SiteConfiguration {
  readonly options: AdoptionOptions;
  /** What a refused user reads, by the rule that refused. */
  readonly messages: Readonly<Partial<Record<Rule, string>>>;
}

/** Where a login looks for it. */
export const configurationFile = '/etc/slurm-cgroups/config.json';
/** In bytes. It is a page. */
export const longestConfiguration = 65_536;

/** The module reads them itself, before it asks anybody: they stand on the PAM line alone. */
export const optionsOfModule: readonly string[] = [
  'ignore_root',
  'service',
  'budget',
  'action_generic_failure',
  'helper',
  'socket',
];

/** Those of the file. */
export const optionsOfFile: readonly OptionSpec[] = optionTable.filter(({ name }) => !optionsOfModule.includes(name));

/** The rules by which a login is refused. */
const rulesOfRefusals = [
  'node-unknown',
  'not-slurm',
  'jobs-unknown',
  'no-jobs',
  'starting',
  'ending',
  'source-unknown',
  'suspended',
  'adopt-failure',
] as const satisfies readonly Rule[];

const longestMessage = 400;

/**
 * Reads the file.
 *
 * @throws ConfigError (ERR_CONFIG), one line with every mistake.
 * @example
 * parseConfigFile('{ "profile": "strict", "callerid_timeout": "500ms" }').options.actionUnknown; // 'deny'
 */
export function parseConfigFile(text: string): SiteConfiguration {
  const mistakes: string[] = [];
  const object = objectIn(text);
  const words: string[] = [];
  let messages: SiteConfiguration['messages'] = {};
  for (const [key, value] of Object.entries(object)) {
    if (key === '$schema') continue;
    if (key === 'messages') messages = readMessages(value, mistakes);
    else if (key === 'profile') {
      const word = `profile=${typeof value === 'string' ? value : JSON.stringify(value)}`;
      if (isRight(word, mistakes)) words.push(word);
    } else words.push(...wordOf(key, value, mistakes));
  }
  if (mistakes.length > 0) throw new ConfigError(`Cannot read the configuration: ${mistakes.join('; ')}`);
  return { options: parsePamLine(words), messages };
}

function objectIn(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ConfigError(`Cannot read the configuration: it is not JSON: ${error.message.replace(/\s+/g, ' ')}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError('Cannot read the configuration: it must be one JSON object');
  return { ...value };
}

/** One option as a word of the PAM line; none, and a mistake more, where it is not right. */
function wordOf(key: string, value: unknown, mistakes: string[]): readonly string[] {
  if (optionsOfModule.includes(key)) {
    mistakes.push(`${key} is read from the PAM line alone, since the module needs it before this file is read`);
    return [];
  }
  const option = optionsOfFile.find(({ name }) => name === key);
  if (option === undefined) {
    const known = ['profile', 'messages', ...optionsOfFile.map(({ name }) => name)].join(', ');
    mistakes.push(`there is no option ${quote(key)}; the options are ${known}`);
    return [];
  }
  const word = `${key}=${textOf(option, value)}`;
  return isRight(word, mistakes) ? [word] : [];
}

function isRight(word: string, mistakes: string[]): boolean {
  const mistake = mistakeIn(word);
  if (mistake !== undefined) mistakes.push(mistake);
  return mistake === undefined;
}

/** JSON has numbers, and true and false, for which the PAM line has words. */
function textOf({ values }: OptionSpec, value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') {
    const [yes, no] = values.includes('true') ? ['true', 'false'] : ['1', '0'];
    return (value ? yes : no) ?? '';
  }
  return JSON.stringify(value) ?? '';
}

function readMessages(value: unknown, mistakes: string[]): SiteConfiguration['messages'] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    mistakes.push('messages must be an object: a text for each rule');
    return {};
  }
  const messages: Partial<Record<Rule, string>> = {};
  for (const [key, text] of Object.entries(value)) {
    const rule = rulesOfRefusals.find((one) => one === key);
    if (rule === undefined)
      mistakes.push(`no login is refused by ${quote(key)}; the rules are ${rulesOfRefusals.join(', ')}`);
    else if (typeof text !== 'string' || text.length > longestMessage)
      mistakes.push(`the message of ${key} must be a text of at most ${longestMessage} characters`);
    else messages[rule] = text;
  }
  return messages;
}

/** The JSON schema of the file, for editors and for a site's own checks: docs/config.schema.json. */
export function configSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Logins of slurm-cgroups: /etc/slurm-cgroups/config.json',
    type: 'object',
    additionalProperties: false,
    properties: {
      $schema: { type: 'string' },
      profile: { description: 'strict: every action is deny; lenient: those of pam_slurm_adopt', enum: profileNames },
      messages: {
        description: 'what a refused user reads, by the rule that refused',
        type: 'object',
        additionalProperties: false,
        properties: Object.fromEntries(
          rulesOfRefusals.map((rule) => [rule, { type: 'string', maxLength: longestMessage }]),
        ),
      },
      ...Object.fromEntries(optionsOfFile.map((option) => [option.name, schemaOf(option)])),
    },
  };
}

/** Words, with numbers and truth values beside those that stand for them; names and times are texts. */
function schemaOf({ name, allowed, description, values, default: preset }: OptionSpec): object {
  const texts = `${description} (${allowed}; default ${preset})`;
  if (values.length === 0) return { description: texts, type: ['string', 'number'] };
  const numbers =
    name === 'log_level' ? values.map((_, at) => at) : values.filter((one) => /^\d$/.test(one)).map(Number);
  const truths = /^(?:1|true)$/.test(values[0] ?? '') ? [true, false] : [];
  return { description: texts, enum: [...values, ...numbers, ...truths] };
}
