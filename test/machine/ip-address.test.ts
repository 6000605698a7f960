import net from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressOf, isLinkLocal, isLoopback, parseAddress } from '../../src/machine/ip-address.js';

const text = (address: string) => parseAddress(address)?.text;

describe('parseAddress()', () => {
  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:201', '192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['fe80::1%eth0', 'fe80::1'],
  ])('%s is %s', (given, canonical) => {
    expect(text(given)).toBe(canonical);
  });

  it('keeps the zone of an IPv6 address beside it', () => {
    expect(parseAddress('fe80::1%eth0')).toMatchObject({ family: 6, zone: 'eth0' });
    expect(parseAddress('fe80::1')).not.toHaveProperty('zone');
  });

  it.each([
    ...[
      '',
      'UNKNOWN',
      'localhost',
      '192.0.2',
      '192.0.2.256',
      '192.0.2.01',
      '1.2.3.4.5',
      '192.0.2.1%eth0',
      ' 192.0.2.1',
    ],
    ...[':', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '::12345', '::g', '1.2.3.4::', '::1.2.3', ':1::'],
    ...['fe80::1%', 'fe80::1%eth0%1', '::1\n', '::1\0', `::1%${'e'.repeat(100)}`, '1'.repeat(1 << 16)],
  ])('%j is none', (given) => {
    expect(text(given)).toBeUndefined();
  });

  const hex = fc.constantFrom(...'0123456789abcdefABCDEF:.%gx'.split(''));
  const shards = fc.constantFrom(':', '::', '1', '0', 'ffff', '192.0.2.1', '0db8', '12345', '.', 'g', '256');
  const anyText = fc.oneof(
    fc.string(),
    fc.array(hex).map((all) => all.join('')),
    fc.array(shards).map((all) => all.join('')),
  );

  it('takes and refuses what Node does', () => {
    fc.assert(
      fc.property(anyText, (given) => {
        const zoned = given.includes('%'); // Node also takes a zone of any length and behind "::"
        const isOne = net.isIP(given) !== 0;
        if (!zoned) expect(parseAddress(given) !== undefined, given).toBe(isOne);
        else if (parseAddress(given) !== undefined) expect(isOne, given).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  it('writes an address as a URL does (RFC 5952), and reads that back', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV6(), fc.uint8Array({ minLength: 16, maxLength: 16 }).map(spelled)), (given) => {
        const address = parseAddress(given);
        if (address === undefined) throw new Error(given);
        if (address.family === 6) expect(`[${address.text}]`).toBe(new URL(`http://[${given}]`).hostname);
        expect(parseAddress(address.text)).toEqual(address);
        expect(addressOf(address.bytes)).toEqual(address);
      }),
    );
    fc.assert(fc.property(fc.ipV4(), (given) => text(given) === given && text(`::ffff:${given}`) === given));
  });
});

/** Many groups are zero. */
function spelled(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[at] ?? 0) < 128 ? 0 : (bytes[at + 8] ?? 0)));
  return groups.map((group) => group.toString(16).padStart(4, '0')).join(':');
}

describe('isLoopback() and isLinkLocal()', () => {
  it.each([
    ['127.0.0.1', true, false],
    ['127.255.1.2', true, false],
    ['::ffff:127.0.0.1', true, false],
    ['::1', true, false],
    ['128.0.0.1', false, false],
    ['::2', false, false],
    ['fe80::1%eth0', false, true],
    ['febf::', false, true],
    ['fec0::', false, false],
    ['169.254.0.1', false, false],
  ])('%s: %s, %s', (given, loopback, linkLocal) => {
    const address = parseAddress(given) ?? expect.unreachable();
    expect([isLoopback(address), isLinkLocal(address)]).toEqual([loopback, linkLocal]);
  });
});
