// The program: finds the command and ends with its exit code. adopt is on the login path and is run without
// any package; everything else, and every --help, is commander's.

import process from 'node:process';
import { exitCodeOf, lineOf } from './exit.js';

declare const packageVersion: string;

const knownCommands: ReadonlySet<string> = new Set(['list', 'verify', 'adopt', 'clean', 'strays', 'demo']);
const withoutPackages: ReadonlySet<string> = new Set(['adopt']);

/** Runs the command that `words` name and gives the exit code; an error becomes one line on stderr. */
export async function main(words: readonly string[]): Promise<number> {
  const [name = '', ...rest] = words;
  try {
    if (withoutPackages.has(name) && !rest.some((word) => word === '--help' || word === '-h')) {
      const { parseWords } = await import('./spec.js');
      const { adoptSpec, runAdopt } = await import('./commands/adopt.js');
      return await runAdopt(parseWords(adoptSpec, rest));
    }
    const { runProgram } = await import('./program.js');
    return await runProgram(words, packageVersion);
  } catch (error) {
    process.stderr.write(`${lineOf(knownCommands.has(name) ? name : '', error)}\n`);
    return exitCodeOf(error);
  }
}

// A reader that stops early (`| head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await main(process.argv.slice(2));
