// --node and --within that name nothing here are a mistake, and not a node without jobs: on every command that has them.

import { describe, expect, it } from 'vitest';
import { adoptSpec, runAdopt } from '../../../src/cli/commands/adopt.js';
import { cleanSpec, runClean } from '../../../src/cli/commands/clean.js';
import { doctorSpec, runDoctor } from '../../../src/cli/commands/doctor.js';
import { listSpec, runList } from '../../../src/cli/commands/list.js';
import { runStrays, straysSpec } from '../../../src/cli/commands/strays.js';
import { runVerify, verifySpec } from '../../../src/cli/commands/verify.js';
import { runWatch, watchSpec } from '../../../src/cli/commands/watch.js';
import { exitCodeOf } from '../../../src/cli/exit.js';
import { type CommandSpec, parseWords, type Words } from '../../../src/cli/spec.js';
import type { Output } from '../../../src/cli/terminal/output.js';
import { recording } from '../../recordings/recordings.js';
import { capture } from '../../support/captured-output.js';
import { kernelTest } from '../../support/test-cgroups.js';

interface Asked {
  readonly spec: CommandSpec;
  readonly run: (words: Words, output: Output) => Promise<number>;
  readonly words: readonly string[];
}

const commands: readonly Asked[] = [
  { spec: listSpec, run: runList, words: [] },
  { spec: verifySpec, run: runVerify, words: ['6516'] },
  { spec: adoptSpec, run: runAdopt, words: ['6516', '--dry-run'] },
  { spec: cleanSpec, run: runClean, words: ['4', '--dry-run'] },
  { spec: straysSpec, run: runStrays, words: [] },
  { spec: watchSpec, run: runWatch, words: ['--json'] },
  { spec: doctorSpec, run: runDoctor, words: [] },
];

async function refusalOf({ spec, run, words }: Asked, ...more: readonly string[]) {
  const output = capture();
  const error: unknown = await run(parseWords(spec, [...words, ...more]), output).catch((thrown: unknown) => thrown);
  return { exitCode: exitCodeOf(error), message: (error as Error).message, printed: output.text() };
}

describe.each(commands)('$spec.name', (command) => {
  const has = (flag: string) => command.spec.flags.some(({ name }) => name === flag);
  const recorded = ['--from', recording('slurm-22.05-v1')];

  if (has('node') && has('from'))
    it('--node of another machine: exit code 2, of this one as without', async () => {
      expect(await refusalOf(command, '--node', 'vmm', ...recorded)).toEqual({
        ...{ exitCode: 2, printed: '' },
        message: 'No node "vmm" is on this machine: there is vm (--node)',
      });
      expect((await refusalOf(command, '--node', 'vm', ...recorded)).message).toBeUndefined();
    });

  if (has('from'))
    it('--within of a recorded node that is not there: exit code 2', async () => {
      expect(await refusalOf(command, '--within', '/nowhere', ...recorded)).toEqual({
        ...{ exitCode: 2, printed: '' },
        message: 'There is no cgroup "/nowhere" on this node (--within)',
      });
    });

  kernelTest('--within that is not there, or is not Slurm’s: exit code 2', ['freezer'], async (area) => {
    expect(await refusalOf(command, '--within', `/${area.name}/nowhere`)).toEqual({
      ...{ exitCode: 2, printed: '' },
      message: `There is no cgroup "/${area.name}/nowhere" on this node (--within)`,
    });
    if (command.spec.name === 'watch') return; // Slurm's directory may come later
    expect(await refusalOf(command, '--within', `/${area.name}`)).toEqual({
      ...{ exitCode: 2, printed: '' },
      message: `Slurm has no cgroups in "/${area.name}" (--within)`,
    });
  });
});
