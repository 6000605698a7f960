import { describe, expect, it } from 'vitest';
import { pamLines, sshdLines, systemdLines } from '../../src/doctor/etc-lines.js';

describe('pamLines()', () => {
  it.each([
    ['comments and blank lines are none', '# a\n\n  b  \n', [[3, 'b  ']]],
    ['a backslash continues', 'a \\\n  b\n', [[1, 'a  b']]],
    ['blanks may follow the backslash', 'a\\ \t\nb\n', [[1, 'a b']]],
    ['a comment that ends in a backslash ends the line', '# a \\\nb\n', [[2, 'b']]],
    [
      'a comment behind a line too',
      'a # \\\nb\n',
      [
        [1, 'a '],
        [2, 'b'],
      ],
    ],
    [
      'a comment ends a continued line',
      'a \\\n# c\nb\n',
      [
        [1, 'a  '],
        [3, 'b'],
      ],
    ],
    ['a carriage return is text', 'a\r\n', [[1, 'a\r']]],
    ['a last line needs no line break', 'a', [[1, 'a']]],
  ] as const)('%s', (_, text, lines) => {
    expect(pamLines(text)).toEqual({ lines: lines.map(([line, one]) => ({ line, text: one })) });
  });

  it('tells of a last line that nothing continues', () => {
    expect(pamLines('a\nb \\\n')).toEqual({ lines: [{ line: 1, text: 'a' }], openEnd: 2 });
  });
});

describe('sshdLines()', () => {
  it('continues no line, and knows comments at the begin only', () => {
    expect(sshdLines('# a \\\n  UsePAM yes \\\r\n\n\tPort 22 # b\n')).toEqual([
      { line: 2, text: 'UsePAM yes \\' },
      { line: 4, text: 'Port 22 # b' },
    ]);
  });
});

describe('systemdLines()', () => {
  it('leaves out comments, also between continued lines', () => {
    expect(systemdLines('\uFEFF[Login]\n; a \\\n# b\\\nK=1 \\\n  # c\n  2\nL=a\\\\\nM=1')).toEqual([
      { line: 1, text: '[Login]' },
      { line: 4, text: 'K=1    2' },
      { line: 7, text: 'L=a\\\\' },
      { line: 8, text: 'M=1' },
    ]);
  });
});
