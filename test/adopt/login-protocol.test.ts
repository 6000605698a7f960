import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatBegunReply,
  formatLoginReply,
  formatMessage,
  type LoginReply,
  loginProtocol,
  parseLoginReply,
  parseLoginRequest,
} from '../../src/adopt/login-protocol.js';
import { auditEnding } from '../../src/jobs/adoptions.js';
import { ParseError } from '../../src/machine/errors.js';
import { stateFolder } from '../../src/machine/state-folder.js';

const root = path.resolve(import.meta.dirname, '../..');
const header = fs.readFileSync(path.join(root, 'native/pam/protocol.h'), 'utf8');

const request = `slurm-cgroups-login 1
phase account
deadline 4711123
user alice
uid 1001
pid 31337
start 882211
threads 1
service sshd
rhost login1.example.org
connection 192.0.2.7 50312 192.0.2.1 22
option action_unknown=deny
option rank=newest
end
`;

describe('loginProtocol', () => {
  it('has the constants of the module', () => {
    const constant = (name: string) => new RegExp(`#define ${name} "?([^"\n]*)"?`).exec(header)?.[1];
    expect([
      constant('PROTOCOL_VERSION'),
      constant('PROTOCOL_REQUEST'),
      constant('PROTOCOL_ANSWER'),
      constant('PROTOCOL_LONGEST_LINE'),
      constant('PROTOCOL_LONGEST_MESSAGE'),
      constant('PROTOCOL_LOGINS'),
      constant('PROTOCOL_ADOPTIONS'),
      constant('PROTOCOL_AUDIT'),
    ]).toEqual([
      String(loginProtocol.version),
      loginProtocol.request,
      loginProtocol.answer,
      String(loginProtocol.longestLine),
      String(loginProtocol.longestMessage),
      stateFolder('logins'),
      stateFolder('adoptions'),
      auditEnding,
    ]);
  });
});

describe('parseLoginRequest()', () => {
  it('reads the request of PROTOCOL.md', () => {
    const document = fs.readFileSync(path.join(root, 'native/pam/PROTOCOL.md'), 'utf8');
    const [example = ''] = /```\n(slurm-cgroups-login[\s\S]*?)```/.exec(document)?.slice(1) ?? [];
    expect(parseLoginRequest(example)).toMatchObject({
      phase: 'account',
      user: 'alice',
      options: ['action_unknown=deny'],
    });
  });

  it('reads every line', () => {
    expect(parseLoginRequest(request)).toEqual({
      phase: 'account',
      deadlineMs: 4_711_123,
      user: 'alice',
      uid: 1001,
      pid: 31_337,
      startTime: 882_211n,
      threads: 1,
      service: 'sshd',
      rhost: 'login1.example.org',
      connection: '192.0.2.7 50312 192.0.2.1 22',
      options: ['action_unknown=deny', 'rank=newest'],
      isCounted: false,
    });
  });

  it('passes over keys that it does not know, and undoes what is escaped', () => {
    const more = request.replace('user alice', 'new-key 1\nuser al%0Ai%25ce\nnew-key 2');
    expect(parseLoginRequest(more).user).toBe('al\ni%ce');
  });

  const bad: readonly (readonly [string, string])[] = [
    ['another header', request.replace('slurm-cgroups-login', 'login')],
    ['another version', request.replace('login 1', 'login 2')],
    ['no end', request.replace('end\n', '')],
    ['a cut end', request.slice(0, -1)],
    ['something behind the end', `${request}more`],
    ['no key', request.replace('user alice', 'alice')],
    ['an empty line', request.replace('user alice', '\nuser alice')],
    ['no user', request.replace('user alice\n', '')],
    ['two users', request.replace('user alice', 'user alice\nuser bob')],
    ['a uid that is no number', request.replace('uid 1001', 'uid -1')],
    ['a pid beyond all numbers', request.replace('pid 31337', 'pid 99999999999999999999')],
    ['an unknown phase', request.replace('phase account', 'phase auth')],
    ['a bad escape', request.replace('user alice', 'user al%0')],
    ['a small escape', request.replace('user alice', 'user al%0aice')],
    ['a NUL', request.replace('user alice', 'user al%00ice')],
    ['a raw control character', request.replace('user alice', 'user al\u0007ice')],
    ['a line that is too long', request.replace('user alice', `user ${'a'.repeat(4096)}`)],
    ['a message that is too long', request.replace('end\n', `${`option ${'a'.repeat(4000)}\n`.repeat(17)}end\n`)],
    ['nothing', ''],
  ];
  it.each(bad)('refuses %s', (_, text) => {
    expect(() => parseLoginRequest(text)).toThrow(ParseError);
  });

  it('never fails otherwise than by a ParseError', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat(request.length), fc.nat(20), (noise, at, length) => {
        try {
          parseLoginRequest(request.slice(0, at) + noise + request.slice(at + length));
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
        }
      }),
    );
  });
});

const anyText = fc.string({
  unit: fc.constantFrom('a', ' ', '%', '\n', '\r', '\u007f', 'ä', '\u{1f600}', '\udcff', '/'),
});
/** What a cgroup of root's is called. */
const anyName = fc.string({ unit: fc.constantFrom('a', ' ', '%', '/', ':', 'ä', '\udcff') });
const anyReply: fc.Arbitrary<LoginReply> = fc.record(
  {
    action: fc.constantFrom('allow', 'ignore', 'deny'),
    reason: anyText,
    log: fc.array(fc.record({ severity: fc.nat(7), line: anyText }), { maxLength: 40 }),
    messages: fc.array(anyText, { maxLength: 10 }),
    process: fc.record({ pid: fc.nat(4_194_304), startTime: fc.bigInt(0n, 2n ** 60n) }),
    jobId: fc.nat(0xffff_fffd),
    isCounted: fc.boolean(),
    failure: fc.constantFrom('allow', 'deny'),
    cgroups: fc.array(
      fc.record({
        controllers: fc.array(fc.constantFrom('memory', 'cpu', 'cpuacct', 'name=systemd'), { maxLength: 3 }),
        path: anyName.map((text) => `/${text}`),
      }),
      { maxLength: 12 },
    ),
    from: fc.array(
      anyName.map((text) => `/sys/${text}`),
      { maxLength: 12 },
    ),
    display: fc.nat(65_535).map((display) => `localhost:${display}.0`),
    xauthority: anyName.map((text) => `/tmp/${text}`),
    stepd: fc.record({ version: fc.nat(65_535), path: anyName.map((text) => `/var/${text}`) }),
    namespaces: fc.subarray(['unknown', 'account'] as const),
    audit: fc.record({
      sshdSession: fc.nat(0xffff_ffff),
      folder: fc.constantFrom('102', 's9BNM865MKYJ00'),
    }),
  },
  { requiredKeys: ['action', 'reason', 'log', 'messages', 'isCounted', 'cgroups', 'from', 'namespaces'] },
);

describe('formatLoginReply()', () => {
  it('writes what parseLoginReply() reads', () => {
    fc.assert(
      fc.property(anyReply, (reply) => {
        expect(parseLoginReply(formatLoginReply(reply))).toEqual(reply);
      }),
    );
  });

  it('is whole behind its begin, which is sent before the first move', () => {
    fc.assert(
      fc.property(anyReply, ({ process = { pid: 5, startTime: 6n }, ...rest }) => {
        const reply: LoginReply = { ...rest, process };
        const begun = formatBegunReply({ process, from: reply.from });
        const sent = begun + formatLoginReply(reply, begun);
        const sorted = ({ from, ...other }: LoginReply) => ({ ...other, from: [...new Set(from)].sort() });
        expect(sorted(parseLoginReply(sent))).toEqual(sorted(reply));
        expect(begun.split('\n').length).toBe(reply.from.length + 3);
      }),
    );
  });

  it('stays a message behind the longest begin, and keeps what the module needs', () => {
    const process = { pid: 5, startTime: 6n };
    const from = Array.from({ length: 40 }, (_, at) => `/sys/${at}${'x'.repeat(3000)}`);
    const begun = formatBegunReply({ process, from });
    expect(Buffer.byteLength(begun)).toBeLessThanOrEqual(loginProtocol.longestMessage / 2);
    const reply: LoginReply = {
      ...{ action: 'deny', reason: '%'.repeat(1000), messages: ['%'.repeat(1000)], isCounted: false, namespaces: [] },
      ...{
        process,
        cgroups: [],
        from: [],
        log: Array.from({ length: 40 }, () => ({ severity: 6, line: '%'.repeat(1000) })),
      },
    };
    const sent = begun + formatLoginReply(reply, begun);
    expect(Buffer.byteLength(sent)).toBeLessThanOrEqual(loginProtocol.longestMessage);
    expect(parseLoginReply(sent)).toMatchObject({
      action: 'deny',
      process,
      reason: reply.reason,
      messages: reply.messages,
    });
  });

  it('cuts what is too long, and stays a message', () => {
    const reply: LoginReply = {
      action: 'allow',
      reason: 'r'.repeat(10_000),
      log: Array.from({ length: 500 }, () => ({ severity: 6, line: '%'.repeat(2000) })),
      messages: ['m'],
      process: { pid: 5, startTime: 6n },
      jobId: 7,
      isCounted: true,
      cgroups: [{ controllers: ['memory'], path: '/slurm/job_7' }],
      namespaces: [],
      from: Array.from({ length: 40 }, (_, at) => `/sys/${at}${'x'.repeat(3000)}`),
    };
    const text = formatLoginReply(reply);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(loginProtocol.longestMessage);
    const read = parseLoginReply(text);
    expect(read).toMatchObject({ action: 'allow', jobId: 7, isCounted: true, cgroups: reply.cgroups });
    expect(read.from.length).toBeGreaterThan(0);
  });

  it('leaves out a path with a control character, which the module would refuse', () => {
    const reply = parseLoginReply(
      formatLoginReply({
        ...{ action: 'allow', reason: '', log: [], messages: [], isCounted: false },
        cgroups: [{ controllers: ['memory'], path: '/a\nb' }],
        from: ['/sys/\u0007', '/sys/a'],
        xauthority: '/tmp/\n',
        namespaces: [],
      }),
    );
    expect(reply).toMatchObject({ cgroups: [], from: ['/sys/a'] });
    expect(reply.xauthority).toBeUndefined();
  });

  it('leaves out a line that is too long for the module', () => {
    const long = { controllers: ['memory'], path: `/${'p'.repeat(5000)}` };
    const text = formatMessage(loginProtocol.answer, [
      ['action', 'deny'],
      ['reason', ''],
      ['cgroup', `memory ${long.path}`],
    ]);
    expect(parseLoginReply(text)).toMatchObject({ action: 'deny', reason: '', cgroups: [] });
  });
});
