// Where the program begins: it loads one of two files. The commands that a login runs are in a file without any package,
// so that they start quickly; all others, and every --help, use commander.

import process from 'node:process';

declare const packageVersion: string;

const ofLogins: ReadonlySet<string> = new Set(['adopt', 'pam']);

/** Those with which people ask for help or the version. */
const ofPeople: ReadonlySet<string> = new Set(['--help', '-h', 'help', '--version', '-V', '-v']);

/** Runs the command named by the first word and gives the exit code; an error becomes one line on stderr. */
export async function main(words: readonly string[]): Promise<number> {
  const [name = '', ...rest] = words;
  if (ofLogins.has(name) && !rest.some((word) => ofPeople.has(word))) {
    const { runLogin } = await import('./login.js');
    return runLogin(name, rest);
  }
  const { runProgram } = await import('./program.js');
  return runProgram(words, packageVersion);
}

main(process.argv.slice(2)).then((exitCode) => {
  process.exitCode = exitCode;
});
