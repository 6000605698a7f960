// The words of a line of pam_slurm_cgroups in PAM's stack, as far as they are the login's options, with the profiles that
// set several of them at once.

import { ConfigError, quote } from '../machine/errors.js';
import { type AdoptionOptions, defaultOptions, parseOptions } from './options.js';

export const profileNames: readonly ('strict' | 'lenient')[] = ['strict', 'lenient'];

/** `strict`: every action is `deny`. `lenient`: the actions of pam_slurm_adopt, which are the defaults. */
const profiles = {
  strict: {
    actionNoJobs: 'deny',
    actionUnknown: 'deny',
    actionAdoptFailure: 'deny',
    actionGenericFailure: 'deny',
    actionSuspended: 'deny',
  },
  lenient: {
    actionNoJobs: defaultOptions.actionNoJobs,
    actionUnknown: defaultOptions.actionUnknown,
    actionAdoptFailure: defaultOptions.actionAdoptFailure,
    actionGenericFailure: defaultOptions.actionGenericFailure,
    actionSuspended: defaultOptions.actionSuspended,
  },
} as const satisfies Readonly<Record<(typeof profileNames)[number], Partial<AdoptionOptions>>>;

/**
 * The words of a PAM line, as `parseOptions` reads them, and `profile=strict` or `profile=lenient` among them, which
 * sets every action. An action of its own counts more, wherever it stands: so the module has it.
 *
 * @throws ConfigError (ERR_CONFIG), one line that names the word.
 */
export function parsePamLine(words: readonly string[], base: AdoptionOptions = defaultOptions): AdoptionOptions {
  const [options, others] = [[base], [] as string[]];
  for (const word of words) {
    const [, name] = /^profile=(.*)$/is.exec(word) ?? [];
    if (name === undefined) others.push(word);
    else options.push({ ...base, ...profileCalled(name) });
  }
  return parseOptions(others, options.at(-1));
}

function profileCalled(name: string): Partial<AdoptionOptions> {
  const known = profileNames.find((one) => one === name.toLowerCase());
  if (known !== undefined) return profiles[known];
  throw new ConfigError(`Cannot take ${quote(name)} for profile: allowed are ${profileNames.join(', ')}`);
}

/** What is wrong with a word of the line of our module, or of one that reads its words by `parse`; `undefined`: nothing. */
export function mistakeIn(
  word: string,
  parse: (words: readonly string[]) => AdoptionOptions = parsePamLine,
): string | undefined {
  try {
    parse([word]);
    return undefined;
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
}
