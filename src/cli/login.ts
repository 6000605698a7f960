// What a login runs, in a file of its own: all that is imported here is loaded at each login, so no package and nothing
// of other commands.

import { adoptSpec, runAdopt } from './commands/adopt.js';
import { pamSpec, runPam } from './commands/pam.js';
import { ending } from './exit.js';
import { parseWords } from './spec.js';

/** Runs `adopt` or `pam` with the words after its name and gives the exit code; an error becomes one line on stderr. */
export async function runLogin(name: string, words: readonly string[]): Promise<number> {
  return ending(name, words, async () =>
    name === pamSpec.name ? runPam(parseWords(pamSpec, words)) : runAdopt(parseWords(adoptSpec, words)),
  );
}
