// What a command prints, kept instead of shown.

import type { Output } from '../../src/cli/terminal/output.js';

export interface Captured extends Output {
  readonly lines: string[];
  /** Everything printed. */
  text(): string;
  json(): unknown;
}

export function capture(): Captured {
  const lines: string[] = [];
  return {
    lines,
    print: (...more) => {
      lines.push(...more);
    },
    style: (_, text) => text,
    isClosed: () => false,
    text: () => lines.join('\n'),
    json: () => JSON.parse(lines.join('\n')),
  };
}
