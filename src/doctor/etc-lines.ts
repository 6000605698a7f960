// The lines of PAM's, sshd's and systemd's files. The three look alike and differ in what a comment and a backslash at
// the end of a line mean. Pure; the meaning of a line is left to the files that ask.

/** A line with text in it, continuations joined. */
export interface EtcLine {
  /** 1-based, of the first of the joined lines. */
  readonly line: number;
  readonly text: string;
}

export interface PamLines {
  readonly lines: readonly EtcLine[];
  /** The number of a last line that is continued by nothing: PAM takes such a file for one that it cannot read. */
  readonly openEnd?: number;
}

/**
 * pam.d (Linux-PAM 1.7 libpam_internal/pam_line.c, and 1.5 before it): a `#` anywhere begins a comment, which also ends
 * the line, whatever it ends in; a backslash continues a line, also with blanks behind it. A carriage return is text.
 */
export function pamLines(text: string): PamLines {
  const lines: EtcLine[] = [];
  let open: { line: number; text: string } | undefined;
  for (const [at, raw] of rawLines(text).entries()) {
    const hash = raw.indexOf('#');
    const continues = hash === -1 && /\\[ \t]*$/.test(raw);
    const part = (hash === -1 ? raw.replace(/\\[ \t]*$/, ' ') : raw.slice(0, hash)).replace(/^[ \t]+/, '');
    const joined = { line: open?.line ?? at + 1, text: (open?.text ?? '') + part };
    open = continues ? joined : undefined;
    if (open === undefined && joined.text.trim() !== '') lines.push(joined);
  }
  return open === undefined ? { lines } : { lines, openEnd: open.line };
}

/** sshd_config (OpenSSH 10 servconf.c): a comment line begins with `#`; nothing continues a line. */
export function sshdLines(text: string): readonly EtcLine[] {
  return rawLines(text)
    .map((raw, at) => ({ line: at + 1, text: raw.replace(/^[ \t\r]+/, '').replace(/[ \t\r\f]+$/, '') }))
    .filter(({ text: line }) => line !== '' && !line.startsWith('#'));
}

/**
 * systemd's files (systemd 257 src/shared/conf-parser.c): a line that begins with `#` or `;` is left out, also between
 * continued ones and whatever it ends in; an odd number of backslashes continues a line; there are no other comments.
 */
export function systemdLines(text: string): readonly EtcLine[] {
  const lines: EtcLine[] = [];
  let open: { line: number; text: string } | undefined;
  for (const [at, raw] of rawLines(text.replace(/^\uFEFF/, '')).entries()) {
    if (/^\s*[#;]/.test(raw)) continue;
    const continues = (/\\*$/.exec(raw)?.[0].length ?? 0) % 2 === 1;
    const part = continues ? `${raw.slice(0, -1)} ` : raw;
    const joined = { line: open?.line ?? at + 1, text: (open?.text ?? '') + part };
    open = continues ? joined : undefined;
    if (open === undefined) lines.push(joined);
  }
  if (open !== undefined) lines.push(open);
  return lines.map(({ line, text: joined }) => ({ line, text: joined.trim() })).filter((one) => one.text !== '');
}

/** Without the empty text behind a last line break. */
function rawLines(text: string): readonly string[] {
  const lines = text.split('\n');
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}
