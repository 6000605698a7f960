import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { columns, count, json, treeLines, visible } from '../../../src/cli/terminal/output.js';

describe('visible()', () => {
  it.each([
    ['plain', 'plain'],
    ['ünïcödé 日本', 'ünïcödé 日本'],
    ['\u001b]0;title\u0007', '\\x1b]0;title\\x07'],
    ['a\nb\tc', 'a\\x0ab\\x09c'],
    ['\u202egnp.exe', '\\u202egnp.exe'],
    ['\udcffbyte', '\\xffbyte'],
    ['\u0085\u009b31m', '\\x85\\x9b31m'],
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
});
