import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ConfigLine, configLines } from '../../../src/jobs/config/syntax.js';
import { SlurmCgroupsError } from '../../../src/machine/errors.js';

const lines = (text: string): readonly ConfigLine[] => [...configLines(text, '/etc/slurm/slurm.conf')];
const pairs = (text: string) => lines(text).flatMap((line) => line.pairs.map(({ key, value }) => [key, value]));

describe('configLines()', () => {
  // What Slurm's own parser makes of them (26.05, src/common/parse_config.c).
  test.each([
    ['one pair', 'ClusterName=lab', [['ClusterName', 'lab']]],
    [
      'several pairs on a line',
      'NodeName=n[1-2] CPUs=2 State=UNKNOWN',
      [
        ['NodeName', 'n[1-2]'],
        ['CPUs', '2'],
        ['State', 'UNKNOWN'],
      ],
    ],
    ['blanks around the sign', '  ClusterName \t=  lab  ', [['ClusterName', 'lab']]],
    [
      'a line end of DOS',
      'ClusterName=lab\r\nSlurmUser=slurm\r\n',
      [
        ['ClusterName', 'lab'],
        ['SlurmUser', 'slurm'],
      ],
    ],
    [
      'quotes',
      'Comment="two words" A=b',
      [
        ['Comment', 'two words'],
        ['A', 'b'],
      ],
    ],
    ['an empty value in quotes', 'Comment=""', [['Comment', '']]],
    ['quotes inside a word stay', 'A=x"y"', [['A', 'x"y"']]],
    ['a quote followed by a letter is none', 'A="x"y', [['A', '"x"y']]],
    ['a comment', '# ClusterName=no\nA=b # c=d', [['A', 'b']]],
    ['a # in quotes begins a comment', 'A="b#c"', [['A', '"b']]],
    ['an escaped #', 'A=b\\#c', [['A', 'b#c']]],
    ['an escaped backslash before a #', 'A=b\\\\#c', [['A', 'b\\']]],
    [
      'a continued line',
      'NodeName=n1 \\\n  CPUs=2',
      [
        ['NodeName', 'n1'],
        ['CPUs', '2'],
      ],
    ],
    ['a continued value', 'A=on\\\ne', [['A', 'one']]],
    [
      'a continuation with blanks after it',
      'NodeName=n1 \\  \t\nCPUs=2',
      [
        ['NodeName', 'n1'],
        ['CPUs', '2'],
      ],
    ],
    [
      'a continuation with a comment after it',
      'NodeName=n1 \\ # first\nCPUs=2',
      [
        ['NodeName', 'n1'],
        ['CPUs', '2'],
      ],
    ],
    [
      'an escaped backslash at the end does not continue',
      'A=b\\\\\nC=d',
      [
        ['A', 'b\\'],
        ['C', 'd'],
      ],
    ],
    ['a backslash in a comment does not continue', '# a \\\nC=d', [['C', 'd']]],
    ['an operator', 'A+=b', [['A', 'b']]],
    ['a value with a sign', 'A=b=c', [['A', 'b=c']]],
    ['key characters', 'A.b_1=c', [['A.b_1', 'c']]],
  ])('reads %s', (_, text, expected) => {
    expect(pairs(text)).toEqual(expected);
  });

  test('gives the first of the joined lines', () => {
    const text = '\n# c\nA=b\nNodeName=n1 \\\n CPUs=2 \\\n State=UNKNOWN\nC=d\n';
    expect(lines(text).map(({ line }) => line)).toEqual([3, 4, 7]);
  });

  test.each([
    ['Include a.conf', 'a.conf'],
    ['include /etc/slurm/nodes.conf  ', '/etc/slurm/nodes.conf'],
    ['INCLUDE\t%c/x.conf # why', '%c/x.conf'],
  ])('%j includes a file', (text, include) => {
    expect(lines(text)).toEqual([{ line: 1, pairs: [], include }]);
  });

  test.each([[' Include a.conf'], ['Include'], ['Includes a.conf'], ['Include=a.conf']])('%j does not', (text) => {
    expect(lines(text).every(({ include }) => include === undefined)).toBe(true);
  });

  test.each([
    ['a word', 'ClusterName', 'ClusterName'],
    ['no value', 'ClusterName=', 'ClusterName='],
    ['a quote without end', 'A=b C="d e', ' e'],
    ['words after a pair', 'A=b and more', ' and more'],
    ['an end in the middle of a continued line', 'A=b \\', '\\'],
    ['a second name after Include', 'Include a b', ' b'],
  ])('keeps what cannot be read: %s', (_, text, rest) => {
    expect(lines(text).at(-1)?.rest).toBe(rest);
  });

  test('names file and line of a NUL byte', () => {
    const error = { code: 'ERR_PARSE', subject: { path: '/etc/slurm/slurm.conf', line: 3 } };
    expect(() => lines('A=b\n\nC=\0d\n')).toThrow(expect.objectContaining(error));
  });

  test.each([
    ['letters', 'a'.repeat(1 << 20)],
    ['a value', `A=${'b'.repeat(1 << 20)}`],
    ['blanks', `A=${' '.repeat(1 << 20)}`],
    ['blanks before no sign', `A${' '.repeat(1 << 20)}b`],
    ['quotes that do not end', 'A="b '.repeat(1 << 18)],
    ['escaped signs', '\\#'.repeat(1 << 19)],
    ['backslashes', '\\'.repeat(1 << 20)],
    ['backslashes and blanks', '\\ '.repeat(1 << 19)],
    ['pairs', 'A=b '.repeat(1 << 18)],
    ['continued lines', 'A=b \\\n'.repeat(1 << 18)],
    ['an Include', `Include ${'x'.repeat(1 << 20)}`],
  ])('reads a line of a megabyte: %s', (_, text) => {
    const begin = performance.now();
    expect(lines(text).length).toBeLessThanOrEqual(1); // escaped blanks alone are none
    expect(performance.now() - begin).toBeLessThan(30_000);
  });

  test('reads what was written', () => {
    const key = fc.stringMatching(/^[A-Za-z0-9_.]{1,12}$/).filter((word) => word.toLowerCase() !== 'include');
    const value = fc.stringMatching(/^[!-~ äß€]{0,20}$/).filter((text) => !text.includes('"'));
    const gap = fc.constantFrom(' ', '\t', '  ', ' \\\n ', ' \\ \n\t');
    const end = fc.constantFrom('', ' ', ' # a comment, with = and " and \\\\', '\r');
    const line = fc.record({ pairs: fc.array(fc.tuple(key, value), { minLength: 1, maxLength: 4 }), gap, end });
    const escaped = (text: string) => text.replace(/[\\#]/g, '\\$&');
    const write = (text: string) => (text === '' || text.includes(' ') ? `"${escaped(text)}"` : escaped(text));
    fc.assert(
      fc.property(fc.array(line, { maxLength: 6 }), (generated) => {
        const text = generated
          .map(
            (one) =>
              one.pairs.map(([name, said]) => `${name}${one.gap}=${one.gap}${write(said)}`).join(one.gap) + one.end,
          )
          .join('\n\n');
        const read = lines(text);
        expect(read.map((one) => one.pairs.map((pair) => [pair.key, pair.value]))).toEqual(
          generated.map((one) => one.pairs.map(([name, said]) => [name, said])),
        );
        expect(read.every(({ rest }) => rest === undefined)).toBe(true);
      }),
    );
  });

  test('gives lines or our error for any text, and ends', () => {
    const sign = fc.constantFrom('\\', '#', '"', '=', '\n', ' ', 'Include ', 'a', '\r', '\0', '\udc80', '[', '+');
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(sign, { maxLength: 60 }).map((signs) => signs.join('')),
    );
    fc.assert(
      fc.property(text, (any) => {
        try {
          for (const { line, pairs: found } of lines(any)) expect(line > 0 && found.length >= 0).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(SlurmCgroupsError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
