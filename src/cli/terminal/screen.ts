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

export class Screen {
  readonly #host: Pick<Host, 'self' | 'signal'>;
  readonly #redraw: () => void;
  #isEntered = false;

  /** @param redraw called when the page needs to be drawn again: another size, or back from Ctrl-Z. */
  constructor(host: Pick<Host, 'self' | 'signal'>, redraw: () => void) {
    this.#host = host;
    this.#redraw = redraw;
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

  #show(): void {
    this.#isEntered = true;
    writeOutput(sequences.enter);
  }

  #hide(): void {
    if (!this.#isEntered) return;
    this.#isEntered = false;
    try {
      writeOutput(sequences.leave);
    } catch (error) {
      if (!isTerminalGone(error)) throw error;
    }
  }

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
