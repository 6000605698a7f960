// Names as the kernel has them, which are bytes, as text and back; and what of a text must not reach a terminal.

/**
 * Bytes as text that keeps every byte: what is not UTF-8 becomes a lone surrogate U+DC80–U+DCFF, one a byte
 * (Python's surrogateescape). JSON keeps them as `\udcff`; a terminal never sees them (cli/terminal/output.ts).
 */
export function decodeKernelText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (!text.includes('\ufffd')) return text;
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    const length = utf8Length(bytes, at);
    if (length === 0) out += String.fromCharCode(0xdc00 + (bytes[at] ?? 0));
    else out += Buffer.from(bytes.subarray(at, at + length)).toString('utf8');
    at += Math.max(length, 1);
  }
  return out;
}

/** Length of the well-formed UTF-8 sequence at `at`, 0 if there is none (RFC 3629, table 3-7 of Unicode). */
function utf8Length(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] ?? 0;
  if (lead < 0x80) return 1;
  const length =
    lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const second = bytes[at + 1] ?? 0;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let i = 2; i < length; i++) {
    const next = bytes[at + i] ?? 0;
    if (next < 0x80 || next > 0xbf) return 0;
  }
  return length;
}

const lone = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** The reverse of decodeKernelText: a plain string where it can be one, else the bytes. */
export function encodeKernelText(text: string): string | Buffer {
  if (!lone.test(text)) return text;
  const parts: Buffer[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) parts.push(Buffer.from([code - 0xdc00]));
    else parts.push(Buffer.from(character, 'utf8'));
  }
  return Buffer.concat(parts);
}

/**
 * A text of /proc that went through a mail, a ticket or a template, as the kernel wrote it: with `\n` behind each line,
 * and no empty line at the end. `\r` is taken away only where every line has it: alone, it is part of a name.
 */
export function pastedText(text: string): string {
  const lines = text.split('\n');
  const breaks = lines.length - 1;
  while (lines.at(-1)?.trim() === '') lines.pop();
  const ended = lines.slice(0, breaks);
  const isFromWindows = ended.length > 0 && ended.every((line) => line.endsWith('\r'));
  return lines.map((line) => `${isFromWindows ? line.replace(/\r$/, '') : line}\n`).join('');
}

/**
 * Control characters (C0, DEL and C1, which terminals obey too), format and direction characters, line and paragraph
 * separators, lone surrogates. For `replace` alone: it is global.
 */
export const hiddenCharacters: RegExp = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Whether a text is of ASCII that can be seen and line breaks alone: then it hides nothing, and is known 20 times as fast. */
export function isPlain(text: string): boolean {
  // In pieces, since V8 interprets a regular expression the first time and compiles it the second: 50 ms or 10 for 12 MB.
  for (let at = 0; at < text.length; at += 65_536) if (notPlain.test(text.slice(at, at + 65_536))) return false;
  return true;
}

const notPlain = /[^\n -~]/;

/**
 * The same JSON with all of them as `\u001b`: JSON.stringify escapes only C0 and lone surrogates. A raw line break stays:
 * in JSON it stands between the values, never in one.
 */
export function escapeHidden(jsonText: string): string {
  if (isPlain(jsonText)) return jsonText;
  return jsonText.replace(hiddenCharacters, (character) =>
    character === '\n'
      ? character
      : character
          .split('')
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          .join(''),
  );
}
