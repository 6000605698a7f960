import { describe, expect, it } from 'vitest';
import { exitCodeOf, lineOf, usageError } from '../../src/cli/exit.js';
import {
  ConfigError,
  type ErrorCode,
  ParseError,
  SlurmCgroupsError,
  SystemCallError,
} from '../../src/machine/errors.js';
import { runProgramFile } from '../support/program-run.js';

const cases: readonly (readonly [ErrorCode, number])[] = [
  ['ERR_NO_SUCH_PROCESS', 1],
  ['ERR_NO_SUCH_JOB', 1],
  ['ERR_PROTECTED', 1],
  ['ERR_NOT_SUPPORTED', 1],
  ['ERR_FROZEN', 1],
  ['ERR_CGROUP_GONE', 1],
  ['ERR_CGROUP_BUSY', 1],
  ['ERR_USAGE', 2],
  ['ERR_CONFIG', 2],
  ['ERR_PARSE', 2],
  ['ERR_NOT_PERMITTED', 3],
  ['ERR_READ_ONLY', 3],
  ['ERR_NO_CGROUPS', 4],
  ['ERR_NOT_SLURM', 4],
];

describe('exitCodeOf()', () => {
  it.each(cases)('gives %s the documented code %i', (code, exitCode) => {
    expect(exitCodeOf(new SlurmCgroupsError(code, 'x'))).toBe(exitCode);
  });

  it('gives what the kernel refuses the code of its meaning', () => {
    expect(exitCodeOf(new SystemCallError('write', '/sys/fs/cgroup/x', 'EACCES'))).toBe(3);
    expect(exitCodeOf(new SystemCallError('open', '/proc/4711', 'ENOENT'))).toBe(1);
    expect(exitCodeOf(new ParseError('x'))).toBe(2);
    expect(exitCodeOf(new ConfigError('x'))).toBe(2);
  });

  it('gives a defect of this program 2', () => {
    expect(exitCodeOf(new TypeError('x'))).toBe(2);
  });
});

describe('ending()', () => {
  const failing = (...words: readonly string[]) => runProgramFile(...words);

  it('with --json gives the error as an object on stdout too, also of words that are not understood', () => {
    const { stdout, stderr, exitCode } = failing('verify', '999999999', '--json');
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toEqual({
      error: { code: 'ERR_NO_SUCH_PROCESS', message: 'There is no process 999999999', pid: 999_999_999, exitCode: 1 },
    });
    expect(stderr.split('\n')).toHaveLength(2);
    for (const words of [
      ['list', '--frob', '--json'],
      ['adopt', '--json'],
      ['frob', '--json'],
    ]) {
      const said = failing(...words);
      expect([said.exitCode, JSON.parse(said.stdout).error.code], words.join(' ')).toEqual([2, 'ERR_USAGE']);
    }
    expect(failing('watch', '--json', '--within', 'x').stdout.trimEnd().split('\n')).toHaveLength(1);
  });

  it('without it, or behind --, gives the line alone', () => {
    for (const words of [
      ['verify', '999999999'],
      ['verify', '--', '--json'],
    ])
      expect(failing(...words).stdout).toBe('');
  });
});

describe('lineOf()', () => {
  it('says what was tried and what to do, in one line', () => {
    expect(lineOf('adopt', new SlurmCgroupsError('ERR_NO_SUCH_JOB', 'uid 7 has no job 5 on this node'))).toBe(
      'slurm-cgroups adopt: uid 7 has no job 5 on this node; "slurm-cgroups list" shows the jobs that are here',
    );
    expect(lineOf('', usageError('Name a command'))).toBe('slurm-cgroups: Name a command; see "slurm-cgroups --help"');
  });

  it('never lets a message steer the terminal or break the line', () => {
    const line = lineOf('list', new SlurmCgroupsError('ERR_IO', 'a\u001b[2J\nb\udcff'));
    expect(line).toBe('slurm-cgroups list: a\\x1b[2J\\x0ab\\xff');
    expect(lineOf('list', new Error('boom\nat somewhere')).split('\n')).toHaveLength(1);
  });
});
