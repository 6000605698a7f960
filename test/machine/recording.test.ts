import fs from 'node:fs';
import process from 'node:process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { holdProcess } from '../../src/cgroup/process.js';
import { ParseError, SlurmCgroupsError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost, recordedStat, recordingHost } from '../../src/machine/recording.js';
import { anyName, anyText } from '../support/any-cgroups.js';

const header = { recording: 'slurm-cgroups', version: 1, self: { pid: 4711, uid: 1000 } };
const text = (...answers: readonly object[]) =>
  [header, ...answers].map((line) => `${JSON.stringify(line)}\n`).join('');

/** A host that records what it is asked, and what it recorded. */
function record(host: Host): { readonly host: Host; readonly played: () => Host; readonly lines: readonly string[] } {
  const lines: string[] = [];
  return {
    host: recordingHost(host, (line) => lines.push(line), 'a test'),
    played: () => recordedHost(`${lines.join('\n')}\n`),
    lines,
  };
}

const is = (mode: number) => [mode, 0, 0, 1, 2, 2, 0, '1700000000123456789', 0].map(String);
const sample = recordedHost(
  text(
    { list: '/', entries: { sys: 'directory', link: 'symlink' } },
    { list: '/sys', entries: { file: 'file', '\udcff a': 'directory' } },
    { read: '/sys/file', text: 'one\n\udcfe\u001b\n' },
    { stat: '/sys', is: is(0o40755) },
    { stat: '/sys/file', is: is(0o100644) },
    { link: '/link', to: 'sys' },
    { stat: '/link', is: is(0o120777) },
    { read: '/sys/refused', errno: 'EACCES' },
  ),
);

const failure = (act: () => unknown): unknown => {
  try {
    return act();
  } catch (error) {
    return error instanceof SlurmCgroupsError ? error.code : error;
  }
};

describe('recordedHost()', () => {
  test('plays what was recorded', () => {
    expect(sample.read('/sys/file')).toBe('one\n\udcfe\u001b\n');
    expect(sample.names('/sys')).toEqual(['file', '\udcff a']);
    expect(sample.entries('/')).toEqual([
      { name: 'sys', kind: 'directory' },
      { name: 'link', kind: 'symlink' },
    ]);
    expect(sample.stat('/sys')?.mtimeNs).toBe(1700000000123456789n);
    expect(sample.readlink('/link')).toBe('sys');
    expect(sample.self()).toEqual({ pid: 4711, uid: 1000 });
    expect(sample.source).toBe('recording');
    const held = sample.open('/sys');
    expect([held.read('file'), held.names(), held.stat()?.ino, held.stat('none')]).toEqual([
      'one\n\udcfe\u001b\n',
      ['file', '\udcff a'],
      2n,
      undefined,
    ]);
    held.close();
  });

  test('knows what is not there from the listing above, and says what it does not know', () => {
    expect(failure(() => sample.read('/sys/none'))).toBe('ERR_NOT_FOUND');
    expect(failure(() => sample.read('/sys/none/deeper'))).toBe('ERR_NOT_FOUND');
    expect(sample.stat('/etc')).toBeUndefined();
    expect(failure(() => sample.open('/etc'))).toBe('ERR_NOT_FOUND');
    expect(failure(() => sample.read('/sys/\udcff a/cgroup.procs'))).toBe('ERR_NOT_RECORDED');
    expect(failure(() => sample.stat('/sys/\udcff a'))).toBe('ERR_NOT_RECORDED');
    expect(failure(() => sample.open('/sys/file'))).toBe('ERR_NOT_FOUND'); // ENOTDIR
    expect(failure(() => sample.open('/link'))).toBe('ERR_NOT_FOUND');
    expect(failure(() => recordedHost(text({ read: '/a', errno: 'EACCES' })).read('/a'))).toBe('ERR_NOT_PERMITTED');
  });

  test('refuses everything that is no read', async () => {
    const held = sample.open('/sys');
    for (const act of [
      () => sample.mkdir('/a'),
      () => sample.rmdir('/a'),
      () => sample.write('/a', ''),
      () => sample.append('/a', ''),
      () => sample.signal(2, 'SIGKILL'),
      () => held.write('file', ''),
    ]) {
      expect(failure(act)).toBe('ERR_NOT_PERMITTED');
    }
    await expect(sample.run('/bin/true', [], { timeoutMs: 1 })).rejects.toMatchObject({ code: 'ERR_NOT_PERMITTED' });
    await expect(sample.start('/bin/true', [], { uid: 1, gid: 1 })).rejects.toMatchObject({
      code: 'ERR_NOT_PERMITTED',
    });
  });

  test('has a clock that only its own sleep moves', async () => {
    const host = recordedHost(text());
    await host.sleep(3_600_000);
    expect(host.now()).toBe(3_600_000);
    await expect(host.sleep(1, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });

  test.each<[string, string, number]>([
    ['nothing', '', 1],
    ['no header', '{"read":"/a","text":""}\n', 1],
    ['a header of another version', '{"recording":"slurm-cgroups","version":3,"self":{"pid":1,"uid":0}}\n', 1],
    ['a header without self', '{"recording":"slurm-cgroups","version":1}\n', 1],
    ['binary', '\u007fELF\0\u0001', 1],
    ['an answer that is cut off', `${text({ read: '/a', text: 'x' })}{"read":"/b","te`, 3],
    ['an answer without a value', text({ read: '/a' }), 2],
    ['a number for a text', text({ read: '/a', text: 1 }), 2],
    ['an unknown call', text({ write: '/a', text: 'x' }), 2],
    ['a null', `${text()}null\n`, 2],
    ['a stat that lacks fields', text({ stat: '/a', is: ['1'] }), 2],
    ['a stat of words', text({ stat: '/a', is: is(1).map(() => 'x') }), 2],
    ['an errno that is none', text({ read: '/a', errno: 'constructor' }), 2],
    ['no listing', text({ list: '/a', entries: null }), 2],
  ])('refuses %s and names the line', (_, recording, line) => {
    expect(() => recordedHost(recording)).toThrow(expect.objectContaining({ name: 'ParseError', subject: { line } }));
  });

  test('is a host or a ParseError for any text', () => {
    const answers = fc.array(
      fc.oneof(
        fc.jsonValue().map((value) => JSON.stringify(value)),
        anyText,
      ),
    );
    fc.assert(
      fc.property(answers, fc.boolean(), (lines, withHeader) => {
        try {
          recordedHost([...(withHeader ? [JSON.stringify(header)] : []), ...lines].join('\n'));
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
        }
      }),
    );
  });
});

describe('recordingHost()', () => {
  test('keeps each answer once, with the first', () => {
    let reads = 0;
    const recording = record({ ...sample, read: () => `${++reads}` });
    expect([recording.host.read('/a'), recording.host.read('/a')]).toEqual(['1', '2']);
    expect(recording.lines.map((line) => JSON.parse(line))).toEqual([
      { ...header, version: 2, about: 'a test' },
      { read: '/a', text: '1' },
    ]);
  });

  test.each([
    '/proc/1/environ',
    '/proc/4711/cmdline',
    '/proc/self/maps',
    '/proc/1/task/1/environ',
    '/proc/thread-self/cmdline',
  ])('never keeps %s', (secret) => {
    const recording = record({ ...sample, read: () => 'secret' });
    recording.host.read(secret);
    expect(recording.lines).toHaveLength(1);
  });

  test('keeps refusals, and passes on what is no refusal of the kernel', () => {
    const recording = record(sample);
    expect(failure(() => recording.host.read('/sys/refused'))).toBe('ERR_NOT_PERMITTED');
    expect(failure(() => recording.host.read('/sys/\udcff a/x'))).toBe('ERR_NOT_RECORDED');
    expect(recording.lines.slice(1).map((line) => JSON.parse(line))).toEqual([
      { read: '/sys/refused', errno: 'EACCES' },
    ]);
  });

  test('a node whose hierarchies and processes were asked about answers the same from the recording', () => {
    const recording = record(liveHost());
    const ask = (host: Host) => {
      const held = holdProcess(host, process.pid);
      const answer = [
        failure(() => discoverHierarchies({ host }).all),
        held.startTime,
        held.status(),
        held.memberships(),
        failure(() => holdProcess(host, 2 ** 22)),
      ];
      held.close();
      return answer;
    };
    const answer = ask(recording.host);
    expect(answer).toEqual(ask(liveHost()));
    expect(ask(recording.played())).toEqual(answer);
  });

  test('a directory that was only opened, and one that was not there, answer the same', () => {
    const recording = record(liveHost());
    recording.host.open('/proc/self/task').close();
    expect(failure(() => recording.host.open('/proc/none'))).toBe('ERR_NOT_FOUND');
    expect(failure(() => recording.host.open('/proc/version'))).toBe('ERR_NOT_FOUND');
    const played = recording.played();
    played.open('/proc/self/task').close();
    expect(failure(() => played.open('/proc/none'))).toBe('ERR_NOT_FOUND');
    expect(failure(() => played.open('/proc/version'))).toBe('ERR_NOT_FOUND');
  });

  /** A machine in memory with any names, and questions about them. */
  const anyNode = fc.uniqueArray(
    fc.record({ name: anyName, kind: fc.constantFrom('file', 'directory', 'symlink'), body: anyText }),
    { selector: ({ name }) => name, maxLength: 6 },
  );
  const modes = { file: 0o100644, directory: 0o040755, symlink: 0o120777 };

  test('any answers are played back', () => {
    fc.assert(
      fc.property(anyNode, fc.array(anyName, { maxLength: 3 }), (entries, others) => {
        const node = recordedHost(
          text(
            { stat: '/top', is: is(modes.directory) },
            { list: '/top', entries: Object.fromEntries(entries.map(({ name, kind }) => [name, kind])) },
            ...entries.flatMap(({ name, kind, body }) => [
              { stat: `/top/${name}`, is: is(modes[kind]) },
              ...(kind === 'file'
                ? [{ read: `/top/${name}`, text: body }]
                : kind === 'symlink'
                  ? [{ link: `/top/${name}`, to: body }]
                  : [{ list: `/top/${name}`, entries: {} }]),
            ]),
          ),
        );
        const ask = (host: Host) => {
          const held = host.open('/top');
          return [...entries.map(({ name }) => name), ...others].map((name) => [
            failure(() => host.read(`/top/${name}`)),
            failure(() => held.read(name)),
            failure(() => host.readlink(`/top/${name}`)),
            failure(() => [...host.names(`/top/${name}`)]),
            failure(() => host.stat(`/top/${name}`)?.mode),
            failure(() => held.stat(name)?.mode),
            failure(() => host.open(`/top/${name}`).names()),
            [...host.names('/top')].sort(),
          ]);
        };
        const recording = record(node);
        // What a recording does not hold it does not hold in the copy either.
        expect(ask(recording.host)).toEqual(ask(node));
        expect(ask(recording.played())).toEqual(ask(node));
      }),
    );
  });
});

test('recordedStat() is read back by recordedHost(), nanoseconds too', () => {
  const stat = liveHost().stat('/proc/self/stat');
  if (stat === undefined) throw new Error('this process is there');
  const played = recordedHost(text({ stat: '/x', is: recordedStat(stat) })).stat('/x');
  const { mode, uid, gid, dev, ino, nlink, size, mtimeNs, ctimeNs } = stat;
  expect(played).toEqual({ mode, uid, gid, dev, ino, nlink, size, mtimeNs, ctimeNs });
  expect(fs.existsSync('/proc/self/stat')).toBe(true);
});
