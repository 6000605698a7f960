import { describe, expect, it } from 'vitest';
import { adoptSpec } from '../../src/cli/commands/adopt.js';
import { checkWords, flagValue, jobIdOf, numberOf, parseWords, pidOf, uidOf } from '../../src/cli/spec.js';

describe('parseWords()', () => {
  it('reads flags, values and operands in any order', () => {
    const words = parseWords(adoptSpec, ['--uid', '1001', '4711', '--dry-run', '--action-unknown=deny']);
    expect(words.operands).toEqual(['4711']);
    expect([flagValue(words, 'uid'), flagValue(words, 'action-unknown'), words.flags.get('dry-run')]).toEqual([
      '1001',
      'deny',
      true,
    ]);
  });

  it.each([
    [['4711', '--frob'], /^Unknown option "--frob"; there are --uid --user /],
    [['4711', '-x'], /^Unknown option "-x"/],
    [['4711', '--uid'], /^Option --uid needs a value/],
    [['4711', '--dry-run=yes'], /^Option --dry-run takes no value/],
    [[], /^Missing required argument "pid"/],
    [['1', '2'], /^Unexpected argument "2"/],
  ])('refuses %j in one line', (words, message) => {
    expect(() => parseWords(adoptSpec, words)).toThrow(message);
    expect(() => parseWords(adoptSpec, words)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });

  it('takes a negative number as an operand or a value, not as a flag', () => {
    expect(parseWords(adoptSpec, ['-5']).operands).toEqual(['-5']);
    expect(flagValue(parseWords(adoptSpec, ['4711', '--uid', '-5']), 'uid')).toBe('-5');
  });
});

describe('checkWords()', () => {
  it('counts the operands, however the words were split', () => {
    expect(() => checkWords({ ...adoptSpec, operands: [] }, { operands: ['x'], flags: new Map() })).toThrow(
      'Unexpected argument',
    );
  });
});

describe('numberOf()', () => {
  it.each(['', ' 1', '1 ', '0x10', '1e3', '-1', '+1', '1.0', '١', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => numberOf(text, 'a number', { from: 0, to: 10_000 })).toThrow(
      'is not a number: a number from 0 to 10000',
    );
  });
});

describe('pidOf(), jobIdOf(), uidOf()', () => {
  it('know their ranges', () => {
    expect([pidOf('1'), pidOf('2147483648'), jobIdOf('4294967293'), uidOf('0')]).toEqual([
      1, 2147483648, 4294967293, 0,
    ]);
    for (const bad of ['0', '-1', 'self']) expect(() => pidOf(bad)).toThrow('is not a process id');
    for (const bad of ['0', '4294967294', '4294967296']) expect(() => jobIdOf(bad)).toThrow('is not a job id');
    expect(() => uidOf('4294967295')).toThrow('is not a user id');
  });
});
