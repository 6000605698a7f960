// The program's beginning: which of its two files the command is in. What a login runs is a file without any
// package and without the other commands; they, and every --help, are commander's.

import process from 'node:process';

declare const packageVersion: string;

const ofLogins: ReadonlySet<string> = new Set(['adopt']);

/** Runs the command that `words` name and gives the exit code; an error becomes one line on stderr. */
export async function main(words: readonly string[]): Promise<number> {
  const [name = '', ...rest] = words;
  if (ofLogins.has(name) && !rest.some((word) => word === '--help' || word === '-h')) {
    const { runLogin } = await import('./login.js');
    return runLogin(rest);
  }
  const { runProgram } = await import('./program.js');
  return runProgram(words, packageVersion);
}

main(process.argv.slice(2)).then((exitCode) => {
  process.exitCode = exitCode;
});
