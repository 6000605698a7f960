import fs from 'node:fs';
import { describe, expect } from 'vitest';
import { etcFiles } from '../../src/doctor/etc-files.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { hostWithMount, put, trustedFolder } from '../support/config-sandbox.js';
import { rootTest } from '../support/test-cgroups.js';

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

  rootTest('takes a link to /dev/null for an empty file, as systemd does', async () => {
    const link = `${trustedFolder()}/masked.conf`;
    fs.symlinkSync('/dev/null', link);
    expect(await etcFiles(liveHost()).text(link)).toBe('');
  });

  rootTest('runs a program, but none of a recording', async () => {
    const result = await etcFiles(liveHost()).run('/bin/echo', ['a']);
    expect(result?.stdout).toBe('a\n');
    const recording = recordedHost('{"recording":"slurm-cgroups","version":1,"self":{"pid":1,"uid":0}}\n');
    expect(await etcFiles(recording).run('/bin/echo', ['a'])).toBeUndefined();
  });

  rootTest('lists no folder that may not answer', () => {
    const folder = trustedFolder();
    expect(() => etcFiles(hostWithMount(folder, 'nfs4')).names(folder)).toThrow('may not answer');
  });
});
