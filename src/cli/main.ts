// Where the program begins: it loads one of two files. The commands that a login runs are in a file without any package,
// so that they start quickly; all others, and every --help, use commander.

import process from 'node:process';

declare const packageVersion: string;

const ofLogins: ReadonlySet<string> = new Set(['adopt']);

/** Runs the command named by the first word and gives the exit code; an error becomes one line on stderr. */
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
