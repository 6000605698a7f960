// The program of commander, made from the specs of the commands: help for all of them, and parsing for all but those of
// the login path (main.ts), which use the same specs without a package.

import { Command, CommanderError } from 'commander';
import type { SlurmCgroupsError } from '../machine/errors.js';
import { adoptSpec } from './commands/adopt.js';
import { cleanSpec } from './commands/clean.js';
import { demoSpec } from './commands/demo.js';
import { doctorSpec } from './commands/doctor.js';
import { listSpec } from './commands/list.js';
import { pamSpec } from './commands/pam.js';
import { straysSpec } from './commands/strays.js';
import { verifySpec } from './commands/verify.js';
import { watchSpec } from './commands/watch.js';
import { ending, usageError } from './exit.js';
import { type CommandSpec, checkWords, type RunCommand } from './spec.js';
import { standardOutput, wrapped } from './terminal/output.js';

/** A command and how to load it. */
interface Loadable {
  readonly spec: CommandSpec;
  readonly load: () => Promise<RunCommand>;
}

const commands: readonly Loadable[] = [
  { spec: listSpec, load: async () => (await import('./commands/list.js')).runList },
  { spec: verifySpec, load: async () => (await import('./commands/verify.js')).runVerify },
  { spec: adoptSpec, load: async () => (await import('./commands/adopt.js')).runAdopt },
  { spec: pamSpec, load: async () => (await import('./commands/pam.js')).runPam },
  { spec: cleanSpec, load: async () => (await import('./commands/clean.js')).runClean },
  { spec: straysSpec, load: async () => (await import('./commands/strays.js')).runStrays },
  { spec: watchSpec, load: async () => (await import('./commands/watch.js')).runWatch },
  { spec: doctorSpec, load: async () => (await import('./commands/doctor.js')).runDoctor },
  { spec: demoSpec, load: async () => (await import('./commands/demo.js')).runDemo },
];

/** Runs the command named by the first word and gives the exit code; an error becomes one line on stderr. */
export async function runProgram(words: readonly string[], version: string): Promise<number> {
  const said = usual(words);
  const known = commands.find(({ spec }) => spec.name === said[0]);
  return ending(known?.spec.name ?? '', words, async () => {
    const exitCode = await parseAndRun(said, version);
    return words.length === 0 ? 2 : exitCode; // the help is shown, but nothing was done
  });
}

/** Words that people try, in the words of this program: `help`, `help list`, `list help`, `-v`, `list --version`, none. */
function usual(words: readonly string[]): readonly string[] {
  const [first, second, ...more] = words;
  const isCommand = (word: string | undefined) => commands.some(({ spec }) => spec.name === word);
  if (first === undefined) return ['--help'];
  if (first === 'help') return isCommand(second) && second !== undefined ? [second, '--help'] : ['--help'];
  if (more.length > 0) return words;
  if (second === undefined && (first === '-v' || first === 'version')) return ['--version'];
  if (isCommand(first) && second === 'help') return [first, '--help'];
  if (isCommand(first) && (second === '--version' || second === '-V' || second === '-v')) return ['--version'];
  return words;
}

/** @throws SlurmCgroupsError ERR_USAGE, and whatever the command throws. */
async function parseAndRun(words: readonly string[], version: string): Promise<number> {
  let exitCode = 0;
  const output = standardOutput();
  const width = output.columns ?? 80;
  const wrap = (text: string) => wrapped(text, { width, indent: ' '.repeat(text.search(/\S/)) });
  const program = new Command('slurm-cgroups')
    .configureHelp({
      helpWidth: width,
      formatItem: (term, termWidth, description) =>
        (width - termWidth < 28
          ? [`  ${term}`, ...wrap(`      ${description}`)]
          : wrapped(`  ${term.padEnd(termWidth)}  ${description}`, { width, indent: ' '.repeat(termWidth + 4) })
        ).join('\n'),
    })
    .description(
      "Finds Slurm's job cgroups on this node, puts sessions into the right job, and proves what belongs to what.",
    )
    .version(version, '-V, --version', 'print the version')
    .helpCommand(false)
    .showHelpAfterError(false)
    .configureOutput({ writeOut: (text) => output.print(text.replace(/\n$/, '')), writeErr: () => {} })
    .exitOverride();
  for (const { spec, load } of commands) {
    const command = program.command(spec.name).summary(spec.summary).description(spec.about).allowExcessArguments(true);
    for (const operand of spec.operands) command.argument(operand); // checkWords counts them
    for (const flag of spec.flags)
      command.option(`--${flag.name}${flag.takes === undefined ? '' : ` <${flag.takes}>`}`, flag.description);
    command.addHelpText(
      'after',
      `\nExamples:\n${spec.examples.flatMap(([line, meaning]) => [`  ${line}`, ...wrap(`      ${meaning}`)]).join('\n')}`,
    );
    command
      .configureOutput({ writeOut: (text) => output.print(text.replace(/\n$/, '')), writeErr: () => {} })
      .exitOverride();
    command.action(async () => {
      const options: Readonly<Record<string, unknown>> = command.opts();
      const flags = new Map<string, string | true>();
      for (const flag of spec.flags) {
        const value = options[camel(flag.name)];
        if (value === true || typeof value === 'string') flags.set(flag.name, value);
      }
      exitCode = await (await load())(checkWords(spec, { operands: command.args, flags }));
    });
  }
  program.addHelpText(
    'after',
    `\n${wrap(
      'Exit codes: 0 done, 1 the answer is no, 2 wrong usage, configuration or input, 3 not permitted, 4 no cgroups or no Slurm node.',
    ).join('\n')}`,
  );
  try {
    await program.parseAsync([...words], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw asUsage(error, commands.find(({ spec }) => spec.name === words[0])?.spec);
  }
  return exitCode;
}

function asUsage(error: CommanderError, spec: CommandSpec | undefined): SlurmCgroupsError {
  const message = error.message
    .replace(/^error: /, '')
    .replace(/\n.*$/s, '')
    .replaceAll("'", '"');
  const line = `${message[0]?.toUpperCase()}${message.slice(1)}`;
  if (error.code === 'commander.unknownCommand')
    return usageError(`${line}; there are ${commands.map((one) => one.spec.name).join(', ')}`);
  return usageError(
    error.code === 'commander.unknownOption' && spec !== undefined
      ? `${line}; there are ${spec.flags.map((flag) => `--${flag.name}`).join(' ')}`
      : line,
  );
}

function camel(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}
