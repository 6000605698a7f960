import { describe, expect, it } from 'vitest';
import { exitCodeOf, lineOf, usageError } from '../../src/cli/exit.js';
import {
  ConfigError,
  type ErrorCode,
  ParseError,
  SlurmCgroupsError,
  SystemCallError,
} from '../../src/machine/errors.js';

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
