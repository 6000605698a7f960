import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  columns,
  count,
  json,
  jsonLine,
  printable,
  treeLines,
  visible,
  wrapped,
} from '../../../src/cli/terminal/output.js';

describe('visible()', () => {
  it.each([
    ['plain', 'plain'],
    ['ünïcödé 日本', 'ünïcödé 日本'],
    ['\u001b]0;title\u0007', '\\x1b]0;title\\x07'],
    ['a\nb\tc', 'a\\x0ab\\x09c'],
    ['\u202egnp.exe', '\\u202egnp.exe'],
    ['\udcffbyte', '\\xffbyte'],
    ['\u0085\u009b31m', '\\x85\\x9b31m'],
    ['tag \u{e0041}', 'tag \\u{e0041}'],
    ['\ud800 alone', '\\ud800 alone'],
  ])('makes %j visible', (text, shown) => {
    expect(visible(text)).toBe(shown);
  });

  it('leaves nothing that a terminal obeys, whatever the name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(visible(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});

describe('printable()', () => {
  it('keeps our own colours and line breaks alone, and colours only where there are any', () => {
    const line = '\u001b[1mbold\u001b[22m\n\u001b[2J\u001b]0;t\u0007\u009b31m\u202e\ud800\t';
    const rest = '\\x1b[2J\\x1b]0;t\\x07\\x9b31m\\u202e\\ud800\\x09';
    expect(printable(line, true)).toBe(`\u001b[1mbold\u001b[22m\n${rest}`);
    expect(printable(line, false)).toBe(`\\x1b[1mbold\\x1b[22m\n${rest}`);
  });
});

describe('treeLines()', () => {
  it('joins children by rules', () => {
    expect(
      treeLines([
        { line: 'a', children: [{ line: 'b' }, { line: 'c' }] },
        { line: 'd', children: [{ line: 'e' }] },
      ]),
    ).toEqual(['├─ a', '│  ├─ b', '│  └─ c', '└─ d', '   └─ e']);
  });
});

describe('columns()', () => {
  it('makes each as wide as its longest cell and pads no line at its end', () => {
    expect(
      columns([
        ['a', 'bb', ''],
        ['aaa', 'b', 'c'],
      ]),
    ).toEqual(['a    bb', 'aaa  b   c']);
    expect(columns([])).toEqual([]);
  });
});

describe('count()', () => {
  it('knows one and many', () => {
    expect([count(1, 'job'), count(2, 'job'), count(0, 'process'), count(1, 'process')]).toEqual([
      '1 job',
      '2 jobs',
      '0 processes',
      '1 process',
    ]);
  });
});

describe('json()', () => {
  it('writes numbers that a double cannot hold as text', () => {
    expect(JSON.parse(json({ at: 1795479254804486064n }))).toEqual({ at: '1795479254804486064' });
  });

  it('escapes C1, DEL, direction and format characters, and lone surrogates, in keys too', () => {
    const name = '\u009b31m\u202e\u007f\u2028\ufeff\u{e0041}\udcff\u001b';
    const escaped = '\\u009b31m\\u202e\\u007f\\u2028\\ufeff\\udb40\\udc41\\udcff\\u001b';
    expect(json({ [name]: name })).toBe(`{\n  "${escaped}": "${escaped}"\n}`);
    expect(jsonLine([name])).toBe(`["${escaped}"]`);
  });

  it('is the same value, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(JSON.parse(json({ [`_${text}`]: text }))).toEqual({ [`_${text}`]: text });
        expect(jsonLine(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});

describe('wrapped()', () => {
  it('keeps every word and no line longer than the width, but for words that are', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1 }),
        fc.integer({ min: 10, max: 60 }),
        fc.integer({ min: 0, max: 12 }),
        (words, width, blanks) => {
          const indent = ' '.repeat(blanks);
          const lines = wrapped(indent + words.join(' '), { width, indent });
          expect(lines.flatMap((line) => line.split(' ').filter((word) => word !== ''))).toEqual(words);
          for (const line of lines) expect(line.length <= width || !/\S \S/.test(line)).toBe(true);
          for (const line of lines.slice(1)) expect(line.startsWith(blanks > width / 2 ? '  ' : indent)).toBe(true);
        },
      ),
    );
  });
});
