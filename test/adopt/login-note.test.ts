import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forgetLogin, noteLogin, readLoginNote } from '../../src/adopt/login-note.js';
import { identityOf } from '../../src/cgroup/process.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type StateElsewhere, stateElsewhere } from '../support/state-elsewhere.js';

let state: StateElsewhere;
beforeEach(() => {
  state = stateElsewhere(liveHost());
});
afterEach(() => state.remove());

const self = identityOf(liveHost(), process.pid);
const own = `logins/${self.pid}-${self.startTime}`;

describe('noteLogin()', () => {
  it('keeps the last reply of a process, for its owner alone, until it is forgotten', () => {
    const { host, folder } = state;
    expect(readLoginNote(host, self)).toBeUndefined();
    noteLogin(host, self, 'first\n');
    noteLogin(host, self, 'second\n');
    expect(readLoginNote(host, self)).toBe('second\n');
    expect(state.left()).toEqual([own]);
    expect(fs.statSync(path.join(folder, own)).mode & 0o777).toBe(0o600);
    expect(fs.statSync(path.join(folder, 'logins')).mode & 0o022).toBe(0);
    forgetLogin(host, self);
    forgetLogin(host, self);
    expect(state.left()).toEqual(['logins/']);
  });

  it('removes what ended processes left, and nothing else', () => {
    const { host, folder } = state;
    noteLogin(host, self, 'kept\n');
    const logins = path.join(folder, 'logins');
    for (const name of ['4194304-1', `${self.pid}-1`, '4194304-1.77.next', 'other'])
      fs.writeFileSync(path.join(logins, name), '');
    noteLogin(host, self, 'again\n');
    expect(state.left()).toEqual([own, 'logins/other'].sort());
  });

  it('writes nothing into a folder that others can write', () => {
    const { host, folder } = state;
    fs.mkdirSync(path.join(folder, 'logins'), { mode: 0o777 });
    fs.chmodSync(path.join(folder, 'logins'), 0o777);
    expect(() => noteLogin(host, self, 'x\n')).toThrow(/only root can write/);
    expect(state.left()).toEqual(['logins/']);
  });
});
