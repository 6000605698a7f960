import { expect, it } from 'vitest';
import { liveHost } from '../../src/machine/live-host.js';
import { isFolderOf, othersCanWrite } from '../../src/machine/ownership.js';

const root = { ...(liveHost().stat('/') ?? expect.unreachable()), uid: 0n };

it.each([
  [0o040755n, false],
  [0o040700n, false],
  [0o100644n, false],
  [0o040775n, true],
  [0o040757n, true],
  [0o041777n, true],
])('othersCanWrite() of mode %o', (mode, expected) => {
  expect(othersCanWrite({ mode })).toBe(expected);
});

it('isFolderOf() takes a folder of that user alone', () => {
  const folder = { ...root, mode: 0o040755n };
  expect(isFolderOf(folder)).toBe(true);
  expect(isFolderOf({ ...folder, uid: 1000n })).toBe(false);
  expect(isFolderOf({ ...folder, uid: 1000n }, 1000n)).toBe(true);
  for (const mode of [0o041777n, 0o040775n, 0o100644n, 0o120777n]) expect(isFolderOf({ ...folder, mode })).toBe(false);
});
