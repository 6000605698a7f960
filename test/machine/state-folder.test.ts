import fs from 'node:fs';
import process from 'node:process';
import { afterEach, describe, expect, it } from 'vitest';
import { hasCode } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';
import {
  makeStateFolder,
  removeStateFile,
  requireRootsFolder,
  requireStateFolder,
  stateFolder,
} from '../../src/machine/state-folder.js';
import { rootTest } from '../support/test-cgroups.js';

const host = liveHost();
const folder = stateFolder(`test-${process.pid}`);
const codeOf = (act: () => void) => {
  try {
    act();
  } catch (error) {
    if (hasCode(error, 'ERR_NOT_PERMITTED')) return error.code;
    throw error;
  }
  return undefined;
};

describe('makeStateFolder()', () => {
  afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

  rootTest('makes it root’s alone, and takes the one that is there', () => {
    for (const _ of [1, 2]) makeStateFolder(host, folder);
    expect(fs.statSync(folder)).toMatchObject({ uid: 0 });
    expect(fs.statSync(folder).mode & 0o022).toBe(0);
  });

  rootTest('refuses what others own or can write, a link and a file', () => {
    fs.mkdirSync(folder, { mode: 0o755 });
    fs.chownSync(folder, 64_700, 64_700);
    expect(codeOf(() => makeStateFolder(host, folder))).toBe('ERR_NOT_PERMITTED');
    fs.chownSync(folder, 0, 0);
    fs.chmodSync(folder, 0o777);
    expect(codeOf(() => requireRootsFolder(host, folder))).toBe('ERR_NOT_PERMITTED');
    fs.rmdirSync(folder);
    fs.symlinkSync('/tmp', folder);
    expect(codeOf(() => makeStateFolder(host, folder))).toBe('ERR_NOT_PERMITTED');
    fs.unlinkSync(folder);
    fs.writeFileSync(folder, '');
    expect(codeOf(() => makeStateFolder(host, folder))).toBe('ERR_NOT_PERMITTED');
    expect(codeOf(() => requireRootsFolder(host, `${folder}-none`))).toBe('ERR_NOT_PERMITTED');
  });

  rootTest('makes one within another, and refuses it where any above it is others’', () => {
    const nested = `${folder}/7`;
    expect(requireStateFolder(host, nested)).toBe(false);
    for (const _ of [1, 2]) makeStateFolder(host, nested);
    expect([fs.statSync(nested).isDirectory(), requireStateFolder(host, nested)]).toEqual([true, true]);
    expect(requireStateFolder(host, `${nested}/none`)).toBe(false);
    fs.chmodSync(folder, 0o777);
    for (const act of [() => makeStateFolder(host, nested), () => void requireStateFolder(host, nested)])
      expect(codeOf(act)).toBe('ERR_NOT_PERMITTED');
  });

  rootTest('looks at each folder once where all are there, and says where one is removed meanwhile', () => {
    makeStateFolder(host, folder);
    const watched = failingHost(host);
    makeStateFolder(watched, folder);
    expect(watched.calls.map(({ call, path }) => [call, path])).toEqual([
      ['stat', stateFolder()],
      ['stat', folder],
    ]);
    const removing = { ...host, mkdir: () => {} };
    expect(() => makeStateFolder(removing, `${folder}/7`)).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOUND' }));
  });

  it.each(['/etc', '/run/slurm-cgroups-x', `${stateFolder('a')}/../../b`, stateFolder('./a')])(
    'takes %s for a mistake of the caller',
    (path) => {
      expect(() => makeStateFolder(host, path)).toThrow(TypeError);
    },
  );

  rootTest('removeStateFile() removes a file once, and a second time is no error', () => {
    makeStateFolder(host, folder);
    host.create(`${folder}/note`, '');
    for (const _ of [1, 2]) removeStateFile(host, `${folder}/note`);
    expect(fs.readdirSync(folder)).toEqual([]);
  });
});
