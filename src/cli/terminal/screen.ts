// A page on a terminal that is drawn again and again without flicker: on the alternate screen, each frame one write over
// the last. However the program ends, the terminal is left as it was.

import process from 'node:process';
import { SystemCallError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { outputIsTerminal, writeOutput } from '../../machine/live-host.js';
import { printable } from './output.js';

export interface ScreenSize {
  readonly rows: number;
  readonly columns: number;
}

const csi = '\u001b[';
/** xterm's control sequences (DEC private modes); a terminal that does not know 2026, frames shown whole, ignores it. */
const sequences = {
  enter: `${csi}?1049h${csi}?25l`,
  leave: `${csi}?25h${csi}?1049l`,
  begin: `${csi}?2026h${csi}H`,
  end: `${csi}J${csi}?2026l`,
  endLine: `${csi}K`,
};

/** Whether standard output is a terminal that can be drawn on. */
export function canDraw(): boolean {
  const { TERM: term } = process.env;
  return term !== undefined && term !== '' && term !== 'dumb' && outputIsTerminal();
}

/** What a person can do on the page. */
export type Key = 'up' | 'down' | 'page-up' | 'page-down' | 'home' | 'end' | 'sort' | 'quit';

const keys: Readonly<Record<string, Key>> = {
  ...{ [`${csi}A`]: 'up', k: 'up', [`${csi}B`]: 'down', j: 'down' },
  ...{ [`${csi}5~`]: 'page-up', b: 'page-up', [`${csi}6~`]: 'page-down', ' ': 'page-down' },
  ...{ [`${csi}H`]: 'home', g: 'home', [`${csi}F`]: 'end', G: 'end' },
  ...{ s: 'sort', q: 'quit' },
};

/** The keys in what a terminal sent, and `interrupt` and `suspend` for the two that are signals elsewhere. */
export function keysIn(text: string): readonly (Key | 'interrupt' | 'suspend')[] {
  const found: (Key | 'interrupt' | 'suspend')[] = [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal sends
  for (const [one] of text.matchAll(/\x1b\[\d*[A-Z~]|[^\x1b]/gs)) {
    if (one === '\u0003') found.push('interrupt');
    else if (one === '\u001a') found.push('suspend');
    else if (Object.hasOwn(keys, one)) found.push(keys[one] ?? 'quit');
  }
  return found;
}

export class Screen {
  readonly #host: Pick<Host, 'self' | 'signal'>;
  readonly #redraw: () => void;
  readonly #pressed: (key: Key) => void;
  #isEntered = false;

  /**
   * @param redraw called when the page needs to be drawn again: another size, or back from Ctrl-Z.
   * @param pressed called for each key, where standard input is a terminal.
   */
  constructor(host: Pick<Host, 'self' | 'signal'>, redraw: () => void, pressed: (key: Key) => void = () => {}) {
    this.#host = host;
    this.#redraw = redraw;
    this.#pressed = pressed;
  }

  get size(): ScreenSize {
    const { rows, columns } = process.stdout;
    return { rows: rows > 0 ? rows : 24, columns: columns > 0 ? columns : 80 };
  }

  enter(): void {
    process.stdout.on('resize', this.#redraw);
    process.on('SIGTSTP', this.#suspend);
    process.on('SIGCONT', this.#resume);
    this.#show();
  }

  /** Lines beyond the last row are left out. */
  draw(lines: readonly string[]): void {
    if (!this.#isEntered) return;
    const shown = lines.slice(0, this.size.rows).map((line) => printable(line, true) + sequences.endLine);
    writeOutput(`${sequences.begin}${shown.join('\n')}${sequences.end}`);
  }

  leave(): void {
    process.stdout.off('resize', this.#redraw);
    process.off('SIGTSTP', this.#suspend);
    process.off('SIGCONT', this.#resume);
    this.#hide();
  }

  /** Whether keys come: standard input is a terminal. */
  get hasKeys(): boolean {
    return process.stdin.isTTY === true;
  }

  #show(): void {
    this.#isEntered = true;
    writeOutput(sequences.enter);
    if (!this.hasKeys) return;
    process.stdin.setRawMode(true); // each key at once, unseen; Ctrl-C and Ctrl-Z come as keys then
    process.stdin.on('data', this.#take);
    process.stdin.resume();
  }

  #hide(): void {
    if (!this.#isEntered) return;
    this.#isEntered = false;
    if (this.hasKeys) {
      process.stdin.off('data', this.#take);
      process.stdin.pause();
      process.stdin.setRawMode(false);
    }
    try {
      writeOutput(sequences.leave);
    } catch (error) {
      if (!isTerminalGone(error)) throw error;
    }
  }

  readonly #take = (bytes: Buffer): void => {
    for (const key of keysIn(bytes.toString())) {
      if (key === 'interrupt') this.#host.signal(this.#host.self().pid, 'SIGINT');
      else if (key === 'suspend') this.#suspend();
      else this.#pressed(key);
    }
  };

  readonly #suspend = (): void => {
    this.#hide();
    this.#host.signal(this.#host.self().pid, 'SIGSTOP');
  };

  readonly #resume = (): void => {
    if (!this.#isEntered) this.#show();
    this.#redraw();
  };
}

/** The window was closed: there is nothing left to write to. */
export function isTerminalGone(error: unknown): boolean {
  return error instanceof SystemCallError && (error.errno === 'EIO' || error.errno === 'EPIPE');
}
