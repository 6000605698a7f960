// Output for people: control characters made visible, colour only on a terminal, trees and columns. It knows nothing of
// what it prints.

import process from 'node:process';
import { SystemCallError } from '../../machine/errors.js';
import { escapeHidden, hiddenCharacters, isPlain } from '../../machine/kernel-text.js';
import { outputIsTerminal, writeOutput } from '../../machine/live-host.js';

/** A name with its control characters made visible: `\x1b`, `\u202e`, `\u{e0001}`, `\xff` for a byte that is not UTF-8. */
export function visible(text: string): string {
  return text.replace(hiddenCharacters, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** The last guard, should a command forget `visible`: only our own colours and line breaks reach the terminal. */
export function printable(text: string, colour: boolean): string {
  if (isPlain(text)) return text;
  return text.replace(hiddenCharacters, (character, at: number) => {
    const isStyle = colour && character === '\u001b' && /^\[\d{1,2}m/.test(text.slice(at + 1, at + 5));
    return isStyle || character === '\n' ? character : visible(character);
  });
}

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red';

const codes: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  green: [32, 39],
  yellow: [33, 39],
  red: [31, 39],
};

/** Where a command writes. Lines are never cut, and wrapped only where a command asks for it (`wrapped`). */
export interface Output {
  /** Columns of the terminal; `undefined`: it is none, and nothing is wrapped. */
  readonly columns?: number | undefined;
  /** Writes lines to stdout. */
  print(...lines: readonly string[]): void;
  style(style: Style, text: string): string;
  /** The reader has gone: a command that runs until it is stopped ends then. */
  isClosed(): boolean;
}

/**
 * Standard output, in colour on a terminal unless NO_COLOR is set (no-color.org) or TERM is dumb. A reader that stops
 * early (`| head`) is no error and does not change the exit code: what is printed after that is dropped.
 */
export function standardOutput(): Output {
  const { NO_COLOR: noColor, TERM: term } = process.env;
  const colour = (noColor === undefined || noColor === '') && term !== 'dumb' && outputIsTerminal();
  let closed = false;
  return {
    ...(outputIsTerminal() && process.stdout.columns > 0 ? { columns: process.stdout.columns } : {}),
    print: (...lines) => {
      if (closed || lines.length === 0) return;
      try {
        writeOutput(`${printable(lines.join('\n'), colour)}\n`);
      } catch (error) {
        if (!(error instanceof SystemCallError) || error.errno !== 'EPIPE') throw error;
        closed = true;
      }
    },
    style: (style, text) => (colour ? `\u001b[${codes[style][0]}m${text}\u001b[${codes[style][1]}m` : text),
    isClosed: () => closed,
  };
}

/**
 * Text broken between words so that no line is longer than `width`, where its words allow that; lines after the first
 * begin with `indent`. Where that would take more than half of the width, two blanks do, on the first line too.
 */
export function wrapped(
  text: string,
  { width, indent }: { readonly width: number; readonly indent: string },
): readonly string[] {
  const isNarrow = indent.length > width / 2;
  const lines: string[] = [];
  let line = '';
  for (const word of (isNarrow ? text.replace(/^ {3,}/, '  ') : text).split(/(?<=\S) (?=\S)/)) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line === '' || longer.length <= width) line = longer;
    else {
      lines.push(line);
      line = (isNarrow ? '  ' : indent) + word;
    }
  }
  return [...lines, line];
}

/** A tree: each node a line, its children below it. */
export interface TreeNode {
  readonly line: string;
  readonly children?: readonly TreeNode[];
}

/** The lines of a tree. */
export function treeLines(nodes: readonly TreeNode[], indent = ''): readonly string[] {
  return nodes.flatMap((node, at) => {
    const last = at === nodes.length - 1;
    return [
      `${indent}${last ? '└─ ' : '├─ '}${node.line}`,
      ...treeLines(node.children ?? [], `${indent}${last ? '   ' : '│  '}`),
    ];
  });
}

/** Rows as columns, each as wide as its longest cell; the last column is not padded. */
export function columns(rows: readonly (readonly string[])[]): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** `2 jobs`, `1 job`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : noun.endsWith('s') ? 'es' : 's'}`;
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `512 MiB`, `1.5 GiB`. */
export function bytesText(value: number): string {
  const at = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  const scaled = value / 2 ** (10 * at);
  return `${Number.isInteger(scaled) ? scaled : scaled.toFixed(1)} ${units[at]}`;
}

/** JSON for programs; numbers that do not fit a double are strings, and no character of it steers a terminal. */
export function json(value: unknown): string {
  return escapeHidden(JSON.stringify(value, bigAsText, 2));
}

/** The same in one line. */
export function jsonLine(value: unknown): string {
  return escapeHidden(JSON.stringify(value, bigAsText));
}

function bigAsText(_: string, one: unknown): unknown {
  return typeof one === 'bigint' ? one.toString() : one;
}
