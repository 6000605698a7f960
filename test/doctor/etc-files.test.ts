import { describe, expect, it } from 'vitest';
import { etcFiles, linesOf } from '../../src/doctor/etc-files.js';
import { liveHost } from '../../src/machine/live-host.js';
import { hostWithMount, put, trustedFolder } from '../support/config-sandbox.js';
import { rootTest } from '../support/test-cgroups.js';

describe('linesOf()', () => {
  it('leaves out comments and blank lines, joins continuations, and counts from 1', () => {
    expect(linesOf('# a\n\n  b  \nc \\\n  d\ne\\')).toEqual([
      { line: 3, text: 'b' },
      { line: 4, text: 'c    d' },
      { line: 6, text: 'e' },
    ]);
  });
});

describe('etcFiles()', () => {
  rootTest('reads files, and lists folders by name', async () => {
    const folder = trustedFolder();
    const file = put(folder, 'b.conf', 'text\n');
    put(folder, 'a.conf', '');
    const files = etcFiles(liveHost());
    expect(await files.text(file)).toBe('text\n');
    expect(files.names(folder)).toEqual(['a.conf', 'b.conf']);
    expect(await files.text(`${folder}/none`)).toBeUndefined();
    expect(files.names(`${folder}/none`)).toEqual([]);
  });

  rootTest('refuses what is no file, and what others can change', async () => {
    const folder = trustedFolder();
    await expect(etcFiles(liveHost()).text(folder)).rejects.toThrow('it is a folder, not a file');
    const open = put(folder, 'open', '', { mode: 0o666 });
    await expect(etcFiles(liveHost()).text(open)).rejects.toThrow('others than its owner can write');
  });

  rootTest('lists no folder that may not answer', () => {
    const folder = trustedFolder();
    expect(() => etcFiles(hostWithMount(folder, 'nfs4')).names(folder)).toThrow('may not answer');
  });
});
