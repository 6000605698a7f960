import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  auditSessionOf,
  jobsWithAdoptions,
  type NamesOfJob,
  openAdoptionRecord,
  readAdoptions,
  removeAdoptions,
  sessionIdOf,
} from '../../src/jobs/adoptions.js';
import { actingHost } from '../../src/machine/acting.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { hasCode, SlurmCgroupsError, SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { type StateElsewhere, stateElsewhere } from '../support/state-elsewhere.js';

const live = liveHost();
const job = { jobId: 102 };
const uid = 64_811;
const one = { pid: 4711, startTime: 123_456n };
const file = 'adoptions/102/4711-123456';

let state: StateElsewhere;
beforeEach(() => {
  state = stateElsewhere(live);
});
afterEach(() => state.remove());

const open = (host: Host = state.host, more: Partial<Parameters<typeof openAdoptionRecord>[1]> = {}) =>
  openAdoptionRecord(host, { process: one, uid, job, ...more });
const read = (about: NamesOfJob = job, host: Host = state.host) => readAdoptions(host, about, deadlineIn(host, 60_000));
const remove = (about: NamesOfJob = job, host: Host = state.host) =>
  removeAdoptions(host, about, deadlineIn(host, 60_000));
const textOf = (name: string) => fs.readFileSync(`${state.folder}/${name}`, 'utf8');
/** Puts a file there, past the product. */
const plant = (name: string, text: string, mode = 0o600) => {
  const at = `${state.folder}/${name}`;
  fs.mkdirSync(at.slice(0, at.lastIndexOf('/')), { recursive: true, mode: 0o755 });
  fs.writeFileSync(at, text, { mode });
  fs.chmodSync(at, mode);
};
const thrownBy = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe('openAdoptionRecord()', () => {
  it('writes a record that says moving, then adopted, and is read back', async () => {
    const before = Date.now();
    const record = open(state.host, { job: { jobId: 102, sluid: 's9BNM865MKYJ00' } });
    expect(state.left()).toEqual([file]);
    const written = JSON.parse(textOf(file));
    expect(written).toEqual({
      version: 1,
      bootId: live.read('/proc/sys/kernel/random/boot_id').trim(),
      pidNamespace: live.readlink('/proc/self/ns/pid'),
      pid: 4711,
      startTime: '123456',
      uid,
      job: { jobId: 102, sluid: 's9BNM865MKYJ00' },
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      state: 'moving',
    });
    expect(Date.parse(written.time)).toBeGreaterThanOrEqual(before);
    expect(fs.statSync(`${state.folder}/${file}`).mode & 0o777).toBe(0o600);
    expect(await read()).toEqual({ sessions: [written], notes: [] });
    record.complete({ auditSession: 7 });
    expect(state.left()).toEqual([file]);
    expect(await read()).toEqual({ sessions: [{ ...written, state: 'adopted', auditSession: 7 }], notes: [] });
  });

  it('needs few calls: eight for the second record of a job, two for its completion', () => {
    open();
    const host = failingHost(state.host);
    const record = open(host, { process: { ...one, pid: 4712 } });
    const calls = ['read', 'readlink', 'list', 'stat', 'stat', 'stat', 'create', 'rename'];
    expect(host.calls.map(({ call }) => call)).toEqual(calls);
    record.complete({});
    expect(host.calls.slice(8).map(({ call }) => call)).toEqual(['create', 'rename']);
  });

  it('leaves nothing where it is removed, and the records of others where there are some', () => {
    open().remove();
    expect(state.left()).toEqual(['adoptions/']);
    open(state.host, { process: { ...one, pid: 4712 } });
    open().remove();
    expect(state.left()).toEqual(['adoptions/102/4712-123456']);
  });

  it('replaces the record of an earlier adoption of the process, and puts it back where it is removed', async () => {
    open().complete({ auditSession: 7 });
    const first = textOf(file);
    const again = open();
    expect(JSON.parse(textOf(file)).state).toBe('moving');
    again.remove();
    expect(textOf(file)).toBe(first);
    open().complete({}); // by hand: without an audit session
    expect((await read()).sessions).toMatchObject([{ state: 'adopted', auditSession: 7 }]);
    open().complete({ auditSession: 8 });
    expect((await read()).sessions).toMatchObject([{ auditSession: 8 }]);
  });

  it('has the audit session that the module noted beside it; its own counts more', async () => {
    open().complete({});
    plant(`${file}.audit`, '9\n');
    expect(await read()).toEqual({ sessions: [expect.objectContaining({ pid: 4711, auditSession: 9 })], notes: [] });
    open().complete({ auditSession: 8 });
    expect((await read()).sessions).toMatchObject([{ auditSession: 8 }]);
    expect(await remove()).toBeUndefined();
    expect(state.left()).toEqual(['adoptions/']);
  });

  it.each([
    ['no number', 'nine\n', 0o600],
    ['nothing', '', 0o600],
    ['no session at all', '4294967295\n', 0o600],
    ['what others can write', '9\n', 0o666],
  ])('believes no note of an audit session that holds %s', async (_, text, mode) => {
    open().complete({});
    plant(`${file}.audit`, text, mode);
    const { sessions, notes } = await read();
    expect(sessions.map(({ auditSession }) => auditSession)).toEqual([undefined]);
    expect(notes).toEqual([expect.stringContaining('not as this program writes them: "4711-123456.audit"')]);
    // A note without a record says nothing.
    fs.unlinkSync(`${state.folder}/${file}`);
    expect((await read()).sessions).toEqual([]);
  });

  it('takes no other file for the record of an earlier adoption', async () => {
    const earlier = open();
    earlier.complete({ auditSession: 7 });
    const written = JSON.parse(textOf(file));
    for (const change of [
      { bootId: 'x' },
      { uid: 1 },
      { pidNamespace: 'pid:[1]' },
      { job: { sluid: 's9BNM865MKYJ01' } },
    ]) {
      plant(file, JSON.stringify({ ...written, ...change }));
      open().complete({});
      expect((await read()).sessions[0]?.auditSession).toBeUndefined();
    }
    plant(file, JSON.stringify(written), 0o666);
    open().complete({});
    expect((await read()).sessions[0]?.auditSession).toBeUndefined();
  });

  it('names the folder by the SLUID where no id is known, and takes no other word for a name', () => {
    open(state.host, { job: { sluid: 's9BNM865MKYJ00' } });
    expect(state.left()).toEqual(['adoptions/s9BNM865MKYJ00/4711-123456']);
    for (const bad of [{}, { jobId: 0 }, { jobId: -1 }, { jobId: 1.5 }, { jobId: 0xffff_ffff }, { sluid: '../../etc' }])
      expect(thrownBy(() => open(state.host, { job: bad }))).toSatisfy((error) => hasCode(error, 'ERR_NOT_SUPPORTED'));
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.double().map(Number)), (name) => {
        const named = typeof name === 'string' ? { sluid: name } : { jobId: name };
        const error = thrownBy(() => open(state.host, { job: named }));
        expect(error === undefined || error instanceof SlurmCgroupsError).toBe(true);
      }),
    );
    for (const left of state.left()) expect(left).toMatch(/^adoptions\/(?:\d+|s[0-9A-Z]{13})\/4711-123456$/);
  });

  it('refuses a folder that others can write, a link, and a file in its place', () => {
    const refused = () => thrownBy(() => open());
    for (const name of ['adoptions', 'adoptions/102']) {
      fs.mkdirSync(`${state.folder}/${name}`, { recursive: true, mode: 0o755 });
      fs.chmodSync(`${state.folder}/${name}`, 0o777);
      expect(refused()).toSatisfy((error) => hasCode(error, 'ERR_NOT_PERMITTED'));
      fs.chmodSync(`${state.folder}/${name}`, 0o755);
    }
    fs.rmdirSync(`${state.folder}/adoptions/102`);
    fs.symlinkSync('/tmp', `${state.folder}/adoptions/102`);
    expect(refused()).toSatisfy((error) => hasCode(error, 'ERR_NOT_PERMITTED'));
    fs.unlinkSync(`${state.folder}/adoptions/102`);
    fs.writeFileSync(`${state.folder}/adoptions/102`, '');
    expect(refused()).toBeInstanceOf(SlurmCgroupsError);
    expect(state.left()).toEqual(['adoptions/102']);
  });

  it('writes no more than 4,096 records of a job, says so, and of no more than 4,096 jobs', async () => {
    for (let pid = 1; pid <= 4096; pid++) plant(`adoptions/102/${pid}-1`, '');
    const error = thrownBy(() => open());
    expect(error).toSatisfy((thrown) => hasCode(thrown, 'ERR_NOT_SUPPORTED'));
    expect(String(error)).toContain('into job 102: 4096 adoptions into it are recorded already');
    expect((await read()).unknown).toContain('not every adoption is recorded');
    open(state.host, { process: { pid: 7, startTime: 1n } }); // it has one
    fs.rmSync(`${state.folder}/adoptions/102`, { recursive: true });
    for (let id = 1000; id < 5096; id++) fs.mkdirSync(`${state.folder}/adoptions/${id}`, { mode: 0o755 });
    expect(String(thrownBy(() => open()))).toContain('adoptions into 4096 jobs are recorded already');
    open(state.host, { job: { jobId: 1000 } });
    expect(fs.existsSync(`${state.folder}/adoptions/102`)).toBe(false);
  });

  it('takes the place of a file that a killed process of the same pid had begun', () => {
    plant(`${file}.${process.pid}.next`, 'half');
    open();
    expect(state.left()).toEqual([file]);
  });

  it('leaves nothing half where any call fails, in any way, and throws its reason', () => {
    for (const errno of ['EIO', 'ENOSPC', 'EACCES', 'EROFS', 'ENOENT', 'EEXIST']) {
      for (let nth = 1; ; nth++) {
        const host = failingHost(state.host, { nth, errno });
        const error = thrownBy(() => {
          const record = open(host);
          record.complete({ auditSession: 7 });
          record.remove();
        });
        if (host.calls.length < nth) break;
        expect(error === undefined || error instanceof SlurmCgroupsError, `${errno} ${nth}`).toBe(true);
        expect(host.openDirectories()).toBe(0);
        for (const left of state.left().filter((name) => !name.endsWith('/'))) {
          expect([file, `${file}.${process.pid}.next`]).toContain(left);
          if (left === file) expect(JSON.parse(textOf(left)).version).toBe(1);
        }
        fs.rmSync(`${state.folder}/adoptions`, { recursive: true, force: true });
      }
    }
  });

  it('goes on where others remove the folder at any moment, or says why it cannot', async () => {
    const atAnyMoment = (act: () => void) => {
      for (let n = 1; ; n++) {
        const host = actingHost(state.host, n, act);
        const error = thrownBy(() => {
          const record = open(host);
          record.complete({});
        });
        if (host.calls.length < n) break;
        // By the end of the job: the record of one that came too late is not made again.
        if (error !== undefined) expect(error).toSatisfy((thrown) => hasCode(thrown, 'ERR_NOT_FOUND'));
        fs.rmSync(`${state.folder}/adoptions`, { recursive: true, force: true });
      }
    };
    atAnyMoment(() => fs.rmSync(`${state.folder}/adoptions/102`, { recursive: true, force: true }));
    atAnyMoment(() => fs.rmSync(`${state.folder}/adoptions`, { recursive: true, force: true }));
  });

  it('never shows half a record to a reader, whoever writes at the same moment', async () => {
    for (let n = 1; ; n++) {
      const record = open();
      const host = actingHost(state.host, n, () => record.complete({ auditSession: 7 }));
      const found = await read(job, host);
      expect([found.notes, found.unknown]).toEqual([[], undefined]);
      expect(found.sessions.map(({ state: word }) => ['moving', 'adopted'].includes(word))).toEqual([true]);
      if (host.calls.length < n) break;
    }
  });
});

describe('readAdoptions()', () => {
  it('finds nothing where nothing is, and what was written under either name', async () => {
    expect(await read()).toEqual({ sessions: [], notes: [] });
    const sluid = 's9BNM865MKYJ00';
    open(state.host, { job: { sluid } });
    open(state.host, { process: { ...one, pid: 9 } });
    expect((await read({ jobId: 102, sluid })).sessions.map(({ pid }) => pid)).toEqual([9, 4711]);
    expect((await read({ sluid })).sessions).toHaveLength(1);
    expect((await read({ jobId: 103 })).sessions).toEqual([]);
  });

  it('leaves out what is of another boot or namespace, or no record, and counts it', async () => {
    open().complete({});
    const good = JSON.parse(textOf(file));
    const put = (name: string, change: object, mode?: number) =>
      plant(`adoptions/102/${name}`, JSON.stringify({ ...good, ...change }), mode);
    put('1-1', { pid: 1, startTime: '1', bootId: 'earlier' });
    put('2-1', { pid: 2, startTime: '1', pidNamespace: 'pid:[1]' });
    put('3-1', { pid: 4, startTime: '1' }); // not as its name says
    put('4-1', { pid: 4, startTime: '1' }, 0o666);
    put('5-1', { pid: 5, startTime: '1', state: 'gone' });
    put('6-1', { pid: 6, startTime: '1', uid: '0' });
    put('7-1', { pid: 7, startTime: '1', auditSession: -1 });
    put('8-1', { pid: 8, startTime: '1', job: null });
    put('9-1', { pid: 9, startTime: '1', filler: 'x'.repeat(5000) });
    put('10-1', { pid: 10, startTime: '1', version: 2 });
    fs.symlinkSync(`${state.folder}/${file}`, `${state.folder}/adoptions/102/11-1`);
    execFileSync('mkfifo', [`${state.folder}/adoptions/102/12-1`]);
    fs.mkdirSync(`${state.folder}/adoptions/102/13-1`);
    plant('adoptions/102/\u001b[31m', '');
    plant('adoptions/102/4712-1.7.next', '{');
    const found = await read();
    expect(found.sessions.map(({ pid }) => pid)).toEqual([4711]);
    expect(found.unknown).toBeUndefined();
    expect(found.notes).toHaveLength(2);
    expect(found.notes[0]).toMatch(/^12 records of adoptions are not as this program writes them: /);
    expect(found.notes[0]).not.toContain('\u001b');
    expect(found.notes[1]).toMatch(/^2 records of adoptions are of an earlier boot or another pid namespace: /);
  });

  it('takes no text for a record that is none', async () => {
    open();
    const good = JSON.parse(textOf(file));
    const anything = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .tuple(fc.constantFrom(...Object.keys(good)), fc.jsonValue())
        .map(([key, value]) => JSON.stringify({ ...good, [key]: value })),
    );
    await fc.assert(
      fc.asyncProperty(anything, async (text) => {
        plant(file, text);
        const { sessions, notes, unknown } = await read();
        expect(sessions.length + notes.length).toBe(1);
        expect(unknown).toBeUndefined();
        for (const session of sessions) expect({ ...good, ...session }).toMatchObject(JSON.parse(text));
      }),
      { numRuns: 200 },
    );
  });

  it('says that there may be more where the time is over, or not all can be read', async () => {
    open();
    const late = await readAdoptions(state.host, job, deadlineIn(state.host, 0));
    expect(late).toMatchObject({ sessions: [], unknown: expect.stringContaining('the time was over') });
    fs.chmodSync(`${state.folder}/adoptions`, 0o777);
    expect((await read()).unknown).toContain('it must be a folder that only root can write');
    fs.chmodSync(`${state.folder}/adoptions`, 0o755);
    for (let nth = 1; ; nth++) {
      const host = failingHost(state.host, { nth });
      const { sessions, unknown } = await read(job, host);
      if (host.calls.length < nth) break;
      expect([sessions, unknown === undefined, host.openDirectories()], String(nth)).toEqual([[], false, 0]);
    }
    for (let pid = 1; pid <= 4097; pid++) plant(`adoptions/102/${pid}-1`, '');
    expect((await read()).unknown).toContain('there are more than 4096 records');
  });

  it('lets others run while it reads thousands', async () => {
    open();
    const { job: _, ...good } = JSON.parse(textOf(file));
    for (let pid = 1; pid <= 4000; pid++)
      plant(`adoptions/102/${pid}-1`, JSON.stringify({ ...good, pid, startTime: '1', job }));
    let turns = 0;
    let at = 0;
    // Each look at the clock is a millisecond later.
    const host: Host = { ...state.host, now: () => at++, turn: async () => void turns++ };
    const found = await readAdoptions(host, job, deadlineIn(host, 1_000_000));
    expect(found.sessions).toHaveLength(4001);
    expect(turns).toBeGreaterThan(500);
  });
});

describe('removeAdoptions()', () => {
  it('removes all that is recorded of a job, under both names, and of no other', async () => {
    const sluid = 's9BNM865MKYJ00';
    expect(await remove()).toBeUndefined();
    open();
    open(state.host, { job: { sluid } });
    open(state.host, { job: { jobId: 103 } });
    plant(`${file}.1.next`, 'half');
    plant('adoptions/102/odd', '');
    expect(jobsWithAdoptions(state.host)).toEqual(expect.arrayContaining([{ jobId: 102 }, { jobId: 103 }, { sluid }]));
    expect(await remove({ jobId: 102, sluid })).toBeUndefined();
    expect(state.left()).toEqual(['adoptions/103/4711-123456']);
    expect(jobsWithAdoptions(state.host)).toEqual([{ jobId: 103 }]);
  });

  it('goes on where a login writes at any moment', async () => {
    for (let n = 1; ; n++) {
      open();
      const host = actingHost(state.host, n, () => open(state.host, { process: { ...one, pid: 4712 } }));
      const why = await remove(job, host);
      expect(why).toBeUndefined();
      expect(state.left().filter((name) => name !== 'adoptions/' && name !== 'adoptions/102/4712-123456')).toEqual([]);
      if (host.calls.length < n) break;
      fs.rmSync(`${state.folder}/adoptions`, { recursive: true, force: true });
    }
  });

  it('says what it leaves where others write again and again, the time is over, or a call fails', async () => {
    open();
    const busy: Host = {
      ...state.host,
      rmdir: (where) => {
        open();
        state.host.rmdir(where);
      },
    };
    expect(await remove(job, busy)).toContain('is left: others write to it');
    expect(await removeAdoptions(state.host, job, deadlineIn(state.host, 0))).toContain('the time was over');
    for (let nth = 1; ; nth++) {
      open();
      const host = failingHost(state.host, { nth, errno: 'EIO' });
      const why = await remove(job, host);
      if (host.calls.length < nth) break;
      expect(why, String(nth)).toContain('input/output error');
    }
    fs.symlinkSync('/tmp', `${state.folder}/adoptions/102`);
    expect(await remove()).toContain('it must be a folder');
  });
});

it('jobsWithAdoptions() names jobs alone, and throws where it cannot look', () => {
  expect(jobsWithAdoptions(state.host)).toEqual([]);
  for (const name of ['7', '007', '0', 's9BNM865MKYJ00', 'x', '4294967295'])
    fs.mkdirSync(`${state.folder}/adoptions/${name}`, { recursive: true, mode: 0o755 });
  plant('adoptions/8', '');
  expect(jobsWithAdoptions(state.host)).toEqual(expect.arrayContaining([{ jobId: 7 }, { sluid: 's9BNM865MKYJ00' }]));
  expect(jobsWithAdoptions(state.host)).toHaveLength(2);
  fs.chmodSync(`${state.folder}/adoptions`, 0o777);
  expect(thrownBy(() => jobsWithAdoptions(state.host))).toSatisfy((error) => hasCode(error, 'ERR_NOT_PERMITTED'));
});

describe('auditSessionOf()', () => {
  const files = (loginuid: string, sessionid: string) => ({
    read: (name: string) => {
      const text = name === 'loginuid' ? loginuid : sessionid;
      if (text === '') throw new SystemCallError('read', `/proc/7/${name}`, 'ENOENT');
      return text;
    },
  });
  it.each([
    ['64811', '12', 7, 12],
    ['64811', '12', 4_294_967_295, 12],
    ['64811', '7', 7, undefined],
    ['64811', '4294967295', 7, undefined],
    ['4294967295', '12', 7, undefined],
    ['1000', '12', 7, undefined],
    ['', '12', 7, undefined],
    ['64811', '', 7, undefined],
    ['64811', 'x', 7, undefined],
  ])('loginuid %j, sessionid %j, beside sshd’s %i: %s', (loginuid, sessionid, sshdSession, found) => {
    expect(auditSessionOf(files(loginuid, sessionid), { uid, sshdSession })).toBe(found);
    expect(sessionIdOf(files(loginuid, sessionid))).toBe(/^\d+$/.test(sessionid) ? Number(sessionid) : undefined);
  });
});
