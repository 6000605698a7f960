import os from 'node:os';
import process from 'node:process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SystemCallError } from '../../src/machine/errors.js';
import { parseAddress } from '../../src/machine/ip-address.js';
import { liveHost } from '../../src/machine/live-host.js';
import { isInFibTrie, isInInet6, isOwnAddress } from '../../src/machine/own-addresses.js';

const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     |-- 198.51.100.0
        /24 host LOCAL
        /32 link UNICAST
Local:
  +-- 127.0.0.0/8 2 0 2
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
`;
const inet6 = `fd000000000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
`;
const address = (text: string) => parseAddress(text) ?? expect.unreachable(text);

describe('isInFibTrie()', () => {
  it.each([
    ['192.0.2.2', true],
    ['192.0.2.1', false],
    ['192.0.2.255', false],
    ['127.9.9.9', true],
    ['198.51.100.77', true],
    ['198.51.101.0', false],
    ['8.8.8.8', false],
  ])('%s: %s', (text, own) => {
    expect(isInFibTrie(trie, address(text))).toBe(own);
  });

  it('takes any text', () => {
    fc.assert(fc.property(fc.string(), (text) => !isInFibTrie(text, address('192.0.2.2'))));
    expect(isInFibTrie('|-- 192.0.2.2\n  /99 host LOCAL\n', address('192.0.2.2'))).toBe(false);
    expect(isInFibTrie('  /32 host LOCAL\n', address('0.0.0.0'))).toBe(false);
  });
});

describe('isInInet6()', () => {
  it.each([
    ['fd00::2', true],
    ['fe80::fc:ff:fe00:1%eth0', true],
    ['::1', true],
    ['fd00::3', false],
    ['::', false],
  ])('%s: %s', (text, own) => {
    expect(isInInet6(inet6, address(text))).toBe(own);
  });
});

describe('isOwnAddress()', () => {
  const here = () => liveHost().open(`/proc/${process.pid}`);

  it('knows every address of this machine, and no other', () => {
    const self = here();
    try {
      for (const { address: text } of Object.values(os.networkInterfaces()).flatMap((one) => one ?? []))
        expect([text, isOwnAddress(self, address(text))]).toEqual([text, true]);
      for (const text of ['203.0.113.77', '2001:db8:77::77']) expect(isOwnAddress(self, address(text))).toBe(false);
    } finally {
      self.close();
    }
  });

  it('does not know where the files are not there, except of the loopback', () => {
    const hidden = {
      read: (name: string) => {
        throw new SystemCallError('read', name, 'EACCES');
      },
    };
    expect(isOwnAddress(hidden, address('192.0.2.2'))).toBeUndefined();
    expect(isOwnAddress(hidden, address('2001:db8::1'))).toBeUndefined();
    expect(isOwnAddress(hidden, address('::1'))).toBe(true);
  });
});
