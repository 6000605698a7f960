// IP addresses as values: read from text, or from the words of /proc/net, and always written the same way, so that
// two of them are the same address when their texts are. node:net could check a text, but gives nothing to compare.

/** An address, an IPv4 one in IPv6's clothes (`::ffff:a.b.c.d`) unmapped. */
export interface IpAddress {
  readonly family: 4 | 6;
  /** Canonical (RFC 5952), without a zone: equal addresses have equal texts. */
  readonly text: string;
  /** 4 or 16, in network order. */
  readonly bytes: readonly number[];
  /** `eth0` of `fe80::1%eth0`: the interface that a link-local address belongs to. */
  readonly zone?: string;
}

/** The longest text of an address, INET6_ADDRSTRLEN, and of an interface, IF_NAMESIZE, with the sign between them. */
const longestText = 46 + 1 + 16;

/** Reads an address as inet_pton(3) does, IPv6 also with its zone. `undefined`: it is none. */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.length > longestText) return undefined;
  const [, plain = '', zone] = /^([0-9a-f:.]+)(?:%([\w.-]+))?$/i.exec(text) ?? [];
  if (!plain.includes(':')) {
    const bytes = zone === undefined ? ipv4Bytes(plain) : undefined;
    return bytes === undefined ? undefined : addressOf(bytes);
  }
  const bytes = ipv6Bytes(plain);
  if (bytes === undefined) return undefined;
  const address = addressOf(bytes);
  return zone === undefined || address.family === 4 ? address : { ...address, zone };
}

/** The address of 4 or 16 bytes in network order. */
export function addressOf(bytes: readonly number[]): IpAddress {
  const unmapped = isMapped(bytes) ? bytes.slice(12) : bytes;
  return unmapped.length === 4
    ? { family: 4, text: unmapped.join('.'), bytes: unmapped }
    : { family: 6, text: ipv6Text(unmapped), bytes: unmapped };
}

/** Whether it can only mean the machine that uses it: 127.0.0.0/8 and ::1. */
export function isLoopback({ family, text, bytes }: IpAddress): boolean {
  return family === 4 ? bytes[0] === 127 : text === '::1';
}

/** fe80::/10: it means an interface's own network, and nothing without that interface. */
export function isLinkLocal({ family, bytes }: IpAddress): boolean {
  return family === 6 && bytes[0] === 0xfe && ((bytes[1] ?? 0) & 0xc0) === 0x80;
}

function isMapped(bytes: readonly number[]): boolean {
  return bytes.length === 16 && bytes.every((byte, at) => at > 11 || byte === (at < 10 ? 0 : 0xff));
}

/** Four decimal numbers without leading zeros: elsewhere those mean octal. */
function ipv4Bytes(text: string): readonly number[] | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
    return undefined;
  return parts.map(Number);
}

function ipv6Bytes(text: string): readonly number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [before, after] = halves.map((half, at) => groupBytes(half, at === halves.length - 1));
  if (before === undefined || (halves.length === 2 && after === undefined)) return undefined;
  if (after === undefined) return before.length === 16 ? before : undefined;
  const missing = 16 - before.length - after.length;
  // `::` is two bytes at least: inet_pton(3) takes it for one group too.
  return missing < 2 ? undefined : [...before, ...Array<number>(missing).fill(0), ...after];
}

/** Groups between colons; the last of the whole address may be an IPv4 address. */
function groupBytes(text: string, isLast: boolean): readonly number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [at, group] of groups.entries()) {
    const ipv4 = isLast && at === groups.length - 1 && group.includes('.') ? ipv4Bytes(group) : undefined;
    if (ipv4 !== undefined) bytes.push(...ipv4);
    else if (/^[0-9a-f]{1,4}$/i.test(group)) bytes.push(...wordBytes(Number.parseInt(group, 16)));
    else return undefined;
  }
  return bytes;
}

function wordBytes(word: number): readonly number[] {
  return [word >> 8, word & 0xff];
}

/** RFC 5952: no leading zeros, the first of the longest runs of zero groups, two at least, as `::`. */
function ipv6Text(bytes: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0));
  let [begin, length] = [0, 1];
  for (let from = 0; from < 8; from++) {
    let to = from;
    while (to < 8 && groups[to] === 0) to++;
    if (to - from > length) [begin, length] = [from, to - from];
  }
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(':');
  return `${hex.slice(0, begin).join(':')}::${hex.slice(begin + length).join(':')}`;
}
