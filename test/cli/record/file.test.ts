import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { writeRecordingFile } from '../../../src/cli/record/file.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-recording-'));
const at = (name: string) => path.join(folder, name);

afterEach(() => {
  for (const name of fs.readdirSync(folder)) fs.rmSync(at(name), { recursive: true });
});
afterAll(() => fs.rmSync(folder, { recursive: true }));

const write = (file: string, force = false) => writeRecordingFile(file, 'text\n', { force });

describe('writeRecordingFile()', () => {
  it("makes a file that is its maker's alone, whatever the umask", async () => {
    const before = process.umask(0);
    try {
      await write(at('new.jsonl'));
    } finally {
      process.umask(before);
    }
    expect(fs.readFileSync(at('new.jsonl'), 'utf8')).toBe('text\n');
    expect(fs.statSync(at('new.jsonl')).mode & 0o7777).toBe(0o600);
  });

  it('writes over nothing unless told to, and then replaces the file', async () => {
    fs.writeFileSync(at('old'), 'old', { mode: 0o644 });
    await expect(write(at('old'))).rejects.toThrow('it exists already; --force replaces it');
    expect(fs.readFileSync(at('old'), 'utf8')).toBe('old');
    await write(at('old'), true);
    expect(fs.readFileSync(at('old'), 'utf8')).toBe('text\n');
    expect(fs.statSync(at('old')).mode & 0o7777).toBe(0o600);
    expect(fs.readdirSync(folder)).toEqual(['old']);
  });

  it.each([true, false])('follows no symbolic link (--force: %s), also one to nothing', async (force) => {
    fs.writeFileSync(at('target'), 'old');
    fs.symlinkSync(at('target'), at('link'));
    fs.symlinkSync(at('nothing'), at('dangling'));
    for (const name of ['link', 'dangling'])
      await expect(write(at(name), force)).rejects.toMatchObject({ code: 'ERR_USAGE' });
    expect(fs.readFileSync(at('target'), 'utf8')).toBe('old');
    expect(fs.existsSync(at('nothing'))).toBe(false);
  });

  it.each([
    ['a folder', () => folder, 'ERR_USAGE'],
    ['a folder that is not there', () => at('none/file'), 'ERR_NOT_FOUND'],
    ['a file for a folder', () => `${at('file')}/below`, 'ERR_NOT_FOUND'],
    ['no name', () => '', 'ERR_USAGE'],
    ['a NUL', () => at('a\0b'), 'ERR_USAGE'],
    ['a file of /proc', () => '/proc/slurm-cgroups', 'ERR_NOT_FOUND'],
  ])('refuses %s in one line', async (_, file, code) => {
    fs.writeFileSync(at('file'), '');
    await expect(write(file(), true)).rejects.toMatchObject({ code, message: expect.stringMatching(/^.+$/) });
  });
});
